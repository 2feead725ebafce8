"""Rows that a selector keeps, in whole groups, within a budget and by quotas: one way for studies, shell and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from secateur.pipelines.studies.selection import refuse_no_parts
from secateur.selectors.contract import Selector
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.unit_quotas import choose_by_quota
from secateur.selectors.whole_units import Units, choose_units

POLICIES = ("proportional", "balanced")
ROWS = "rows"


@dataclass(frozen=True)
class Spent:
    """Amounts of a budget that kept rows take; see `Spent` of a manifest's provenance."""

    unit: str
    limit: float
    total: float
    whole: float
    group: str | None
    groups: int | None
    beside: float | None = None

    @property
    def plain(self) -> bool:
        """Whether the budget is a number of single rows and met exactly: then a manifest needs no amounts."""
        return self.unit == ROWS and self.group is None and self.total == self.limit


@dataclass(frozen=True)
class Quotas:
    """Parts of a budget by the values of a column.

    `strata` int64 `[n]` are the places of each row's value among `values`; `parts` a policy, or the share of the budget
    by stratum.
    """

    strata: Int64[np.ndarray, " n"]
    parts: Any

    @classmethod
    def of(cls, by: str, codes: tuple[np.ndarray, pl.Series], share: Any) -> Quotas:
        """Quotas of the column `by` with these `codes`, by a policy or a share of each value.

        Raises ValueError for another word, shares that are no parts of a whole, and a value that the column lacks.
        """
        strata, values = codes
        return cls(strata, share if isinstance(share, str) and share in POLICIES else shares_of(share, values, by))


def shares_of(share: Any, values: pl.Series, by: str) -> dict[int, float]:
    """The share of each value by its place; see `Quotas.of`."""
    if not isinstance(share, Mapping):
        raise ValueError(f"share: 'proportional', 'balanced' or a share by value of {by!r}, got {share!r}")
    refuse_no_parts(share)
    known = values.to_list()
    places = {str(value): place for place, value in enumerate(known)} | {v: place for place, v in enumerate(known)}
    for value in share:
        if value not in places:
            some = ", ".join(map(str, known[:20]))
            raise ValueError(f"share: column {by!r} has no value {value!r}; there are: {some}")
    return {places[value]: float(part) for value, part in share.items()}


def kept_rows(
    chosen: Selector[...],
    signals: Mapping[str, np.ndarray],
    units: Units,
    limit: float,
    quotas: Quotas | None,
    *,
    settings: Mapping[str, Any],
    seed: int,
    ids: Ids,
) -> Keep:
    """Mask of the rows that stay, bool `[n]`, which take at most `limit`; see `choose_units` and `choose_by_quota`.

    Raises ValueError where nothing fits, and as these two.
    """
    how: dict[str, Any] = {"settings": settings, "seed": seed, "ids": ids}
    if quotas is None:
        return choose_units(chosen, signals, units, limit, **how)
    kept = choose_by_quota(chosen, signals, units, limit, strata=quotas.strata, share=quotas.parts, **how)
    if not kept.any():
        raise ValueError(f"nothing fits the parts of a budget of {limit:g}: raise it, or name larger parts")
    return kept
