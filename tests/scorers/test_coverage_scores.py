"""Scores of the graph, prototypes and coverage of a subset, against literal references."""

import jaxtyping
import numpy as np
import pytest
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestCentroid

from secateur.scorers.contract import Scorer
from secateur.scorers.geometry import subset_coverage
from secateur.scorers.geometry.density import density
from secateur.scorers.geometry.nearest_sample import nearest_sample
from secateur.scorers.geometry.neighbour_agreement import neighbour_agreement
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.geometry.prototype_distance import prototype_distance
from secateur.scorers.geometry.subset_coverage import distance_to_kept
from secateur.scorers.registry import scorers


def cloud(samples, dimensions, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, dimensions), dtype=np.float32)


@pytest.fixture
def unchecked():
    """Calls as users make them, without the shape checks of the test run in front of ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_the_registry_knows_them():
    for name in ("density", "neighbour_agreement", "nearest_sample", "prototype_distance"):
        assert isinstance(scorers()[name], Scorer)


class TestGraphScores:
    def test_density_is_the_kth_column(self):
        graph = nearest_neighbours(cloud(200, 5), 6)
        assert (density(graph.distances) == graph.distances[:, 5]).all()
        assert (density(graph.distances, k=2) == graph.distances[:, 1]).all()
        with pytest.raises(ValueError, match="neighbour 7, but the graph holds neighbours 1 … 6"):
            density(graph.distances, k=7)

    def test_agreement_against_a_loop(self):
        labels = np.random.default_rng(2).integers(0, 3, 200)
        graph = nearest_neighbours(cloud(200, 5), 6)
        for k in (1, 4, 6):
            expected = [np.mean([labels[j] == labels[i] for j in graph.indices[i, :k]]) for i in range(200)]
            np.testing.assert_allclose(neighbour_agreement(graph.indices, labels, k=k), expected, rtol=1e-6)
        with pytest.raises(ValueError, match="9 neighbours, but the graph holds 1 … 6"):
            neighbour_agreement(graph.indices, labels, k=9)

    def test_nearest_sample_is_zero_for_duplicates_only(self):
        embeddings = cloud(200, 5)
        embeddings[150] = embeddings[3]
        score = nearest_sample(nearest_neighbours(embeddings, 2).distances)
        assert np.flatnonzero(score == 0).tolist() == [3, 150]


class TestPrototypeDistance:
    @pytest.mark.parametrize("prototype", ["median", "mean"])
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_against_float64(self, prototype, metric):
        embeddings, labels = cloud(300, 7) + 1, np.random.default_rng(1).integers(0, 4, 300)
        rows = embeddings.astype(np.float64)
        if metric == "cosine":
            rows = np.array([row / np.sqrt(sum(row**2)) for row in rows])
        expected = []
        for row, label in zip(rows, labels, strict=True):
            centre = getattr(np, prototype)(rows[labels == label], axis=0)
            cosine = row @ centre / np.linalg.norm(row) / np.linalg.norm(centre)
            expected.append(1 - cosine if metric == "cosine" else np.linalg.norm(row - centre))
        score = prototype_distance(embeddings, labels, prototype=prototype, metric=metric)
        np.testing.assert_allclose(score, expected, rtol=1e-5, atol=1e-7)

    def test_prototypes_are_those_of_scikit_learn(self):
        embeddings, labels = cloud(300, 7), np.random.default_rng(1).integers(0, 4, 300)
        for prototype, metric in (("mean", "euclidean"), ("median", "manhattan")):
            centres = NearestCentroid(metric=metric).fit(embeddings, labels).centroids_
            expected = np.linalg.norm(embeddings - centres[labels], axis=1)
            np.testing.assert_allclose(prototype_distance(embeddings, labels, prototype=prototype), expected, rtol=1e-5)

    def test_moves_with_its_samples(self):
        embeddings, labels = cloud(200, 3), np.random.default_rng(1).integers(0, 4, 200)
        order = np.random.default_rng(3).permutation(200)
        permuted = prototype_distance(embeddings[order], labels[order])
        np.testing.assert_allclose(permuted, prototype_distance(embeddings, labels)[order], rtol=1e-6)

    def test_bad_input(self, unchecked):
        with pytest.raises(ValueError, match="2 embeddings but 3 strata"):
            prototype_distance(cloud(2, 2), np.zeros(3, np.int64))
        with pytest.raises(ValueError, match="mean of class 5 is zero"):
            prototype_distance(np.float32([[1, 0], [-1, 0]]), np.int64([5, 5]), prototype="mean", metric="cosine")
        with pytest.raises(ValueError, match="NaN or infinite at row 1;"):
            prototype_distance(np.float32([[1, 0], [np.nan, 0]]), np.int64([5, 5]))


class TestSubsetCoverage:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    @pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
    def test_against_scikit_learn(self, metric, share, monkeypatch):
        monkeypatch.setattr(subset_coverage, "QUERIES", 70)
        embeddings = cloud(500, 9)
        keep = np.random.default_rng(1).random(500) < share
        _, expected = pairwise_distances_argmin_min(embeddings.astype(float), embeddings[keep], metric=metric)
        expected = np.where(keep, 0, expected)
        np.testing.assert_allclose(distance_to_kept(embeddings, keep, metric=metric), expected, rtol=1e-5)

    def test_some_rows_alone_have_the_distances_that_they_have_among_all(self):
        embeddings, keep = cloud(300, 4), np.random.default_rng(2).random(300) < 0.2
        rows = np.array([299, 0, 7, 150, 3])
        found = distance_to_kept(embeddings, keep, rows=rows)
        np.testing.assert_array_equal(found, distance_to_kept(embeddings, keep)[rows])

    def test_a_larger_subset_covers_no_worse(self):
        embeddings, order = cloud(400, 4), np.random.default_rng(1).permutation(400)
        nested = [np.isin(np.arange(400), order[:size]) for size in (1, 10, 100, 400)]
        distances = np.stack([distance_to_kept(embeddings, keep) for keep in nested])
        assert (np.diff(distances, axis=0) <= 0).all()
        assert not distances[-1].any()

    def test_bad_input(self, unchecked):
        with pytest.raises(ValueError, match="nothing is kept"):
            distance_to_kept(cloud(3, 2), np.zeros(3, bool))
        with pytest.raises(ValueError, match="3 embeddings but a keep mask of 2"):
            distance_to_kept(cloud(3, 2), np.ones(2, bool))
