"""The highest scores of each layer, the same share of every one."""

from collections.abc import Mapping

import numpy as np

from secateur.selectors.contract import mask_selector
from secateur.selectors.draws.ranks import keep_largest
from secateur.selectors.masks.groups import Masks, Scores, refuse_nan, shapes_of
from secateur.selectors.masks.layer_ratios import counts_of, uniform


@mask_selector(paper="Li et al. 2017, arXiv 1608.08710, for channels")
def layer_mask(scores: Scores, keep: float, *, seed: int) -> Masks:
    """Keep the highest scores of each layer, the same share of every one, exactly the budget in all; ties are drawn.

    >>> scores = {"first": np.float32([5, 1, 2, 3]), "second": np.float32([9, 8, 7, 6])}
    >>> layer_mask(scores, 0.5, seed=0)["first"]
    array([ True, False, False,  True])
    """
    shapes = shapes_of(scores)
    return layer_masks(scores, counts_of(shapes, uniform(shapes, keep), keep), seed=seed)


def layer_masks(scores: Scores, counts: Mapping[str, int], *, seed: int) -> Masks:
    """The highest scores of each layer, exactly `counts` of them; ties are drawn."""
    refuse_nan(scores)
    masks = {}
    for name, values in scores.items():
        count, flat = counts[name], values.reshape(-1)
        if not 0 <= count <= flat.size:
            raise ValueError(f"layer {name!r}: {count} of {flat.size} units cannot stay")
        chosen = keep_largest(flat, count, seed=seed) if count else np.zeros(flat.size, dtype=np.bool_)
        masks[name] = chosen.reshape(values.shape)
    return masks
