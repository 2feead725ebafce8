"""Tuning of the teacher's weight and temperature on a validation split of the training samples.

The search trains its teacher on the pool alone: one trained on the held-out samples would pass on their memorised
labels. The search never reads test samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from secateur.scorers.contract import naming
from secateur.selectors.contract import nearest, resolve_keep
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import compress
from secateur.trainers.distillation.objective import Curve, Distillation
from secateur.trainers.distillation.teacher import Teacher, varies
from secateur.trainers.distillation.token_teacher import TokenTeacher, cache_tokens
from secateur.trainers.judging.evaluation import decided, outputs_of
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.tasks.contract import Metric

Draw = Callable[[Ids, int, int], Keep]
"""(candidate rows, budget, seed) -> keep mask over those rows."""
ALPHAS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
TEMPERATURES = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class TunedDistillation:
    """Settings with the best curve and temperature, and the results of the search.

    `results` are means over seeds of the deciding metric on held-out samples, by (share kept, alpha, temperature).
    `cost` covers the whole search, its teacher included.
    """

    settings: Distillation
    results: Mapping[tuple[float, float, float], float]
    cost: Cost


def tune_distillation(
    data: Data,
    config: TrainingConfig,
    settings: Distillation,
    draw: Draw,
    *,
    keep: Sequence[int | float],
    alphas: Sequence[float] = ALPHAS,
    temperatures: Sequence[float] = TEMPERATURES,
    fraction: float = 0.2,
    seeds: int = 3,
    metric: Metric | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TunedDistillation:
    """Train students on subsets of the pool at each budget with every candidate, and evaluate them on held-out rows.

    The best temperature has the highest sum over budgets of the best alpha's metric; each budget then has its own best
    alpha at it. The earlier candidate wins ties. Alpha 0 is plain training, the same at every temperature; a task
    without temperatures tries the first one only. `metric` decides, by default the task's first. Raises ValueError
    for a teacher from a folder, and as `Task.split`.
    """
    temperatures = temperatures if data.task.tempered else temperatures[:1]
    pool, validation = data.task.split(data.targets, fraction, 0)
    inside, outside = data.take(pool), data.take(validation)
    taught = train(inside, settings.config_for(config), seed=settings.seed)
    teachers = {heat: teacher_at(heat, taught, inside, config, settings) for heat in temperatures}
    shares = sorted({resolve_keep(each, len(data)) / len(data) for each in keep})
    runs, results = [taught], dict[tuple[float, float, float], float]()
    candidates = list(product(shares, alphas, temperatures))
    for number, (share, alpha, heat) in enumerate(candidates):
        if not is_trained(alpha, heat, temperatures):
            results[share, alpha, heat] = results[share, alpha, temperatures[0]]
        else:
            tried = settings.model_copy(update={"alpha": alpha, "temperature": heat, "tune": False})
            objective = tried.objective(teachers[heat], config, keep=share)
            with naming(f"a student at keep {share:g}, alpha {alpha:g} and temperature {heat:g}"):
                students = [
                    train(inside, config, seed=seed, keep=mask, objective=objective)
                    for seed in range(seeds)
                    for mask in [draw(pool, max(1, nearest(share, len(pool))), seed)]
                ]
                results[share, alpha, heat] = float(np.mean([decided(one.model, outside, metric) for one in students]))
            runs += students
        if progress:
            progress(number + 1, len(candidates))
    sign = 1.0 if (metric or data.task.metrics[0]).higher_is_better else -1.0
    heat, curve = best_of({each: sign * value for each, value in results.items()}, shares, alphas, temperatures)
    found = settings.model_copy(update={"temperature": heat, "curve": curve, "tune": False})
    return TunedDistillation(found, results, Cost.of(*runs))


def is_trained(alpha: float, temperature: float, temperatures: Sequence[float]) -> bool:
    """Whether the search trains students here: it does plain training, alpha 0, at the first temperature only."""
    return alpha != 0 or temperature == temperatures[0]


def students_of_tuning(shares: Sequence[float], seeds: int, *, tempered: bool) -> list[float]:
    """The share kept of each student that `tune_distillation` trains with the default candidates."""
    heats = TEMPERATURES if tempered else TEMPERATURES[:1]
    tried = sum(is_trained(alpha, heat, heats) for alpha, heat in product(ALPHAS, heats))
    return [share for share in shares for _ in range(tried * seeds)]


def teacher_at(
    temperature: float, taught: Trained, data: Data, config: TrainingConfig, settings: Distillation
) -> Teacher | TokenTeacher:
    """The teacher for students of this config at a temperature, with cached logits if the settings and config allow."""
    if data.task.taught_by_token:
        how: dict[str, Any] = {"top_k": settings.top_k, "temperature": temperature}
        if not settings.cache:
            return TokenTeacher(taught.model, **how)
        return TokenTeacher(cached=cache_tokens(taught.model, data, **how))
    augmentation = config.augmentation
    if varies(augmentation) or not settings.cache:
        return Teacher(taught.model, augmentation=augmentation)
    outputs = torch.from_numpy(outputs_of(taught.model, data))
    cached = compress(outputs, top_k=settings.top_k, temperature=temperature, exclusive=data.task.exclusive)
    return Teacher(cached=replace(cached, task=data.task.state()))


def best_of(
    results: Mapping[tuple[float, float, float], float],
    shares: Sequence[float],
    alphas: Sequence[float],
    temperatures: Sequence[float],
) -> tuple[float, Curve]:
    """The best temperature and its curve of alphas; the earlier candidate wins ties, by `max`."""

    def best(share: float, heat: float) -> float:
        return max(alphas, key=lambda alpha: results[share, alpha, heat])

    heat = max(temperatures, key=lambda heat: sum(results[share, best(share, heat), heat] for share in shares))
    return heat, tuple((share, best(share, heat)) for share in shares)
