"""From which similarity rows are copies: the rate at which rows that cannot be copies reach it.

Rows that cannot be copies are made here of halves of two rows apart: they have the vocabulary, the phrases and the
lengths of the data, and at most half of any row. The threshold is the lowest that at most one in a hundred of them
reaches and at which, by that rate, at most one row in four that are found is wrong. Where more than half of the rows
follow templates, halves of a row and of the row most like it still look like a third row: then those are the rows that
cannot be copies, and every higher threshold must keep the rate too.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

RATE, WRONG = 0.01, 0.25
"""Share of rows that cannot be copies that may reach a threshold, and share of rows found that may be wrong by it."""


@dataclass(frozen=True)
class Collisions:
    """Rows made of two: `reached`, float32 `[k]`, their similarity to the row most like them that is none of the two,
    and `parents`, float32 `[k]`, the similarity of the two. Two that are copies make a copy: they do not count."""

    reached: Float32[np.ndarray, " k"]
    parents: Float32[np.ndarray, " k"]


@dataclass(frozen=True)
class Threshold:
    """Similarity from which rows are copies, and why."""

    value: float
    reason: str


def threshold(top: Float32[np.ndarray, " s"], mixed: Collisions, alike: Collisions) -> Threshold:
    """The threshold for data whose sampled rows have `top`, float32 `[s]`, as similarity to the row most like each.

    `mixed` are rows made of two drawn at random, `alike` of a row and the row most like it. Above 1, so that equal rows
    alone are copies, where no threshold up to 1 keeps the rate.
    """
    levels = np.unique(np.concatenate([top, mixed.reached, alike.reached]).astype(np.float64))
    levels = levels[levels > 0]
    rates, counted = collision_rates(levels, mixed)
    found = share_from(levels, top)
    holds = (rates <= np.minimum(RATE, WRONG * found)) & (counted >= len(mixed.reached) / 4)
    value = float(levels[holds.argmax()]) if holds.any() else 2.0
    if len(alike.reached) and (alike.reached >= value).mean() > 0.5:
        return by_template(levels, top, alike)
    rate = float(collision_rates(np.array([value]), mixed)[0][0])
    return Threshold(
        value,
        f"{said(value)}: {rate:.2%} of {len(mixed.reached):,} rows made of halves of two rows apart, which cannot be "
        f"copies, are that alike to a third; of {len(top):,} rows of the data "
        f"{share_from(np.array([value]), top)[0]:.2%}",
    )


def by_template(levels: Float64[np.ndarray, " l"], top: Float32[np.ndarray, " s"], alike: Collisions) -> Threshold:
    """The lowest threshold such that it and every higher one keep the rate among rows made of two that are alike."""
    rates, counted = collision_rates(levels, alike)
    fails = np.flatnonzero((rates > RATE) & (counted > 0))
    above = levels[fails[-1] + 1 :] if len(fails) else levels
    value = float(above[0]) if len(above) else 2.0
    rate = float(collision_rates(np.array([value]), alike)[0][0])
    return Threshold(
        value,
        f"{said(value)}: most rows follow a template; {rate:.2%} of {len(alike.reached):,} rows made of halves of two "
        "rows of the same template are that alike to a third; "
        f"of {len(top):,} rows of the data {share_from(np.array([value]), top)[0]:.2%}",
    )


def collision_rates(
    levels: Float64[np.ndarray, " l"], collisions: Collisions
) -> tuple[Float64[np.ndarray, " l"], Int64[np.ndarray, " l"]]:
    """Share of rows made of two that reach each level, of those whose parents do not, and how many those are."""
    both = np.minimum(collisions.reached, np.inf)
    counted = np.searchsorted(np.sort(collisions.parents), levels, side="left")
    # Counted and reaching: parents < level <= reached.
    spans = both > collisions.parents
    starts, ends = np.sort(collisions.parents[spans]), np.sort(both[spans])
    reaching = np.searchsorted(starts, levels, side="left") - np.searchsorted(ends, levels, side="left")
    return reaching / np.maximum(counted, 1), counted.astype(np.int64)


def share_from(levels: Float64[np.ndarray, " l"], values: Float32[np.ndarray, " s"]) -> Float64[np.ndarray, " l"]:
    """Share of values that are each level or more."""
    below = np.searchsorted(np.sort(values.astype(np.float64)), levels, side="left")
    return 1 - below / max(len(values), 1)


def said(value: float) -> str:
    """A threshold in words."""
    return f"similarity of {value:.3f} or more" if value <= 1 else "equal rows alone"
