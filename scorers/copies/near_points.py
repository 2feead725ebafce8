"""Points nearer to each other than a radius: every point's nearest ones and whole clusters, without all pairs.

The search finds the nearest 16 of each point. Where all of them lie within the radius there may be more: then it
compares one point of each group with all such points, which joins groups that belong together, and finds the nearest of
each such point on the other side. Up to 32,768 points are compared with all; beyond, FAISS searches inverted lists,
more and more of them until they give 99% of the pairs that an exhaustive comparison of a sample finds.
"""

import logging

import numpy as np
from jaxtyping import Bool, Float32, Int64

from secateur.scorers.copies.contract import Progress
from secateur.scorers.copies.found import Found
from secateur.scorers.geometry.neighbours import inverted_lists
from secateur.scorers.geometry.vectors import Vectors

log = logging.getLogger(__name__)

NEAREST = 16
"""Nearest points to find for each."""

EXHAUSTIVE = 1 << 15
"""Most points for comparing all with all."""

PROBES = 16
"""Inverted lists of the first search."""

LEAST_RECALL = 0.99
"""Share of known pairs that the search must find."""

BLOCK = 1 << 13
"""Points of one search."""

WORK = 1 << 24
"""Distances in memory at once."""

Points = Float32[np.ndarray, "m d"]
Rows = Int64[np.ndarray, " b"]
Near = tuple[Int64[np.ndarray, "b k"], Float32[np.ndarray, "b k"]]


class Scale:
    """Similarity of two points by their distance: 1 - distance / `whole`, or for None the cosine of unit vectors."""

    def __init__(self, whole: float | None) -> None:
        self.whole = whole

    def __call__(self, distance: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Similarity, 1 where the distance is 0."""
        wide = distance.astype(np.float64)
        return np.asarray(1 - (wide**2 / 2 if self.whole is None else wide / self.whole), np.float32)

    def radius(self, similarity: float) -> float:
        """Distance at which the similarity is this."""
        return float(np.sqrt(2 * (1 - similarity)) if self.whole is None else (1 - similarity) * self.whole)


class Index:
    """Search for the nearest among some of the points, the members."""

    def __init__(self, points: Points, members: Rows, seed: int) -> None:
        self.points, self.members = points, members
        self.vectors = Vectors(points, "euclidean")
        self.lists = None
        if len(members) > EXHAUSTIVE:
            whole = len(members) == len(points)
            inner = self.vectors if whole else Vectors(points[members], "euclidean")
            self.lists, self.prepared = inverted_lists(inner, seed), inner
            self.lists.nprobe = min(PROBES, self.lists.nlist)

    def nearest(self, rows: Rows, count: int) -> Near:
        """The `count` members nearest to each row without itself (-1 where there are fewer), and their distances."""
        import faiss

        count = min(count + 1, len(self.members))
        if self.lists is None:
            places = faiss.knn(self.vectors.prepared(rows), self.vectors.prepared(self.members), count)[1]
        else:
            block = self.points[rows] - self.prepared.mean.astype(np.float32)
            places = self.lists.search(block * np.float32(self.prepared.scale), count)[1]
        others = np.where(places < 0, -1, self.members[places])
        distances = self.vectors.distances(rows, others.clip(0))
        distances[(others < 0) | (others == rows[:, None])] = np.inf
        order = np.lexsort((others, distances), axis=1)
        others, distances = np.take_along_axis(others, order, 1), np.take_along_axis(distances, order, 1)
        return np.where(np.isfinite(distances), others, -1), distances

    def widen(self, rows: Rows, others: Rows) -> float:
        """Search twice the lists until it finds enough of the pairs; returns the share found."""
        while True:
            met = float((self.nearest(rows, NEAREST)[0] == others[:, None]).any(axis=1).mean()) if len(rows) else 1.0
            if self.lists is None or met >= LEAST_RECALL or self.lists.nprobe >= self.lists.nlist:
                return met
            self.lists.nprobe = min(2 * self.lists.nprobe, self.lists.nlist)


def join_near(
    points: Points,
    radius: float,
    found: Found,
    scale: Scale,
    known: tuple[Rows, Rows],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> float:
    """Offer `found` the pairs of points at most `radius` apart; returns the share of `known` pairs that it finds."""
    index = Index(points, np.arange(len(points)), seed)
    met = index.widen(*known)
    full: list[Rows] = [np.empty(0, np.int64)]
    for start in range(0, len(points), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(points)))
        others, distances = index.nearest(rows, NEAREST)
        near = (others >= 0) & (distances <= radius)
        full.append(rows[near[:, : min(NEAREST, len(points) - 1)].all(axis=1)])
        found.offer(np.repeat(rows, near.sum(axis=1)), others[near], scale(distances[near]))
        if progress:
            progress(int(rows[-1]) + 1, len(points))
    settle_crowded(points, radius, found, np.concatenate(full), scale, seed)
    return met


def settle_crowded(points: Points, radius: float, found: Found, crowded: Rows, scale: Scale, seed: int) -> None:
    """Find groups, and partners on the other side, for points with many others within the radius, whose nearest few do
    not show these."""
    if len(crowded):
        log.info("%s points have many others within the radius", len(crowded))
        join_groups(points, radius, found, crowded)
        look_across(points, radius, found, crowded, scale, seed)


def join_groups(points: Points, radius: float, found: Found, crowded: Rows) -> None:
    """Join groups of crowded points: a point of each is compared with all crowded ones, until nothing changes."""
    tried = np.zeros(len(points), bool)
    step = max(1, WORK // len(crowded))
    while True:
        _, places = np.unique(found.settle()[crowded], return_index=True)
        leaders = crowded[places]
        new = leaders[~tried[leaders]]
        if len(leaders) < 2 or len(new) == 0:
            return
        tried[new] = True
        for start in range(0, len(new), step):
            some = new[start : start + step]
            place, other = np.nonzero(within(points, some, crowded, radius))
            found.join(some[place], crowded[other])


def within(points: Points, rows: Rows, others: Int64[np.ndarray, " s"], radius: float) -> Bool[np.ndarray, "r s"]:
    """Whether pairs are at most a radius apart: by a product, and by differences where rounding might decide."""
    left, right = points[rows], points[others]
    lengths = np.vecdot(left, left)[:, None] + np.vecdot(right, right)
    squares = lengths - 2 * (left @ right.T)
    slack = 1e-5 * lengths
    sure = squares <= radius**2 - slack
    place, other = np.nonzero((squares <= radius**2 + slack) & ~sure)
    for start in range(0, len(place), BLOCK):
        part = slice(start, start + BLOCK)
        apart = np.linalg.norm(left[place[part]].astype(np.float64) - right[other[part]], axis=1)
        sure[place[part], other[part]] = apart <= radius
    return np.asarray(sure)


def look_across(points: Points, radius: float, found: Found, crowded: Rows, scale: Scale, seed: int) -> None:
    """Offer each crowded point the nearest one on the other side, and in each further part."""
    for own, side in found.contents.sides:
        rows, members = crowded[own[crowded]], np.flatnonzero(side)
        if len(rows) == 0 or len(members) == 0:
            continue
        index = Index(points, members, seed)
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            others, distances = (column[:, 0] for column in index.nearest(some, 1))
            near = (others >= 0) & (distances <= radius)
            found.offer(some[near], others[near], scale(distances[near]))
