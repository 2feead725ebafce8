"""Distance to the k-th nearest neighbour: how sparse the data are around a sample.

Loftsgaarden & Quesenberry, "A nonparametric estimate of a multivariate density function", Ann. Math. Statist. 1965.
"""

from typing import Annotated

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from secateur.scorers.contract import Scores, scorer
from secateur.scorers.geometry.vectors import VIEW


@scorer(high_means="sparser", view=VIEW, paper="https://doi.org/10.1214/aoms/1177700079")
def density(neighbour_distances: Float32[np.ndarray, "n k"], *, k: Annotated[int | None, Field(ge=1)] = None) -> Scores:
    """Distance to the `k`-th nearest other sample, or to the last of the graph where `k` is left out.

    `neighbour_distances` ascend along each row. Raises ValueError where the graph holds fewer than `k`.

    >>> density(np.float32([[0.1, 0.2], [0.1, 3.0]]), k=2)
    array([0.2, 3. ], dtype=float32)
    """
    width = neighbour_distances.shape[1]
    if k is not None and not 1 <= k <= width:
        raise ValueError(f"density is asked for neighbour {k}, but the graph holds neighbours 1 … {width}")
    return neighbour_distances[:, (width if k is None else k) - 1].copy()
