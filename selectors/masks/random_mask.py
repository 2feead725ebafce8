"""Masks drawn at random: exact numbers of units of each layer."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from secateur.selectors.contract import mask_selector
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import first_by_key
from secateur.selectors.masks.groups import Masks, Shapes, sizes_of
from secateur.selectors.masks.layer_ratios import RULES, counts_of


@mask_selector(draws=True, paper="Liu et al. 2022, arXiv 2202.02643, section 3")
def random_mask(
    shapes: Shapes,
    keep: float,
    *,
    rule: Literal["uniform", "uniform_plus", "er", "erk", "erk_plus"] = "uniform",
    seed: int,
) -> Masks:
    """Draw units of each layer at random, exactly the budget in all; `rule` decides the share of each layer.

    `uniform`: the same for all; `er` and `erk`: Erdős-Rényi's by the layer's dimensions; `uniform_plus` and `erk_plus`
    exempt the first or the last layer.

    >>> masks = random_mask({"first": (4, 5), "second": (2, 10)}, 0.5, seed=0)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'first': 10, 'second': 10}
    """
    return random_masks(shapes, counts_of(shapes, RULES[rule](shapes, keep), keep), seed=seed)


def random_masks(shapes: Shapes, counts: Mapping[str, int], *, seed: int) -> Masks:
    """Exactly `counts` units of each layer, every set of them equally likely; layers are drawn independently.

    A larger count under one seed keeps everything that a smaller one keeps. Raises ValueError for a count beyond its
    layer.
    """
    sizes, masks = sizes_of(shapes), {}
    for place, (name, shape) in enumerate(shapes.items()):
        count = counts[name]
        if not 0 <= count <= sizes[name]:
            raise ValueError(f"layer {name!r}: {count} of {sizes[name]} units cannot stay")
        mask = np.zeros(sizes[name], dtype=np.bool_)
        mask[first_by_key(np.arange(sizes[name]), count, derive_seed(seed, place))] = True
        masks[name] = mask.reshape(shape)
    return masks
