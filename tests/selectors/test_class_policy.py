"""Class policies: quotas, floors, and nothing else than the selector inside each class."""

import inspect

import numpy as np
import pytest

from secateur.selectors.class_policy import with_class_policy
from secateur.selectors.contract import selectors
from secateur.selectors.static.coverage_centric import coverage_centric
from secateur.selectors.static.stratified_random import stratified_random
from secateur.selectors.static.top import top
from secateur.selectors.static.uniform_random import uniform_random

LABELS = np.random.default_rng(0).permutation(np.repeat([3, 5, 8], [900, 90, 10]))
SCORES = np.random.default_rng(1).normal(size=1000).astype(np.float32)


def counts(keep):
    return [int(keep[label == LABELS].sum()) for label in (3, 5, 8)]


def test_each_class_keeps_its_own_top():
    keep = with_class_policy(top, "proportional")(SCORES, LABELS, 500)
    assert counts(keep) == [450, 45, 5]
    for label, quota in ((3, 450), (5, 45), (8, 5)):
        own = SCORES[label == LABELS]
        np.testing.assert_array_equal(np.sort(SCORES[keep & (label == LABELS)]), np.sort(own)[-quota:])


def test_balance_is_never_fewer_than_asked():
    """The published class balancing gives every class the quota of the last: 50/50/50 of 9000/900/100."""
    assert counts(with_class_policy(top, "balanced")(SCORES, LABELS, 500)) == [400, 90, 10]


def test_a_floor_alone_changes_only_what_it_must():
    plain = SCORES - 100 * (LABELS == 8).astype(np.float32)
    assert counts(top(plain, 500))[2] == 0
    keep = with_class_policy(top, "none", floor=4)(plain, LABELS, 500)
    assert counts(keep)[2] == 4
    np.testing.assert_array_equal(with_class_policy(top, "none", floor=4)(SCORES, LABELS, 990), top(SCORES, 990))


def test_a_proportional_random_draw_is_the_stratified_one():
    ids = np.arange(1000)
    np.testing.assert_array_equal(
        with_class_policy(uniform_random, "proportional")(ids, LABELS, 333, seed=4),
        stratified_random(ids, LABELS, 333, seed=4),
    )


def test_quotas_respect_what_a_cutoff_leaves_of_each_class():
    balanced = with_class_policy(coverage_centric, "balanced")
    keep = balanced(SCORES, SCORES, LABELS, 100, cutoff=0.5, seed=0)
    assert counts(keep) == [50, 45, 5]
    with pytest.raises(ValueError, match="can give 500 at most"):
        balanced(SCORES, SCORES, LABELS, 501, cutoff=0.5, seed=0)


def test_floors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a floor of 20 in each of 3 groups takes 50"):
        with_class_policy(top, "proportional", floor=20)(SCORES, LABELS, 40)
    with pytest.raises(ValueError, match="floor is a count"):
        with_class_policy(top, "proportional", floor=-1)


@pytest.mark.parametrize("name", sorted(selectors()))
def test_the_policy_reads_labels_and_keeps_the_settings(name):
    chosen = selectors()[name]
    under = with_class_policy(chosen, "balanced", floor=1)
    assert set(under.reads) == {*chosen.reads, "strata"}
    assert under.settings is chosen.settings
    assert list(inspect.signature(under.choose).parameters)[: len(under.reads)] == list(under.reads)
    assert with_class_policy(chosen, "none") is chosen
