"""Scores of samples from outputs of a model, by the scorers that also observe training runs, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from secateur.pipelines.data.model_outputs import Epoch
from secateur.pipelines.studies.scores import Score, settings_of
from secateur.scorers.checkpoints.contract import CheckpointBatch, CheckpointScorer
from secateur.scorers.checkpoints.pvi import null_model_of
from secateur.scorers.contract import Scorer, TrainingBatch, finite, rows_text
from secateur.scorers.lazy import torch
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.multi_label import MultiLabel

Kind = Literal["logits", "probabilities"]
TASKS: Mapping[str, type[Classification | MultiLabel]] = {"classification": Classification, "multi_label": MultiLabel}
BLOCK = 1 << 24
"""Bytes of outputs, of all epochs together, that are in memory at once."""
LEAST = float(np.finfo(np.float32).tiny)
"""A smaller probability counts as this one, whose logarithm is -87.3."""
NEAR, NEAR_HALF = 1e-3, 1e-2
"""Tolerance for the sum of probabilities around 1, the latter for half precision."""


def look_through(epochs: Sequence[Epoch], targets: np.ndarray, kind: Kind, key: str = "kind") -> str:
    """The text of `Outputs.rounded`; raises ValueError for outputs that are NaN, infinite or not of the `kind` that the
    user names as `key`."""
    rounded, single = np.zeros(len(targets), np.bool_), targets.ndim == 1
    for number, epoch in enumerate(epochs):
        bad, off = np.zeros(epoch.rows, np.bool_), np.zeros(epoch.rows, np.bool_)
        for start, block in numbered(epoch, max(1, BLOCK // (8 * epoch.width))):
            rows, half = slice(start, start + len(block)), block.dtype in (torch.float16, torch.bfloat16)
            bad[rows] = ~block.float().isfinite().all(dim=1).numpy()
            values = block.double()
            off[rows] = ((values < 0) | (values > 1 + NEAR)).any(dim=1).numpy()
            if single:
                off[rows] |= ((values.sum(dim=1) - 1).abs() > (NEAR_HALF if half else NEAR)).numpy()
            if kind == "probabilities":
                rounded[rows] |= is_rounded(values, torch.from_numpy(targets[rows])).numpy()
        where = f" in epoch {number} of 0 … {len(epochs) - 1}" if len(epochs) > 1 else ""
        if bad.any():
            raise ValueError(f"the outputs are NaN, or infinite as float32,{where} at {rows_text(np.flatnonzero(bad))}")
        if kind == "probabilities" and off.any():
            must = "lie from 0 to 1 and add up to 1" if single else "lie from 0 to 1"
            raise ValueError(
                f"probabilities {must}, they do not{where} at {rows_text(np.flatnonzero(off))}: "
                f"name logits as {key}, if they are"
            )
        if kind == "logits" and single and not off.any():
            raise ValueError(
                f"outputs{where} add up to 1 in each row, as probabilities do: name probabilities as {key}"
            )
    return f"probabilities are rounded to 0 or 1 at {rows_text(np.flatnonzero(rounded))}" if rounded.any() else ""


def is_rounded(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Whether probabilities, float64, leave the logit of a target, or of its closest rival, unknown, bool `[b]`."""
    if targets.ndim == 2:
        return ((values <= 0) | (values >= 1)).any(dim=1)
    column = targets.unsqueeze(1)
    rival = values.scatter(1, column, -1.0).amax(dim=1)
    return (values.gather(1, column).squeeze(1) <= 0) | (rival <= 0)


def numbered(epoch: Epoch, size: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks of an epoch as tensors in main memory, each with its first row."""
    start = 0
    for block in epoch.blocks(size):
        if hasattr(block, "detach"):
            whole = block.detach().cpu()
        else:  # a copy in this machine's byte order
            whole = torch.from_numpy(np.array(block, block.dtype.newbyteorder("=")))
        yield start, whole
        start += len(whole)


def as_logits(values: torch.Tensor, kind: Kind, task: Task) -> torch.Tensor:
    """Outputs as logits, float32 `[b, width]`, like those of a network of the trainers."""
    if kind == "logits":
        return values.float()
    wide = values.double()
    if isinstance(task, MultiLabel):
        return (wide.clamp(min=LEAST).log() - (1 - wide).clamp(min=LEAST).log()).float()
    return wide.clamp(min=LEAST).log().float()


def computed(
    scores: Mapping[str, Score], epochs: Sequence[Epoch], targets: np.ndarray, task: Task, kind: Kind
) -> dict[str, np.ndarray]:
    """Scores by name, float32 `[n]`: observers and scorers of checkpoints block by block, then scorers of signals."""
    return with_signals(scores, observed(scores, epochs, targets, task, kind), targets, task)


def observed(
    scores: Mapping[str, Score], epochs: Sequence[Epoch], targets: np.ndarray, task: Task, kind: Kind
) -> dict[str, np.ndarray]:
    """Scores of observers and scorers of checkpoints, by name, float32 `[n]`, block by block."""
    rows, width = epochs[0].rows, epochs[0].width
    read = {name: score for name, score in scores.items() if not isinstance(score.declared, Scorer)}
    found = {name: np.empty(rows, np.float32) for name in read}
    size = max(1, BLOCK // (4 * width * len(epochs)))
    for blocks in zip(*(numbered(epoch, size) for epoch in epochs), strict=True):
        start, outputs = blocks[0][0], [as_logits(block, kind, task) for _, block in blocks]
        part = slice(start, start + len(outputs[0]))
        for name, own in of_block(read, outputs, task.tensor(targets[part]), task).items():
            found[name][part] = own.numpy()
    for name, values in found.items():
        finite(values, name)
    return found


def with_signals(
    scores: Mapping[str, Score], found: Mapping[str, np.ndarray], targets: np.ndarray, task: Task
) -> dict[str, np.ndarray]:
    """Those scores, with the ones of scorers that read them, or signals of the targets."""
    every, strata = dict(found), task.strata(targets)
    given: dict[str, Any] = {"labels": strata, "strata": strata, "memberships": task.memberships(targets)}
    given["null_log_probabilities"] = null_model_of(strata, len(task.stratum_names()))
    for name, score in scores.items():
        if isinstance(score.declared, Scorer):
            arguments = [given[signal] if signal in given else every[signal] for signal in score.declared.signals]
            every[name] = score.declared(*arguments, **settings_of(score))
    return every


def of_block(
    scores: Mapping[str, Score], outputs: Sequence[torch.Tensor], targets: torch.Tensor, task: Task
) -> dict[str, torch.Tensor]:
    """Scores of one block's samples by name, `[b]`, from their outputs in each epoch, float32 `[b, width]` each."""
    ids, watchers = torch.arange(len(targets)), dict[str, Any]()
    for name, score in scores.items():
        if isinstance(score.declared, type):
            watchers[name] = score.declared(len(ids), torch.device("cpu"), **settings_of(score))
    for epoch, logits in enumerate(outputs):
        batch = TrainingBatch(ids, logits, targets, task.losses(logits, targets), task)
        for watcher in watchers.values():
            watcher.observe(batch)
            watcher.end_epoch(epoch)
    found = {name: watcher.reduce() for name, watcher in watchers.items()}
    last = HeldBatch(outputs, targets, task)
    for name, score in scores.items():
        if isinstance(score.declared, CheckpointScorer):
            found[name] = score.declared(last, **settings_of(score))
    return found


class HeldBatch(CheckpointBatch):
    """Samples under several checkpoints with known outputs, float32 `[b, width]` each, oldest first."""

    def __init__(self, outputs: Sequence[torch.Tensor], targets: torch.Tensor, task: Task) -> None:
        super().__init__([], None, targets, task)
        self.held = outputs

    @property
    def each(self) -> list[CheckpointBatch]:
        """See `CheckpointBatch`."""
        return [*(HeldBatch([one], self.targets, self.task) for one in self.held[:-1]), self]  # type: ignore[arg-type]

    @property
    def outputs(self) -> Any:  # type: ignore[override]
        """Outputs of the last checkpoint."""
        return self.held[-1]
