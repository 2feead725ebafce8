"""Ranks and counts of wrong labels by cleanlab, from the same predictions: confident learning (Northcutt, Jiang and
Chuang, 2021). cleanlab gives no interval, and for numbers it would train its own model."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64, Num

from secateur.scorers.lazy import not_installed
from secateur.trainers.judging.wrong_labels import WrongLabels, wrong_label_sets, wrong_labels


def check_installed() -> None:
    """Raise ImportError that names the extra if cleanlab is absent."""
    if importlib.util.find_spec("cleanlab") is None:
        raise ImportError(not_installed("cleanlab", "cleanlab"))


def classes_by_cleanlab(
    probabilities: Num[np.ndarray, "n classes"], labels: Int64[np.ndarray, " n"], *, seed: int = 0, level: float = 0.95
) -> WrongLabels:
    """One class per row: `score` is 1 minus cleanlab's label quality (self-confidence), `count` its
    `num_label_issues`; `low` and `high` are NaN.

    Suggestions and accuracy are those of `wrong_labels`; `seed` and `level` have no effect. Raises ImportError without
    cleanlab, and ValueError as `wrong_labels`.

    >>> found = classes_by_cleanlab(np.repeat([[0.9, 0.1], [0.2, 0.8]], 50, axis=0), np.repeat([0, 1], [51, 49]))
    >>> int(found.order[0]), round(found.count)
    (50, 1)
    """
    check_installed()
    from cleanlab.count import num_label_issues
    from cleanlab.rank import get_label_quality_scores

    own = wrong_labels(probabilities, labels, seed=seed, level=level)
    sure = probabilities.astype(np.float64)
    sure /= sure.sum(axis=1, keepdims=True)
    return counted(own, get_label_quality_scores(labels, sure), int(num_label_issues(labels, sure)), "labels")


def label_sets_by_cleanlab(
    probabilities: Num[np.ndarray, "n labels"],
    targets: Bool[np.ndarray, "n labels"],
    *,
    seed: int = 0,
    level: float = 0.95,
) -> WrongLabels:
    """Several labels per row: `score` is 1 minus cleanlab's quality of the row, `entries` 1 minus that of each label,
    and `count` the number of wrong entries by its `find_multilabel_issues_per_class`; `low` and `high` are NaN.

    Otherwise as `classes_by_cleanlab`.
    """
    check_installed()
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores, get_label_quality_scores_per_class

    own = wrong_label_sets(probabilities, targets, seed=seed, level=level)
    lists = [np.flatnonzero(row).tolist() for row in targets]
    sure = probabilities.astype(np.float64)
    count = int(np.sum(find_multilabel_issues_per_class(lists, sure, n_jobs=1)))
    entries = 1 - np.asarray(get_label_quality_scores_per_class(lists, sure), np.float32)
    return replace(counted(own, get_label_quality_scores(lists, sure), count, "entries"), entries=entries)


def counted(own: WrongLabels, quality: Num[np.ndarray, " n"], count: int, word: str) -> WrongLabels:
    """Our result with cleanlab's order and count; without a count of ours there is none of cleanlab's either."""
    score = np.asarray(1 - quality, np.float32)
    known = np.isfinite(own.count)
    return replace(
        own,
        score=score,
        order=np.argsort(-score, kind="stable").astype(np.int64),
        count=float(count) if known else own.count,
        low=float("nan"),
        high=float("nan"),
        reason=f"cleanlab counts as many {word}, and gives no interval; the model predicts {own.accuracy:.1%} of them"
        if known
        else own.reason,
    )
