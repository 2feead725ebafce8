"""A fresh random tenth of the data in every epoch (RS2) against one static random tenth, at equal optimiser steps.

    python benchmarks/rs2_against_static.py [--data FOLDER] [--keep 0.1] [--epochs 40] [--seeds 5] [--model mlp]
                                            [--rows ROWS] [--write docs/training.md] [--json FILE]

FOLDER holds `train.parquet` and `test.parquet` with a column of images and one of labels; Fashion-MNIST by default.
Both train for as many steps as `--epochs` epochs of the subset have, with one schedule; the table reports the last
epoch's test accuracy. Their references are everything at the same number of steps (fewer epochs of more samples) and
everything for `--epochs` epochs (many times the steps), which give the share of the static subset's shortfall that RS2
recovers. --write replaces the table between the page's markers.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from cifar10 import DATA, read_images
from label_noise import write

from secateur.pipelines.pages.words import mean_of, sentence, signed
from secateur.selectors.contract import resolve_keep
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.comparison import compare, summarise
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.tasks.classification import Classification

ACCURACY = Classification(2).metrics[0]
SETTINGS = {"mlp": {"hidden": [128]}, "cnn": {"width": 8}}
STATIC, RS2, SAME_STEPS, FULL = "static random", "RS2", "everything, same steps", "everything, same epochs"
PUBLISHED = {"RS2": 91.7, "static random": 78.4, "everything": 95.5}
"""CIFAR-10, ResNet-18, 200 epochs, a tenth kept: Okanovic et al. 2024 (arXiv 2305.18424)."""


def run(name: str, data: Data, config: TrainingConfig, *, keep: float, epochs: int, seed: int) -> Trained:
    """One training of this arm; the config's steps are those of the subset."""
    samples = len(data)
    if name == STATIC:
        budget = resolve_keep(keep, samples)
        return train(data, config, seed=seed, keep=uniform_random(np.arange(samples), budget, seed=seed))
    if name == RS2:
        return train(data, config, seed=seed, sampler=Rs2(samples, keep=keep, seed=seed))
    if name == FULL:
        config = config.model_copy(update={"steps": epochs * -(-samples // config.batch_size)})
    return train(data, config, seed=seed)


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """Accuracy, steps and time of each arm, then the gap and its share of the shortfall."""
    lines = [
        "| trained on | accuracy % | steps | epochs | samples seen | s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in runs.items():
        first, seconds = each[0], np.mean([one["seconds"] for one in each])
        accuracy = mean_of(summarise([one["accuracy"] for one in each]), ACCURACY)
        lines.append(
            f"| {name} | {accuracy} | {first['steps']:,} | {first['epochs']:,} "
            f"| {first['samples_seen']:,} | {seconds:.0f} |"
        )
    accuracies = {name: [one["accuracy"] for one in each] for name, each in runs.items()}
    gap = compare({RS2: accuracies[RS2]}, accuracies[STATIC])[RS2]
    shortfall = float(np.mean(accuracies[FULL]) - np.mean(accuracies[STATIC]))
    half = f" ± {100 * gap.half_width:.1f}" if gap.half_width is not None else ""
    published = PUBLISHED["RS2"] - PUBLISHED["static random"]
    most = PUBLISHED["everything"] - PUBLISHED["static random"]
    made_up = f"{gap.difference / shortfall:.0%}" if shortfall > 0 else "no share"
    return "\n".join(
        [
            *lines,
            "",
            f"RS2 less static random, paired by seed: {signed(gap.difference, ACCURACY)}{half} points; "
            f"{sentence(gap, ACCURACY, STATIC)}. It makes up {made_up} of the {100 * shortfall:.1f} points that the "
            f"static subset falls short of everything "
            f"for as many epochs. Published for CIFAR-10 and ResNet-18, 200 epochs, keep 10%: {published:+.1f} points, "
            f"{published / most:.0%} of a shortfall of {most:.1f}.",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "fashion_mnist")
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", choices=list(SETTINGS), default="mlp")
    parser.add_argument("--rows", type=int, help="the first so many training rows alone")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if not asked.data.is_dir():
        print(f"no data at {asked.data}: name a folder with --data")
        return
    data, test = read_images(asked.data, asked.rows)
    steps = asked.epochs * -(-resolve_keep(asked.keep, len(data)) // 128)
    config = TrainingConfig(
        model=asked.model,
        model_settings=SETTINGS[asked.model],
        steps=steps,
        batch_size=128,
        optimiser="sgd",
        learning_rate=0.05,
        weight_decay=5e-4,
    )
    started, runs = time.perf_counter(), {name: [] for name in (STATIC, RS2, SAME_STEPS, FULL)}
    for seed in range(asked.seeds):
        for name, done in runs.items():
            trained = run(name, data, config, keep=asked.keep, epochs=asked.epochs, seed=seed)
            measured = {key: getattr(trained, key) for key in ("steps", "epochs", "samples_seen", "seconds")}
            done.append({"seed": seed, "accuracy": evaluate(trained.model, test)["accuracy"], **measured})
            print(f"seed {seed}, {name}: {done[-1]['accuracy']:.4f}, {trained.seconds:.0f} s", flush=True)
    threads = torch.get_num_threads()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{threads} CPU thread{'s'[: threads > 1]}"
    said = (
        f"{asked.data.name}, {len(data):,} training and {len(test):,} test samples; keep {asked.keep:g}, "
        f"{asked.epochs} epochs of the subset, {asked.seeds} seeds; {asked.model} {SETTINGS[asked.model]}, SGD at "
        f"{config.learning_rate:g}, weight decay {config.weight_decay:g}, batch {config.batch_size}, no augmentation; "
        f"torch {torch.__version__.partition('+')[0]} on {device} ({platform.machine()}), "
        f"{time.perf_counter() - started:.0f} s in all."
    )
    text = f"{said}\n\n{table(runs)}"
    print(text)
    if asked.json:
        asked.json.write_text(
            json.dumps({"config": config.model_dump(), "runs": runs, "keep": asked.keep}, indent=1) + "\n"
        )
    if asked.write:
        write(asked.write, f"rs2 against static, {asked.data.name}", text)


if __name__ == "__main__":
    main()
