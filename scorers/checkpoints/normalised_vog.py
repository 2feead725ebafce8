"""Variance of gradients, relative to that of the same class or of the whole data set."""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from secateur.scorers.contract import Scores, scorer


@scorer(
    high_means="harder",
    view="evaluation mode, not augmented, several checkpoints",
    paper="Agarwal et al. 2022, Estimating Example Difficulty using Variance of Gradients, section 2; "
    "Anand et al. 2023, Influence Scores at Scale, section 3, for the data-set form",
)
def normalised_vog(
    vog: Scores, strata: Int64[np.ndarray, " n"], *, within: Literal["class", "dataset"] = "class"
) -> Scores:
    """Deviations by which a sample's `vog` lies above the mean of its class, or of all samples.

    Mean and standard deviation (population) are those of the samples given, in float64. Where they do not
    vary, as in a class of one sample, the score is 0: no sample there is harder than the rest. Class-normalised scores
    won on balanced data in the second paper, data-set-normalised ones on imbalanced data. As with `vog`, high
    does not mean harder on every data set.
    """
    groups = strata if within == "class" else np.zeros_like(strata)
    wide = vog.astype(np.float64)
    _, group = np.unique(groups, return_inverse=True)
    deviation = wide - mean_of(wide, group)
    spread = np.sqrt(mean_of(deviation**2, group))
    # The mean of equal numbers may differ from them by a rounding error, which division would turn into a score of 1.
    varies = spread > 1e-12 * np.abs(wide)
    return np.asarray(np.divide(deviation, spread, where=varies, out=np.zeros_like(wide)), np.float32)


def mean_of(values: Float64[np.ndarray, " n"], group: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Each value's group mean, in the place of the value."""
    total, count = np.bincount(group, weights=values), np.bincount(group)
    return np.asarray((total / np.maximum(count, 1))[group])
