"""Entries of a fine-tuning delta with the highest scores."""

import numpy as np

from secateur.selectors.contract import mask_selector
from secateur.selectors.draws.ranks import keep_largest
from secateur.selectors.masks.delta_masks import tensor_budgets, tensor_seed
from secateur.selectors.masks.groups import Masks, Scores, shapes_of, sizes_of


@mask_selector("delta", paper="Sun et al. 2024, Wanda, arXiv 2306.11695")
def highest_entries(scores: Scores, keep: float, *, seed: int) -> Masks:
    """Keep the highest scores of every tensor, the same share of each; ties are drawn.

    >>> scores = {"first": np.float32([5, 1, 2, 3]), "second": np.float32([9, 8, 7, 6])}
    >>> highest_entries(scores, 0.5, seed=0)["second"]
    array([ True,  True, False, False])
    """
    budgets, masks = tensor_budgets(sizes_of(shapes_of(scores)), keep), {}
    for name, values in scores.items():
        chosen = np.zeros(values.size, dtype=np.bool_)
        if budgets[name]:
            chosen = keep_largest(values.reshape(-1), budgets[name], seed=tensor_seed(seed, name))
        masks[name] = chosen.reshape(values.shape)
    return masks
