"""Combine copies of several measures: groups over all of them, and the copied row of another part for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int8, Int16, Int64

from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.found import Found, components, contents_of


@dataclass(frozen=True)
class Between:
    """Pairs of a row of a part beside training and its copy in another such part, one for each row and other part:
    `rows` and `other` int64 `[k]`, `by` the place of the first measure that finds the pair, and `similarity`.
    """

    rows: Int64[np.ndarray, " k"]
    other: Int64[np.ndarray, " k"]
    by: Int8[np.ndarray, " k"]
    similarity: Float32[np.ndarray, " k"]


@dataclass(frozen=True)
class Joined:
    """All copies: the exact ones, then those of each further measure.

    `levels` has for each measure the groups, int64 `[n]`, of rows that it or an earlier one joins, each named by its
    first row, -1 for rows without a copy. `across` is each row's copy on the other side (for a training row in any
    other part, for another row in training), -1 without one; `across_by` is the place of the first measure that finds
    it, exact copies first, and `across_similarity` the similarity. `partner`, `partner_by` and `similarity` are the
    same for copies in any part, and `between` for two parts beside training.
    """

    measures: tuple[Copies, ...]
    levels: tuple[Int64[np.ndarray, " n"], ...]
    across: Int64[np.ndarray, " n"]
    across_by: Int8[np.ndarray, " n"]
    across_similarity: Float32[np.ndarray, " n"]
    partner: Int64[np.ndarray, " n"]
    partner_by: Int8[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]
    between: Between

    @property
    def exact(self) -> Copies:
        """Rows of equal input."""
        return self.measures[0]

    @property
    def group(self) -> Int64[np.ndarray, " n"]:
        """Groups of rows that any measure joins."""
        return self.levels[-1]

    def leaked(self, part: Int16[np.ndarray, " n"], *, by: int | None = None) -> Bool[np.ndarray, " n"]:
        """Rows of other parts with a copy in training: all of them, or those that a measure is the first to find."""
        of = (part != TRAIN) & (self.across >= 0)
        return np.asarray(of if by is None else of & (self.across_by == by))

    def kept(self, part: Int16[np.ndarray, " n"], of: int = TRAIN, *, level: int = -1) -> Bool[np.ndarray, " n"]:
        """Rows of a part without a copy, and the first of each group of a level; false for other parts."""
        mine, group = part == of, self.levels[level]
        rows = np.flatnonzero(mine & (group >= 0))
        kept = mine & (group < 0)
        kept[rows[np.unique(group[rows], return_index=True)[1]]] = True
        return np.asarray(kept)


def exact_copies(rows: AuditRows) -> Copies:
    """Rows of equal input, whatever their targets; rows without a usable input have no copies."""
    found = Found(contents_of(rows.inputs[:, 1], rows.part, rows.sound))
    return found.copies(rows.part, "equal input", 1.0, "rows are copies where a model is shown the same", equal)


def equal(left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, " p"]:
    """Similarity 0 for different contents."""
    return np.asarray(left == right, np.float32)


def joined(measures: Sequence[Copies], part: Int16[np.ndarray, " n"]) -> Joined:
    """Combine copies of several measures, the exact ones first."""
    across = firsts([each.across for each in measures], [each.across_similarity for each in measures])
    partner = firsts([each.partner for each in measures], [each.similarity for each in measures])
    levels = [together(measures[: place + 1]) for place in range(len(measures))]
    return Joined(tuple(measures), tuple(levels), *across, *partner, between_of(measures, part))


def together(measures: Sequence[Copies]) -> Int64[np.ndarray, " n"]:
    """The first row of each row's group over all measures, -1 without one."""
    left = [np.flatnonzero(each.group >= 0) for each in measures]
    right = [each.group[rows] for each, rows in zip(measures, left, strict=True)]
    component = components(np.concatenate(left), np.concatenate(right), len(measures[0].group))
    grouped = np.bincount(component)[component] > 1
    first = np.full(component.max(initial=-1) + 1, -1, np.int64)
    first[component[::-1]] = np.arange(len(component))[::-1]
    return np.asarray(np.where(grouped, first[component], -1))


def firsts(
    rows: Sequence[Int64[np.ndarray, " n"]], similarities: Sequence[Float32[np.ndarray, " n"]]
) -> tuple[Int64[np.ndarray, " n"], Int8[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Each row's copy by the first measure that has one, that measure's place (-1 for none), and its similarity."""
    found, by = np.full(len(rows[0]), -1, np.int64), np.full(len(rows[0]), -1, np.int8)
    alike = np.full(len(rows[0]), np.nan, np.float32)
    for place, (each, similarity) in enumerate(zip(rows, similarities, strict=True)):
        new = (found < 0) & (each >= 0)
        found[new], by[new], alike[new] = each[new], place, similarity[new]
    return found, by, alike


def between_of(measures: Sequence[Copies], part: Int16[np.ndarray, " n"]) -> Between:
    """For each row and other part, the pair of the first measure that has one."""
    each = [
        pl.DataFrame(
            {
                "row": one.between[:, 0],
                "other": one.between[:, 1],
                "part": part[one.between[:, 1]],
                "by": np.full(len(one.between), place, np.int8),
                "similarity": one.between_similarity,
            }
        )
        for place, one in enumerate(measures)
    ]
    found = pl.concat(each).unique(["row", "part"], keep="first", maintain_order=True).sort("row", "part")
    return Between(*(found[name].to_numpy() for name in ("row", "other", "by", "similarity")))
