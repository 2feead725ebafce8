"""Distance to the prototype of the sample's class: low for typical samples.

Median: Xia et al., "Moderate Coreset", ICLR 2023, section 3.2 (whose code takes the median of each dimension).
Mean: Sorscher et al., "Beyond neural scaling laws", NeurIPS 2022, with classes in the place of clusters.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped

from secateur.scorers.contract import Scores, scorer
from secateur.scorers.geometry.vectors import VIEW, Metric, Vectors


@scorer(high_means="harder", view=VIEW, paper="https://openreview.net/forum?id=7D5EECbOaf9")
def prototype_distance(
    embeddings: Shaped[np.ndarray, "n d"],
    strata: Int64[np.ndarray, " n"],
    *,
    prototype: Literal["median", "mean"] = "median",
    metric: Metric = "euclidean",
) -> Scores:
    """Distance (Euclidean, or 1 - cosine) of each sample to the median or mean of its class in every dimension.

    For cosine the prototype is that of the normalised rows. One class is in memory at a time. Raises
    ValueError for NaN, infinite or (cosine) zero rows, and for a class whose prototype is zero under cosine.

    >>> prototype_distance(np.float32([[0], [1], [5], [9]]), np.int64([0, 0, 0, 1]))
    array([1., 0., 4., 0.], dtype=float32)
    """
    if len(embeddings) != len(strata):
        raise ValueError(f"{len(embeddings)} embeddings but {len(strata)} strata")
    vectors = Vectors(embeddings, metric)
    result = np.empty(len(strata), np.float32)
    for label in np.unique(strata):
        rows = np.flatnonzero(strata == label)
        block = np.asarray(embeddings[rows]).astype(np.float64)
        if metric == "cosine":
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        centre = np.median(block, axis=0) if prototype == "median" else block.mean(axis=0)
        if metric == "cosine":
            if not (length := np.linalg.norm(centre)) > 0:
                raise ValueError(f"the {prototype} of class {label} is zero, so no cosine to it exists; use euclidean")
            centre /= length
        squares = ((block - centre) ** 2).sum(axis=1)
        result[rows] = squares / 2 if vectors.metric == "cosine" else np.sqrt(squares)
    return result
