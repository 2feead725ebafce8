"""Masks over the weights of a network: exact numbers of them, drawn at random or with the highest scores."""

from collections.abc import Mapping

import numpy as np

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import first_by_key, keep_largest
from secateur.selectors.masks.layer_ratios import Shapes, sizes_of

Masks = dict[str, np.ndarray]
"""Bool array of each layer's shape by name; True stays."""


def random_masks(shapes: Shapes, counts: Mapping[str, int], *, seed: int) -> Masks:
    """Exactly `counts` weights of each layer, every set of them equally likely; layers are drawn independently.

    A larger count under one seed keeps everything that a smaller one keeps. Raises ValueError for a count beyond its
    layer.
    """
    sizes, masks = sizes_of(shapes), {}
    for place, (name, shape) in enumerate(shapes.items()):
        count = counts[name]
        if not 0 <= count <= sizes[name]:
            raise ValueError(f"layer {name!r}: {count} of {sizes[name]} weights cannot stay")
        mask = np.zeros(sizes[name], dtype=np.bool_)
        mask[first_by_key(np.arange(sizes[name]), count, derive_seed(seed, place))] = True
        masks[name] = mask.reshape(shape)
    return masks


def counts_in(masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many units of each layer stay."""
    return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}


def as_many_at_random(masks: Mapping[str, np.ndarray], *, seed: int) -> Masks:
    """`random_masks` that keep as many units of each layer as these do."""
    return random_masks({name: mask.shape for name, mask in masks.items()}, counts_in(masks), seed=seed)


def global_masks(scores: Mapping[str, np.ndarray], keep: int | float, *, seed: int, least: int = 0) -> Masks:
    """The highest scores over all layers together, exactly the budget; ties are drawn.

    `scores` hold a number per unit, of one kind: weights or channels. A layer may keep nothing, unless it is to keep
    `least` of its highest; raises ValueError where a layer has fewer, or the budget is less than that in all.
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


def layer_masks(scores: Mapping[str, np.ndarray], counts: Mapping[str, int], *, seed: int) -> Masks:
    """The highest scores of each layer, exactly `counts` of them; ties are drawn."""
    refuse_nan(scores)
    masks = {}
    for name, values in scores.items():
        count, flat = counts[name], values.reshape(-1)
        if not 0 <= count <= flat.size:
            raise ValueError(f"layer {name!r}: {count} of {flat.size} weights cannot stay")
        chosen = keep_largest(flat, count, seed=seed) if count else np.zeros(flat.size, dtype=np.bool_)
        masks[name] = chosen.reshape(values.shape)
    return masks


def refuse_nan(scores: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError that names the layer where a score is NaN; infinities are ordered like other numbers."""
    for name, values in scores.items():
        bad = int(np.count_nonzero(np.isnan(values)))
        if bad:
            raise ValueError(f"layer {name!r}: {bad} of {values.size} scores are NaN")
