"""Settings of a selector chosen on a validation split of the training samples; test samples are never looked at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.train import train
from secateur.trainers.tasks.classification import evaluate

Choose = Callable[[Ids, int, float, int], Keep]
"""(rows it may choose from, budget, candidate, seed) -> keep mask over those rows."""


@dataclass(frozen=True)
class Tuned:
    """The candidate chosen, the mean validation accuracy of each candidate that the budget allows, and what it cost."""

    value: float
    accuracies: Mapping[float, float]
    steps: int
    samples_seen: int
    seconds: float


def hold_out(
    data: Data, *, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " pool"], Int64[np.ndarray, " held"]]:
    """Rows to choose from and rows to validate on, a stratified split; classes of one sample stay with the former.

    Raises ValueError where the fraction leaves either side fewer samples than there are classes.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(data), dtype=np.int64)
    counts = np.bincount(data.labels, minlength=data.classes)
    single = np.isin(data.labels, np.flatnonzero(counts < 2))
    there, classes = int(np.sum(~single)), int(np.sum(counts > 1))
    held = int(np.ceil(fraction * there))
    if not 0 < classes <= min(held, there - held):
        raise ValueError(
            f"a validation split of {fraction:g} of {there} samples (classes of one left out) cannot hold each of "
            f"{classes} classes on both sides; change the fraction, or set what is to be tuned"
        )
    pool, validation = train_test_split(
        rows[~single], test_size=fraction, random_state=seed, stratify=data.labels[~single]
    )
    return np.sort(np.concatenate([pool, rows[single]])), np.sort(validation)


def tune(
    data: Data,
    config: TrainingConfig,
    choose: Choose,
    candidates: tuple[float, ...],
    *,
    keep: int | float,
    fraction: float = 0.2,
    seeds: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Train on what each candidate keeps of the pool and take the best mean accuracy on the held-out rows.

    `keep` stands for the same share of the pool as of the data. A candidate that cannot fill the budget (the selector
    raises ValueError) is left out; equals go to the earlier candidate. Raises ValueError when none can.
    """
    pool, validation = hold_out(data, fraction=fraction, seed=0)
    inside, outside = data.take(pool), data.take(validation)
    budget = resolve_keep(resolve_keep(keep, len(data)) / len(data), len(pool))
    accuracies: dict[float, float] = {}
    refusal, steps, seen, seconds = "", 0, 0, 0.0
    for number, candidate in enumerate(candidates):
        results: list[float] = []
        for seed in range(seeds):
            try:
                mask = choose(pool, budget, candidate, seed)
            except ValueError as error:
                refusal, results = str(error), []
                break
            trained = train(inside, config, seed=seed, keep=mask)
            results.append(evaluate(trained.model, outside).accuracy)
            steps, seen, seconds = steps + trained.steps, seen + trained.samples_seen, seconds + trained.seconds
        if results:
            accuracies[candidate] = float(np.mean(results))
        if progress:
            progress(number + 1, len(candidates))
    if not accuracies:
        raise ValueError(f"no candidate of {candidates} fits a budget of {budget} out of {len(pool)}: {refusal}")
    best = max(accuracies, key=lambda candidate: accuracies[candidate])
    return Tuned(best, accuracies, steps=steps, samples_seen=seen, seconds=seconds)
