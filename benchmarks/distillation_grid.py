"""Random with a teacher: by the teacher's weight and width, the kept share and wrong labels; score-based selections.

    python benchmarks/distillation_grid.py --runs FILE [--data FOLDER] [--rows 10000] [--seeds 3] [--minutes M]
                                           [--write docs/distillation.md]

A teacher learns all rows; a student learns a random part of them, from the labels and from the teacher's probabilities.
The grid has five weights, four shares, three widths of the teacher (the student's is in the middle), and clean labels
or a fifth of them replaced by another class, for both teacher and student. Students of one share take the same number
of steps; those of one seed share weights, order and, with or without a teacher, rows. Score-based selections train
without a teacher on as many rows: Ben-Baruch et al. 2024, "Distilling the knowledge in data pruning" (arXiv
2403.07854), claim that random with a teacher beats them.

FOLDER holds `train.parquet` and `test.parquet` with the columns `image` and `label`, Fashion-MNIST by default. Each
training adds a line to FILE and is not repeated; seeds run one after the other, so an unfinished file still gives a
complete table of fewer seeds. With --minutes no training starts after that time.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from cifar10 import DATA
from distillation import ACCURACY, grey_images
from label_noise import write
from run_file import resumed

from secateur.pipelines.pages.words import difference_of, mean_of
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.dual import Dual
from secateur.scorers.observers.el2n import El2n
from secateur.scorers.observers.mean_probability import MeanProbability
from secateur.selectors.contract import resolve_keep
from secateur.selectors.static.beta_sampling import beta_sampling
from secateur.selectors.static.coverage_centric import coverage_centric
from secateur.selectors.static.top import top
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import cache_logits
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.judging.comparison import compare, summarise
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train

CPU = torch.device("cpu")
ALPHAS, KEEPS, WIDTHS, NOISES = (0.3, 0.5, 0.7, 0.9, 1.0), (0.05, 0.1, 0.3, 0.7), (8, 16, 32), (0.0, 0.2)
OWN_WIDTH, TEMPERATURE, TEACHER_SEED = 16, 4.0, 1000
STEPS = 600
"""Of every student. Shorter trainings do not reach the logits of a sharp teacher (docs/distillation.md)."""
CLEVER: dict[str, Callable[[dict[str, np.ndarray], int, int], np.ndarray]] = {
    "coverage_centric of aum, cut-off 0.1": lambda scores, budget, seed: coverage_centric(
        scores["aum"], scores["aum"], budget, cutoff=0.1, seed=seed
    ),
    "beta_sampling of dual": lambda scores, budget, seed: beta_sampling(
        scores["dual"], scores["mean_probability"], budget, exponent=5.5, seed=seed
    ),
    "hardest by el2n": lambda scores, budget, seed: top(scores["el2n"], budget, end="high", seed=seed),
    "easiest by el2n": lambda scores, budget, seed: top(scores["el2n"], budget, end="low", seed=seed),
}
Key = tuple[str, float, float, float, int]
"""Arm, share of wrong labels, kept share, weight of the teacher, seed."""


def config_of(width: int, **length: int) -> TrainingConfig:
    return TrainingConfig(model="cnn", model_settings={"width": width}, batch_size=64, learning_rate=2e-3, **length)


def with_noise(data: Data, share: float, seed: int) -> Data:
    """Data with exactly this share of labels replaced by another class."""
    random, classes = np.random.default_rng((seed, 20)), data.task.width
    wrong = np.zeros(len(data), bool)
    wrong[random.permutation(len(data))[: round(share * len(data))]] = True
    other = (data.targets + random.integers(1, classes, len(data))) % classes
    return Data(data.inputs, np.where(wrong, other, data.targets), classes)


def scores_of(data: Data, seed: int) -> dict[str, np.ndarray]:
    """Scores of one proxy, which has the student's network and trains for eight epochs."""
    whole = len(data)
    seen = {"aum": Aum(whole, CPU), "el2n": El2n(whole, CPU, epochs=4), "dual": Dual(whole, CPU, window=4),
            "mean_probability": MeanProbability(whole, CPU)}  # fmt: skip
    train(data, config_of(OWN_WIDTH, epochs=8), seed=100 + seed, observers=list(seen.values()), device=CPU)
    return {name: observer.scores() for name, observer in seen.items()}


class Cell:
    """The trainings of one seed and one share of wrong labels, each run on demand."""

    def __init__(self, data: Data, test: Data, noise: float, seed: int) -> None:
        self.data, self.test, self.seed = with_noise(data, noise, seed), test, seed
        self.taught: dict[int, tuple[Teacher, float]] = {}
        self.scores: dict[str, np.ndarray] = {}

    def teacher(self, width: int) -> tuple[Teacher, float]:
        if width not in self.taught:
            model = train(self.data, config_of(width, epochs=8), seed=TEACHER_SEED + self.seed, device=CPU).model
            self.taught[width] = Teacher(cached=cache_logits(model, self.data)), evaluate(model, self.test)["accuracy"]
        return self.taught[width]

    def accuracy(self, name: str, keep: float, alpha: float) -> float:
        """Test accuracy of one student, or of one teacher if `keep` is 1.0."""
        if keep == 1.0:
            return self.teacher(int(name.removeprefix("teacher ")))[1]
        student, objective = config_of(OWN_WIDTH, steps=STEPS), None
        budget = resolve_keep(keep, len(self.data))
        mask = uniform_random(np.arange(len(self.data)), budget, seed=self.seed)
        if name in CLEVER:
            self.scores = self.scores or scores_of(self.data, self.seed)
            mask = CLEVER[name](self.scores, budget, self.seed)
        elif name.startswith("teacher "):
            teacher = self.teacher(int(name.removeprefix("teacher ")))[0]
            settings = Distillation(alpha=alpha, temperature=TEMPERATURE)
            objective = settings.objective(teacher, student, keep=keep)
        trained = train(self.data, student, seed=self.seed, keep=mask, objective=objective, device=CPU)
        return evaluate(trained.model, self.test)["accuracy"]


def wanted(seeds: int) -> Iterator[Key]:
    """All trainings, seed by seed, grouped by teacher."""
    for seed, noise in product(range(seeds), NOISES):
        yield from (("random", noise, keep, 0.0, seed) for keep in KEEPS)
        yield from ((name, noise, keep, 0.0, seed) for name, keep in product(CLEVER, KEEPS))
        for width in WIDTHS:
            yield (f"teacher {width}", noise, 1.0, 0.0, seed)
            yield from ((f"teacher {width}", noise, keep, alpha, seed) for keep, alpha in product(KEEPS, ALPHAS))


def make(runs: Path, data: Data, test: Data, seeds: int, minutes: float) -> dict[Key, float]:
    """Run the trainings that the file lacks, and append a line for each."""
    circumstances = {"rows": len(data), "steps": STEPS}
    found: dict[Key, float] = {tuple(key): accuracy for *key, accuracy in resumed(runs, circumstances)}
    until, cells = time.monotonic() + 60 * minutes, {}
    with runs.open("a") as file:
        for key in wanted(seeds):
            if key in found or time.monotonic() > until:
                continue
            name, noise, keep, alpha, seed = key
            if (noise, seed) not in cells:
                cells = {(noise, seed): Cell(data, test, noise, seed)}
            found[key] = cells[noise, seed].accuracy(name, keep, alpha)
            file.write(json.dumps([*key, found[key]]) + "\n")
            file.flush()
            print(*key, f"{found[key]:.4f}", flush=True)
    return found


def shown(found: dict[Key, float], arm: tuple[str, float], noise: float, keep: float, seeds: int) -> str:
    """Mean ± half-width for plain random; for other arms the difference from it, paired by seed."""
    plain = [found["random", noise, keep, 0.0, seed] for seed in range(seeds)]
    name, alpha = arm
    own = [found[name, noise, keep, alpha, seed] for seed in range(seeds)]
    if name == "random":
        return mean_of(summarise(own), ACCURACY)
    one = compare({name: own}, plain)[name]
    return difference_of(one, ACCURACY)


def mean(found: dict[Key, float], name: str, noise: float, keep: float, alpha: float, seeds: int) -> float:
    return float(np.mean([found[name, noise, keep, alpha, seed] for seed in range(seeds)]))


def best_of(found: dict[Key, float], noise: float, keep: float, widths: Sequence[int], seeds: int) -> tuple[int, float]:
    """Width and weight of the teacher with the highest mean accuracy."""
    cells = product(widths, ALPHAS)
    return max(cells, key=lambda cell: mean(found, f"teacher {cell[0]}", noise, keep, cell[1], seeds))


def tables(found: dict[Key, float], seeds: int) -> str:
    """One table for each share of wrong labels, with arms as rows and kept shares as columns."""
    parts = []
    for noise in NOISES:
        teachers = ", ".join(
            f"width {width} {100 * mean(found, f'teacher {width}', noise, 1.0, 0.0, seeds):.1f}" for width in WIDTHS
        )
        lines = [
            f"Wrong labels: {noise:.0%}. Accuracies of the teachers in percent: {teachers}.",
            "",
            "| trained on | " + " | ".join(f"{keep:.0%} kept" for keep in KEEPS) + " |",
            "| --- |" + " ---: |" * len(KEEPS),
        ]
        arms = {"random": ("random", 0.0)} | {name: (name, 0.0) for name in CLEVER}
        arms |= {
            f"random, teacher of width {width}, alpha {alpha:g}": (f"teacher {width}", alpha)
            for width, alpha in product(WIDTHS, ALPHAS)
        }
        for said, arm in arms.items():
            lines.append(f"| {said} | " + " | ".join(shown(found, arm, noise, keep, seeds) for keep in KEEPS) + " |")
        best = [best_of(found, noise, keep, WIDTHS, seeds) for keep in KEEPS]
        own = [best_of(found, noise, keep, [OWN_WIDTH], seeds)[1] for keep in KEEPS]
        lines.append("| *best alpha, teacher of the student's width* | " + " | ".join(f"{a:g}" for a in own) + " |")
        lines.append("| *best width and alpha* | " + " | ".join(f"{w}, {a:g}" for w, a in best) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA / "fashion_mnist")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args(arguments)
    if not asked.data.is_dir():
        print(f"no data at {asked.data}: name a folder with --data")
        return
    data, test = grey_images(asked.data, asked.rows)
    found = make(asked.runs, data, test, asked.seeds, asked.minutes)
    whole = sum(all(key in found for key in wanted(seeds + 1)) for seeds in range(asked.seeds))
    if not whole:
        print(f"{len(found)} of {len(list(wanted(1)))} trainings of the first seed: run it again")
        return
    over = f"{whole} seeds" if whole > 1 else "one seed"
    paired = ", paired by seed, with 95% intervals." if whole > 1 else "; one seed has no intervals."
    said = (
        f"{len(data):,} rows of {asked.data.name}, {len(test):,} for testing, {over}; cnn, students of width "
        f"{OWN_WIDTH}, teachers of 8 epochs, batch 64, temperature {TEMPERATURE:g}; students take "
        f"{STEPS} steps. The first row is accuracy in percent, the others are points "
        f"against it{paired}"
    )
    text = f"{said}\n\n{tables(found, whole)}"
    print(text)
    if asked.write:
        write(asked.write, "weight, width and share", text)


if __name__ == "__main__":
    main()
