"""CIFAR-10 by ResNet-18: everything against selections of half, three tenths and a tenth of it.

    python benchmarks/cifar10.py [--data FOLDER] [--epochs 30] [--seeds 3] [--keep 0.5 0.3 0.1] [--json FILE] [--cpu]
                                 [--write docs/training.md] [--tiny]

FOLDER holds `train.parquet` and `test.parquet` with a column of images and one of labels. At each budget random,
coverage-centric selection (by the area under the margin of a proxy trained on everything, published cut-offs), RS2,
InfoBatch and SeTa train for the same number of optimiser steps: those of `--epochs` epochs of the kept samples. The
full set trains for `--epochs` epochs. InfoBatch and SeTa keep the budget in each pruned epoch; their final epochs on
everything take the remaining steps. The table reports the last epoch's test accuracy, never the best one.

On CUDA it runs in bfloat16, channels last; without a GPU it exits unless --cpu is set, since it would take days. It
writes each run to the JSON file when it ends, and does not repeat runs in that file. --tiny is the whole script on a
hundred images and a narrow network, in seconds; its numbers mean nothing.
"""

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from secateur.pipelines.pages.words import brief, mean_of
from secateur.scorers.contract import Scores
from secateur.scorers.observers.aum import Aum
from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.samplers.contract import EpochSampler, make_sampler
from secateur.selectors.static.coverage_centric import coverage_centric
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.comparison import compare, summarise
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.encoding import encode
from secateur.trainers.modalities.images import ImageEncoding
from secateur.trainers.processes import device_of_choice
from secateur.trainers.tasks.classification import Classification

ACCURACY = Classification(2).metrics[0]
DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).parents[2] / "shared" / "data"))
FULL, RANDOM, COVERAGE = "everything", "random", "coverage_centric"
SAMPLERS = ("rs2", "info_batch", "seta")
CUTOFFS = ((0.5, 0.0), (0.2, 0.1), (0.0, 0.3))
"""(least kept share, share cut as hardest): the settings of the authors of coverage-centric selection on CIFAR-10."""


def read_images(folder: Path, rows: int | None = None) -> tuple[Data, Data]:
    """Training and test split of a folder of Parquet files, or the first `rows` of each."""
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "test")}
    with tempfile.TemporaryDirectory() as cache:
        splits = dict(datasets.load_dataset("parquet", data_files=files, cache_dir=cache))
        if rows is not None:
            splits = {name: each.select(range(min(rows, len(each)))) for name, each in splits.items()}
        features = splits["train"].features
        image = next(name for name, feature in features.items() if isinstance(feature, datasets.Image))
        label = next(name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel))
        found = encode(ImageEncoding(), splits["train"], splits["test"], [image])
        labels = {name: np.asarray(each[label], np.int64) for name, each in splits.items()}
        classes = features[label].num_classes
    train_split = Data(found.inputs, labels["train"], classes, found.model_settings)
    return train_split, Data(found.test_inputs, labels["test"], classes, found.model_settings)


def config_of(asked: argparse.Namespace, steps: int) -> TrainingConfig:
    """He et al.'s training on CIFAR-10, with the schedule of our loop."""
    on_gpu = torch.cuda.is_available()
    return TrainingConfig(
        model="resnet18",
        model_settings={"width": 16 if asked.tiny else 64, "stem": "cifar"},
        steps=steps,
        batch_size=asked.batch_size,
        optimiser="sgd",
        learning_rate=0.1,
        weight_decay=5e-4,
        precision="bfloat16" if on_gpu else "float32",
        channels_last=on_gpu,
        augmentation=Augmentation(crop_padding=2 if asked.tiny else 4, flip=True),
    )


def steps_of(samples: int, asked: argparse.Namespace) -> int:
    return asked.epochs * -(-samples // asked.batch_size)


def cutoff_of(keep: float) -> float:
    return next(cutoff for least, cutoff in CUTOFFS if keep >= least)


def margins(data: Data, asked: argparse.Namespace, seed: int) -> tuple[Scores, float]:
    """Area under the margin by a proxy of the same kind trained on everything, and the seconds of its training."""
    device = device_of_choice()
    watcher = Aum(len(data), device)
    steps = asked.proxy_epochs * -(-len(data) // asked.batch_size)
    trained = train(data, config_of(asked, steps), seed=1000 + seed, observers=[watcher], device=device)
    return watcher.scores(), trained.seconds


def plan(asked: argparse.Namespace) -> Iterator[tuple[int, str, float]]:
    """(seed, selection, keep) of every run."""
    for seed in range(asked.seeds):
        yield seed, FULL, 1.0
        for keep in asked.keep:
            for name in (RANDOM, COVERAGE, *SAMPLERS):
                yield seed, name, keep


def one_run(name: str, data: Data, asked: argparse.Namespace, *, keep: float, seed: int, scored: Any) -> dict[str, Any]:
    """Train once; returns the costs and, under `model`, the model."""
    mask: Keep | None = None
    sampler: EpochSampler | None = None
    budget, scoring = resolve_keep(keep, len(data)), 0.0
    if name == RANDOM:
        mask = uniform_random(np.arange(len(data)), budget, seed=seed)
    elif name == COVERAGE:
        aum, scoring = scored(seed)
        mask = coverage_centric(aum, aum, budget, cutoff=cutoff_of(keep), seed=seed)
    elif name in SAMPLERS:
        signals = {"samples": len(data), "epochs": asked.epochs, "labels": data.targets}
        sampler = make_sampler(name, {"keep": keep}, signals, seed=seed)
    trained = train(data, config_of(asked, steps_of(budget, asked)), seed=seed, keep=mask, sampler=sampler)
    cost = {key: getattr(trained, key) for key in ("steps", "epochs", "samples_seen", "seconds")}
    return {"model": trained.model, **cost, "scoring_seconds": scoring}


def table(runs: list[dict[str, Any]]) -> str:
    """A row per budget and selection, each compared with random at the same budget."""
    lines = [
        "| kept | selection | accuracy % | against random | steps | samples seen | training s | scoring s |",
        "| ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for keep in sorted({run["keep"] for run in runs}, reverse=True):
        here = [run for run in runs if run["keep"] == keep]
        names = list(dict.fromkeys(run["selection"] for run in here))
        accuracies = {name: [run["accuracy"] for run in here if run["selection"] == name] for name in names}
        others = {name: values for name, values in accuracies.items() if name not in (RANDOM, FULL)}
        compared = compare(others, accuracies[RANDOM]) if RANDOM in accuracies else {}
        for name in names:
            mine = [run for run in here if run["selection"] == name]
            verdict = brief(compared[name], ACCURACY) if name in compared else "" if name == FULL else "the baseline"
            means = {key: np.mean([run[key] for run in mine]) for key in ("samples_seen", "seconds", "scoring_seconds")}
            lines.append(
                f"| {keep:g} | {name} | {mean_of(summarise(accuracies[name]), ACCURACY)} | {verdict} "
                f"| {mine[0]['steps']:,} | {means['samples_seen']:,.0f} | {means['seconds']:.0f} "
                f"| {means['scoring_seconds']:.0f} |"
            )
    return "\n".join(lines)


def circumstances(asked: argparse.Namespace, data: Data, test: Data) -> dict[str, Any]:
    """Facts about the numbers for readers, which also identify equal runs."""
    config = config_of(asked, 1).model_dump(mode="json", exclude={"steps"})
    return {
        "data": asked.data.name,
        "training samples": len(data),
        "test samples": len(test),
        "pixels": hashlib.sha256(data.inputs.tobytes()).hexdigest(),
        "epochs": asked.epochs,
        "proxy epochs": asked.proxy_epochs,
        "config": config,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}",
    }


def known_runs(file: Path | None, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs in the file; exits if they were made under other circumstances."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text())
    differ = [key for key in about if found["about"].get(key) != about[key]]
    if differ:
        raise SystemExit(f"{file} is of another {', '.join(differ)}: name another file with --json")
    runs: list[dict[str, Any]] = found["runs"]
    return runs


def save(file: Path, about: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
    partial.replace(file)


def arguments_of(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "cifar10")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--proxy-epochs", type=int, default=10, help="of the proxy that scores for CCS")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.3, 0.1])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rows", type=int, help="the first so many rows of either split alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--cpu", action="store_true", help="run without a GPU all the same")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args(given)
    if asked.tiny:
        asked.rows, asked.epochs, asked.proxy_epochs, asked.batch_size = asked.rows or 120, 2, 1, 32
        asked.seeds, asked.keep, asked.cpu = 2, [0.3], True
    return asked


def main(given: list[str] | None = None) -> None:
    asked = arguments_of(given)
    if not asked.data.is_dir():
        print(f"no data at {asked.data}: name a folder with --data")
        return
    if not torch.cuda.is_available() and not asked.cpu:
        print("no GPU: --tiny runs the script in seconds, --cpu all of it in days")
        return
    data, test = read_images(asked.data, asked.rows)
    about, started = circumstances(asked, data, test), time.perf_counter()
    runs, scores = known_runs(asked.json, about), {}

    def scored(seed: int) -> tuple[Scores, float]:
        if seed not in scores:
            scores[seed] = margins(data, asked, seed)
        return scores[seed]

    there = {(run["seed"], run["selection"], run["keep"]) for run in runs}
    for seed, name, keep in plan(asked):
        if (seed, name, keep) in there:
            continue
        done = one_run(name, data, asked, keep=keep, seed=seed, scored=scored)
        accuracy = evaluate(done.pop("model"), test)["accuracy"]
        runs.append({"seed": seed, "selection": name, "keep": keep, "accuracy": accuracy, **done})
        print(f"seed {seed}, {name} at {keep:g}: {accuracy:.4f}, {done['seconds']:.0f} s", flush=True)
        if asked.json:
            save(asked.json, about, runs)
    config = about["config"]
    said = (
        f"{about['data']}, {len(data):,} training and {len(test):,} test samples; ResNet-18 of width "
        f"{config['model_settings']['width']}, {asked.epochs} epochs of the kept samples, {asked.seeds} seeds, batch "
        f"{asked.batch_size}, {config['precision']}; proxy {asked.proxy_epochs} epochs; torch {about['torch']} on "
        f"{about['device']}, {time.perf_counter() - started:.0f} s in all."
    )
    text = f"{said}\n\n{table(runs)}"
    print(text)
    if asked.write:
        from label_noise import write

        write(asked.write, "cifar10 by resnet18", text)


if __name__ == "__main__":
    main()
