"""Which samples are near-duplicates, and of which sample that stays.

Abbas et al., "SemDeDup: data-efficient learning at web-scale through semantic deduplication", 2023, section 3:
in an order of preference a sample goes if its cosine to an earlier one exceeds 1 - ε. The published rule also compares
with samples that went themselves, so that a chain of neighbours collapses into its first although its ends differ;
by default ours compares with samples that stay, and what stays is within ε of everything that it stands for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from secateur.scorers.contract import Scores
from secateur.scorers.geometry.exact_search import search
from secateur.scorers.geometry.neighbours import sorted_by_distance
from secateur.scorers.geometry.vectors import Vectors

BLOCK = 1024
"""Samples decided at once: earlier ones by one search, those of the block among themselves one by one."""

SPARE = 4
"""Candidates that rounding may shuffle."""


@dataclass(frozen=True)
class Duplicates:
    """What became of each sample, in data-set order.

    `partner` int64 `[n]` is the row of the most similar sample that it was compared with and is a duplicate of, `kept`
    int64 `[n]` the row that stays in its place; both are its own row where it stays. `similarity` float32 `[n]` is the
    cosine to the partner, 1 where it stays.
    """

    partner: Int64[np.ndarray, " n"]
    kept: Int64[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]

    @property
    def stays(self) -> Bool[np.ndarray, " n"]:
        """True for samples that stay."""
        stays: Bool[np.ndarray, " n"] = self.kept == np.arange(len(self.kept))
        return stays


def near_duplicates(
    embeddings: Shaped[np.ndarray, "n d"],
    *,
    epsilon: float,
    preference: Scores | None = None,
    against: Literal["kept", "all"] = "kept",
    clusters: Int64[np.ndarray, " n"] | None = None,
) -> Duplicates:
    """Near-duplicates among `embeddings`, float32 or float16 `[n, d]`, with cosine above 1 - `epsilon`.

    Of two duplicates the one with higher `preference` stays, equal ones (and all, without a preference) by row number.
    `against="all"` is the published rule. With `clusters` only members of one cluster are compared, as published;
    without, everybody. Time is that of half an exact search of all pairs at most, memory O(n) and one block.

    Raises ValueError for an `epsilon` outside 0 … 1, arrays of unequal length, and NaN, infinite or zero rows.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}, but it must be within 0 … 1 (a cosine distance)")
    lengths = {len(array) for array in (embeddings, preference, clusters) if array is not None}
    if len(lengths) != 1:
        raise ValueError(f"embeddings, preference and clusters have unequal lengths {sorted(lengths)}")
    vectors = Vectors(embeddings, "cosine")
    partner = np.arange(len(embeddings))
    distance = np.zeros(len(embeddings), np.float32)
    order = np.argsort(-preference, kind="stable") if preference is not None else np.arange(len(embeddings))
    for members in of_each_cluster(order, clusters):
        decide(vectors, members, epsilon, against, partner, distance)
    return Duplicates(partner=partner, kept=ends_of_chains(partner), similarity=1 - distance)


def of_each_cluster(
    order: Int64[np.ndarray, " n"], clusters: Int64[np.ndarray, " n"] | None
) -> Iterator[Int64[np.ndarray, " m"]]:
    """Members of each cluster, in the given order."""
    if clusters is None:
        yield order
        return
    grouped = order[np.argsort(clusters[order], kind="stable")]
    yield from np.split(grouped, np.flatnonzero(np.diff(clusters[grouped])) + 1)


def decide(
    vectors: Vectors,
    order: Int64[np.ndarray, " m"],
    epsilon: float,
    against: Literal["kept", "all"],
    partner: Int64[np.ndarray, " n"],
    distance: Float32[np.ndarray, " n"],
) -> None:
    """Write partner and cosine distance of every duplicate among `order`, block by block."""
    earlier = np.empty(0, np.int64)
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        if len(earlier):
            found = search(vectors, block, earlier, min(1 + SPARE, len(earlier)))
            near, who = sorted_by_distance(vectors, block, found.indices)
            gone = near[:, 0] < epsilon
            partner[block[gone]], distance[block[gone]] = who[gone, 0], near[gone, 0]
        decide_within(vectors, block, epsilon, against, partner, distance)
        comparable = block[partner[block] == block] if against == "kept" else block
        earlier = np.concatenate([earlier, comparable])


def decide_within(
    vectors: Vectors,
    block: Int64[np.ndarray, " b"],
    epsilon: float,
    against: Literal["kept", "all"],
    partner: Int64[np.ndarray, " n"],
    distance: Float32[np.ndarray, " n"],
) -> None:
    """Compare the members of a block with one another, in order; a nearer partner replaces a farther one."""
    rows = vectors.prepared(block)
    # Products in float32 propose, a little generously; distances of the rows decide.
    close = np.tril(1 - rows @ rows.T < epsilon + 1e-5, -1)
    for place in np.flatnonzero(close.any(axis=1)):
        row = block[place]
        if against == "kept" and partner[row] != row:
            continue
        rivals = block[:place][close[place, :place]]
        if against == "kept":
            rivals = rivals[partner[rivals] == rivals]
        if len(rivals) == 0:
            continue
        apart = vectors.distances(row[None], rivals[None])[0]
        best = int(apart.argmin())
        if apart[best] < epsilon and (partner[row] == row or apart[best] < distance[row]):
            partner[row], distance[row] = rivals[best], apart[best]


def ends_of_chains(partner: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The sample at which following partners ends, for each sample."""
    ends = partner
    while not np.array_equal(further := ends[ends], ends):
        ends = further
    return ends
