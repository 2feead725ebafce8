"""Gain of a teacher on a random subset: random with distillation against random without, at equal optimiser steps.

    python benchmarks/distillation.py [--data digits|FOLDER] [--rows 10000] [--keep 0.1] [--seeds 5]
        [--write docs/distillation.md]

The teacher trains on all training samples once. A validation split of the training samples selects the teacher's weight
and the temperature, with a teacher that has not seen the held-out part; only the last table uses test samples. Students
with and without a teacher share subset, initial weights, order and number of steps, so differences are paired by seed.
FOLDER holds `train.parquet` and `test.parquet` with the columns `image` and `label`, such as Fashion-MNIST, of which
`--rows` training samples are drawn once; `digits` is scikit-learn's, with a third for testing. --write replaces the
text of the same data set in the page.
"""

import argparse
import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from label_noise import write
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from secateur.pipelines.pages.words import mean_of, sentence, with_sign
from secateur.selectors.contract import resolve_keep
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import cache_logits
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.distillation.tuning import TunedDistillation, tune_distillation
from secateur.trainers.judging.comparison import compare, summarise
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.tasks.classification import Classification

ACCURACY = Classification(2).metrics[0]
CPU = torch.device("cpu")
ALPHAS, TEMPERATURES, TUNING_SEEDS = (0.0, 0.5, 0.8, 1.0), (1.0, 2.0, 4.0, 8.0), 3


@dataclass(frozen=True)
class Setting:
    """Networks and lengths of one data set's experiment."""

    student: TrainingConfig
    teachers: dict[str, TrainingConfig]
    """Teachers by their names in the table."""


DIGITS = TrainingConfig(model="mlp", model_settings={"hidden": (128,)}, steps=400, batch_size=64)
IMAGES = TrainingConfig(model="mlp", model_settings={"hidden": (128,)}, steps=400, batch_size=64)
SETTINGS = {
    "digits": Setting(
        DIGITS,
        {
            "the student's network": DIGITS.model_copy(update={"steps": 800}),
            "a network four times as wide": DIGITS.model_copy(
                update={"steps": 800, "model_settings": {"hidden": (512, 512)}}
            ),
        },
    ),
    "images": Setting(
        IMAGES,
        {
            "the student's network": IMAGES.model_copy(update={"steps": 800}),
            "a convolutional network": TrainingConfig(
                model="cnn", model_settings={"width": 16}, steps=600, batch_size=64
            ),
        },
    ),
}


def digits() -> tuple[Data, Data]:
    inputs, labels = load_digits(return_X_y=True)
    parts = train_test_split(inputs.astype(np.float32), labels.astype(np.int64), test_size=1 / 3, random_state=0)
    return Data(parts[0], parts[2], 10), Data(parts[1], parts[3], 10)


def grey_images(folder: Path, rows: int) -> tuple[Data, Data]:
    """A random sample of `train.parquet` and all of `test.parquet`, uint8 `[n, height, width, 1]`."""
    found = []
    for split in ("train", "test"):
        table = pl.read_parquet(folder / f"{split}.parquet")
        if split == "train":
            table = table[np.sort(np.random.default_rng(0).permutation(len(table))[:rows])]
        pixels = [np.asarray(Image.open(io.BytesIO(trial["bytes"])).convert("L")) for trial in table["image"]]
        labels = table["label"].to_numpy().astype(np.int64)
        found.append(Data(np.stack(pixels)[..., None], labels, int(labels.max()) + 1))
    return found[0], found[1]


def draw(rows: np.ndarray, budget: int, seed: int) -> np.ndarray:
    return uniform_random(rows, budget, seed=seed)


@dataclass(frozen=True)
class Taught:
    """One teacher's row of the table."""

    name: str
    teacher: Trained
    teacher_accuracy: float
    tuned: TunedDistillation
    accuracies: list[float]


def teach(
    name: str, config: TrainingConfig, student: TrainingConfig, train_on: Data, test: Data, keep: float, seeds: int
) -> Taught:
    """Tune with this teacher, train it on everything, and train students on random subsets with it."""
    asked = Distillation(teacher=config, tune=True)
    tuned = tune_distillation(
        train_on,
        student,
        asked,
        draw,
        keep=[keep],
        alphas=ALPHAS,
        temperatures=TEMPERATURES,
        seeds=TUNING_SEEDS,
    )
    print(f"{name}: {tuned.settings.curve}, {tuned.settings.temperature}, {tuned.cost.seconds:.0f} s", flush=True)
    taught = train(train_on, config, seed=asked.seed, device=CPU)
    teacher = Teacher(cached=cache_logits(taught.model, train_on))
    accuracies = []
    for seed in range(seeds):
        mask = draw(np.arange(len(train_on)), resolve_keep(keep, len(train_on)), seed)
        objective = tuned.settings.objective(teacher, student, keep=keep)
        trained = train(train_on, student, seed=seed, keep=mask, objective=objective, device=CPU)
        accuracies.append(evaluate(trained.model, test)["accuracy"])
    return Taught(name, taught, evaluate(taught.model, test)["accuracy"], tuned, accuracies)


def table(plain: list[float], rows: list[Taught], keep: float) -> str:
    lines = [
        "| teacher | its accuracy | alpha | temperature | student | against no teacher, 95% interval | verdict |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        f"| none | | | | {mean_of(summarise(plain), ACCURACY)} | | |",
    ]
    compared = compare({row.name: row.accuracies for row in rows}, plain)
    for row in rows:
        one = compared[row.name]
        width = one.half_width or 0.0
        middle, low, high = (with_sign(f"{100 * (one.difference + sign * width):.2f}") for sign in (0, -1, 1))
        settings = row.tuned.settings
        said = sentence(one, ACCURACY, "random without a teacher")
        lines.append(
            f"| {row.name} | {100 * row.teacher_accuracy:.1f} | {settings.alpha_at(keep):g} | {settings.temperature:g} "
            f"| {mean_of(summarise(row.accuracies), ACCURACY)} "
            f"| {middle} ({low} … {high}) | {said} |"
        )
    return "\n".join(lines)


def validation(row: Taught) -> str:
    """Mean accuracies on the held-out samples by weight and temperature."""
    lines = [
        f"| alpha, with {row.name} | " + " | ".join(f"temperature {heat:g}" for heat in TEMPERATURES) + " |",
        "| ---: |" + " ---: |" * len(TEMPERATURES),
    ]
    by = {(alpha, heat): accuracy for (_, alpha, heat), accuracy in row.tuned.results.items()}
    for alpha in ALPHAS:
        lines.append(f"| {alpha:g} | " + " | ".join(f"{100 * by[alpha, heat]:.2f}" for heat in TEMPERATURES) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    train_on, test = digits() if asked.data == "digits" else grey_images(Path(asked.data), asked.rows)
    setting = SETTINGS["digits" if asked.data == "digits" else "images"]
    started, kept = time.process_time(), resolve_keep(asked.keep, len(train_on))
    plain = []
    for seed in range(asked.seeds):
        mask = draw(np.arange(len(train_on)), kept, seed)
        trained = train(train_on, setting.student, seed=seed, keep=mask, device=CPU)
        plain.append(evaluate(trained.model, test)["accuracy"])
    print(f"without a teacher: {plain}, {time.process_time() - started:.0f} s", flush=True)
    rows = [
        teach(name, config, setting.student, train_on, test, asked.keep, asked.seeds)
        for name, config in setting.teachers.items()
    ]
    student = setting.student
    steps = " and ".join(f"{teacher.steps}" for teacher in setting.teachers.values())
    said = (
        f"{kept:,} of {len(train_on):,} training samples, {len(test):,} for testing, {asked.seeds} seeds; students "
        f"{student.model} {dict(student.model_settings)}, {student.steps} steps of {student.batch_size}, teachers "
        f"{steps} steps; chosen over {TUNING_SEEDS} seeds on a fifth of the training samples; torch "
        f"{torch.__version__.partition('+')[0]} on {torch.get_num_threads()} CPU threads, "
        f"{time.process_time() - started:.0f} s of processor time in all."
    )
    text = "\n\n".join([said, table(plain, rows, asked.keep), "Accuracy on the held-out samples:"])
    text += "".join(f"\n\n{validation(row)}" for row in rows)
    print(text)
    if asked.write:
        write(asked.write, Path(asked.data).name, text)


if __name__ == "__main__":
    main()
