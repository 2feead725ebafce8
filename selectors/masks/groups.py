"""Units of a network in groups: shapes, masks and counts by name of a layer or tensor."""

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

Least = Annotated[int, Field(ge=0)]
"""Least number of units that stay in each group."""
Scores = Mapping[str, np.ndarray]
"""A number per unit of one kind, by group."""
Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each layer's weight by name, from input to output: `(out, in)` or `(out, in, height, width)`."""
Masks = dict[str, np.ndarray]
"""Bool array of each group's shape by name; True stays."""


def shapes_of(groups: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Shape of each group."""
    return {name: values.shape for name, values in groups.items()}


def sizes_of(shapes: Shapes) -> dict[str, int]:
    """Units of each group."""
    return {name: math.prod(shape) for name, shape in shapes.items()}


def counts_in(masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Number of units of each group that stay."""
    return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}


def refuse_nan(scores: Scores) -> None:
    """Raise ValueError that names the layer where a score is NaN; infinities are ordered like other numbers."""
    for name, values in scores.items():
        bad = int(np.count_nonzero(np.isnan(values)))
        if bad:
            raise ValueError(f"layer {name!r}: {bad} of {values.size} scores are NaN")
