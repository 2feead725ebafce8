"""What searches of architectures came to, as outcomes of trials: a search at half and at the whole of its budget."""

import numpy as np
import polars as pl

from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.trainers.judging.outcome import Outcome


def curves_of(search: Search, evaluations: pl.DataFrame) -> dict[str, np.ndarray]:
    """Best accuracy so far, `[seeds, budget]` of each search; one that ended early stays where it was."""
    curves = {}
    for (name,), mine in evaluations.group_by("search", maintain_order=True):
        runs = []
        for _, run_of_seed in mine.group_by("seed", maintain_order=True):
            best = np.maximum.accumulate(run_of_seed["accuracy"].to_numpy())
            runs.append(np.pad(best, (0, search.search.budget - len(best)), mode="edge"))
        curves[str(name)] = np.stack(runs)
    return curves


def outcomes_of(search: Search, evaluations: pl.DataFrame) -> dict[Trial, Outcome]:
    """The best accuracy of every search and seed within each budget; a share in [0, 1] where accuracies are percent."""
    unit, budget = 100.0 if search.space.scale == "percent" else 1.0, search.search.budget
    return {
        Trial(selection_key(name, spent), seed): Outcome(
            metrics={"accuracy": float(best[spent - 1]) / unit}, kept=spent, of=budget
        )
        for name, curves in curves_of(search, evaluations).items()
        for seed, best in enumerate(curves)
        for spent in search.keep
    }
