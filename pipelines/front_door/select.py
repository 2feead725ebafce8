"""`select`: keep a part of data in memory, or of a file, by a score of its own, without a study and without a file.

The result is a `Choice`: the rows, a random choice of equal size, and both sizes in the budget's unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import polars_hash as plh

from secateur.pipelines.front_door.held import Held, held, vectors_of
from secateur.pipelines.front_door.targets import Target, target_of
from secateur.pipelines.runs.kept_rows import Quotas, kept_rows
from secateur.pipelines.studies.rejections import checked
from secateur.pipelines.studies.selection import require_static
from secateur.pipelines.studies.target import OF_TARGET
from secateur.selectors.contract import Selector, resolve_amount, resolve_keep, selectors
from secateur.selectors.whole_units import Units, choose_at_random

IN_STUDIES = {
    "loss_trajectories": "losses over a training; a study with a proxy has them, and here nothing is trained",
    "gradient_places": "gradients of a model; a study with target trains one, and here there is nearest_to_target",
    "sources": "where rows come from; name that column as by, with share='balanced'",
    "target_source": "where rows come from; name that column as by, with the source's share, such as {'bank': 1.0}",
}
"""Inputs of selectors that studies have, and their replacements here."""
Keep = int | float | Mapping[str, int | float]
"""A count of rows, a share of them in (0, 1], or an amount, or a share, of one column: `{"tokens": 2_000_000}`."""


@dataclass(frozen=True)
class Choice:
    """Kept rows, int64 ascending, of `of` rows, and `random` ones of the same size.

    `total` is the kept rows' sum in `unit` (rows, or a column), `random_total` that of the random ones, `budget` the
    largest allowed sum, and `whole` the sum of all rows.
    """

    rows: np.ndarray
    random: np.ndarray
    of: int
    unit: str
    total: float
    random_total: float
    budget: float
    whole: float
    selector: str
    settings: Mapping[str, Any]
    groups: int | None = None
    """Number of kept groups, where rows stay together."""


def select(
    data: Any,
    *,
    keep: Keep,
    score: str | np.ndarray | None = None,
    selector: str | None = None,
    group: str | None = None,
    by: str | None = None,
    share: Literal["proportional", "balanced"] | Mapping[Any, float] = "proportional",
    label: str | None = None,
    embeddings: str | Path | np.ndarray | None = None,
    target: Any = None,
    target_task: str | None = None,
    text: str | None = None,
    key: str | None = None,
    seed: int = 0,
    random_twin: bool = False,
    **settings: Any,
) -> Any:
    """The rows of `data` that a selector keeps, in their order, as the same kind of data.

    `data` is a table of pandas, polars or Arrow, a `datasets.Dataset`, a list of dicts, a map-style torch data set, or
    the path of a CSV, JSON-lines or Parquet file, of a folder of such files or of one that `datasets` saved; paths give
    a polars table. Nothing is written.

    `keep` is a share in (0, 1], a count of rows, or an amount of a column, such as `{"tokens": 2_000_000}` or, as a
    share of all of it, `{"tokens": 0.3}`; the kept rows never exceed it.

    `score` is a column of numbers, or an array of one number per row; `selector` one of `docs/selectors.md`. With a
    score the default is `top` (`end="high"` or `"low"`), without one `uniform_random`. `settings` are those of the
    selector, such as `low` and `high` of `band`. Selectors of vectors read `embeddings`: a column of lists, an array
    `[n, d]`, or the path of a `.npy` file; those of classes read `label`; other scores that a selector names, such as
    `aum`, are columns of that name.

    `target` are examples of the job: data as above, or vectors `[queries, d]`. `nearest_to_target` compares by
    `embeddings`, a column that pool and target have, or by TF-IDF of the column `text`; `target_task` is a column of
    the target whose values take turns. `importance_resampling` compares words of `text`.

    `group` is a column whose equal values stay or go together (an episode, a document): groups are taken in the order
    of the selection as long as they fit. `by` is a column (a source, a language) whose values get parts of the budget:
    `share` is "proportional" to their size, "balanced", or a share by value. `key` is a column whose values identify
    rows in draws and ties, so that a choice does not depend on the order of rows. With `random_twin` the result is a
    pair: the kept rows, and a random choice of equal size.

    Raises ValueError for an unknown column, selector or setting, for missing values, NaN and negative costs, with their
    number and rows, and for a budget that cannot be met.

    >>> import polars as pl, secateur as sc
    >>> prompts = pl.DataFrame({"prompt": ["a", "b", "c", "d"], "pass_rate": [0.1, 0.9, 0.5, 0.7]})
    >>> sc.select(prompts, score="pass_rate", end="high", keep=0.5)["prompt"].to_list()
    ['b', 'd']
    """
    rows = held(data)
    made = choose(
        rows, keep=keep, score=score, selector=selector, group=group, by=by, share=share, label=label,
        embeddings=embeddings, target=target, target_task=target_task, text=text, key=key, seed=seed, settings=settings,
    )  # fmt: skip
    return (rows.take(made.rows), rows.take(made.random)) if random_twin else rows.take(made.rows)


def choose(
    rows: Held,
    *,
    keep: Keep,
    score: str | np.ndarray | None,
    selector: str | None,
    group: str | None,
    by: str | None,
    share: Any,
    label: str | None,
    embeddings: str | Path | np.ndarray | None,
    target: Any,
    target_task: str | None,
    text: str | None,
    key: str | None,
    seed: int,
    settings: Mapping[str, Any],
) -> Choice:
    """The rows that `select` keeps, and a random choice of equal size; see there."""
    if rows.items == 0:  # reading refuses a file without rows
        raise ValueError("the data have no rows: there is nothing to keep a part of")
    keep = keep.item() if isinstance(keep, np.generic) else keep
    name = selector or ("uniform_random" if score is None else "top")
    require_static(name, "selector")
    chosen = selectors()[name]
    if score is not None and "scores" not in chosen.reads:
        raise ValueError(f"score: selector {name!r} reads no score; leave it out, or name another selector")
    for signal in IN_STUDIES.keys() & set(chosen.reads):
        raise ValueError(f"selector: {name!r} reads {IN_STUDIES[signal]}")
    if "task" in settings and "task" not in chosen.settings.model_fields:
        raise ValueError("task: name the column of the target whose values take turns as target_task")
    checked(chosen.settings, settings, name)
    filled = chosen.settings(**settings).model_dump()
    if not (aims := OF_TARGET.intersection(chosen.reads)) and target is not None:
        raise ValueError(f"target: selector {name!r} reads none; leave it out, or name nearest_to_target")
    refuse_unread(chosen, {"embeddings": embeddings, "text": text, "target_task": target_task, "label": label})
    if aims and target is None:
        raise ValueError(f"target: selector {name!r} reads examples of the job; name a file or a table of them")
    depth = None if isinstance(keep, Mapping) or group is not None or by is not None else resolve_keep(keep, rows.count)
    aim = Target(rows, target_of(target), text, embeddings, target_task, depth) if aims else None
    signals, count = signals_of(rows, chosen, score, label, embeddings, aim), rows.count
    ids = np.arange(count, dtype=np.int64) if key is None else ids_of(rows, key)
    costs, total, unit = budget_of(rows, keep, count)
    units = Units.made_of(count, None if group is None else rows.codes(group, "group")[0], costs)
    how: dict[str, Any] = {"seed": seed, "ids": ids}
    if by is None and share != "proportional":
        raise ValueError("share: parts are those of the values of a column; name it as by")
    quotas = None if by is None else Quotas.of(by, rows.codes(by, "by"), share)
    kept = kept_rows(chosen, signals, units, total, quotas, settings=filled, **how)
    spent = np.ones(count) if costs is None else costs
    come = spent[kept].sum()
    twin = choose_at_random(units, float(come), seed=seed, ids=ids)
    return Choice(
        np.flatnonzero(kept), np.flatnonzero(twin), count, unit, float(come), float(spent[twin].sum()), total,
        float(spent.sum()), name, filled, None if units.single else len(np.unique(units.of[kept])),
    )  # fmt: skip


def refuse_unread(chosen: Selector[...], given: Mapping[str, Any]) -> None:
    """Raise ValueError for arguments that the selector does not read."""
    reads = set(chosen.reads)
    readers = {"embeddings": {"embeddings", "target_places"}, "label": {"strata", "memberships"}}
    for name, value in given.items():
        if value is not None and not readers.get(name, OF_TARGET) & reads:
            raise ValueError(f"{name}: selector {chosen.name!r} reads none; leave it out, or name another selector")


def signals_of(
    rows: Held,
    chosen: Selector[...],
    score: str | np.ndarray | None,
    label: str | None,
    embeddings: Any,
    aim: Target | None,
) -> dict[str, np.ndarray]:
    """The inputs of a selector, by the names of its parameters; raises ValueError that names a missing one."""
    found: dict[str, np.ndarray] = {}
    for name in chosen.reads:
        if name in ("ids", "budget"):
            continue
        if name == "scores":
            if score is None:
                raise ValueError(f"score: selector {chosen.name!r} reads a score; name a column of numbers")
            values = rows.numbers(str(score), "score") if isinstance(score, str | int) else array_of(score, "score")
            found[name] = chosen.as_read(name, values)
        elif name in ("strata", "memberships"):
            if label is None:
                raise ValueError(f"label: selector {chosen.name!r} reads classes; name their column")
            found[name] = rows.codes(label, "label")[0]
        elif aim and name in OF_TARGET:
            found[name] = aim.signal(name)
        elif name == "embeddings":
            found[name] = vectors_of(rows, embeddings, chosen.name)
        else:
            found[name] = chosen.as_read(name, rows.numbers(name, f"selector {chosen.name!r}"))
    for name, values in found.items():
        if len(values) != rows.count:
            held = ("embeddings", "vectors") if name == "embeddings" else ("score", "numbers")
            raise ValueError(
                f"{held[0]}: there are {rows.count} rows, and {len(values)} {held[1]}; give one for each row"
            )
    return found


def array_of(values: Any, what: str) -> np.ndarray:
    """Numbers in memory as an array `[n]`."""
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "fiub":
        raise ValueError(f"{what}: one number per row is needed, got an array {found.shape} of {found.dtype}")
    return found.astype(np.int64) if found.dtype == np.bool_ else found


def ids_of(rows: Held, name: str) -> np.ndarray:
    """Distinct ids int64 `[n]` of a column: whole numbers unchanged, texts by a hash; SourceError for equal ids."""
    column = rows.column(name, "key")
    rows.refuse(column.is_null(), f"key: column {name!r}", "empty")
    rows.refuse(~column.is_first_distinct(), f"key: column {name!r}", "the same as in an earlier row")
    if column.dtype.is_integer():
        return column.to_numpy().astype(np.int64)
    texts = pl.DataFrame({"id": column.cast(pl.String)})
    return texts.select(plh.col("id").nchash.xxhash64()).to_series().to_numpy().astype(np.uint64).view(np.int64)


def budget_of(rows: Held, keep: Any, count: int) -> tuple[np.ndarray | None, float, str]:
    """The cost of each row (None: one each), the budget, and its unit."""
    if not isinstance(keep, Mapping):
        return None, float(resolve_keep(keep, count)), "rows"
    if len(keep) != 1:
        raise ValueError(f"keep: name one column with its amount, such as {{'tokens': 2000000}}, got {dict(keep)}")
    [(name, amount)] = keep.items()
    amount = amount.item() if isinstance(amount, np.generic) else amount
    costs = rows.numbers(name, "keep").astype(np.float64)  # whole numbers of 64 bits would overflow in a sum
    rows.refuse(pl.Series(costs < 0), f"keep: column {name!r}", "below 0")
    if not isinstance(amount, int | float):
        raise ValueError(f"keep: {name} needs an amount above 0, got {amount!r}")
    return costs, float(resolve_amount({name: amount}, count, float(costs.sum()))), name
