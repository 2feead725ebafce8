"""Whole groups, budgets of a column and quotas of a study that trains: its units, and the amounts of a budget."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.data.columns import COMPLETION_TOKENS
from secateur.pipelines.runs.kept_rows import ROWS, Quotas, Spent, kept_rows
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.whole_units import Units


def columns_in(study: Study, loaded: Mapping[str, Any]) -> pl.DataFrame:
    """Columns of the training rows that budgets, groups and quotas read, from the assets that hold them."""
    held = [loaded["columns"].collect()] if "columns" in loaded else []
    if study.budget_of != ROWS and study.cost_column == COMPLETION_TOKENS:
        held.append(loaded["samples"].select(COMPLETION_TOKENS).collect())
    return pl.concat(held, how="horizontal") if held else pl.DataFrame()


def grouped(study: Study, table: pl.DataFrame, rows: np.ndarray | None) -> Units:
    """Units of the given rows, or of all, that stay whole, with their costs; `table` has the columns of all rows."""
    own = table if rows is None else table[rows]
    return Units.made_of(len(own), groups_of(study, own), costs_of_rows(study, own))


def amount_faults(study: Study, units: Units) -> Iterator[str]:
    """Budgets above the total of all rows, or below the smallest group or row."""
    unit, whole, least = study.budget_of, float(units.costs.sum()), float(units.costs.min())
    for keep in study.budgets:
        limit = study.limit(keep, len(units.of), whole)
        if limit > whole:
            yield f"keep: {keep:,} {unit} are more than the {whole:,.15g} of all training rows"
        elif limit < least:
            smallest = f"the smallest that stays whole has {least:,.15g}; raise it"
            yield f"keep: {keep:g} comes to {limit:,.15g} {unit}, and {smallest}"


def groups_of(study: Study, table: pl.DataFrame) -> np.ndarray | None:
    """Number of each row's group, int64 `[n]`; None where each row is by itself."""
    return None if study.group is None else codes_of(table[study.group])[0]


def costs_of_rows(study: Study, table: pl.DataFrame) -> np.ndarray | None:
    """Cost of each row, float64 `[n]`; None where each costs one."""
    name = study.cost_column
    return None if name is None else table[name].cast(pl.Float64).to_numpy()


def kept_whole(
    study: Study,
    selection: Selection,
    signals: Mapping[str, np.ndarray],
    table: pl.DataFrame,
    *,
    limit: float,
    seed: int,
    settings: Mapping[str, Any],
    rows: np.ndarray,
) -> Keep:
    """Mask of the given rows, in whole groups and by quotas, that takes at most `limit`; `signals` are theirs."""
    quotas = None
    if selection.by is not None:
        codes, values = codes_of(table[selection.by])
        quotas = Quotas.of(selection.by, (codes[rows], values), selection.share)
    units = grouped(study, table, rows) if len(table) else Units.made_of(len(rows), None, None)
    ids = rows.astype(np.int64)
    return kept_rows(selection.static, signals, units, limit, quotas, settings=settings, seed=seed, ids=ids)


def spent_of(study: Study, table: pl.DataFrame, kept: Keep, keep: int | float) -> Spent:
    """Amounts that kept rows take of a budget of the study."""
    costs, groups = costs_of_rows(study, table), groups_of(study, table)
    whole = float(len(kept) if costs is None else costs.sum())
    return Spent(
        unit=study.budget_of,
        limit=study.limit(keep, len(kept), whole),
        total=float(kept.sum() if costs is None else costs[kept].sum()),
        whole=whole,
        group=study.group,
        groups=None if groups is None else len(np.unique(groups[kept])),
    )
