"""As many units of each layer as the highest scores would keep, drawn blindly."""

from secateur.selectors.contract import mask_selector
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.groups import Masks, Scores, shapes_of
from secateur.selectors.masks.layer_ratios import counts_of, densities_in
from secateur.selectors.masks.random_mask import random_masks


@mask_selector("weight", "channel", draws=True, paper="Liu et al. 2022, arXiv 2202.02643, section 3")
def shuffled_mask(scores: Scores, keep: float, *, seed: int, least: int = 0) -> Masks:
    """Draw as many units of each layer as `global_mask` keeps: the scores decide of layers and of nothing else.

    Where the budget has one for each, a layer keeps one unit at least: a layer that keeps none cuts the network.
    """
    shapes = shapes_of(scores)
    shares = densities_in(global_mask(scores, keep, seed=seed, least=least))
    return random_masks(shapes, counts_of(shapes, shares, keep), seed=seed)
