"""The neighbour graph against float64 brute force, scikit-learn and cleanlab; ties, duplicates, refusals, audits."""

import logging
from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from secateur.scorers.geometry import exact_search, neighbours
from secateur.scorers.geometry.density import density
from secateur.scorers.geometry.exact_search import search, self_search, without_self
from secateur.scorers.geometry.neighbour_agreement import neighbour_agreement
from secateur.scorers.geometry.neighbours import as_csr, nearest_neighbours
from secateur.scorers.geometry.vectors import Vectors


def cloud(samples, dimensions, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, dimensions), dtype=np.float32)


def all_distances(embeddings, metric):
    wide = embeddings.astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    apart = cdist(wide, wide)
    apart = apart**2 / 2 if metric == "cosine" else apart
    np.fill_diagonal(apart, np.inf)
    return apart


def brute_force(embeddings, count, metric="euclidean"):
    apart = all_distances(embeddings, metric).astype(np.float32)
    indices = np.argsort(apart, axis=1, kind="stable")[:, :count]
    return indices, np.take_along_axis(apart, indices, 1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("samples", "dimensions", "count"), [(2, 1, 1), (50, 3, 49), (700, 20, 7), (1100, 70, 12)])
def test_equals_brute_force_in_float64(samples, dimensions, count, dtype, metric):
    embeddings = (cloud(samples, dimensions) + 3).astype(dtype)
    graph = nearest_neighbours(embeddings, count, metric=metric)
    _, distances = brute_force(embeddings, count, metric)
    np.testing.assert_allclose(graph.distances, distances, rtol=2e-5, atol=1e-7)
    apart = all_distances(embeddings, metric)
    np.testing.assert_allclose(np.take_along_axis(apart, graph.indices, 1), distances, rtol=2e-5, atol=1e-7)
    assert all(len(set(row)) == count for row in graph.indices.tolist())
    assert graph.recall == 1.0
    assert graph.engine == ("exact (gpu)" if faiss.get_num_gpus() else "exact")


def test_equals_scikit_learn():
    embeddings = cloud(3000, 40)
    graph = nearest_neighbours(embeddings, 9)
    distances, indices = NearestNeighbors(n_neighbors=9, algorithm="brute").fit(embeddings).kneighbors()
    np.testing.assert_allclose(graph.distances, distances, rtol=1e-5)
    assert (graph.indices == indices).mean() > 0.9999


def test_far_from_the_origin_near_neighbours_are_not_lost_to_cancellation():
    embeddings = 1000 + cloud(400, 32) / 100
    graph = nearest_neighbours(embeddings, 5)
    indices, distances = brute_force(embeddings, 5)
    np.testing.assert_allclose(graph.distances, distances, rtol=1e-5)
    assert (graph.indices == indices).mean() > 0.999


@pytest.mark.parametrize("scale", [1e-12, 1e15])
def test_scale_does_not_matter(scale):
    embeddings = cloud(300, 8)
    graph, scaled = nearest_neighbours(embeddings, 4), nearest_neighbours(np.float32(scale) * embeddings, 4)
    assert (graph.indices == scaled.indices).all()
    np.testing.assert_allclose(scaled.distances, graph.distances * scale, rtol=1e-5)


@given(
    arrays(np.int64, st.tuples(st.integers(8, 60), st.integers(1, 3)), elements=st.integers(0, 2)),
    st.integers(1, 7),
)
@settings(max_examples=40, deadline=None)
def test_ties_and_duplicates_go_to_the_lowest_index(grid, count):
    embeddings = grid.astype(np.float32)
    graph = nearest_neighbours(embeddings, count)
    indices, distances = brute_force(embeddings, count)
    assert (graph.distances == distances).all()
    assert (graph.indices == indices).all()


def test_more_duplicates_than_candidates():
    embeddings = np.repeat(cloud(4, 6), 300, axis=0)
    graph = nearest_neighbours(embeddings, 3)
    assert (graph.distances == 0).all()
    for row in (0, 1, 300, 1199):
        first = row // 300 * 300
        assert graph.indices[row].tolist() == [i for i in range(first, first + 4) if i != row][:3]
    assert (graph.indices != np.arange(1200)[:, None]).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_near_duplicates_closer_than_float32_products_can_tell(metric):
    """Forty copies differ by 1e-5 of their length; products of float32 see them all at the same distance."""
    embeddings = np.concatenate([cloud(1, 32) + cloud(40, 32, 1) / 100_000, cloud(2000, 32, 2)])
    graph = nearest_neighbours(embeddings, 3, metric=metric)
    indices, distances = brute_force(embeddings, 3, metric)
    np.testing.assert_allclose(graph.distances[:40], distances[:40], rtol=0.05 if metric == "cosine" else 1e-5)
    assert (graph.indices[:40] == indices[:40]).mean() > (0.9 if metric == "cosine" else 0.999)


def test_all_rows_equal():
    graph = nearest_neighbours(np.ones((1200, 4), np.float32), 2)
    assert graph.indices[[0, 1, 5]].tolist() == [[1, 2], [0, 2], [0, 1]]
    assert not graph.distances.any()


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_permuting_the_samples_permutes_the_graph(seed):
    embeddings = cloud(300, 10)
    order = np.random.default_rng(seed).permutation(300)
    graph, permuted = nearest_neighbours(embeddings, 6), nearest_neighbours(embeddings[order], 6)
    assert (order[permuted.indices] == graph.indices[order]).all()
    np.testing.assert_allclose(permuted.distances, graph.distances[order], rtol=1e-6)


def test_same_bytes_every_time():
    embeddings = cloud(2500, 16)
    one, two = nearest_neighbours(embeddings, 5), nearest_neighbours(embeddings, 5)
    assert one.indices.tobytes() == two.indices.tobytes()
    assert one.distances.tobytes() == two.distances.tobytes()


def test_small_tiles_and_panels_change_nothing(monkeypatch):
    vectors = Vectors(cloud(500, 9), "euclidean")
    whole = self_search(vectors, 11)
    monkeypatch.setattr(exact_search, "TILE", 64)
    for workspace in (1 << 30, 64 * 11 * 4 * 2, 1):
        parts = self_search(vectors, 11, workspace=workspace)
        assert (np.sort(parts.indices) == np.sort(whole.indices)).all()


def test_rectangular_search_by_blocks_equals_self_search():
    vectors, rows = Vectors(cloud(3000, 9), "euclidean"), np.arange(3000)
    found = without_self(search(vectors, rows, None, 8, workspace=1), rows)
    assert (np.sort(found.indices) == np.sort(self_search(vectors, 7).indices)).all()


def test_memory_mapped(tmp_path):
    np.save(tmp_path / "embeddings.npy", cloud(600, 12).astype(np.float16))
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    graph, loaded = nearest_neighbours(mapped, 4), nearest_neighbours(np.array(mapped), 4)
    assert (graph.indices == loaded.indices).all()


@pytest.mark.parametrize("count", [1, 3])
def test_the_sparse_graph_holds_each_row_nearest_first(count):
    graph = nearest_neighbours(cloud(9, 2), count)
    sparse = as_csr(graph)
    assert sparse.shape == (9, 9)
    assert np.diff(sparse.indptr).tolist() == [count] * 9
    np.testing.assert_array_equal(sparse.indices.reshape(9, count), graph.indices)
    np.testing.assert_array_equal(sparse.data.reshape(9, count), graph.distances.astype(np.float64))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_within_classes(metric):
    embeddings, labels = cloud(400, 6), np.random.default_rng(1).integers(0, 3, 400)
    graph = nearest_neighbours(embeddings, 5, labels=labels, metric=metric)
    apart = all_distances(embeddings, metric)
    apart[labels[:, None] != labels] = np.inf
    assert (graph.indices == np.argsort(apart, axis=1)[:, :5]).all()
    assert graph.recall == 1.0


def test_too_few_samples():
    with pytest.raises(ValueError, match="5 neighbours of each sample need at least 6 samples, there are 5"):
        nearest_neighbours(cloud(5, 2), 5)
    with pytest.raises(ValueError, match="class 4 has 2"):
        nearest_neighbours(cloud(6, 2), 2, labels=np.int64([0, 0, 0, 0, 4, 4]))
    with pytest.raises(ValueError, match="at least 1"):
        nearest_neighbours(cloud(5, 2), 0)


def test_unusable_rows_are_named():
    embeddings = cloud(30, 2)
    embeddings[[7, 21], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"NaN or infinite at rows 7, 21;"):
        nearest_neighbours(embeddings, 2)
    embeddings[[7, 21]] = 0
    nearest_neighbours(embeddings, 2)
    with pytest.raises(ValueError, match=r"zeros is undefined, at rows 7, 21;"):
        nearest_neighbours(embeddings, 2, metric="cosine")
    embeddings[3, 0] = 1e30
    with pytest.raises(ValueError, match=r"longer than 1e\+18 at row 3;"):
        nearest_neighbours(embeddings, 2)
    with pytest.raises(TypeError, match="float64; store them as float32"):
        nearest_neighbours(embeddings.astype(np.float64), 2)


def test_what_does_not_fit_is_refused_with_the_sizes():
    message = r"1,000 samples of 8 dimensions, 3 neighbours.*GB beside.*only 0.00 GB is available"
    with pytest.raises(MemoryError, match=message):
        nearest_neighbours(cloud(1000, 8), 3, available=1000)


def test_estimate_is_logged_before_the_search(caplog):
    with caplog.at_level(logging.INFO, logger=neighbours.__name__):
        nearest_neighbours(cloud(100, 8), 3)
    assert "exact search over 100 samples of 8 dimensions" in caplog.text


class TestInvertedLists:
    def test_taken_when_exact_is_too_slow_and_recall_is_measured(self, caplog, monkeypatch):
        monkeypatch.setattr(neighbours, "on_gpu", lambda count: False)
        embeddings = cloud(6000, 16)
        with caplog.at_level(logging.INFO, logger=neighbours.__name__):
            graph = nearest_neighbours(embeddings, 10, exact_seconds=0.0, audit=500)
        assert graph.engine == "ivf"
        assert "inverted lists are used instead" in caplog.text
        distances, _ = NearestNeighbors(n_neighbors=10).fit(embeddings).kneighbors()
        true_recall = (graph.distances <= distances[:, -1:] * (1 + 1e-5)).mean()
        assert graph.recall >= 0.95
        assert graph.audited == 500
        assert graph.recall == pytest.approx(true_recall, abs=0.02)

    def test_recall_asked_for_is_bought_with_probes(self):
        embeddings = cloud(4000, 24)
        recalls = [nearest_neighbours(embeddings, 8, engine="ivf", least_recall=r).recall for r in (0.05, 0.7, 1.0)]
        assert all(low <= high for low, high in pairwise(recalls))
        assert recalls[0] < 0.7 <= recalls[1]
        assert recalls[2] == 1.0

    def test_lists_with_too_few_members(self):
        embeddings = np.concatenate([cloud(400, 4), 50 + cloud(3, 4)])
        graph = nearest_neighbours(embeddings, 30, engine="ivf", least_recall=0.0)
        assert (graph.indices >= 0).all()
        assert np.isfinite(graph.distances).all()
        np.testing.assert_allclose(graph.distances[400:], brute_force(embeddings, 30)[1][400:], rtol=1e-5)

    def test_never_its_own_neighbour_among_duplicates(self):
        embeddings = np.repeat(cloud(40, 5), 50, axis=0)
        graph = nearest_neighbours(embeddings, 4, engine="ivf")
        assert (graph.indices != np.arange(2000)[:, None]).all()
        assert not graph.distances.any()


def test_recall_below_one_is_seen_by_the_audit(monkeypatch):
    """An engine that silently loses neighbours does not get away with it."""

    def forgetful(vectors, count):
        found = self_search(vectors, min(2 * count, vectors.samples - 1))
        order = np.argsort(-found.similarities, axis=1)[:, ::2]
        return exact_search.Candidates(
            np.take_along_axis(found.indices, order, 1), np.take_along_axis(found.similarities, order, 1)
        )

    monkeypatch.setattr(neighbours, "on_gpu", lambda count: False)
    monkeypatch.setattr(neighbours, "self_search", forgetful)
    assert nearest_neighbours(cloud(900, 8), 10).recall < 0.8


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="NO GPU: FAISS's GPU search HAS NOT BEEN RUN on this machine")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_gpu_equals_cpu(metric, monkeypatch):
    embeddings = cloud(5000, 64)
    on_gpu = nearest_neighbours(embeddings, 10, metric=metric)
    assert on_gpu.engine == "exact (gpu)"
    monkeypatch.setattr(neighbours, "on_gpu", lambda count: False)
    monkeypatch.setattr(exact_search, "on_gpu", lambda count: False)
    on_cpu = nearest_neighbours(embeddings, 10, metric=metric)
    assert on_gpu.recall == on_cpu.recall == 1.0
    np.testing.assert_allclose(on_gpu.distances, on_cpu.distances, rtol=1e-5)
    assert (on_gpu.indices == on_cpu.indices).mean() > 0.9999


def test_blocks_for_the_gpu_give_what_the_tiles_give(monkeypatch):
    """The GPU path's arithmetic around FAISS, with FAISS's CPU search in the place of the GPU's."""
    monkeypatch.setattr(exact_search, "on_gpu", lambda count: False)
    embeddings = np.concatenate([cloud(5000, 12), cloud(100, 12)])
    monkeypatch.setattr(neighbours, "on_gpu", lambda count: False)
    tiles = nearest_neighbours(embeddings, 6)
    monkeypatch.setattr(neighbours, "on_gpu", lambda count: True)
    blocks = nearest_neighbours(embeddings, 6)
    assert (tiles.engine, blocks.engine) == ("exact", "exact (gpu)")
    assert (tiles.indices == blocks.indices).all()
    assert (tiles.distances == blocks.distances).all()


class TestCleanlab:
    @pytest.fixture(scope="class")
    def noisy_digits(self):
        data = load_digits()
        rng = np.random.default_rng(0)
        flipped = np.zeros(len(data.target), bool)
        flipped[rng.choice(len(flipped), len(flipped) // 10, replace=False)] = True
        labels = data.target.astype(np.int64)
        labels[flipped] = (labels[flipped] + rng.integers(1, 10, flipped.sum())) % 10
        return data.data.astype(np.float32), labels, flipped

    def test_datalab_finds_planted_label_errors_with_our_graph(self, noisy_digits, capsys):
        from cleanlab import Datalab

        embeddings, labels, flipped = noisy_digits
        graph = nearest_neighbours(embeddings, 10)
        # Votes of the neighbours, the sample itself left out, are out-of-sample probabilities.
        votes = (labels[graph.indices][:, :, None] == np.arange(10)).mean(axis=1)
        lab = Datalab({"label": labels}, label_name="label")
        # With more jobs cleanlab forks a process that has threads by now, which can hang.
        one_job = {"clean_learning_kwargs": {"find_label_issues_kwargs": {"n_jobs": 1}}}
        lab.find_issues(
            pred_probs=votes,
            knn_graph=as_csr(graph),
            issue_types={"label": one_job, "outlier": {}, "near_duplicate": {}, "data_valuation": {"k": 10}},
        )
        valuation = lab.get_issues("data_valuation")["data_valuation_score"].to_numpy()
        assert auroc(-valuation, flipped) > 0.95
        found = lab.get_issues("label")["is_label_issue"].to_numpy()
        assert found[flipped].mean() > 0.9
        assert flipped[found].mean() > 0.9
        assert capsys.readouterr().out  # Datalab prints its audit

    def test_datalab_gives_the_duplicates_and_neighbours_that_the_graph_holds(self, noisy_digits, capsys):
        from cleanlab import Datalab

        embeddings, labels, _ = noisy_digits
        graph = nearest_neighbours(np.concatenate([embeddings, embeddings[:1]]), 10)
        lab = Datalab({"label": np.append(labels, labels[0])}, label_name="label")
        lab.find_issues(knn_graph=as_csr(graph), issue_types={"near_duplicate": {}})
        issues = lab.get_issues("near_duplicate")
        assert issues["is_near_duplicate_issue"].iloc[[0, -1]].all()
        assert len(embeddings) in issues["near_duplicate_sets"].iloc[0]
        capsys.readouterr()

    def test_agreement_ranks_planted_errors_lowest_and_density_outliers_highest(self, noisy_digits):
        embeddings, labels, flipped = noisy_digits
        agreement = neighbour_agreement(nearest_neighbours(embeddings, 10).indices, labels)
        assert auroc(-agreement, flipped) > 0.95
        outlier = np.full((1, 64), 90, np.float32)
        sparse = density(nearest_neighbours(np.concatenate([embeddings, outlier]), 10).distances)
        assert sparse.argmax() == len(embeddings)


def auroc(scores, positive):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(positive, scores)


def test_as_csr_rows_are_sorted_and_complete():
    graph = nearest_neighbours(cloud(50, 3), 4)
    matrix = as_csr(graph)
    assert matrix.shape == (50, 50)
    assert (matrix.indices.reshape(50, 4) == graph.indices).all()
    assert (np.diff(matrix.data.reshape(50, 4)) >= 0).all()
