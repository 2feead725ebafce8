"""As many units of each layer as the highest scores would keep, drawn at random."""

from secateur.selectors.contract import mask_selector
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.groups import Least, Masks, Scores, counts_in, shapes_of
from secateur.selectors.masks.layer_ratios import counts_of, densities_in
from secateur.selectors.masks.random_mask import random_masks


@mask_selector(draws=True, paper="Liu et al. 2022, arXiv 2202.02643, section 3")
def shuffled_mask(scores: Scores, keep: float, *, seed: int, least: Least = 0, connected: bool = True) -> Masks:
    """Draw as many units of each layer as `global_mask` keeps: the scores decide only about layers.

    `connected`: each layer keeps at least one unit, if the budget has one for each: one without any cuts the network.

    >>> scores = {"first": np.float32([5, 1, 2, 3]), "second": np.float32([9, 8, 7, 6])}
    >>> {name: int(mask.sum()) for name, mask in shuffled_mask(scores, 0.5, seed=0).items()}
    {'first': 1, 'second': 3}
    """
    shapes, chosen = shapes_of(scores), global_mask(scores, keep, seed=seed, least=least)
    counts = counts_of(shapes, densities_in(chosen), keep) if connected else counts_in(chosen)
    return random_masks(shapes, counts, seed=seed)
