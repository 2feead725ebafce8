"""Mean contributions of the entries of a fine-tuning delta to the outputs of their layer, which decide the rescaling of
kept entries (Deng et al., "DARE the extreme", ICLR 2025, arXiv 2410.09344).
"""

import numpy as np
from jaxtyping import Float32, Float64, Num

Delta = Float32[np.ndarray, "rows columns"]
"""Fine-tuned minus pre-trained weights of a layer: a row per output, a column per input."""


def output_change(
    delta: Delta, means: Num[np.ndarray, " columns"]
) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Σⱼ c and Σⱼ c² of each output, where c = Δ · E[x] is the mean contribution of an entry to the output.

    The first is the whole change of the output; dropping entries at random puts the second, scaled, into its variance.

    >>> output_change(np.float32([[1, -2]]), np.float64([3, 1]))
    (array([1.]), array([13.]))
    """
    contributions = delta.astype(np.float64) * means
    return contributions.sum(axis=1), np.square(contributions).sum(axis=1)
