"""Signals by the parameter names of scorers and selectors, and their assets."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.data import strata_of
from secateur.pipelines.data.columns import COMPLETION_TOKENS
from secateur.pipelines.data.stored_targets import targets_in
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.signals import of_origin


def inputs_for(study: Study, signals: Iterable[str], *others: str) -> dict[str, dg.AssetIn]:
    """Inputs for the given signals, and always the samples, the source and `others`."""
    wanted = sorted(set(signals))
    found = {f"score_{name}": ["scores", name] for name in wanted if name in study.scores}
    found |= {f"signal_{name}": [study.asset_of(name)] for name in wanted if name in of_origin("asset")}
    found |= {name: [name] for name in ("samples", "source", *others)}
    return {name: dg.AssetIn(key_of(study, *path)) for name, path in found.items()}


def signals_in(loaded: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Signals by name, from assets loaded by `inputs_for`."""
    from secateur.scorers.checkpoints.pvi import null_model_of

    named = {name.partition("_")[2]: value for name, value in loaded.items() if name.startswith(("score_", "signal_"))}
    strata = strata_of(loaded["samples"])
    null = null_model_of(strata, len(loaded["source"]["strata"]))
    groups = {"strata": strata, "memberships": memberships_of(loaded["samples"], loaded["source"])}
    tokens = tokens_of(loaded["samples"])
    counted = {} if tokens is None else {COMPLETION_TOKENS: tokens}
    return {"labels": strata, **groups, "null_log_probabilities": null} | counted | named


def memberships_of(
    samples: pl.LazyFrame, source: dict[str, Any]
) -> Int64[np.ndarray, " n"] | Bool[np.ndarray, "n labels"]:
    """Groups of each sample: its stratum, or all its labels if it may have several."""
    if samples.collect_schema().get("target") != pl.List(pl.Int64):
        return strata_of(samples)
    return targets_in(samples.select("target").collect(), source["label_names"])


def tokens_of(samples: pl.LazyFrame) -> Int64[np.ndarray, " n"] | None:
    """Completion tokens of each sample; None if the samples have none."""
    if COMPLETION_TOKENS not in samples.collect_schema():
        return None
    return samples.select(COMPLETION_TOKENS).collect()[COMPLETION_TOKENS].to_numpy()


def besides_of(study: Study) -> list[str]:
    """The asset of the columns for budgets, groups and quotas, if the study has any."""
    return ["columns"] if study.read_besides else []
