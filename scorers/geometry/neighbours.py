"""The graph of nearest neighbours that density, agreement, duplicates and label-error detectors share.

Exact by default; inverted lists (FAISS IVF) where the cost estimate says that exact is too slow. Either way float32
similarities only propose candidates: reported distances compare the original rows, equal ones go to the lower
index, and the recall of a random sample against a float64 brute force travels with the graph.
"""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from secateur.scorers.contract import rows_text
from secateur.scorers.geometry.exact_search import Candidates, both_sides, on_gpu, search, self_search, without_self
from secateur.scorers.geometry.search_cost import Engine, SearchCost, candidate_count, estimate, lists_of, refuse_beyond
from secateur.scorers.geometry.vectors import Metric, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

ROUNDING = 8 * 2.0**-23
"""Largest rounding error of a squared distance in float32, as a share of the square of the longest side in it."""

EXAMINED = 1024
"""Least number of equally near samples that decide a tie; beyond it only the lowest indices count."""

QUERIES = 4096
"""Queries of one rectangular search."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest others of every sample, nearest first, in data-set order.

    `indices` int64 `[n, k]` and `distances` float32 `[n, k]` (Euclidean, or 1 - cosine); a sample is never among its
    own, even where it has exact duplicates. `recall` is the measured share of true neighbours (by distance, so that
    ties do not count against it) of `audited` samples; `engine` is the search method: "exact", "exact (gpu)" or "ivf".
    """

    indices: Int64[np.ndarray, "n k"]
    distances: Float32[np.ndarray, "n k"]
    recall: float
    audited: int
    engine: str
    metric: Metric


@dataclass(frozen=True)
class Search:
    """Settings of the search for a graph: see `nearest_neighbours`."""

    count: int
    engine: Engine
    least_recall: float
    audit: int
    seed: int


def nearest_neighbours(
    embeddings: Shaped[np.ndarray, "n d"],
    count: int,
    *,
    labels: Int64[np.ndarray, " n"] | None = None,
    metric: Metric = "euclidean",
    engine: Literal["auto", "exact", "ivf"] = "auto",
    exact_seconds: float = 3600.0,
    least_recall: float = 0.95,
    audit: int = 256,
    seed: int = 0,
    available: int | None = None,
) -> Neighbours:
    """The `count` nearest other samples of each sample of `embeddings`, float32 or float16 `[n, d]`.

    With `labels`, neighbours come from the sample's own class alone. `engine="auto"` is exact where the estimate is
    below `exact_seconds`, else inverted lists, probed until the recall of `audit` samples (drawn by `seed`)
    reaches `least_recall`. Embeddings may be memory-mapped: they are read by blocks. The estimate is logged first.

    Raises ValueError where a sample has fewer than `count` others to choose from, and for NaN, infinite or (cosine)
    zero rows; MemoryError, with the sizes, where the search would not fit in `available` bytes (free memory if None).
    """
    if count < 1:
        raise ValueError(f"count of neighbours is {count}, but it must be at least 1")
    check_enough(len(embeddings), count, labels)
    chosen = choose_engine(embeddings, labels, count, engine, exact_seconds, available)
    how = Search(count, chosen, least_recall, audit, seed)
    if labels is None:
        return search_graph(Vectors(embeddings, metric), how)
    return within_classes(embeddings, labels, metric, how)


def check_enough(samples: int, count: int, labels: Int64[np.ndarray, " n"] | None) -> None:
    """Raise ValueError where a sample has fewer than `count` others."""
    if labels is None:
        if samples <= count:
            raise ValueError(
                f"{count} neighbours of each sample need at least {count + 1} samples, there are {samples}"
            )
        return
    if len(labels) != samples:
        raise ValueError(f"{samples} embeddings but {len(labels)} labels")
    classes, sizes = np.unique(labels, return_counts=True)
    if len(small := np.flatnonzero(sizes <= count)):
        named = ", ".join(f"class {classes[i]} has {sizes[i]}" for i in small[:10])
        raise ValueError(f"{count} neighbours within a class need at least {count + 1} samples of it; {named}")


def choose_engine(
    embeddings: Shaped[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"] | None,
    count: int,
    engine: Literal["auto", "exact", "ivf"],
    limit: float,
    available: int | None,
) -> Engine:
    """The engine to use, with its estimate logged; raises MemoryError where it would not fit."""
    sizes = np.array([len(embeddings)]) if labels is None else np.unique(labels, return_counts=True)[1]
    # A search within classes holds a copy of one class at a time.
    copied = 0 if labels is None else int(sizes.max()) * embeddings[:1].nbytes

    def cost_of(engine: Engine) -> SearchCost:
        pairs = float((sizes.astype(np.float64) ** 2).sum())
        cost = estimate(len(embeddings), embeddings.shape[1], count, engine=engine, pairs=pairs)
        return replace(cost, memory=cost.memory + copied)

    cost = cost_of("ivf" if engine == "ivf" else "exact")
    # The estimate does not know the rate of a GPU: there exact stays exact.
    if engine == "auto" and cost.seconds > limit and not on_gpu(candidate_count(count) + 1):
        log.info("%s: longer than %s s, so inverted lists are used instead", cost, limit)
        cost = cost_of("ivf")
    log.info("%s", cost)
    refuse_beyond(cost, available)
    return cost.engine


def search_graph(vectors: Vectors, how: Search) -> Neighbours:
    """Candidates by the engine, then true distances, ties and the audit."""
    audited, truth = true_distances(vectors, how)
    candidates = min(candidate_count(how.count), vectors.samples - 1)
    engine = "ivf"
    if how.engine == "ivf":
        indices, distances = search_lists(vectors, how, candidates, audited, truth)
    else:
        gpu = on_gpu(candidates + 1)
        proposed = search_on_gpu(vectors, candidates) if gpu else self_search(vectors, candidates)
        indices, distances = refine(vectors, proposed, how.count)
        engine = "exact (gpu)" if gpu else "exact"
    measured = recall(distances[audited], truth)
    return Neighbours(indices, distances, measured, len(audited), engine, vectors.metric)


def search_on_gpu(vectors: Vectors, candidates: int) -> Candidates:
    """The same candidates as `self_search` from rectangular searches, which `search` runs on the GPU."""
    parts = []
    for start in range(0, vectors.samples, QUERIES):
        rows = np.arange(start, min(start + QUERIES, vectors.samples))
        parts.append(without_self(search(vectors, rows, None, candidates + 1), rows))
    return Candidates(np.concatenate([p.indices for p in parts]), np.concatenate([p.similarities for p in parts]))


def refine(
    vectors: Vectors, proposed: Candidates, count: int
) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """The `count` nearest of the candidates by distance and then index, and those distances.

    A row whose last candidate is, up to rounding, as near as its last neighbour may have lost an equally near one of
    lower index: such rows are compared with all samples again.
    """
    indices = np.empty((vectors.samples, count), np.int64)
    distances = np.empty((vectors.samples, count), np.float32)
    exhaustive = proposed.indices.shape[1] == vectors.samples - 1
    for span in vectors.spans():
        rows = np.arange(span.start, span.stop)
        near, order = sorted_by_distance(vectors, rows, proposed.indices[span])
        indices[span], distances[span] = order[:, :count], near[:, :count]
        reach = furthest_similar(vectors, rows, near[:, count - 1])
        tied = vectors.squared(near[:, -1]) <= reach
        if not exhaustive and tied.any():
            settled = settle_ties(vectors, rows[tied], order[tied], near[tied], reach[tied], count)
            indices[rows[tied]], distances[rows[tied]] = settled
    return indices, distances


def furthest_similar(
    vectors: Vectors, rows: Int64[np.ndarray, " b"], radius: Float32[np.ndarray, " b"]
) -> Float64[np.ndarray, " b"]:
    """Squared distance of prepared rows at which float32 may still see a sample within the radius."""
    lengths = np.linalg.norm(vectors.prepared(rows).astype(np.float64), axis=1)
    squares = vectors.squared(radius)
    return np.asarray(squares + ROUNDING * (lengths + np.sqrt(squares)) ** 2)


def sorted_by_distance(
    vectors: Vectors, rows: Int64[np.ndarray, " b"], candidates: Int64[np.ndarray, "b c"]
) -> tuple[Float32[np.ndarray, "b c"], Int64[np.ndarray, "b c"]]:
    """Distances and candidates, nearest first, equal distances by index; absent candidates (-1) are infinitely far."""
    distances = vectors.distances(rows, np.maximum(candidates, 0))
    distances[candidates < 0] = np.inf
    order = np.lexsort((candidates, distances), axis=1)
    return np.take_along_axis(distances, order, 1), np.take_along_axis(candidates, order, 1)


def settle_ties(
    vectors: Vectors,
    rows: Int64[np.ndarray, " b"],
    candidates: Int64[np.ndarray, "b c"],
    distances: Float32[np.ndarray, "b c"],
    reach: Float64[np.ndarray, " b"],
    count: int,
) -> tuple[Int64[np.ndarray, "b k"], Float32[np.ndarray, "b k"]]:
    """Neighbours of rows with more equally near samples than candidates."""
    indices = np.empty((len(rows), count), np.int64)
    settled = np.empty((len(rows), count), np.float32)
    step = 256
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        pools = everybody_within(vectors, rows[part], distances[part, count - 1], reach[part], count)
        for place, pool in enumerate(pools, start):
            both = np.union1d(candidates[place], pool)[None]
            near, order = sorted_by_distance(vectors, rows[place : place + 1], both)
            indices[place], settled[place] = order[0, :count], near[0, :count]
    return indices, settled


def everybody_within(
    vectors: Vectors,
    rows: Int64[np.ndarray, " b"],
    radius: Float32[np.ndarray, " b"],
    reach: Float64[np.ndarray, " b"],
    count: int,
) -> list[Int64[np.ndarray, " m"]]:
    """Others within the radius of each row, by index; once `count` are found, it examines no more than `EXAMINED`.

    At radius 0, among exact duplicates, none are needed beyond the first `count`.
    """
    left, _ = both_sides(vectors, rows)
    pools: list[Int64[np.ndarray, " m"]] = [np.empty(0, np.int64) for _ in rows]
    allowed = np.where(radius == 0, 0, EXAMINED)
    looked = np.zeros(len(rows), np.int64)
    for start in range(0, vectors.samples, 1 << 14):
        _, right = both_sides(vectors, slice(start, min(start + (1 << 14), vectors.samples)))
        similarities = left @ right.T
        for place, row in enumerate(rows):
            maybe = start + np.flatnonzero(similarities[place] >= -reach[place] / 2)
            maybe = maybe[maybe != row]
            for chunk in range(0, len(maybe), 4 * count):
                if len(pools[place]) >= count and looked[place] >= allowed[place]:
                    break
                some = maybe[chunk : chunk + 4 * count]
                inside = vectors.distances(row[None], some[None])[0] <= radius[place]
                pools[place] = np.concatenate([pools[place], some[inside]])
                looked[place] += len(some)
    return pools


def search_lists(
    vectors: Vectors,
    how: Search,
    candidates: int,
    audited: Int64[np.ndarray, " a"],
    truth: Float32[np.ndarray, " a"],
) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
    """Inverted lists, with twice the lists probed until the audited samples reach `least_recall`."""
    index = inverted_lists(vectors, how.seed)

    def near(rows: Int64[np.ndarray, " b"]) -> tuple[Int64[np.ndarray, "b k"], Float32[np.ndarray, "b k"]]:
        similarities, proposed = index.search(vectors.prepared(rows), candidates + 1)
        others = without_self(Candidates(proposed, -similarities), rows)
        distances, order = sorted_by_distance(vectors, rows, others.indices)
        return order[:, : how.count], distances[:, : how.count]

    index.nprobe = min(8, index.nlist)
    while recall(near(audited)[1], truth) < how.least_recall and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
    # Samples in sparse lists may miss neighbours altogether although the recall is met: those probe every list.
    parts = [
        near(np.arange(start, min(start + QUERIES, vectors.samples))) for start in range(0, vectors.samples, QUERIES)
    ]
    indices, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
    short = np.flatnonzero((indices < 0).any(axis=1))
    if len(short):
        log.info("inverted lists gave too few neighbours for %s: searched exhaustively", rows_text(short))
        index.nprobe = index.nlist
        indices[short], distances[short] = near(short)
    return indices, distances


def inverted_lists(vectors: Vectors, seed: int):  # type: ignore[no-untyped-def] # an untyped library's index
    """A FAISS IVF index with uncompressed rows, trained on at most 64 rows per list drawn by `seed`."""
    import faiss

    lists = lists_of(vectors.samples)
    quantizer = faiss.IndexFlatL2(vectors.dimensions)
    index = faiss.IndexIVFFlat(quantizer, vectors.dimensions, lists, faiss.METRIC_L2)
    index.cp.seed = seed + 1
    drawn = np.random.default_rng(seed).choice(vectors.samples, min(vectors.samples, 64 * lists), replace=False)
    index.train(vectors.prepared(np.sort(drawn)))
    for span in vectors.spans():
        index.add(vectors.prepared(span))
    return index


def true_distances(vectors: Vectors, how: Search) -> tuple[Int64[np.ndarray, " a"], Float32[np.ndarray, " a"]]:
    """Rows drawn by `seed`, and each one's true distance to its `count`-th neighbour, from a float64 brute force."""
    count, audit = how.count, min(how.audit, vectors.samples)
    drawn = np.random.default_rng(how.seed).choice(vectors.samples, audit, replace=False)
    rows = np.sort(drawn).astype(np.int64)
    queries = vectors.prepared(rows).astype(np.float64)
    nearest = np.full((len(rows), count), np.inf)
    for span in vectors.spans():
        block = vectors.prepared(span).astype(np.float64)
        squares = (queries**2).sum(1)[:, None] + (block**2).sum(1) - 2 * queries @ block.T
        inside = (rows >= span.start) & (rows < span.stop)
        squares[inside, rows[inside] - span.start] = np.inf
        nearest = np.partition(np.hstack([nearest, squares]), count - 1, axis=1)[:, :count]
    squared = np.maximum(nearest[:, count - 1], 0)
    lengths = squared / 2 if vectors.metric == "cosine" else np.sqrt(squared) / vectors.scale
    return rows, lengths.astype(np.float32)


def recall(distances: Float32[np.ndarray, "a k"], truth: Float32[np.ndarray, " a"]) -> float:
    """Share of reported neighbours that are no farther than the true last one, up to float32 rounding."""
    typical = float(np.median(truth)) if len(truth) else 0.0
    return float((distances <= truth[:, None] * (1 + 1e-5) + 1e-5 * typical).mean()) if len(truth) else float("nan")


def within_classes(
    embeddings: Shaped[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], metric: Metric, how: Search
) -> Neighbours:
    """One graph per class, put back in data-set order; the recall is that of all audited samples together."""
    indices = np.empty((len(labels), how.count), np.int64)
    distances = np.empty((len(labels), how.count), np.float32)
    audited, hits, engines = 0, 0.0, set()
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        share = max(1, how.audit * len(rows) // len(labels))
        part = search_graph(Vectors(embeddings[rows], metric), replace(how, audit=share))
        indices[rows], distances[rows] = rows[part.indices], part.distances
        audited += part.audited
        hits += part.recall * part.audited
        engines.add(part.engine)
    return Neighbours(indices, distances, hits / audited, audited, " and ".join(sorted(engines)), metric)


def as_csr(neighbours: Neighbours) -> "csr_matrix":
    """The graph as a SciPy CSR matrix `[n, n]` of distances, each row nearest first: cleanlab's `knn_graph`."""
    from scipy.sparse import csr_matrix

    samples, count = neighbours.indices.shape
    starts = np.arange(0, samples * count + 1, count)
    parts = (neighbours.distances.ravel().astype(np.float64), neighbours.indices.ravel(), starts)
    return csr_matrix(parts, shape=(samples, samples))
