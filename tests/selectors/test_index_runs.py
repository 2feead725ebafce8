"""Runs cover exactly what is kept, and batches are those of `Dataset.select`."""

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.draws.index_runs import index_runs, kept_batches


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 5), st.sampled_from([None, 1, 3, 100]))
def test_runs_cover_the_kept_rows(kept, gap, longest):
    keep = np.array(kept, dtype=bool)
    runs = index_runs(keep, gap=gap, longest=longest)
    covered = np.concatenate([np.arange(start, stop) for start, stop in runs] or [np.array([], dtype=int)])
    assert (np.diff(covered) > 0).all()
    assert set(np.flatnonzero(keep)) <= set(covered.tolist())
    dropped_inside = (~keep[covered]).sum()
    if gap == 0:
        assert dropped_inside == 0
    assert (longest is None) or all(stop - start <= longest for start, stop in runs)
    if longest is None:
        assert (runs[1:, 0] - runs[:-1, 1] > gap).all()
        assert all(keep[start] and keep[stop - 1] for start, stop in runs)


@pytest.fixture(scope="module")
def parent():
    numbers = np.random.default_rng(0)
    return datasets.Dataset.from_dict(
        {
            "id": range(500),
            "vector": numbers.normal(size=(500, 3)).tolist(),
            "text": [f"sample {i}" for i in range(500)],
        }
    )


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("form", [None, "numpy", "torch"])
@pytest.mark.parametrize("gap", [0, 64])
def test_batches_are_those_of_select(parent, share, form, gap):
    data = parent.with_format(form, columns=["id", "vector"]) if form else parent
    keep = np.random.default_rng(1).random(500) < share
    expected = data.select(np.flatnonzero(keep)).iter(32)
    for ours, theirs in zip(kept_batches(data, keep, 32, gap=gap, longest=70), expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]))
            assert type(ours[name]) is type(theirs[name])


def test_subsets_of_a_selected_dataset_follow_its_order(parent):
    shuffled = parent.select(np.random.default_rng(0).permutation(500))
    keep = np.random.default_rng(2).random(500) < 0.3
    rows = [row for batch in kept_batches(shuffled, keep, 7) for row in batch["id"]]
    assert rows == shuffled.select(np.flatnonzero(keep))["id"][:]


def test_a_mask_of_other_data_is_refused(parent):
    with pytest.raises(ValueError, match="mask has 499 rows and the dataset 500"):
        next(kept_batches(parent, np.ones(499, dtype=bool), 8))


def test_nothing_kept_is_no_batch(parent):
    assert list(kept_batches(parent, np.zeros(500, dtype=bool), 8)) == []
