"""Settings of a selector chosen on a validation split of the training samples; test samples are never looked at."""

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
"""(rows it may choose from, budget, candidate, seed) -> keep mask over those rows."""


@dataclass(frozen=True)
class Tuned:
    """The candidate chosen and what that cost; `results` are the metric that decides, the mean over seeds on held-out
    samples, of each candidate that the budget allows."""

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
    """Train on what each candidate keeps of the pool and take the best mean, on the held-out rows, of the metric
    that decides: the first of the task if none is given.

    `keep` stands for the same share of the pool as of the data, of one row at least. A candidate that cannot fill the
    budget (the selector raises ValueError) is left out; equals go to the earlier candidate. Raises ValueError when none
    can.
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
