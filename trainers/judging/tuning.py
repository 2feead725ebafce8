"""Tuning of a selector's settings on a validation split of the training samples; it never reads test samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from secateur.scorers.contract import naming
from secateur.selectors.contract import nearest, resolve_keep
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import best_of, decided
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.train import train
from secateur.trainers.tasks.contract import Metric

Choose = Callable[[Ids, int, float, int], Keep]
"""(candidate rows, budget, candidate value, seed) -> keep mask over those rows."""


@dataclass(frozen=True)
class Tuned:
    """The best candidate and the cost of the search; `results` are means over seeds of the deciding metric on held-out
    samples, for each candidate that can fill the budget."""

    value: float
    results: Mapping[float, float]
    cost: Cost


def tune(
    data: Data,
    config: TrainingConfig,
    choose: Choose,
    candidates: tuple[float, ...],
    *,
    keep: int | float,
    fraction: float = 0.2,
    seeds: int = 3,
    metric: Metric | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Train on each candidate's subset of the pool, and choose the best mean on the held-out rows of `metric`, by
    default the task's first.

    `keep` is the same share of the pool as of the data, at least one row. Skips candidates that cannot fill the budget
    (the selector raises ValueError); the earlier candidate wins ties. Raises ValueError if none can.
    """
    pool, validation = data.task.split(data.targets, fraction, 0)
    inside, outside = data.take(pool), data.take(validation)
    budget = max(1, nearest(resolve_keep(keep, len(data)) / len(data), len(pool)))
    means: dict[float, float] = {}
    refusal, cost = "", Cost()
    for number, candidate in enumerate(candidates):
        results: list[float] = []
        for seed in range(seeds):
            try:
                mask = choose(pool, budget, candidate, seed)
            except ValueError as error:
                refusal, results = str(error), []
                break
            with naming(f"candidate {candidate:g}, seed {seed}"):
                trained = train(inside, config, seed=seed, keep=mask)
                results.append(decided(trained.model, outside, metric))
            cost += Cost.of(trained)
        if results:
            means[candidate] = float(np.mean(results))
        if progress:
            progress(number + 1, len(candidates))
    if not means:
        raise ValueError(f"no candidate of {candidates} fits a budget of {budget} out of {len(pool)}: {refusal}")
    return Tuned(best_of(means, metric or data.task.metrics[0]), means, cost)
