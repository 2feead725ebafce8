"""Metrics of outputs for class targets, by scikit-learn, and those of a model without inputs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from secateur.trainers.tasks.contract import Metric

Labels = Int64[np.ndarray, " n"]
PERCENT = ("accuracy", "balanced_accuracy", "worst_class_accuracy", "macro_f1")
OF_TWO = ("auroc", "average_precision")
"""Metrics for exactly two classes."""


def metrics_of(classes: int) -> tuple[Metric, ...]:
    """Every metric for so many classes, accuracy first."""
    return (
        *(Metric(name, percent=True) for name in (*PERCENT, *(OF_TWO if classes == 2 else ()))),
        Metric("calibration_error", higher_is_better=False, percent=True),
        Metric("loss", higher_is_better=False, unit="nats"),
    )


def rarest(counts: Sequence[int]) -> int | None:
    """The class with the fewest samples, if these are less than half of an even share; else None.

    An even share divides the samples equally among the classes that have any.
    """
    occurring = [count for count in counts if count]
    if len(occurring) < 2 or 2 * len(occurring) * min(occurring) >= sum(occurring):
        return None
    return list(counts).index(min(occurring))


def decides(counts: Sequence[int]) -> str:
    """The deciding metric for these numbers of training samples per class: accuracy unless a class is rare.

    Then it is average precision of the rarer of two classes, or balanced accuracy for more.
    """
    if rarest(counts) is None:
        return "accuracy"
    return "average_precision" if len(counts) == 2 else "balanced_accuracy"


def positive(counts: Sequence[int]) -> int:
    """The positive one of two classes for average precision: the rarer one in training, the second in a tie."""
    return 0 if counts and counts[0] < counts[1] else 1


def measured(
    logits: Float[np.ndarray, "n classes"], guess: Labels, targets: Labels, positive_class: int
) -> dict[str, float]:
    """Metrics of guesses, and for two classes of logits, as far as the targets define them.

    Balanced accuracy and the worst class cover the classes that occur, macro F1 those that occur or are guessed. The
    metrics of two classes rank samples by the difference of logits, which has fewer ties than a probability.
    """
    from sklearn import metrics

    scores = metrics.precision_recall_fscore_support(targets, guess, average=None, zero_division=0)
    recalls = scores[1][scores[3] > 0]
    found = {
        "accuracy": float(metrics.accuracy_score(targets, guess)),
        "balanced_accuracy": float(recalls.mean()),
        "worst_class_accuracy": float(recalls.min()),
        "macro_f1": float(scores[2].mean()),
    }
    ranked = of_two(targets, logits.shape[1], positive_class)
    if ranked:
        wanted = targets == positive_class
        margins = np.float64(logits[:, positive_class]) - np.float64(logits[:, 1 - positive_class])
        measures = {"auroc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
        found |= {name: float(measures[name](wanted, margins)) for name in ranked}
    return found


def of_two(targets: Labels, classes: int, positive_class: int) -> tuple[str, ...]:
    """The metrics of `OF_TWO` that these targets define: none for more classes."""
    if classes != 2:
        return ()
    counts = np.bincount(targets, minlength=2)
    there = {"auroc": counts.all(), "average_precision": counts[positive_class]}
    return tuple(name for name in OF_TWO if there[name])


def floors(targets: Labels, counts: Sequence[int]) -> dict[str, float]:
    """Metrics of a model that always predicts the commonest training class, with equal probabilities for each row.

    They exclude loss and calibration, which depend on the probabilities themselves.
    """
    here = np.bincount(targets, minlength=len(counts))
    common, occurring, share = int(np.argmax(counts)), np.flatnonzero(here), here / max(1, here.sum())
    first = int(here[common] > 0)
    found = {
        "accuracy": float(share[common]),
        "balanced_accuracy": first / max(1, len(occurring)),
        "worst_class_accuracy": float(first and len(occurring) == 1),
        # The F1 of the predicted class, 2 * share / (share + 1), over the classes that occur or are predicted.
        "macro_f1": float(2 * share[common] / (1 + share[common])) / max(1, len({common, *occurring.tolist()})),
    }
    of_ranks = {"auroc": 0.5, "average_precision": float(share[positive(counts)]) if len(counts) == 2 else 0.0}
    return found | {name: of_ranks[name] for name in of_two(targets, len(counts), positive(counts))}


def recalls(right: Bool[np.ndarray, " n"], targets: Labels, classes: int) -> list[float | None]:
    """Share of correct rows of each class, None for a class without rows."""
    totals, hits = np.bincount(targets, minlength=classes), np.bincount(targets[right], minlength=classes)
    return [hit / total if total else None for hit, total in zip(hits.tolist(), totals.tolist(), strict=True)]


def calibration_error(confidence: Float64[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> float:
    """ECE over 15 bins of equal width (Guo et al. 2017, "On calibration of modern neural networks", section 3).

    scikit-learn lacks it; torchmetrics has it in float32, and would be a dependency for these lines alone.
    """
    index = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.bincount(index, weights=correct - confidence, minlength=15)
    return float(np.abs(gaps).sum() / len(correct))
