"""`scores_of`: scores of samples from outputs of the caller's own model, by the scorers that watch our trainings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from secateur.pipelines.data.array_files import array_at
from secateur.pipelines.data.model_outputs import Epoch, Named, epochs_of
from secateur.pipelines.front_door.asked import Scores, asked
from secateur.pipelines.runs.following import Outputs, every_score, reason_against, refuse_others
from secateur.pipelines.runs.of_outputs import TASKS, Kind, computed, look_through
from secateur.pipelines.studies.rejections import require
from secateur.pipelines.studies.scores import Score, with_read
from secateur.scorers.contract import rows_text


def scores_of(
    logits: Any,
    labels: Any,
    *,
    kind: Kind = "logits",
    scores: Scores | None = None,
    task: Literal["classification", "multi_label"] = "classification",
    column: Named = None,
) -> pl.DataFrame:
    """Scores of samples from the outputs of your own model: a column float32 for each score, rows in order.

    `logits`, or with `kind="probabilities"` probabilities, are `[n, classes]` of one pass over the data or
    `[epochs, n, classes]` of several, of NumPy or torch; a list of one `[n, classes]` for each epoch; or the path of a
    `.npy`, safetensors or Parquet file (a column of lists), or a list of such paths. `column` names the column or
    tensor, or one for each epoch, where a file has several. Blocks of rows are read: a mapped file stays on disk.
    `labels` are whole numbers 0 … classes-1 `[n]`; with `task="multi_label"` 0 and 1 `[n, labels]`.

    `scores` selects scores: names, or names with settings as in a study, `{"el2n": {"epochs": 5}}`. By default all
    possible ones are computed: from one pass those that need no second one, from several epochs also those that follow
    a sample over time (`forgetting`, `dual`, …). The observers and scorers of checkpoints of a study compute them: from
    the logits of a training run, before each update, they give the numbers of that run. For scorers of checkpoints each
    epoch is one.

    Probabilities are the softmax (for several labels the sigmoid) of logits; one below 1.2e-38 counts as that number.
    The margin of logits is that of log-probabilities, so `aum` is possible too, unless some probability is rounded to 0
    (for several labels to 0 or 1).

    Raises ValueError for shapes that do not fit, labels that are not classes, NaN (by epoch, from 0, and row),
    probabilities that do not add up to 1, and scores that are not possible, with the reason.

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
    """Labels in the task's form, int64 `[n]` or bool `[n, labels]`; raises ValueError for others."""
    if isinstance(labels, str | Path):
        labels = array_at(labels, "labels")
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
