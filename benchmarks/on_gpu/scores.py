"""Steps with scores: GraNd and VoG by gradients, and neighbours by FAISS on the GPU, against the CPU's numbers."""

import argparse
import copy
import time
from unittest.mock import patch

import faiss
import gradient_scores
import numpy as np
import torch
from on_gpu.checks import CPU, TOLERANCE, exact
from on_gpu.state import FAILED, NOT_RUN, PASSED, Row, gap_of, near, row

from secateur.scorers.checkpoints.contract import CheckpointBatch
from secateur.scorers.checkpoints.grand import grand
from secateur.scorers.checkpoints.vog import vog
from secateur.scorers.geometry import exact_search, neighbours
from secateur.scorers.geometry.neighbours import Neighbours, nearest_neighbours
from secateur.trainers.processes import device_of_choice

NEIGHBOURS = 10
DISTANCES = 1e-4
"""Largest gap of distances; both sides compute them from the same float32 rows."""


def gradients(asked: argparse.Namespace) -> list[Row]:
    """GraNd by all layers and VoG over five checkpoints of a small convolutional network, each against plain passes."""
    device, rounds = device_of_choice(), 1 if asked.tiny else 10
    name = "cnn width 32, 1 x 8 x 8, batch 128" if asked.tiny else "cnn width 32, 1 x 28 x 28, batch 128"
    model, inputs = gradient_scores.networks()[name]
    models = gradient_scores.checkpoints_of(model, gradient_scores.CHECKPOINTS)
    labels = torch.arange(len(inputs)) % 10
    far, near_by = [each.to(device) for each in models], [copy.deepcopy(each).to(CPU) for each in models]
    on_device, here = (inputs.to(device), labels.to(device)), (inputs, labels)
    found = []
    for score, several in ((grand, far[:1]), (vog, far)):
        with exact():
            there = score(CheckpointBatch(several, *on_device))
            plain = score(CheckpointBatch(near_by[: len(several)], *here))
        found.append(near(f"{score.card.name} against the CPU's", gap_of(there, plain), TOLERANCE))
    trained = copy.deepcopy(far[0]).requires_grad_(True)
    for what, ours, theirs, said in (
        ("grand", lambda: grand(CheckpointBatch(far[:1], *on_device)),
         lambda: gradient_scores.training_pass(trained, *on_device), "a training pass of the batch"),
        ("vog", lambda: vog(CheckpointBatch(far, *on_device)),
         lambda: gradient_scores.plain_input_passes(far, *on_device), f"{len(far)} plain passes to the input"),
    ):  # fmt: skip
        scored, passed, _ = gradient_scores.beside(ours, theirs, rounds)
        found.append(
            row(f"{what}, {name}", f"{scored * 1e3:.2f} ms, {scored / passed:.2f} times {said} ({passed * 1e3:.2f} ms)")
        )
    return found


def timed(embeddings: np.ndarray) -> tuple[Neighbours, float]:
    """The neighbour graph by the FAISS build at hand, and the seconds of the search."""
    started = time.perf_counter()
    found = nearest_neighbours(embeddings, NEIGHBOURS, engine="exact", audit=64)
    return found, time.perf_counter() - started


def without(count: int) -> bool:
    """Replaces `on_gpu`: always False."""
    return False


def graph(asked: argparse.Namespace) -> list[Row]:
    """The exact graph by FAISS on the GPU against the CPU; without a GPU in FAISS both sides use the CPU."""
    samples, dimensions = (300, 16) if asked.tiny else (50_000, 128)
    embeddings = np.random.default_rng(0).standard_normal((samples, dimensions), dtype=np.float32)
    what = f"exact neighbours, {samples:,} x {dimensions}, {NEIGHBOURS} each"
    if faiss.get_num_gpus() == 0 and not asked.tiny:
        remedy = "this faiss has no GPU: pip uninstall faiss-cpu, then pip install 'faiss-gpu>=1.15'"
        return [row(what, remedy, NOT_RUN)]
    timed(embeddings[: max(NEIGHBOURS + 2, samples // 10)])  # allocates FAISS's buffers
    there, seconds = timed(embeddings)
    with patch.object(neighbours, "on_gpu", without), patch.object(exact_search, "on_gpu", without):
        here, on_cpu = timed(embeddings)
    pairs = zip(there.indices.tolist(), here.indices.tolist(), strict=True)
    same = float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in pairs]))
    said = f"{there.engine}: {seconds:.2f} s; {here.engine}: {on_cpu:.2f} s; {same:.4%} of the neighbours are the same"
    return [
        row(what, said, PASSED if same >= 0.9999 else FAILED),
        near("distances of neighbours against the CPU's", gap_of(there.distances, here.distances), DISTANCES),
    ]
