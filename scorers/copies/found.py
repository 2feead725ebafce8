"""Groups and the best partner of each row, from a stream of pairs of copies, which are not kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt64

from secateur.scorers.copies.contract import Copies, Parts

Similarity = Callable[[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]], Float32[np.ndarray, " p"]]
"""Similarity of pairs of contents."""

Sides = tuple[Bool[np.ndarray, " m"], Bool[np.ndarray, " m"]]
"""Masks of contents that need a partner, and of their candidates."""

BUFFER = 1 << 20
"""Pairs to hold before groups are joined."""


@dataclass(frozen=True)
class Contents:
    """Distinct contents of rows, in the order of their hash, and the rows that have them.

    `of` int64 `[n]` is the content of each row, -1 for rows that are left out; `first` int64 `[m]` the first row of
    each content, `first_train` and `first_other` the first within training and within other parts, -1 where none.
    `beside` has the first within each part above 0, where there are several of them.
    """

    of: Int64[np.ndarray, " n"]
    first: Int64[np.ndarray, " m"]
    first_train: Int64[np.ndarray, " m"]
    first_other: Int64[np.ndarray, " m"]
    beside: Mapping[int, Int64[np.ndarray, " m"]]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def sides(self) -> list[Sides]:
        """Contents that need their most similar one among others, and these others: training and the other parts, in
        both directions, and for each part above 0 the rest of these and the part itself."""
        train, other = self.first_train >= 0, self.first_other >= 0
        found = [(train, other), (other, train)]
        for part, first in self.beside.items():
            rest = [others >= 0 for number, others in self.beside.items() if number != part]
            found.append((np.logical_or.reduce(rest), first >= 0))
        return found


def contents_of(keys: UInt64[np.ndarray, " n"], part: Parts, given: Bool[np.ndarray, " n"] | None = None) -> Contents:
    """Contents by 64-bit hashes of them: equal keys are equal contents. Rows that are not `given` are left out."""
    rows = np.arange(len(keys)) if given is None else np.flatnonzero(given)
    unique, first, inverse = np.unique(keys[rows], return_index=True, return_inverse=True)
    of = np.full(len(keys), -1, np.int64)
    of[rows] = inverse

    def first_among(these: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " m"]:
        found = np.full(len(unique), -1, np.int64)
        found[of[these[::-1]]] = these[::-1]  # the last assignment, of the first row, stands
        return found

    train = part[rows] == 0
    parts = np.unique(part[part > 0]).tolist()
    beside = {number: first_among(rows[part[rows] == number]) for number in parts} if len(parts) > 1 else {}
    return Contents(of, rows[first], first_among(rows[train]), first_among(rows[~train]), beside)


def components(left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"], size: int) -> Int64[np.ndarray, " size"]:
    """The component of each of 0 … size - 1 that pairs join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(size, size))
    labels: Int64[np.ndarray, " size"] = connected_components(edges, directed=False)[1].astype(np.int64)
    return labels


class Best:
    """The most similar content offered to each content, among those that `allowed` marks; ties go to the lowest."""

    def __init__(self, contents: int, allowed: Bool[np.ndarray, " m"] | None = None) -> None:
        self.partner = np.full(contents, -1, np.int64)
        self.similarity = np.full(contents, -np.inf, np.float32)
        self.allowed = allowed

    def offer(
        self, left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"], similarity: Float32[np.ndarray, " p"]
    ) -> None:
        """Take each pair from both of its sides."""
        own, other = np.concatenate([left, right]), np.concatenate([right, left])
        values = np.concatenate([similarity, similarity])
        stay = values >= self.similarity[own]
        if self.allowed is not None:
            stay &= self.allowed[other]
        own, other, values = own[stay], other[stay], values[stay]
        order = np.lexsort((other, -values, own))
        own, other, values = own[order], other[order], values[order]
        heads = np.flatnonzero(np.diff(own, prepend=-1))
        own, other, values = own[heads], other[heads], values[heads]
        better = (values > self.similarity[own]) | (other < self.partner[own])
        self.partner[own[better]], self.similarity[own[better]] = other[better], values[better]


class Found:
    """Accumulates verified pairs of contents at or above the threshold: memory by contents and parts, whatever the
    number of pairs."""

    def __init__(self, contents: Contents) -> None:
        size = len(contents)
        self.contents = contents
        self.any = Best(size)
        self.train = Best(size, contents.first_train >= 0)
        self.other = Best(size, contents.first_other >= 0)
        self.beside = {part: Best(size, first >= 0) for part, first in contents.beside.items()}
        self.component = np.arange(size, dtype=np.int64)
        self._waiting: list[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]] = []
        self._held = 0

    def offer(
        self, left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"], similarity: Float32[np.ndarray, " p"]
    ) -> None:
        """Take pairs of different contents, each once or more often."""
        if len(left) == 0:
            return
        for best in (self.any, self.train, self.other, *self.beside.values()):
            best.offer(left, right, similarity)
        self.join(left, right)

    def join(self, left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> None:
        """Put both sides of each pair into one group; the best partners stay."""
        apart = self.component[left] != self.component[right]
        if apart.any():
            self._waiting.append((left[apart], right[apart]))
            self._held += int(apart.sum())
            if self._held >= BUFFER:
                self.settle()

    def settle(self) -> Int64[np.ndarray, " m"]:
        """Component of each content, by all pairs so far."""
        if self._waiting:
            left = self.component[np.concatenate([pair[0] for pair in self._waiting])]
            right = self.component[np.concatenate([pair[1] for pair in self._waiting])]
            self.component = components(left, right, len(self.component))[self.component]
            self._waiting, self._held = [], 0
        return self.component

    def copies(self, part: Parts, measure: str, threshold: float, reason: str, similarity: Similarity) -> Copies:
        """The result by rows."""
        partner, alike = self._of_rows()
        across, across_alike = self._across(part)
        group, stays, lead = self._groups(part)
        between, between_alike = self._between(part)
        return Copies(
            measure=measure,
            threshold=threshold,
            reason=reason,
            group=group,
            stays=stays,
            partner=partner,
            similarity=alike,
            across=across,
            across_similarity=across_alike,
            spread=self._spread(group, lead, similarity),
            between=between,
            between_similarity=between_alike,
        )

    def _of_rows(self) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Best other row: one of equal content where there is one, otherwise the content's best partner."""
        of, first = self.contents.of, self.contents.first
        rows = np.flatnonzero(of >= 0)
        later = rows[first[of[rows]] != rows]
        second = np.full(len(first), -1, np.int64)
        second[of[later[::-1]]] = later[::-1]
        partner, alike = np.full(len(of), -1, np.int64), np.full(len(of), np.nan, np.float32)
        near = self.any.partner[of[rows]]
        has = near >= 0
        partner[rows[has]], alike[rows[has]] = first[near[has]], self.any.similarity[of[rows[has]]]
        twins = second[of[rows]]
        equal = twins >= 0
        partner[rows[equal]] = np.where(first[of[rows[equal]]] == rows[equal], twins[equal], first[of[rows[equal]]])
        alike[rows[equal]] = 1
        return partner, alike

    def _across(self, part: Parts) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Best row of the other side."""
        of = self.contents.of
        partner, alike = np.full(len(of), -1, np.int64), np.full(len(of), np.nan, np.float32)
        for train, best, first in (
            (True, self.other, self.contents.first_other),
            (False, self.train, self.contents.first_train),
        ):
            rows = np.flatnonzero((of >= 0) & ((part == 0) == train))
            near = best.partner[of[rows]]
            has = near >= 0
            partner[rows[has]], alike[rows[has]] = first[near[has]], best.similarity[of[rows[has]]]
            equal = first[of[rows]] >= 0
            partner[rows[equal]], alike[rows[equal]] = first[of[rows[equal]]], 1
        return partner, alike

    def _between(self, part: Parts) -> tuple[Int64[np.ndarray, "k 2"], Float32[np.ndarray, " k"]]:
        """Best row in each part above 0 for the rows of the other such parts."""
        of = self.contents.of
        pairs, alike = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
        for number, own in self.contents.beside.items():
            rows = np.flatnonzero((of >= 0) & (part > 0) & (part != number))
            best = self.beside[number]
            equal, near = own[of[rows]], best.partner[of[rows]]
            other = np.where(equal >= 0, equal, np.where(near >= 0, own[near], -1))
            similarity = np.where(equal >= 0, np.float32(1), best.similarity[of[rows]])
            has = other >= 0
            pairs.append(np.stack([rows[has], other[has]], axis=1))
            alike.append(similarity[has])
        both, similarities = np.concatenate(pairs), np.concatenate(alike)
        order = np.lexsort((part[both[:, 1]], both[:, 0]))
        return both[order], similarities[order]

    def _groups(self, part: Parts) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """First row of each row's group (-1 for a row by itself), whether it stays, and the row that does so there."""
        of = self.contents.of
        rows = np.flatnonzero(of >= 0)
        component = self.settle()[of[rows]]
        sizes = np.bincount(component, minlength=len(self.contents))
        grouped = sizes[component] > 1
        rows, component = rows[grouped], component[grouped]
        group, lead = np.full(len(of), -1, np.int64), np.full(len(of), -1, np.int64)
        # Parts above 0 in their order, then training; rows in theirs.
        rank = np.where(part[rows] == 0, np.iinfo(np.int16).max, part[rows])
        for into, order in ((group, np.lexsort((rows, component))), (lead, np.lexsort((rows, rank, component)))):
            heads = np.flatnonzero(np.diff(component[order], prepend=-1))
            named = np.full(len(self.contents), -1, np.int64)
            named[component[order[heads]]] = rows[order[heads]]
            into[rows] = named[component]
        stays = np.ones(len(of), bool)
        stays[rows] = lead[rows] == rows
        return group, stays, lead

    def _spread(
        self, group: Int64[np.ndarray, " n"], lead: Int64[np.ndarray, " n"], similarity: Similarity
    ) -> Float32[np.ndarray, " n"]:
        """Least similarity in a group to the row that stays, for each row of the group."""
        of = self.contents.of
        least = np.ones(len(group), np.float32)
        rows = np.flatnonzero((group >= 0) & (of != of[lead]))
        for start in range(0, len(rows), BUFFER):
            some = rows[start : start + BUFFER]
            np.minimum.at(least, group[some], similarity(of[some], of[lead[some]]))
        return np.where(group >= 0, least[group], np.float32(np.nan))
