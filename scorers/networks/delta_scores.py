"""How much the entries of a fine-tuning delta matter, from the delta itself and the inputs of its layer.

Magnitude and Wanda's product with the norm of the input (Sun et al., ICLR 2024, arXiv 2306.11695, section 3) rank
entries; what an entry adds to its output on average decides how kept ones are rescaled (Deng et al., "DARE the
extreme", ICLR 2025, arXiv 2410.09344).
"""

import numpy as np
from jaxtyping import Float32, Float64, Num

Delta = Float32[np.ndarray, "rows columns"]
"""Fine-tuned less pre-trained weights of a layer: a row per output, a column per input."""


def delta_magnitude(delta: Float32[np.ndarray, " *shape"]) -> Float32[np.ndarray, " *shape"]:
    """|Δ|.

    >>> delta_magnitude(np.float32([[1, -2]]))
    array([[1., 2.]], dtype=float32)
    """
    return np.asarray(np.abs(delta))


def delta_wanda(delta: Delta, norms: Num[np.ndarray, " columns"]) -> Delta:
    """|Δ| · ‖x‖₂, with the norm of each input over the samples that were looked at.

    >>> delta_wanda(np.float32([[1, -2]]), np.float64([3, 1]))
    array([[3., 2.]], dtype=float32)
    """
    return np.asarray(np.abs(delta) * norms.astype(np.float32))


def output_change(
    delta: Delta, means: Num[np.ndarray, " columns"]
) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Σⱼ c and Σⱼ c² of each output, where c = Δ · E[x] is what an entry adds to the output on average.

    The first is the whole change of the output; dropping entries at random puts the second, scaled, into its variance.

    >>> output_change(np.float32([[1, -2]]), np.float64([3, 1]))
    (array([1.]), array([13.]))
    """
    contributions = delta.astype(np.float64) * means
    return contributions.sum(axis=1), np.square(contributions).sum(axis=1)
