"""Stratified draws."""

import numpy as np

from secateur.selectors.static.stratified_random import stratified_random


def test_classes_keep_their_largest_remainder_share():
    labels = np.repeat([4, 7, 9], [9000, 900, 100])
    ids = np.arange(10_000)
    keep = stratified_random(ids, labels, 5001, seed=0)
    assert [int(keep[labels == label].sum()) for label in (4, 7, 9)] == [4501, 450, 50]


def test_every_sample_is_as_likely_as_its_classmates():
    """Binomial(200, 1/2) per sample: six standard deviations, below 1e-6 in all for 24 samples."""
    labels, ids = np.repeat([0, 1], [16, 8]), np.arange(24)
    times = sum(stratified_random(ids, labels, 12, seed=seed).astype(int) for seed in range(200))
    assert (np.abs(times - 100) < 6 * 50**0.5).all()
