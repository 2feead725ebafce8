"""Pointwise V-information: how much easier the input makes the label, in bits."""

import numpy as np
from jaxtyping import Float64, Int64

from secateur.scorers.contract import Scores, rows_text, scorer


@scorer(
    high_means="easier",
    reads=("probabilities",),
    view="evaluation mode, not augmented, last checkpoint",
    paper="Ethayarajh et al. 2022, Understanding Dataset Difficulty with V-Usable Information, section 2.2",
)
def pvi(
    checkpoint_loss: Scores,
    null_log_probabilities: Float64[np.ndarray, " classes"],
    labels: Int64[np.ndarray, " n"],
) -> Scores:
    """log2 probability of the label under the model minus the same under the null model, which sees no input.

    `checkpoint_loss` is minus the model's log probability of the label in nats. A null model reads the same empty input
    for every sample, so its output is one distribution over classes: `null_log_probabilities`, natural logarithms of
    numbers that add up to 1. It comes from a model trained on empty inputs, or from `null_model_of`.
    Negative values are samples whose input points away from their label. Raises ValueError where the null model's
    numbers are no distribution, or give a class of the data no probability at all.
    """
    mass = float(np.exp(null_log_probabilities).sum())
    if not abs(mass - 1) <= 1e-3:
        raise ValueError(f"'null_log_probabilities' must be natural logarithms of a distribution, it adds up to {mass}")
    if len(labels) and labels.max() >= len(null_log_probabilities):
        outside = np.flatnonzero(labels >= len(null_log_probabilities))
        raise ValueError(
            f"'null_log_probabilities' knows {len(null_log_probabilities)} classes, labels go beyond at "
            f"{rows_text(outside)}; estimate it from all classes of the task"
        )
    without_input = null_log_probabilities[labels]
    impossible = np.flatnonzero(np.isneginf(without_input))
    if len(impossible):
        raise ValueError(
            f"the null model gives the label no probability at {rows_text(impossible)}; it must know every class"
        )
    with_input = -checkpoint_loss.astype(np.float64)
    return np.asarray((with_input - without_input) / np.log(2), np.float32)


def null_model_of(labels: Int64[np.ndarray, " n"], classes: int) -> Float64[np.ndarray, " classes"]:
    """Log probabilities of the null model in the limit of training: the logarithms of the class frequencies.

    Of all constant predictions, the frequencies of the training labels have the smallest cross-entropy, so this is
    the limit of a network with empty inputs, for any architecture.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.log(counts / counts.sum(), where=counts > 0, out=np.full(classes, -np.inf)))
