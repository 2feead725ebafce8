"""Labels that may be wrong, by a model that did not learn from them, and the worth of leaked rows to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from secateur.pipelines.audits.cheap import Cheap, right
from secateur.pipelines.audits.contract import TEST, TRAIN, AuditRows
from secateur.pipelines.audits.joined import Joined
from secateur.pipelines.audits.meaning import Resting, resting
from secateur.trainers.judging.by_cleanlab import check_installed, classes_by_cleanlab, label_sets_by_cleanlab
from secateur.trainers.judging.wrong_labels import WrongLabels, wrong_label_sets, wrong_labels, wrong_numbers

FOLDS = 5
LEAST = 50
"""Least number of labelled rows for a check of labels."""
JUDGES: Mapping[str, Callable[..., WrongLabels]] = {
    "class": wrong_labels, "labels": wrong_label_sets, "numbers": wrong_numbers,
}  # fmt: skip
BY_CLEANLAB: Mapping[str, Callable[..., WrongLabels]] = {
    "class": classes_by_cleanlab, "labels": label_sets_by_cleanlab,
}  # fmt: skip
CLEANLAB = "cleanlab"
MOST_SHARE = 0.5
"""Largest share of the rows that may be listed."""
COUNTED = 0.5
"""Least accuracy at which the model counts wrong labels: docs/audit-labels.md measures none below."""
RANKED = 100
"""Most rows that are listed without a count."""


@dataclass(frozen=True)
class Suspects:
    """A model's findings on a part's labels: `rows` are its labelled rows, int64 `[m]` in the audit's numbering."""

    rows: Int64[np.ndarray, " m"]
    wrong: WrongLabels
    predicted: Float[np.ndarray, "m width"] = field(repr=False)
    """The model's prediction for each."""

    @property
    def counted(self) -> int:
        """Number of labels behind the estimate: rows, or entries for rows that may have several."""
        return int(self.wrong.suggested.size) if self.in_entries else len(self.rows)

    @property
    def cannot_say(self) -> str:
        """Reason why the model cannot judge these labels; empty where it can."""
        return self.wrong.reason if np.isnan(self.wrong.count) else ""

    @property
    def uncounted(self) -> str:
        """Reason why this model only ranks labels and does not count wrong ones; empty where it counts them."""
        share = self.wrong.accuracy
        if self.wrong.suggested.dtype.kind != "i" or share >= COUNTED:
            return ""
        return f"the model predicts only {share:.0%} of them: below {COUNTED:.0%} its own mistakes count as wrong ones"

    @property
    def in_entries(self) -> bool:
        """Whether rows may have several labels; then each entry, there or not there, counts by itself."""
        return self.wrong.suggested.dtype == np.bool_

    @property
    def listed(self) -> Int64[np.ndarray, " k"]:
        """The most suspicious rows, the likeliest first, as places among `rows`: as many as the estimate, rounded as in
        the sentence; for entries the rows that hold that many of the likeliest; `RANKED` without an estimate.
        """
        order, most = self.wrong.order, int(MOST_SHARE * len(self.rows))
        count = RANKED if self.uncounted else round(self.wrong.count)
        if self.in_entries and self.wrong.entries is not None:
            entries = self.wrong.entries
            likeliest = np.argsort(-entries, axis=None, kind="stable")[:count]
            order = order[np.isin(order, likeliest // entries.shape[1])]
        return order[: min(most, count)]

    def content(self) -> dict[str, Any]:
        """The findings as JSON-able data."""
        wrong = self.wrong
        known = {name: float(getattr(wrong, name)) for name in ("count", "low", "high")}
        told = {name: None if self.uncounted or np.isnan(value) else value for name, value in known.items()}
        return {
            "labelled": len(self.rows),
            "entries": self.counted if self.in_entries else None,
            **told,
            "level": wrong.level,
            "accuracy": wrong.accuracy,
            "reason": self.uncounted or wrong.reason,
        }


def check_judge(by: str | None) -> None:
    """Raise ValueError for an unknown judge of labels, ImportError for one that is not installed."""
    if by not in (None, CLEANLAB):
        raise ValueError(f"by {by!r}: nobody of this name judges labels; write {CLEANLAB}, or leave it out")
    if by == CLEANLAB:
        check_installed()


def judge_of(rows: AuditRows, by: str | None) -> Callable[..., WrongLabels]:
    """The judge of labels by predictions; raises ValueError for numbers by cleanlab."""
    assert rows.task is not None
    if by is None:
        return JUDGES[rows.task.target]
    if rows.task.target not in BY_CLEANLAB:
        raise ValueError(
            f"by {by}: of numbers cleanlab counts nothing without training a model of its own; leave it out, and the "
            "audit counts them"
        )
    return BY_CLEANLAB[rows.task.target]


def why_not(rows: AuditRows) -> str:
    """Reason why labels are not checked; empty where they are."""
    if rows.task is None or rows.targets is None:
        return rows.unlabelled or "no labels are known"
    labelled = rows.labelled & (rows.part == TRAIN)
    if labelled.sum() < LEAST:
        return f"labels are looked at from {LEAST} labelled training rows on, and there are {int(labelled.sum())}"
    if rows.task.target == "class" and len(np.unique(rows.targets[labelled])) < 2:
        return "all labels are one"
    if len(np.unique(rows.inputs[labelled, 1])) < FOLDS:
        return "labelled rows are nearly all equal"
    return ""


def suspects_in(
    rows: AuditRows, copies: Joined, cheap: Cheap, own: Float64[np.ndarray, "n width"] | None = None,
    by: str | None = None, *, seed: int,
) -> dict[int, Suspects]:  # fmt: skip
    """Suspects by part, for training and test rows; for training rows by the user's `own` predictions, if any. `by` is
    an argument of `check_judge`.
    """
    assert rows.task is not None
    assert rows.targets is not None
    judge, found = judge_of(rows, by), dict[int, Suspects]()
    mine = np.flatnonzero(rows.labelled & np.isin(rows.part, (TRAIN, TEST)))
    group = np.where(copies.group[mine] >= 0, copies.group[mine], mine)
    predicted = predictions(rows, cheap, mine, group, seed=seed)
    if own is not None:
        train = rows.part[mine] == TRAIN
        predicted[train] = own[mine[train] - rows.starts[TRAIN]]
    for part in (TRAIN, TEST):
        some = rows.part[mine] == part
        if some.any():
            wrong = judge(predicted[some], rows.targets[mine[some]], seed=seed)
            found[part] = Suspects(mine[some], wrong, predicted[some])
    return found


def predictions(
    rows: AuditRows, cheap: Cheap, mine: Int64[np.ndarray, " m"], group: Int64[np.ndarray, " m"], *, seed: int
) -> Float32[np.ndarray, "m width"]:
    """Out-of-fold predictions for these rows; copies share a fold."""
    from secateur.trainers.judging.cross_fitting import cross_fitted

    assert rows.task is not None
    assert rows.targets is not None
    return cross_fitted(
        cheap.values[mine], rows.targets[mine], kind=cheap.kind, task=rows.task.target, width=rows.task.width,
        folds=FOLDS, groups=group, categories=cheap.categories, seed=seed,
    )  # fmt: skip


def tested(rows: AuditRows) -> Int64[np.ndarray, " m"]:
    """Test rows with a label, possibly none."""
    return np.flatnonzero(rows.labelled & (rows.part == TEST))


def worth_to(
    rows: AuditRows, copies: Joined, several: Sequence[Float64[np.ndarray, "m width"]], name: str
) -> Resting | None:
    """The worth of leaked rows to models that learned from all training rows, from their outputs for all test rows: the
    mean over models. None without models, and as in `worth_of_leaks`."""
    test = tested(rows)
    if rows.task is None or rows.targets is None or not several or not len(test):
        return None
    places, targets, kind = test - rows.starts[TEST], rows.targets[test], rows.task.target
    each = [right(one[places], targets, kind) for one in several]
    scores = np.mean([scores for scores, _ in each], axis=0)
    return resting(scores, copies.across[test] >= 0, model=name, measure=each[0][1])


def worth_of_leaks(rows: AuditRows, copies: Joined, cheap: Cheap, *, seed: int) -> Resting | None:
    """The worth of leaked rows to the cheap model, on the test; None without leaks or labels on both sides."""
    test = tested(rows)
    train = np.flatnonzero(rows.labelled & (rows.part == TRAIN))
    leaked = copies.across[test] >= 0
    if rows.task is None or rows.targets is None or not leaked.any() or leaked.all():
        return None
    clean = train[copies.across[train] < 0]
    scores, measure = right(held_out(rows, cheap, train, test, seed=seed), rows.targets[test], rows.task.target)
    refitted = None
    if enough(rows, clean):
        again = right(held_out(rows, cheap, clean, test, seed=seed), rows.targets[test], rows.task.target)[0]
        refitted = float(again.mean())
    return resting(scores, leaked, model=cheap.name, measure=measure, refitted=refitted)


def enough(rows: AuditRows, train: Int64[np.ndarray, " m"]) -> bool:
    """Whether these rows suffice to fit a model."""
    assert rows.targets is not None
    return len(train) >= LEAST and (rows.targets.ndim > 1 or len(np.unique(rows.targets[train])) > 1)


def held_out(
    rows: AuditRows, cheap: Cheap, learned: Int64[np.ndarray, " l"], asked: Int64[np.ndarray, " h"], *, seed: int
) -> Float32[np.ndarray, "h width"]:
    """Predictions for some rows by a model that learned from others."""
    from secateur.trainers.judging.cross_fitting import MOST_ROWS, predicted, rows_learned
    from secateur.trainers.judging.fourier_ridge import ridge_of_folds

    assert rows.task is not None
    assert rows.targets is not None
    task, width = rows.task.target, rows.task.width
    if cheap.kind == "vectors":
        both = np.concatenate([asked, learned])
        fold = np.repeat(np.arange(2), (len(asked), len(learned)))
        told = ridge_of_folds(cheap.values[both], rows.targets[both], fold, task=task, width=width, seed=seed)
        return told[: len(asked)]
    most = rows_learned(cheap.values, width, 1) if cheap.kind == "text" else MOST_ROWS
    if len(learned) > most:
        learned = np.sort(np.random.default_rng(seed).permutation(learned)[:most])
    return predicted(cheap.values, rows.targets, learned, asked, cheap.kind, task, width, cheap.categories)


def suspicious(rows: AuditRows, suspects: Mapping[int, Suspects]) -> Bool[np.ndarray, " n"]:
    """Rows that count as suspects, in parts for which a model counts them."""
    mask = np.zeros(len(rows), np.bool_)
    for some in (some for some in suspects.values() if not some.uncounted):
        mask[some.rows[some.listed]] = True
    return mask
