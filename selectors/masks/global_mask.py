"""The highest scores over all layers together."""

import numpy as np

from secateur.selectors.contract import mask_selector, resolve_keep
from secateur.selectors.draws.ranks import keep_largest
from secateur.selectors.masks.groups import Least, Masks, Scores, refuse_nan
from secateur.selectors.masks.layer_mask import layer_masks


@mask_selector()
def global_mask(scores: Scores, keep: int | float, *, seed: int, least: Least = 0) -> Masks:
    """Keep the highest scores over all layers together, exactly the budget; ties are drawn.

    A layer may keep nothing, unless `least` of its highest must stay; raises ValueError where a layer has fewer, or the
    budget is below their sum over layers.

    >>> scores = {"first": np.float32([5, 1, 2, 3]), "second": np.float32([9, 8, 7, 6])}
    >>> global_mask(scores, 0.5, seed=0)["first"]
    array([False, False, False, False])
    """
    joined = np.concatenate([values.reshape(-1) for values in scores.values()])
    budget = resolve_keep(keep, len(joined))
    refuse_nan(scores)
    if least:
        if budget < least * len(scores):
            raise ValueError(
                f"{budget} of {len(joined)} units cannot leave {least} in each of {len(scores)} layers: raise keep"
            )
        safe = layer_masks(scores, dict.fromkeys(scores, least), seed=seed)
        flat = np.concatenate([mask.reshape(-1) for mask in safe.values()])
        # Ranks, for a score may itself be infinite.
        joined = np.where(flat, len(joined), np.unique(joined, return_inverse=True)[1])
    chosen = keep_largest(joined, budget, seed=seed)
    ends = np.cumsum([values.size for values in scores.values()])
    parts = np.split(chosen, ends[:-1])
    return {name: part.reshape(values.shape) for (name, values), part in zip(scores.items(), parts, strict=True)}
