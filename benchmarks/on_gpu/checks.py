"""Steps with checks: the CUDA tests, observers without device synchronisation, and the scoring pass."""

import argparse
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import numpy as np
import recording
import scoring_pass
import torch
from on_gpu.state import FAILED, NOT_RUN, PASSED, Row, gap_of, near, row
from torch import nn
from torch.nn import functional

from secateur.scorers.contract import Observer, TrainingBatch
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.models.image_encoder import resnet18
from secateur.trainers.models.networks import Standardise
from secateur.trainers.models.registry import cnn
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.processes import device_of_choice

ROOT = Path(__file__).parents[2]
MARK = "mark.gpu"
TOLERANCE = 1e-3
"""Largest gap from the CPU's numbers, as a share of the largest: float32 sums in another order."""
CPU = torch.device("cpu")


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Make CUDA raise on any synchronisation; does nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def exact() -> Iterator[None]:
    """Compute convolutions in float32 instead of TF32, which rounds to ten bits; matrix products already do."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def cuda_tests(asked: argparse.Namespace) -> list[Row]:
    """Run the tests marked `gpu` in a separate process."""
    what = "tests that need CUDA (`pytest -m gpu`)"
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]
    if not files or find_spec("pytest") is None:
        return [row(what, "no tests or no pytest here: run in a checkout, after `make setup`", NOT_RUN)]
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        ended = subprocess.run([*words, *map(str, files)], cwd=ROOT, capture_output=True, text=True, env=os.environ)
        if not report.exists():
            said = f"pytest ended with {ended.returncode}: {' '.join((ended.stdout + ended.stderr).split())[-300:]}"
            return [row(what, said, FAILED)]
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    wrong = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - skipped - len(wrong)
    said = f"{passed} passed, {skipped} skipped, {len(wrong)} failed{': ' * bool(wrong)}{', '.join(map(str, wrong))}"
    return [row(what, said, FAILED if wrong or not cases else PASSED if passed else NOT_RUN)]


def observers(asked: argparse.Namespace) -> list[Row]:
    """Feed batches to every observer on the device, without synchronisation, and on the CPU; compare the scores."""
    device, samples, batch, epochs = device_of_choice(), 64 if asked.tiny else 1024, 32, 12
    kinds = {name: one for name, one in scorers().items() if inspect.isclass(one) and issubclass(one, Observer)}
    there = {name: one(samples, device) for name, one in kinds.items()}
    here = {name: one(samples, CPU) for name, one in kinds.items()}
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (samples,), generator=random)
    for epoch in range(epochs):
        logits = torch.randn(samples, 10, generator=random)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        for ids in torch.randperm(samples, generator=random).split(batch):
            plain = [each[ids] for each in (logits, labels, losses)]
            far = [each.to(device) for each in (ids, *plain)]
            with no_waiting(device):
                tell(there.values(), TrainingBatch(*far))
            tell(here.values(), TrainingBatch(ids, *plain))
        for watcher in (*there.values(), *here.values()):
            watcher.end_epoch(epoch)
    gaps = {name: gap_of(there[name].scores(), here[name].scores()) for name in kinds}
    worst = max(gaps, key=gaps.__getitem__)
    record = recording.recording_of([one(recording.SAMPLES, device) for one in kinds.values()])
    record()
    taken = min(recording.seconds(record) for _ in range(3 if asked.tiny else 50))
    said = f"{len(kinds)} observers, {epochs} epochs: none waits; {taken * 1e6:.0f} µs for a batch of {recording.BATCH}"
    return [
        row('observers under `set_sync_debug_mode("error")`', said, PASSED),
        near("scores of observers against the CPU's", gaps[worst], TOLERANCE, f" ({worst})"),
    ]


def tell(watchers: object, batch: TrainingBatch) -> None:
    """Feed a batch to several observers."""
    for watcher in watchers:  # type: ignore[attr-defined]
        watcher.observe(batch)


def scoring(asked: argparse.Namespace) -> list[Row]:
    """Compute five scores in one forward pass, against a bare forward loop and the CPU's scores."""
    device, random = device_of_choice(), np.random.default_rng(0)
    side, rows = (8, 64) if asked.tiny else (32, 10_000)
    data = Data(random.integers(0, 256, (rows, side, side, 3)).astype(np.uint8), random.integers(0, 10, rows), 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = cnn((side, side, 3), 10, width=8) if asked.tiny else resnet18((side, side, 3), 10)
        model = nn.Sequential(Standardise(3), network)
    reading = {name: (scorers()[name], {}) for name in scoring_pass.NAMES}
    few = np.arange(min(rows, 256))
    with exact():
        near_cpu = score_rows([[model]], data, few, reading, device=CPU)
        found = score_rows([[model]], data, few, reading, device=device)
    gaps = {name: gap_of(found[name], near_cpu[name]) for name in reading}
    worst = max(gaps, key=gaps.__getitem__)
    every, fastest = np.arange(rows), [float("inf")] * 2
    for _ in range(1 if asked.tiny else 3):
        works = (
            lambda: scoring_pass.bare(model, data, every),
            lambda: score_rows([[model]], data, every, reading, device=device, batch_size=scoring_pass.BATCH),
        )
        fastest = [min(best, scoring_pass.seconds(work)[0]) for best, work in zip(fastest, works, strict=True)]
    bare, scored = fastest
    said = f"{rows / scored:,.0f} images/s, {bare / scored:.0%} of a bare forward loop's {rows / bare:,.0f}"
    return [
        row(f"scoring pass, {len(reading)} scores, {'cnn' if asked.tiny else 'ResNet-18'}, {side} x {side} x 3", said),
        near("scores of the pass against the CPU's", gaps[worst], TOLERANCE, f" ({worst})"),
    ]
