"""Targets as columns of the table of samples, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Int64, Shaped

from secateur.pipelines.data.lazy import pa, pl
from secateur.trainers.tasks.registry import task_from


def as_columns(targets: Shaped[np.ndarray, "n ..."], strata: Int64[np.ndarray, " n"]) -> dict[str, pl.Series]:
    """Targets as columns of the table of samples: `label` for classes, otherwise `target` and `stratum`.

    A target is Float64, a list of Float64, or a list of the places of its labels among the names.
    """
    if targets.dtype == np.int64:
        return {"label": pl.Series("label", targets)}
    if targets.dtype == np.bool_:
        owners, places = np.nonzero(targets)
        counts = np.bincount(owners, minlength=len(targets))
        flat = pa.array(places.astype(np.int64))
        lists = pa.LargeListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64()), flat)
        target = cast(pl.Series, pl.from_arrow(lists)).alias("target")
    else:
        width = targets.shape[1]
        target = pl.Series("target", targets[:, 0]) if width == 1 else pl.Series("target", targets).arr.to_list()
    return {"target": target, "stratum": pl.Series("stratum", strata.astype(np.int64))}


def targets_in(samples: pl.DataFrame, names: Sequence[str]) -> Shaped[np.ndarray, "n ..."]:
    """Targets as arrays, from the table of samples; `names` are those of the labels where targets are sets."""
    if "label" in samples.columns:
        return samples["label"].to_numpy().astype(np.int64)
    target = samples["target"]
    if target.dtype == pl.Float64:
        return target.to_numpy().reshape(-1, 1)
    if target.dtype == pl.List(pl.Float64):
        return np.array(target.explode().to_numpy(), np.float64).reshape(len(target), -1)
    found = np.zeros((len(samples), len(names)), np.bool_)
    lengths = target.list.len().to_numpy()
    found[np.repeat(np.arange(len(target)), lengths), target.filter(lengths > 0).explode().to_numpy()] = True
    return found


def strata_in(samples: pl.DataFrame) -> Int64[np.ndarray, " n"]:
    """Stratum of each sample, int64 `[n]`: its class, where targets are classes."""
    return samples["stratum" if "stratum" in samples.columns else "label"].to_numpy().astype(np.int64)


def shown_targets(samples: pl.DataFrame, state: Mapping[str, Any]) -> list[str]:
    """The target of each sample as text, by the task of this `Task.state`.

    A user's own task is not imported here: it made the texts when it read the samples.
    """
    if samples.schema.get("target") == pl.String:
        return samples["target"].to_list()
    task = task_from(state)
    # There are at most as many labels as strata.
    return [task.shown(target) for target in targets_in(samples, task.stratum_names())]
