"""Copies of several measures together: who is in a group with whom, and which row of another part is whose copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int16, Int64

from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.found import Found, components, contents_of


@dataclass(frozen=True)
class Joined:
    """All copies: the exact ones, and behind them those of each further measure.

    `group` int64 `[n]` gathers rows that any measure joins, by the first of them, -1 for rows without a copy. `across`
    is a row of the other side (of training rows one of any other part, of other rows a training row) that a row copies,
    -1 without one, `across_by` the place of the measure that says so, exact ones first, and `across_similarity` that of
    the pair; `partner`, `partner_by` and `similarity` are the same of any row.
    """

    measures: tuple[Copies, ...]
    group: Int64[np.ndarray, " n"]
    across: Int64[np.ndarray, " n"]
    across_by: Int8[np.ndarray, " n"]
    across_similarity: Float32[np.ndarray, " n"]
    partner: Int64[np.ndarray, " n"]
    partner_by: Int8[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]

    @property
    def exact(self) -> Copies:
        """Rows of equal input."""
        return self.measures[0]

    def leaked(self, part: Int16[np.ndarray, " n"], *, exact: bool | None = None) -> Bool[np.ndarray, " n"]:
        """Rows of other parts that training has: all of them, or those of equal input, or those that are near alone."""
        of = (part != TRAIN) & (self.across >= 0)
        return np.asarray(of if exact is None else of & ((self.across_by == 0) == exact))

    def kept(self, part: Int16[np.ndarray, " n"], of: int = TRAIN) -> Bool[np.ndarray, " n"]:
        """Rows of a part less all but the first of each group; false of other parts."""
        mine = part == of
        rows = np.flatnonzero(mine & (self.group >= 0))
        kept = mine & (self.group < 0)
        kept[rows[np.unique(self.group[rows], return_index=True)[1]]] = True
        return np.asarray(kept)


def exact_copies(rows: AuditRows) -> Copies:
    """Rows of equal input, whatever their targets; rows without a usable input are no copies."""
    found = Found(contents_of(rows.inputs[:, 1], rows.part, rows.sound))
    return found.copies(rows.part, "equal input", 1.0, "rows are copies where a model is shown the same", equal)


def equal(left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, " p"]:
    """Contents that differ are not alike at all."""
    return np.asarray(left == right, np.float32)


def joined(measures: Sequence[Copies]) -> Joined:
    """Copies of several measures, the exact ones first."""
    count = len(measures[0].group)
    left = [np.flatnonzero(each.group >= 0) for each in measures]
    right = [each.group[rows] for each, rows in zip(measures, left, strict=True)]
    component = components(np.concatenate(left), np.concatenate(right), count)
    grouped = np.bincount(component)[component] > 1
    first = np.full(component.max(initial=-1) + 1, -1, np.int64)
    first[component[::-1]] = np.arange(count)[::-1]
    across = firsts([each.across for each in measures], [each.across_similarity for each in measures])
    partner = firsts([each.partner for each in measures], [each.similarity for each in measures])
    return Joined(tuple(measures), np.where(grouped, first[component], -1), *across, *partner)


def firsts(
    rows: Sequence[Int64[np.ndarray, " n"]], similarities: Sequence[Float32[np.ndarray, " n"]]
) -> tuple[Int64[np.ndarray, " n"], Int8[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The row that the first measure with any names, the place of that measure (-1 for none), and its similarity."""
    found, by = np.full(len(rows[0]), -1, np.int64), np.full(len(rows[0]), -1, np.int8)
    alike = np.full(len(rows[0]), np.nan, np.float32)
    for place, (each, similarity) in enumerate(zip(rows, similarities, strict=True)):
        new = (found < 0) & (each >= 0)
        found[new], by[new], alike[new] = each[new], place, similarity[new]
    return found, by, alike
