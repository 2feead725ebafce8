"""A fixed subset: the kept rows, each epoch."""

import numpy as np
import pytest

from secateur.selectors.samplers.fixed_subset import FixedSubset

KEEP = np.arange(50) % 4 == 1


def test_the_kept_rows_each_epoch() -> None:
    sampler = FixedSubset(KEEP)
    orders = set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        assert sorted(sampler) == np.flatnonzero(KEEP).tolist()
        orders.add(tuple(sampler))
    assert len(orders) == 5
    assert list(FixedSubset(KEEP, shuffle=False)) == np.flatnonzero(KEEP).tolist()


def test_an_empty_subset_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps none of 7 samples"):
        FixedSubset(np.zeros(7, dtype=bool))
