"""`scores_of`: scores of samples from outputs of the caller's own model, by the scorers that watch a run of ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from secateur.pipelines.front_door.asked import Scores, asked, settings_of, with_read
from secateur.pipelines.front_door.following import Outputs, every_score, reason_against, refuse_others
from secateur.pipelines.front_door.logits import Epoch, Named, epochs_of
from secateur.pipelines.studies.rejections import require
from secateur.pipelines.studies.scores import Score
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
"""How far from 1 probabilities may add up to, of half precision the latter."""


def scores_of(
    logits: Any,
    labels: Any,
    *,
    kind: Kind = "logits",
    scores: Scores | None = None,
    task: Literal["classification", "multi_label"] = "classification",
    column: Named = None,
) -> pl.DataFrame:
    """Scores of samples from what your own model puts out for them: a column float32 for each score, rows in order.

    `logits`, or with `kind="probabilities"` probabilities, are `[n, classes]` of one pass over the data or
    `[epochs, n, classes]` of several, of NumPy or torch; a list of one `[n, classes]` for each epoch; or the path of a
    `.npy`, safetensors or Parquet file (a column of lists), or a list of such paths. `column` names the column or
    tensor, or one for each epoch, where a file has several. This reads blocks of rows: a mapped file stays on disk.
    `labels` are whole numbers 0 … classes-1 `[n]`; with `task="multi_label"` 0 and 1 `[n, labels]`.

    `scores` picks: names, or names with settings as in a study, `{"el2n": {"epochs": 5}}`. Without it come all that
    follow: of one pass the scores that need no second one, of several epochs also those that follow a sample over time
    (`forgetting`, `dual`, …). The observers and scorers of checkpoints of a study compute them: from the logits of a
    training run, before each update, they give the numbers of that run. Scorers of checkpoints take each epoch for one.

    Probabilities count as the softmax (of several labels the sigmoid) that they are, one below 1.2e-38 as that number.
    The margin of logits is that of log-probabilities, so `aum` follows too, unless some probability is rounded to 0
    (of several labels to 0 or 1).

    Raises ValueError for shapes that do not fit, labels that are no class, NaN (by epoch, from 0, and row),
    probabilities that do not add up to 1, and scores that do not follow, with the reason.

    >>> import numpy as np, secateur as sc
    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> sc.scores_of(probabilities, [0, 1, 1], kind="probabilities", scores=["self_confidence"]).to_series().to_list()
    [0.8999999761581421, 0.800000011920929, 0.4000000059604645]
    """
    require(kind, dict.fromkeys(("logits", "probabilities")), "kind")
    require(task, TASKS, "task of outputs")
    chosen = None if scores is None else asked(scores)
    epochs = epochs_of(logits, column)
    if task == "classification" and epochs[0].width < 2:
        raise ValueError("the outputs have one column, and classes need one each: give [n, 2] for two classes")
    targets = targets_of(labels, task, epochs, logits)
    made = TASKS[task](epochs[0].width).fitted(targets)
    refuse_others(chosen or {}, Outputs(made, len(epochs)))  # before all outputs are read
    known = Outputs(made, len(epochs), look_through(epochs, targets, kind))
    if chosen is None:
        chosen = every_score(known)
        if known.rounded and (reason := reason_against(Score(scorer="aum"), known)):
            warnings.warn(f"aum is left out: {reason}", stacklevel=2)
    refuse_others(chosen, known)
    found = computed(with_read(chosen), epochs, targets, made, kind)
    return pl.DataFrame({name: found[name] for name in chosen})


def targets_of(labels: Any, task: str, epochs: Sequence[Epoch], outputs: Any) -> np.ndarray:
    """Labels as the task has them, int64 `[n]` or bool `[n, labels]`; raises ValueError for others."""
    if isinstance(labels, str | Path):
        labels = np.load(Path(labels).expanduser(), mmap_mode="r", allow_pickle=False)
    held = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    rows, width = epochs[0].rows, epochs[0].width
    if len(held.shape) != (1 if task == "classification" else 2) or (task == "multi_label" and held.shape[1] != width):
        needed = "[n]" if task == "classification" else f"[n, {width}]"
        raise ValueError(f"labels of {task} are {needed}, these are {list(held.shape)}")
    if len(held) != rows:
        shape = tuple(getattr(outputs, "shape", ()))
        turned = len(shape) == 3 and shape[0] == len(held)
        hint = "; epochs come first: give logits.swapaxes(0, 1)" if turned else ""
        raise ValueError(f"there are {len(held)} labels and outputs of {rows} samples{hint}")
    if held.dtype.kind not in "biuf":
        raise ValueError(
            f"labels are of type {held.dtype}, and numbers of classes 0 … {width - 1} are needed: "
            "np.unique(labels, return_inverse=True)[1] numbers classes in alphabetical order"
        )
    whole = np.isfinite(held) & (held == np.round(held)) if held.dtype.kind == "f" else np.ones(held.shape, np.bool_)
    if task == "multi_label":
        whole &= np.isin(held, (0, 1))
    if len(wrong := np.flatnonzero(~whole if whole.ndim == 1 else ~whole.all(axis=1))):
        allowed = f"whole numbers from 0 to {width - 1}" if task == "classification" else "0 and 1"
        raise ValueError(f"labels are {allowed}, they are not at {rows_text(wrong)}")
    targets = held.astype(np.int64 if task == "classification" else np.bool_)
    TASKS[task](width).check(targets)
    return targets


def look_through(epochs: Sequence[Epoch], targets: np.ndarray, kind: Kind) -> str:
    """What `Outputs.rounded` says; raises ValueError for outputs that are NaN, infinite or no probabilities."""
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
                f"probabilities {must}, they do not{where} at {rows_text(np.flatnonzero(off))}: leave "
                "kind out for logits"
            )
        if kind == "logits" and single and not off.any():
            raise ValueError(f'outputs{where} add up to 1 in each row, as probabilities do: say kind="probabilities"')
    return f"probabilities are rounded to 0 or 1 at {rows_text(np.flatnonzero(rounded))}" if rounded.any() else ""


def is_rounded(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Whether the logit of a target, or of its closest rival, cannot be told of probabilities float64, bool `[b]`."""
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
        else:  # a copy in the order of bytes of this machine
            whole = torch.from_numpy(np.array(block, block.dtype.newbyteorder("=")))
        yield start, whole
        start += len(whole)


def as_logits(values: torch.Tensor, kind: Kind, task: Task) -> torch.Tensor:
    """Outputs as a network of ours would put them out, float32 `[b, width]`."""
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
    strata = task.strata(targets)
    given: dict[str, Any] = {"labels": strata, "strata": strata, "memberships": task.memberships(targets)}
    given["null_log_probabilities"] = null_model_of(strata, len(task.stratum_names()))
    for name, score in scores.items():
        if isinstance(score.declared, Scorer):
            arguments = [given[signal] if signal in given else found[signal] for signal in score.declared.signals]
            found[name] = score.declared(*arguments, **settings_of(score))
    return found


def of_block(
    scores: Mapping[str, Score], outputs: Sequence[torch.Tensor], targets: torch.Tensor, task: Task
) -> dict[str, torch.Tensor]:
    """Scores of the samples of one block by name, `[b]`, of their outputs in each epoch, float32 `[b, width]` each."""
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
    """Samples under several checkpoints whose outputs, float32 `[b, width]` each, are there already, oldest first."""

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
