"""Size of the entries of a fine-tuning delta, times the size of their inputs.

>>> delta_wanda(np.float32([[1, -2]]), np.float64([3, 1]))
array([[3., 2.]], dtype=float32)
"""

import numpy as np
from jaxtyping import Float32, Num

from secateur.scorers.contract import scorer
from secateur.scorers.networks.output_change import Delta


@scorer(
    unit="delta",
    high_means="more important",
    view="fine-tuned less pre-trained weights, inputs of the pre-trained network's layers",
    paper="Sun et al. 2024, Wanda, arXiv 2306.11695, section 3",
)
def delta_wanda(delta: Delta, norms: Num[np.ndarray, " columns"]) -> Float32[np.ndarray, "rows columns"]:
    """|Δ| · ‖x‖₂, with the norm of each input over the samples."""
    return np.asarray(np.abs(delta) * norms.astype(np.float32))
