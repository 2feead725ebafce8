"""Difference of a new scoring from the last one: rank correlation of each score, and the losses of each subset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.studies.sections import Drift

SCORE, SUBSET = "score:", "subset:"
"""Prefixes of the columns of a scoring: float32 scores, and keep masks of the selections."""
LATEST, PREVIOUS = "latest.parquet", "previous.parquet"


def scoring_of(hashes: pl.Series, scores: Mapping[str, np.ndarray], subsets: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """One scoring as a table: a sample's content hash, its number among equal samples, its scores and its subsets."""
    table = pl.DataFrame({"content_hash": hashes}).with_columns(
        pl.int_range(pl.len()).over("content_hash").alias("copy")
    )
    return table.with_columns(
        *(pl.Series(SCORE + name, np.asarray(values)) for name, values in scores.items()),
        *(pl.Series(SUBSET + name, np.asarray(keep)) for name, keep in subsets.items()),
    )


@dataclass(frozen=True)
class Change:
    """Differences between two scorings, over the samples that both hold."""

    shared: int
    added: int
    removed: int
    correlations: Mapping[str, float]
    """Spearman's rank correlation by score; 1 where both scorings are constant, 0 where only one is."""
    subset_changes: Mapping[str, float]
    """By selection, the share no longer kept of the samples that were kept before and are still in the data."""

    def beyond(self, drift: Drift) -> tuple[list[str], list[str]]:
        """Sentences on the scores, and on the subsets, that are over the bounds."""
        scores = [
            f"{name} correlates by {value:.3f} with the last scoring, at least {drift.least_rank_correlation} is asked"
            for name, value in self.correlations.items()
            if value < drift.least_rank_correlation
        ]
        subsets = [
            f"{share:.1%} of {name} is no longer kept, at most {drift.most_subset_change:.1%} is allowed"
            for name, share in self.subset_changes.items()
            if share > drift.most_subset_change
        ]
        return scores, subsets


def compare_scorings(last: pl.DataFrame, new: pl.DataFrame) -> Change:
    """Compare two tables of `scoring_of`; samples are matched by content hash, scores and subsets by name."""
    both = last.join(new, on=["content_hash", "copy"], how="inner", suffix=":new")
    named = [name for name in last.columns if name in new.columns and ":" in name]
    correlations, changes = {}, {}
    for name in named:
        before, now = both[name].to_numpy(), both[f"{name}:new"].to_numpy()
        if name.startswith(SCORE):
            correlations[name.removeprefix(SCORE)] = rank_correlation(before, now)
        else:
            changes[name.removeprefix(SUBSET)] = float(1 - now[before].mean()) if before.any() else 0.0
    return Change(len(both), len(new) - len(both), len(last) - len(both), correlations, changes)


def rank_correlation(before: np.ndarray, now: np.ndarray) -> float:
    """Spearman's, with the mean rank for ties; 1 where both are constant, 0 where only one is."""
    from scipy.stats import spearmanr

    flat = [len(values) == 0 or bool(np.all(values == values[0])) for values in (before, now)]
    return float(all(flat)) if any(flat) else float(spearmanr(before, now).statistic)


def turn_over(folder: Path, into: Path, new: pl.DataFrame) -> pl.DataFrame | None:
    """Write the new scoring and the last other one into a folder; returns that one, None for the first scoring.

    A scoring that equals the latest one is its repetition: the last other one is then the one before.
    """
    latest = pl.read_parquet(folder / LATEST) if (folder / LATEST).exists() else None
    previous = pl.read_parquet(folder / PREVIOUS) if (folder / PREVIOUS).exists() else None
    last = previous if latest is not None and latest.equals(new) else latest
    new.write_parquet(into / LATEST)
    if last is not None:
        last.write_parquet(into / PREVIOUS)
    return last


def table_of(change: Change) -> str:
    """The change in markdown."""
    lines = ["| score | rank correlation with the last scoring |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.4f} |" for name, value in change.correlations.items()]
    lines += ["", "| subset | no longer kept |", "| --- | ---: |"]
    lines += [f"| {name} | {share:.1%} |" for name, share in change.subset_changes.items()]
    return "\n".join(lines)


def numbers_of(change: Change) -> dict[str, Any]:
    """Numbers that the UI plots over time."""
    return {
        "shared samples": change.shared,
        "new samples": change.added,
        "removed samples": change.removed,
        **{f"rank correlation of {name}": value for name, value in change.correlations.items()},
        **{f"change of {name}": share for name, share in change.subset_changes.items()},
    }
