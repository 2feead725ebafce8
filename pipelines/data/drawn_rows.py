"""Some of many rows, drawn so that their strata keep their shares."""

import numpy as np
from jaxtyping import Shaped

from secateur.selectors.draws.ranks import random_keys


def stratified_rows(labels: np.ndarray, count: int, seed: int, leave: int = 0) -> np.ndarray:
    """Rows of a draw that keeps the classes' shares, int64 `[count]` ascending.

    Largest remainders get the places that whole shares leave; at least `leave` rows of each class are not drawn
    (which may make the draw smaller). Which rows: the smallest `random_keys` of `(seed, row)`.
    """
    _, members, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    ceiling = np.maximum(sizes - leave, 0)
    quotas = np.minimum(sizes * count // len(labels), ceiling)
    for place in np.argsort(-(sizes * count % len(labels)), kind="stable").tolist():
        if quotas.sum() < count and quotas[place] < ceiling[place]:
            quotas[place] += 1
    order = np.lexsort((random_keys(len(labels), seed), members))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < quotas[members[order]]])


def drawn_rows(targets: Shaped[np.ndarray, "n ..."], count: int, seed: int, leave: int = 0) -> np.ndarray:
    """Rows of a draw that keeps the strata of the targets, int64 `[count]` ascending; see `stratified_rows`.

    Strata are classes, bins of numbers, or, of sets of labels, those that iterative stratification makes of them.
    """
    if targets.dtype == np.bool_:
        from secateur.selectors.draws.iterative_stratification import draw_by_labels

        return np.flatnonzero(draw_by_labels(targets, count, seed=seed))
    if targets.dtype == np.float64:
        from secateur.trainers.tasks.regression import Regression

        return stratified_rows(Regression().fitted(targets).strata(targets), count, seed)
    return stratified_rows(targets, count, seed, leave)
