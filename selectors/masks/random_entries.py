"""Entries of a fine-tuning delta, drawn at random."""

from secateur.selectors.contract import mask_selector
from secateur.selectors.masks.delta_masks import draw_count, tensor_budgets, tensor_seed
from secateur.selectors.masks.groups import Masks, Shapes, sizes_of


@mask_selector("delta", draws=True, paper="Yu et al. 2024, DARE, arXiv 2311.03099, section 3.1")
def random_entries(shapes: Shapes, keep: float, *, seed: int) -> Masks:
    """Draw the same share of every tensor, of the exact size; a larger budget adds to the entries of a smaller one.

    >>> masks = random_entries({"first": (4, 5), "second": (2, 10)}, 0.1, seed=0)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'first': 2, 'second': 2}
    """
    budgets, sizes = tensor_budgets(sizes_of(shapes), keep), sizes_of(shapes)
    return {
        name: draw_count(sizes[name], budgets[name], tensor_seed(seed, name)).reshape(shape)
        for name, shape in shapes.items()
    }
