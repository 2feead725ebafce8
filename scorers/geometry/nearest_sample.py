"""Distance to the nearest other sample: almost zero for near-duplicates.

Abbas et al., "SemDeDup", 2023, ranks by the same distance, as 1 - cosine; `semantic_deduplication` selects by it.
"""

import numpy as np
from jaxtyping import Float32

from secateur.scorers.contract import Scores, scorer
from secateur.scorers.geometry.vectors import VIEW


@scorer(high_means="sparser", view=VIEW, paper="https://arxiv.org/abs/2303.09540")
def nearest_sample(neighbour_distances: Float32[np.ndarray, "n k"]) -> Scores:
    """Distance to the nearest other sample, in the metric of the graph; 0 for an exact duplicate.

    >>> nearest_sample(np.float32([[0.0, 0.2], [0.1, 3.0]]))
    array([0. , 0.1], dtype=float32)
    """
    return neighbour_distances[:, 0].copy()
