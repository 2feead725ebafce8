"""Call a study's selector with the signals that it reads."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from secateur.pipelines.selection import Selection
from secateur.selectors.contract import Keep


def signals_read(selection: Selection) -> set[str]:
    """Names of the scores and signals behind a selector's positional parameters, `scores` being the study's pick."""
    return {
        selection.score if name == "scores" else name
        for name in selection.declared.reads
        if name not in ("ids", "budget")
    } - {None}  # type: ignore[return-value]


def read_by(selections: Iterable[Selection]) -> set[str]:
    """What several selections read."""
    return set().union(*(signals_read(selection) for selection in selections))


def choose(
    selection: Selection,
    signals: Mapping[str, np.ndarray],
    *,
    budget: int,
    seed: int,
    settings: Mapping[str, Any],
    rows: np.ndarray | None = None,
) -> Keep:
    """Keep mask, bool, over all samples or over the given rows of them; ids are row numbers either way."""
    read = {name: signals[name] for name in signals_read(selection) | {"labels"}}
    signals = read if rows is None else {name: values[rows] for name, values in read.items()}
    ids = np.arange(len(next(iter(signals.values()))), dtype=np.int64) if rows is None else rows.astype(np.int64)
    values = {**signals, "budget": budget, "ids": ids, "scores": signals.get(selection.score or "")}
    named = inspect.signature(selection.declared.choose).parameters
    supplied = {name: value for name, value in (("seed", seed), ("ids", ids)) if name not in selection.declared.reads}
    keywords = {name: value for name, value in supplied.items() if name in named}
    keep: Keep = selection.declared(*(values[name] for name in selection.declared.reads), **settings, **keywords)
    return keep
