"""Several labels at once: each sample has any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from secateur.scorers.lazy import functional, torch
from secateur.scorers.signals import NO_TOKENS, Batch, Signal
from secateur.selectors.draws.iterative_stratification import draw_by_labels
from secateur.trainers.tasks.contract import Metric, Task, refuse_not_finite

Targets = Bool[np.ndarray, "n labels"]
LACKS: dict[Signal, str] = {**NO_TOKENS, "probabilities": "its labels do not exclude each other"}


@dataclass(frozen=True)
class MultiLabel(Task):
    """Targets bool `[n, labels]`; outputs are one logit per label, above 0 for a predicted label.

    The loss of a sample is the mean over labels of the binary cross-entropy in nats, which hides one wrong label among
    many: `aum`, `accumulated_margin` and `self_confidence` read the worst label. The transfer of scores to several
    labels is our derivation (docs/score-definitions.md).
    """

    name = "multi_label"
    target = "labels"
    lacks = LACKS

    labels: int
    names: Sequence[str] = ()
    """Names of the labels; by default their numbers."""
    counts: Sequence[int] = ()
    """Number of training rows with each label; empty before `fitted`."""

    def __post_init__(self) -> None:
        for name in ("names", "counts"):  # JSON gives lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean average precision decides."""
        return (
            Metric("mean_average_precision", percent=True),
            Metric("micro_f1", percent=True),
            Metric("macro_f1", percent=True),
            Metric("loss", higher_is_better=False, unit="nats"),
        )

    @property
    def width(self) -> int:
        """One logit per label."""
        return self.labels

    def fitted(self, targets: Targets) -> MultiLabel:
        """The task with the number of rows of each label, which decides the rarest label of a row."""
        if self.counts:
            return self
        self.check(targets)
        return replace(self, counts=targets.sum(axis=0).tolist())

    def state(self) -> dict[str, Any]:
        """See `Task.state`."""
        return {"name": self.name, "labels": self.labels, "names": list(self.names), "counts": list(self.counts)}

    def check(self, targets: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError for targets of another shape or dtype."""
        if targets.dtype != np.bool_ or targets.ndim != 2 or targets.shape[1] != self.labels:
            raise ValueError(
                f"targets of {self.labels} labels are bool [n, {self.labels}], these are {targets.dtype} "
                f"{list(targets.shape)}"
            )

    def tensor(self, targets: Targets) -> torch.Tensor:
        """The labels, bool `[n, labels]`."""
        return torch.tensor(targets)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean binary cross-entropy in nats."""
        return self.smoothed_losses(outputs, targets, 0.0)

    def smoothed_losses(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Mean binary cross-entropy for targets `(1 - smoothing) · target + smoothing / 2`."""
        wanted = targets.to(outputs.dtype) * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").mean(dim=1)

    def target_probabilities(self, batch: Batch) -> torch.Tensor:
        """Probability of each label's true value, `[b, labels]`."""
        return signed(batch).sigmoid()

    def predictions(self, batch: Batch) -> torch.Tensor:
        """Probability of each label, `[b, labels]`."""
        return batch.outputs.sigmoid()

    def correct(self, batch: Batch) -> torch.Tensor:
        """Whether all labels are right."""
        return ((batch.outputs > 0) == batch.targets).all(dim=1)

    def margin(self, batch: Batch) -> torch.Tensor:
        """Smallest logit over labels, with the sign flipped for absent labels: the margin of the worst label."""
        return signed(batch).amin(dim=1)

    def probability_margin(self, batch: Batch) -> torch.Tensor:
        """Smallest difference over labels of the probabilities of the true and the other value."""
        return 2 * batch.target_probabilities.amin(dim=1) - 1

    def error(self, batch: Batch) -> torch.Tensor:
        """Probabilities minus labels, `[b, labels]`: the gradient of the loss summed over labels."""
        return batch.predictions - batch.targets.to(batch.outputs.dtype)

    def target_output(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the logits of the present labels (our choice); 0 for a sample without any."""
        return (outputs * targets.to(outputs.dtype)).sum(dim=1)

    def distance(self, teacher: torch.Tensor, student: torch.Tensor, *, temperature: float) -> torch.Tensor:
        """temperature² · mean over labels of KL of the binary distributions at temperature T, in nats."""
        if teacher.shape != student.shape:
            raise ValueError(
                f"the teacher's logits are {tuple(teacher.shape)}, the student's {tuple(student.shape)}: a teacher "
                "must know the same labels"
            )
        said, learned = teacher.float() / temperature, student.float() / temperature
        yes = said.sigmoid() * (functional.logsigmoid(said) - functional.logsigmoid(learned))
        no = (-said).sigmoid() * (functional.logsigmoid(-said) - functional.logsigmoid(-learned))
        return temperature**2 * (yes + no).mean(dim=1)

    def evaluate(self, outputs: Float[np.ndarray, "n labels"], targets: Targets) -> dict[str, float]:
        """Mean average precision and macro F1 over the labels that occur, micro F1 over all, mean cross-entropy.

        Raises ValueError if no row has a label.
        """
        from sklearn import metrics

        refuse_not_finite(outputs)
        self.check(targets)
        occur = targets.any(axis=0)
        if not occur.any():
            raise ValueError("no row of the split to evaluate on has a label: average precision is undefined")
        truth, guess = targets[:, occur], outputs[:, occur] > 0
        precision = metrics.average_precision_score(truth, outputs[:, occur], average=None)
        losses = self.losses(torch.tensor(outputs).double(), torch.tensor(targets))
        return {
            "mean_average_precision": float(np.mean(precision)),
            "micro_f1": float(metrics.f1_score(targets, outputs > 0, average="micro", zero_division=0)),
            "macro_f1": float(np.mean(metrics.f1_score(truth, guess, average=None, zero_division=0))),
            "loss": float(losses.mean()),
        }

    def undefined(self, targets: Targets) -> dict[str, str]:
        """Mean average precision and macro F1 for rows without any label."""
        why = "no row has a label"
        return {} if targets.any() else {"mean_average_precision": why, "macro_f1": why}

    def recalls(self, outputs: Float[np.ndarray, "n labels"], targets: Targets) -> list[float | None]:
        """Recall of each label, None for one without rows."""
        totals, hits = targets.sum(axis=0).tolist(), (targets & (outputs > 0)).sum(axis=0).tolist()
        return [hit / total if total else None for hit, total in zip(hits, totals, strict=True)]

    def strata(self, targets: Targets) -> Int64[np.ndarray, " n"]:
        """The label of a row that is rarest in training; `labels` for a row without any.

        Class policies divide a budget by this: a row counts for its rarest label. Raises ValueError before `fitted`.
        """
        if not self.counts:
            raise ValueError("the task does not know yet which labels are rare: call fitted(targets) first")
        by_rarity = np.argsort(self.counts, kind="stable")
        rarest = by_rarity[np.asarray(targets)[:, by_rarity].argmax(axis=1)]
        return np.where(targets.any(axis=1), rarest, self.labels).astype(np.int64)

    def stratum_names(self) -> list[str]:
        """Names of the labels, and "no label"."""
        return [*(list(self.names) or [str(number) for number in range(self.labels)]), "no label"]

    def memberships(self, targets: Targets) -> Targets:
        """The labels; stratified draws preserve the share of each."""
        return targets

    def split(
        self, targets: Targets, fraction: float, seed: int
    ) -> tuple[Int64[np.ndarray, " pool"], Int64[np.ndarray, " held"]]:
        """The pool and the held-out rows, a share `fraction` rounded up, by iterative stratification.

        Raises ValueError if one side would be empty.
        """
        held = int(np.ceil(fraction * len(targets)))
        if not 0 < held < len(targets):
            raise ValueError(f"a split of {fraction:g} of {len(targets)} samples leaves one side empty")
        mask = draw_by_labels(np.asarray(targets), held, seed=seed)
        return np.flatnonzero(~mask), np.flatnonzero(mask)

    def guesses(self, outputs: Float[np.ndarray, "n labels"]) -> Bool[np.ndarray, "n labels"]:
        """The labels with probabilities above one half."""
        return outputs > 0

    def shown(self, target: Any) -> str:
        """The names of the present labels."""
        names = self.stratum_names()
        return ", ".join(names[number] for number in np.flatnonzero(target)) or names[-1]


def signed(batch: Batch) -> torch.Tensor:
    """Logits, with the sign flipped for absent labels."""
    return torch.where(batch.targets, batch.outputs, -batch.outputs)
