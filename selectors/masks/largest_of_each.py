"""The largest values of every group of equal size: of a layer, or of each run of M consecutive inputs (N:M)."""

import numpy as np
from jaxtyping import Bool, Num

from secateur.selectors.draws.ranks import random_keys


def largest_of_each(
    values: Num[np.ndarray, "groups size"], count: int, *, seed: int
) -> Bool[np.ndarray, "groups size"]:
    """Mask of the `count` largest of each row, exactly; ties are drawn. Infinities are ordered like other numbers.

    Raises ValueError for NaN, and for a count outside 0 … size.
    """
    if not 0 <= count <= values.shape[1]:
        raise ValueError(f"{count} of {values.shape[1]} units cannot stay in each group")
    if np.isnan(values).any():
        raise ValueError(f"{np.count_nonzero(np.isnan(values))} of {values.size} scores are NaN")
    keys = random_keys(values.size, seed).reshape(values.shape)
    order = np.lexsort((keys, -values), axis=1)
    mask = np.zeros(values.shape, dtype=np.bool_)
    np.put_along_axis(mask, order[:, :count], True, axis=1)
    return mask
