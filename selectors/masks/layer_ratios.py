"""Densities of layers when a network is pruned to an overall density, whatever its weights.

Rules of Liu et al. 2022, "The Unreasonable Effectiveness of Random Pruning" (arXiv 2202.02643): uniform; Erdős-Rényi
(ER, Mocanu et al. 2018, arXiv 1707.04780); Erdős-Rényi kernel (ERK, Evci et al. 2020, arXiv 1911.11134); and the forms
that exempt the first or the last layer. Densities become counts that add up to the budget exactly.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateur.selectors.contract import resolve_keep
from secateur.selectors.masks.groups import Shapes, sizes_of

Densities = dict[str, float]
"""Share of each layer that stays, in [0, 1]."""


def uniform(shapes: Shapes, density: float) -> Densities:
    """The same share of every layer."""
    return dict.fromkeys(shapes, checked(shapes, density))


def uniform_plus(shapes: Shapes, density: float) -> Densities:
    """The first layer and at least a fifth of the last stay; the others share the rest of the budget.

    Raises ValueError where the first layer and a fifth of the last exceed the whole budget. (The published code divides
    by the size of all layers instead of the others', and keeps less than the budget.)
    """
    checked(shapes, density)
    names, sizes = list(shapes), sizes_of(shapes)
    if len(names) < 3:
        raise ValueError(f"uniform+ is for three layers or more, there are {len(names)}")
    fixed = {names[0]: 1.0, names[-1]: max(0.2, density)}
    left = density * sum(sizes.values()) - sum(fixed[name] * sizes[name] for name in fixed)
    share = left / sum(size for name, size in sizes.items() if name not in fixed)
    if share < 0:
        raise ValueError(f"uniform+ keeps the first layer and a fifth of the last, more than {density} of all weights")
    return {name: fixed.get(name, min(1.0, share)) for name in names}


def er(shapes: Shapes, density: float) -> Densities:
    """Shares proportional to `(in + out) / (in * out)`, whatever the size of kernels; none above 1."""
    checked(shapes, density)
    return proportional(shapes, {name: raw_share(shape[:2]) for name, shape in shapes.items()}, density)


def erk(shapes: Shapes, density: float) -> Densities:
    """Shares proportional to the sum of all dimensions over their product; none above 1."""
    checked(shapes, density)
    return proportional(shapes, {name: raw_share(shape) for name, shape in shapes.items()}, density)


def erk_plus(shapes: Shapes, density: float) -> Densities:
    """The last layer stays whole; the others have ERK's shares of the rest of the budget.

    Raises ValueError where the last layer exceeds the whole budget.
    """
    checked(shapes, density)
    if len(shapes) < 2:
        raise ValueError("erk+ keeps the whole last layer, there is no other to prune")
    last, sizes = list(shapes)[-1], sizes_of(shapes)
    others = {name: shape for name, shape in shapes.items() if name != last}
    left = (density * sum(sizes.values()) - sizes[last]) / (sum(sizes.values()) - sizes[last])
    if left <= 0:
        raise ValueError(f"erk+ keeps the whole last layer, more than {density} of all weights")
    return {**erk(others, left), last: 1.0}


RULES: dict[str, Callable[[Shapes, float], Densities]] = {
    "uniform": uniform,
    "uniform_plus": uniform_plus,
    "er": er,
    "erk": erk,
    "erk_plus": erk_plus,
}


def raw_share(shape: Sequence[int]) -> float:
    """Sum of the dimensions over their product."""
    return sum(shape) / math.prod(shape)


def proportional(shapes: Shapes, raw: Mapping[str, float], density: float) -> Densities:
    """Shares in proportion to `raw` that add up to the density; layers that would be above 1 stay whole.

    It removes the layers with the largest raw share first, and finds the factor again, until none is above 1.
    """
    sizes, whole = sizes_of(shapes), set[str]()
    budget = density * sum(sizes.values())
    while True:
        rest = [name for name in shapes if name not in whole]
        if not rest:
            return dict.fromkeys(shapes, 1.0)
        factor = (budget - sum(sizes[name] for name in whole)) / sum(raw[name] * sizes[name] for name in rest)
        largest = max(raw[name] for name in rest)
        if factor * largest <= 1:
            return {name: 1.0 if name in whole else factor * raw[name] for name in shapes}
        whole |= {name for name in rest if raw[name] == largest}


def counts_of(shapes: Shapes, densities: Mapping[str, float], density: float) -> dict[str, int]:
    """Number of weights of each layer that stay: its share, rounded so that all layers together keep the exact budget.

    Largest remainders round up (Hamilton's method), within each layer's size. Each layer keeps at least one weight, if
    the budget has one for each: a layer without any cuts the network.
    """
    sizes = sizes_of(shapes)
    budget = resolve_keep(float(checked(shapes, density)), sum(sizes.values()))
    ideal = {name: densities[name] * sizes[name] for name in shapes}
    least = 1 if budget >= len(sizes) else 0
    counts = {name: min(sizes[name], max(least, math.floor(ideal[name]))) for name in shapes}
    while (missing := budget - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        free = [name for name in shapes if least <= counts[name] + step <= sizes[name]]
        order = sorted(free, key=lambda name: step * (counts[name] - ideal[name]))
        for name in order[: abs(missing)]:
            counts[name] += step
    return counts


def checked(shapes: Shapes, density: float) -> float:
    """The density; raises ValueError outside (0, 1], and where there is no layer or one without weights."""
    if not 0 < density <= 1:
        raise ValueError(f"density is the share of weights that stays, within (0, 1], not {density}")
    empty = [name for name, shape in shapes.items() if not math.prod(shape)]
    if not shapes or empty:
        raise ValueError(f"layer {empty[0]!r} has no weights" if empty else "there is no layer to prune")
    return density


def densities_in(masks: Mapping[str, np.ndarray]) -> Densities:
    """Share of each mask that stays: the ratios of another method, for a random draw."""
    return {name: float(np.count_nonzero(mask)) / mask.size for name, mask in masks.items()}
