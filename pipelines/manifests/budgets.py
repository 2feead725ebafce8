"""Check the kept rows of a manifest against its budget: of rows, of an amount of a column, of whole groups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from secateur.pipelines.data.lazy import pa
from secateur.pipelines.manifests import kept_rows
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.provenance import Declaration
from secateur.selectors.contract import resolve_amount, resolve_keep

EXACT = 1e-9
"""Relative error that the order of summation may cause in a sum of real numbers."""


def check_budget(declaration: Declaration[Any]) -> None:
    """Raise ManifestError where the units that a manifest declares as kept do not match the budget that it names."""
    count, of, keep = declaration.count, declaration.of, declaration.provenance.keep
    spent = declaration.provenance.spent
    if spent is None:
        if isinstance(keep, dict):
            raise ManifestError(f"keep: a budget of {', '.join(keep)} without the sum over the kept rows")
        if count != (resolved := resolve_keep(keep, of)):
            raise ManifestError(f"{count} rows are kept, but keep {keep} of {of} comes to {resolved}")
        return
    limit = float(resolve_amount(keep, of, spent.whole))
    unit = next(iter(keep)) if isinstance(keep, dict) else "rows"
    bound = spent.limit if spent.beside is None else min(spent.limit, spent.beside)
    for fault, true in {
        f"its unit is {spent.unit!r}, but keep is of {unit!r}": spent.unit != unit,
        f"its limit is {spent.limit:g}, but keep {keep} comes to {limit:g}": not math.isclose(spent.limit, limit),
        f"{spent.total:g} {unit} are kept, but at most {bound:g} may be": spent.total > bound * (1 + EXACT),
        f"{count} rows are kept, but its total is {spent.total:g}": unit == "rows" and spent.total != count,
        f"its whole is {spent.whole:g}, but there are {of} rows": unit == "rows" and spent.whole != of,
        "its table has no column cost": unit != "rows" and "cost" not in declaration.payload.columns,
        "its table has no column group": (spent.group is None) != ("group" not in declaration.payload.columns),
    }.items():
        if true:
            raise ManifestError(f"spent: {fault}")


def check_spent(declaration: Declaration[Any], table: pa.Table) -> None:
    """Raise ManifestError unless the kept rows have the cost and the number of groups that the manifest declares."""
    spent = declaration.provenance.spent
    if spent is None:
        return
    if "cost" in table.column_names:
        costs = kept_rows.numbers_of(table["cost"])
        if not (np.isfinite(costs) & (costs >= 0)).all() or not math.isclose(costs.sum(), spent.total, rel_tol=EXACT):
            raise ManifestError(f"spent: its rows cost {costs.sum():g}, it says {spent.total:g}")
    if "group" in table.column_names and (found := len(table["group"].unique())) != spent.groups:
        raise ManifestError(f"spent: its rows are of {found} groups, it says {spent.groups}")
