"""Size of the entries of a fine-tuning delta.

>>> delta_magnitude(np.float32([[1, -2]]))
array([[1., 2.]], dtype=float32)
"""

import numpy as np
from jaxtyping import Float32

from secateur.scorers.contract import scorer


@scorer(
    unit="delta",
    high_means="more important",
    view="fine-tuned less pre-trained weights",
    paper="Han et al. 2015, arXiv 1506.02626, of a delta",
)
def delta_magnitude(delta: Float32[np.ndarray, " *shape"]) -> Float32[np.ndarray, " *shape"]:
    """|Δ| of each entry."""
    return np.asarray(np.abs(delta))
