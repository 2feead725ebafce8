"""Normalised VoG against z-scores computed class by class."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.scorers.checkpoints.normalised_vog import normalised_vog

samples = st.lists(st.tuples(st.floats(0, 1e3, width=32), st.sampled_from([0, 3, 7])), min_size=1, max_size=30)


@given(samples)
@pytest.mark.parametrize("within", ["class", "dataset"])
def test_z_scores(within, pairs):
    vog = np.array([value for value, _ in pairs], np.float32)
    labels = np.array([label for _, label in pairs])
    got = normalised_vog(vog, labels, within=within)
    assert got.dtype == np.float32
    for value, label, score in zip(vog, labels, got, strict=True):
        peers = [float(v) for v, other in zip(vog, labels, strict=True) if within == "dataset" or other == label]
        spread = statistics.pstdev(peers)
        expected = (float(value) - statistics.fmean(peers)) / spread if spread else 0.0
        assert score == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_class_of_one_sample_and_a_constant_class_are_at_zero():
    vog = np.array([5.0, 0.1, 0.1, 0.1, 1.0, 2.0], np.float32)
    labels = np.array([0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(normalised_vog(vog, labels), [0, 0, 0, 0, -1, 1])
    np.testing.assert_array_equal(normalised_vog(np.full(7, 0.1, np.float32), np.zeros(7, np.int64)), np.zeros(7))


def test_each_class_ends_with_mean_zero_and_deviation_one():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    vog = (generator.gamma(2, size=200) * 10.0**labels).astype(np.float32)
    got = normalised_vog(vog, labels).astype(np.float64)
    for label in range(4):
        assert got[labels == label].mean() == pytest.approx(0, abs=1e-6)
        assert got[labels == label].std() == pytest.approx(1, rel=1e-5)
    whole = normalised_vog(vog, labels, within="dataset")
    assert np.corrcoef(whole, vog)[0, 1] == pytest.approx(1)


def test_no_samples():
    assert normalised_vog(np.empty(0, np.float32), np.empty(0, np.int64)).shape == (0,)
