"""Share of a sample's nearest neighbours that carry its label: low where strata are wrong or classes meet.

The neighbours are those of embeddings that did not learn the labels: a network that knows a wrong label by heart moves
its sample among the samples of that label.

Edited nearest neighbours: Wilson, "Asymptotic properties of nearest neighbor rules using edited data", IEEE SMC 1972.
"""

from typing import Annotated

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from secateur.scorers.contract import Scores, scorer


@scorer(
    high_means="easier",
    view="embeddings that did not learn the labels",
    paper="https://doi.org/10.1109/TSMC.1972.4309137",
    version="2",
)
def neighbour_agreement(
    label_free_neighbours: Int64[np.ndarray, "n k"],
    strata: Int64[np.ndarray, " n"],
    *,
    k: Annotated[int | None, Field(ge=1)] = None,
) -> Scores:
    """Share, in 0 … 1, of the `k` nearest others (all of the graph where `k` is left out) with the sample's label.

    Raises ValueError where the graph holds fewer than `k`.

    >>> neighbour_agreement(np.int64([[1, 2], [0, 2], [1, 0]]), np.int64([7, 7, 9]))
    array([0.5, 0.5, 0. ], dtype=float32)
    """
    width = label_free_neighbours.shape[1]
    if k is not None and not 1 <= k <= width:
        raise ValueError(f"neighbour_agreement is asked for {k} neighbours, but the graph holds 1 … {width}")
    same = strata[label_free_neighbours[:, :k]] == strata[:, None]
    return np.asarray(same.mean(axis=1), np.float32)
