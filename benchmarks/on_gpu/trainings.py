"""Steps with trainings: the loop against a bare one, and ResNet-18 on a tenth of CIFAR-10, for the epochs that fit."""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import cifar10
import numpy as np
import torch
import training_loop
from on_gpu.state import NOT_RUN, Row, State, row

from secateur.selectors.contract import resolve_keep
from secateur.selectors.samplers.contract import make_sampler
from secateur.selectors.static.coverage_centric import coverage_centric
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models import registry as models
from secateur.trainers.processes import device_of_choice

KEEP, MOST_EPOCHS, MOST_PROXY_EPOCHS = 0.1, 200, 10
FULL, TAUGHT = "everything", "RS2 + KD"
ARMS = {FULL: "everything", "random": "random", "CCS": "coverage_centric", "RS2": "rs2", TAUGHT: "rs2"}
"""Arms, each with the name of its selection."""
TURN = 2.0
"""Seconds of one turn of the training loop."""
TEACHING = 0.4
"""Cost of a teacher's forward pass, as a share of a student's step."""


def throughput(asked: argparse.Namespace) -> list[Row]:
    """Images per second of our loop and of a bare one, by the medians of turns."""
    random, device = np.random.default_rng(0), device_of_choice()
    side, images = (8, 64) if asked.tiny else (32, 3840)
    data = Data(random.integers(0, 256, (images, side, side, 3), dtype=np.uint8), random.integers(0, 10, images), 10)
    width = 16 if asked.tiny else 64
    settings = {"width": width, "stem": "cifar"}
    config = TrainingConfig(model="resnet18", model_settings=settings, epochs=1, batch_size=32 if asked.tiny else 128)
    if not asked.tiny:  # turns of two seconds, in which the construction of a network takes little
        started = time.perf_counter()
        training_loop.bare(data, config, device, loader=False)
        epochs = round(TURN / (time.perf_counter() - started))
        config = config.model_copy(update={"epochs": min(max(epochs, 1), 20)})
    images *= config.epochs or 1
    taken = training_loop.turns(data, config, device, rounds=1 if asked.tiny else 2)
    medians = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    plain = medians["bare, indexed"]
    what = f"training, ResNet-18 of width {width}, {side} x {side} x 3, float32, batch {config.batch_size}"
    return [
        row(f"{what}: {name}", f"{images / seconds:,.0f} images/s, {plain / seconds:.0%} of the bare loop's")
        for name, seconds in medians.items()
    ]


def epochs_that_fit(seconds: float, rate: float, samples: int) -> tuple[int, int]:
    """Epochs of each training and of CCS's proxy, at `rate` images per second; (0, 0) if none fit."""
    for epochs in range(MOST_EPOCHS, 0, -1):
        proxy = min(MOST_PROXY_EPOCHS, max(1, epochs // 3))
        seen = samples * (epochs + proxy + KEEP * epochs * (len(ARMS) - 1 + TEACHING))
        if seen / rate <= 0.9 * seconds:
            return epochs, proxy
    return 0, 0


def made_up() -> tuple[Data, Data]:
    """Small pictures whose brightness determines their class."""
    random = np.random.default_rng(0)

    def pictures(count: int) -> Data:
        labels = np.arange(count) % 3
        pixels = random.integers(0, 60, (count, 12, 12, 3)) + 80 * labels[:, None, None, None]
        return Data(pixels.astype(np.uint8), labels, 3)

    return pictures(120), pictures(30)


def rate_of(data: Data, asked: argparse.Namespace) -> float:
    """Images per second of a training, without its first steps."""
    train(data, cifar10.config_of(asked, 20), seed=0)
    trained = train(data, cifar10.config_of(asked, 60), seed=0)
    return trained.samples_seen / trained.seconds


def resnet(asked: argparse.Namespace, state: State, left: float) -> list[Row]:
    """Train each arm that the state lacks once, within the remaining time in seconds."""
    if not asked.tiny and not asked.data.is_dir():
        remedy = f"no data at {asked.data}: name a folder with --data, or set SECATEUR_DATA"
        return [row("ResNet-18 on CIFAR-10", remedy, NOT_RUN)]
    data, test = made_up() if asked.tiny else cifar10.read_images(asked.data)
    own = argparse.Namespace(tiny=asked.tiny, batch_size=32 if asked.tiny else 128, epochs=2, proxy_epochs=1)
    held = state.trainings
    if "epochs" not in held:
        started = time.perf_counter()
        if not asked.tiny:
            rate = rate_of(data, own)
            own.epochs, own.proxy_epochs = epochs_that_fit(left - (time.perf_counter() - started), rate, len(data))
        if own.epochs == 0:
            said = f"not one epoch of all five fits into the {left:.0f} s that are left: raise --minutes"
            return [row("ResNet-18 on CIFAR-10", said, NOT_RUN)]
        held |= {"epochs": own.epochs, "proxy_epochs": own.proxy_epochs, "runs": {}}
        state.save()
    own.epochs, own.proxy_epochs = held["epochs"], held["proxy_epochs"]
    for name in ARMS:
        if name not in held["runs"]:
            held["runs"][name] = one(name, data, test, own, state.file.with_suffix(".trainings"))
            print(f"ResNet-18, {name}: {held['runs'][name]['accuracy']:.4f}", flush=True)
            state.save()
    shutil.rmtree(state.file.with_suffix(".trainings"), ignore_errors=True)
    return [told(name, held["runs"][name], own, data, test) for name in ARMS]


def one(name: str, data: Data, test: Data, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One training, resumed from its snapshot if it was killed; returns its cost and final accuracy."""
    budget, scoring = resolve_keep(1.0 if name == FULL else KEEP, len(data)), 0.0
    config = cifar10.config_of(asked, cifar10.steps_of(budget, asked))
    given: dict[str, Any] = {}
    if ARMS[name] == "random":
        given["keep"] = uniform_random(np.arange(len(data)), budget, seed=0)
    elif ARMS[name] == "coverage_centric":
        margins, scoring = cifar10.margins(data, asked, 0)
        given["keep"] = coverage_centric(margins, margins, budget, cutoff=cifar10.cutoff_of(KEEP), seed=0)
    elif ARMS[name] == "rs2":
        signals = {"samples": len(data), "epochs": asked.epochs, "labels": data.targets}
        given["sampler"] = make_sampler("rs2", {"keep": KEEP}, signals, seed=0)
    if name == TAUGHT:
        teacher = Teacher(models.load(folder / "teacher"), augmentation=config.augmentation)
        given["objective"] = Distillation().objective(teacher, config, keep=KEEP)
    trained = train(data, config, seed=0, snapshots=Snapshots(folder / name.replace(" ", ""), seconds=30.0), **given)
    accuracy = evaluate(trained.model, test)["accuracy"]
    if name == FULL:
        keep_teacher(trained, config, data, folder / "teacher")
    cost = {key: getattr(trained, key) for key in ("steps", "samples_seen", "seconds")}
    return {"kept": budget, "accuracy": accuracy, "scoring_seconds": scoring, **cost}


def keep_teacher(trained: Trained, config: TrainingConfig, data: Data, folder: Path) -> None:
    """Save the model of everything, the later teacher, atomically."""
    partial = folder.with_name("teacher.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    models.save(trained.model.cpu(), partial, config, data.inputs.shape[1:])
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def told(name: str, run: dict[str, Any], asked: argparse.Namespace, data: Data, test: Data) -> Row:
    """A training as a row."""
    proxy = f" and {run['scoring_seconds']:.0f} s of a proxy ({asked.proxy_epochs} epochs)"
    return row(
        f"ResNet-18 on CIFAR-10, {name}",
        f"{run['accuracy']:.1%} of {len(test):,} test images; {asked.epochs} epochs of {run['kept']:,} of "
        f"{len(data):,} images, {run['steps']:,} steps, {run['samples_seen'] / run['seconds']:,.0f} images/s, "
        f"{run['seconds']:.0f} s{proxy if run['scoring_seconds'] else ''}",
    )


def precision() -> str:
    """Number format of this step's networks."""
    return "bfloat16, channels last" if torch.cuda.is_available() else "float32"
