"""Scores of the graph, prototypes, near-duplicates and coverage of a subset, against literal references."""

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestCentroid

from secateur.scorers.contract import Scorer
from secateur.scorers.geometry import near_duplicates as near_duplicates_module
from secateur.scorers.geometry import subset_coverage
from secateur.scorers.geometry.density import density
from secateur.scorers.geometry.near_duplicates import near_duplicates
from secateur.scorers.geometry.nearest_sample import nearest_sample
from secateur.scorers.geometry.neighbour_agreement import neighbour_agreement
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.geometry.prototype_distance import prototype_distance
from secateur.scorers.geometry.subset_coverage import coverage_radius, distance_to_kept, mean_coverage_distance
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


def greedy_reference(embeddings, epsilon, order, against):
    """The rule, literally, in float64: partner of every sample."""
    rows = embeddings.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    partner = np.arange(len(rows))
    for place, j in enumerate(order):
        rivals = [i for i in order[:place] if against == "all" or partner[i] == i]
        if rivals and (best := max(rivals, key=lambda i: cosines[i, j])) is not None and cosines[best, j] > 1 - epsilon:
            partner[j] = best
    return partner


class TestNearDuplicates:
    def planted(self, samples=400, dimensions=24):
        embeddings = cloud(samples, dimensions)
        embeddings[300] = 2.5 * embeddings[17] + 0.001 * cloud(1, dimensions, 9)[0]
        embeddings[5] = embeddings[390]
        return embeddings

    def test_planted_pairs_are_found_with_the_right_partner(self):
        duplicates = near_duplicates(self.planted(), epsilon=0.01)
        assert np.flatnonzero(~duplicates.stays).tolist() == [300, 390]
        assert duplicates.kept[[300, 390]].tolist() == [17, 5]
        assert (duplicates.similarity[[300, 390]] > 0.9999).all()
        graph = nearest_neighbours(self.planted(), 1, metric="cosine")
        assert graph.indices[[300, 17, 5, 390], 0].tolist() == [17, 300, 390, 5]
        assert set(nearest_sample(graph.distances).argsort()[:4].tolist()) == {5, 17, 300, 390}

    def test_preference_decides_who_of_a_pair_stays(self):
        preference = np.zeros(400, np.float32)
        preference[300] = 1
        duplicates = near_duplicates(self.planted(), epsilon=0.01, preference=preference)
        assert duplicates.kept[[300, 17]].tolist() == [300, 300]
        assert duplicates.kept[[5, 390]].tolist() == [5, 5]

    @given(st.integers(0, 10_000), st.sampled_from(["kept", "all"]), st.sampled_from([0.01, 0.05, 0.3]), st.booleans())
    @settings(max_examples=15, deadline=None)
    def test_against_the_rule_literally(self, seed, against, epsilon, preferred):
        embeddings = cloud(120, 3, seed)
        preference = np.random.default_rng(seed).integers(0, 5, 120).astype(np.float32) if preferred else None
        order = np.arange(120) if preference is None else np.argsort(-preference, kind="stable")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(near_duplicates_module, "BLOCK", 10 + seed % 50)
            duplicates = near_duplicates(embeddings, epsilon=epsilon, preference=preference, against=against)
        expected = greedy_reference(embeddings, epsilon, order.tolist(), against)
        assert (duplicates.stays == (expected == np.arange(120))).all()
        if against == "all":
            assert (duplicates.partner == expected).all()
        gone = np.flatnonzero(~duplicates.stays)
        rows = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines = (rows[gone] * rows[duplicates.partner[gone]]).sum(axis=1)
        assert (cosines > 1 - epsilon - 1e-6).all()
        np.testing.assert_allclose(duplicates.similarity[gone], cosines, atol=1e-6)
        assert duplicates.stays[duplicates.kept].all()
        if against == "kept":
            assert (duplicates.partner == duplicates.kept).all()

    def test_a_chain_collapses_only_under_the_published_rule(self):
        angles = np.float32(np.radians([0, 10, 20, 30, 40]))
        embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        epsilon = float(1 - np.cos(np.radians(15)))
        assert near_duplicates(embeddings, epsilon=epsilon).kept.tolist() == [0, 0, 2, 2, 4]
        published = near_duplicates(embeddings, epsilon=epsilon, against="all")
        assert published.kept.tolist() == [0] * 5
        assert published.partner.tolist() == [0, 0, 1, 2, 3]

    def test_clusters_are_not_compared_with_one_another(self):
        embeddings = np.repeat(cloud(3, 4), 4, axis=0)
        clusters = np.int64([0, 1] * 6)
        assert near_duplicates(embeddings, epsilon=0.1, clusters=clusters).kept.tolist() == [
            0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9,
        ]  # fmt: skip

    def test_bad_input(self, unchecked):
        with pytest.raises(ValueError, match="must be within 0 … 1"):
            near_duplicates(cloud(3, 2), epsilon=1.5)
        with pytest.raises(ValueError, match=r"unequal lengths \[2, 3\]"):
            near_duplicates(cloud(3, 2), epsilon=0.5, clusters=np.zeros(2, np.int64))
        with pytest.raises(ValueError, match="zeros is undefined, at row 1;"):
            near_duplicates(np.float32([[1, 0], [0, 0]]), epsilon=0.5)


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
        assert coverage_radius(embeddings, keep, metric=metric) == pytest.approx(expected.max(), rel=1e-5)
        assert mean_coverage_distance(embeddings, keep, metric=metric) == pytest.approx(expected.mean(), rel=1e-5)

    def test_some_rows_alone_have_the_distances_that_they_have_among_all(self):
        embeddings, keep = cloud(300, 4), np.random.default_rng(2).random(300) < 0.2
        rows = np.array([299, 0, 7, 150, 3])
        found = distance_to_kept(embeddings, keep, rows=rows)
        np.testing.assert_array_equal(found, distance_to_kept(embeddings, keep)[rows])

    def test_mean_distance_is_the_area_under_the_radius_that_covers_each_share(self):
        """CCS's definition: r(p) is the least radius within which the subset covers a share p of the data."""
        embeddings, keep = cloud(400, 4), np.arange(400) % 40 == 0
        distances = distance_to_kept(embeddings, keep).astype(np.float64)
        shares = (np.arange(400) + 0.5) / 400
        radii = np.quantile(distances, shares, method="inverted_cdf")
        assert mean_coverage_distance(embeddings, keep) == pytest.approx(radii.mean(), rel=1e-9)

    def test_a_larger_subset_covers_no_worse(self):
        embeddings, order = cloud(400, 4), np.random.default_rng(1).permutation(400)
        nested = [np.isin(np.arange(400), order[:size]) for size in (1, 10, 100, 400)]
        for measure in (coverage_radius, mean_coverage_distance):
            values = [measure(embeddings, keep) for keep in nested]
            assert values == sorted(values, reverse=True)
            assert values[-1] == 0

    def test_bad_input(self, unchecked):
        with pytest.raises(ValueError, match="nothing is kept"):
            coverage_radius(cloud(3, 2), np.zeros(3, bool))
        with pytest.raises(ValueError, match="3 embeddings but a keep mask of 2"):
            coverage_radius(cloud(3, 2), np.ones(2, bool))
