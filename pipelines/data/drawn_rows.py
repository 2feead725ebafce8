"""Some of many rows, drawn so that their strata keep their shares."""

import numpy as np
from jaxtyping import Shaped

from secateur.selectors.draws.ranks import random_keys

BLOCK = 1 << 18
"""Rows in one block."""


def stratified_rows(labels: np.ndarray, count: int, seed: int, leave: int = 0) -> np.ndarray:
    """Rows of a draw that keeps the classes' shares, int64 `[count]` ascending.

    Largest remainders get the places that whole shares leave; at least `leave` rows of each class stay undrawn, which
    may make the draw smaller. The smallest `random_keys` of `(seed, row)` decide within a class. Memory holds the rows
    drawn so far, and a block.
    """
    low, block = int(labels.min()), max(BLOCK, count)
    starts = range(0, len(labels), block)
    codes = (labels[start : start + block] - low for start in starts)
    sizes = np.sum([np.bincount(part, minlength=int(labels.max()) - low + 1) for part in codes], axis=0)
    ceiling = np.maximum(sizes - leave, 0)
    quotas = np.minimum(sizes * count // len(labels), ceiling)
    for place in np.argsort(-(sizes * count % len(labels)), kind="stable").tolist():
        if quotas.sum() < count and quotas[place] < ceiling[place]:
            quotas[place] += 1
    rows = np.zeros(0, np.int64)
    for start in starts:
        rows = np.concatenate([rows, np.arange(start, min(start + block, len(labels)))])
        members = labels[rows] - low
        order, held = np.lexsort((random_keys(rows, seed), members)), np.bincount(members, minlength=len(quotas))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(held) - held, held)
        rows = rows[order[rank < quotas[members[order]]]]
    return np.sort(rows)


def drawn_rows(targets: Shaped[np.ndarray, "n ..."], count: int, seed: int, leave: int = 0) -> np.ndarray:
    """Rows of a draw that keeps the strata of the targets, int64 `[count]` ascending; see `stratified_rows`.

    Strata are classes, bins of numbers, or, for sets of labels, the strata of iterative stratification.
    """
    if targets.dtype == np.bool_:
        from secateur.selectors.draws.iterative_stratification import draw_by_labels

        return np.flatnonzero(draw_by_labels(targets, count, seed=seed))
    if targets.dtype == np.float64:
        from secateur.trainers.tasks.regression import Regression

        return stratified_rows(Regression().fitted(targets).strata(targets), count, seed)
    return stratified_rows(targets, count, seed, leave)
