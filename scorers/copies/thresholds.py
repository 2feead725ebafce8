"""The similarity from which rows are copies, by the rate at which rows that cannot be copies reach it.

Rows that cannot be copies join halves of two different rows: they have the vocabulary, the phrases and the
lengths of the data, and at most half of any row. The threshold is the lowest that at most one in a hundred of them
reaches and at which, by that rate, at most one found row in four is wrong; if there is a gap between it and the copies
of the sample, it is the middle of the gap. Where most texts of about one length follow templates, halves of a text and
of a similar one still resemble a third. There these are the rows that cannot be copies, and every higher threshold
must keep the rate too. Each length has its own threshold: two slot words are a quarter of a text of eight words, and
negligible in one of two hundred.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

RATE, WRONG = 0.01, 0.25
"""Largest share of rows that cannot be copies to reach a threshold, and of found rows to be wrong by this rate."""

JUST = 1e-6
"""More than the rounding error of similarities in float32."""

ENOUGH = 5
"""Sampled rows above a threshold from which on the gap below them counts."""

ABOVE = 2.0
"""A threshold above any similarity: only equal rows are copies."""


@dataclass(frozen=True)
class Collisions:
    """Rows that cannot be copies, made of rows of the data, their parents. `reached`, float32 `[k]`, is the similarity
    of each to the row most like it, without the parents; `parents`, float32 `[k]`, that of the parents to each other. A
    row made of copies is a copy: at a threshold that `parents` reaches, it does not count."""

    reached: Float32[np.ndarray, " k"]
    parents: Float32[np.ndarray, " k"]


@dataclass(frozen=True)
class Threshold:
    """Similarity from which rows are copies, and the reason."""

    value: float
    reason: str


def threshold(
    top: Float32[np.ndarray, " s"],
    apart: Collisions,
    *,
    made: str = "rows made of halves of two",
    rate: float = RATE,
    wrong: float = WRONG,
) -> Threshold:
    """The threshold for data whose sampled rows have `top`, float32 `[s]`, as similarity to the row most like each.

    `apart` are rows that cannot be copies, `made` names them in the reason. The value is above 1, so that only equal
    rows are copies, where no threshold up to 1 keeps the rate.
    """
    levels = levels_of(top, apart)
    rates, counted = collision_rates(levels, apart)
    holds = rates <= np.minimum(rate, wrong * share_from(levels, top))
    holds &= counted >= len(apart.reached) / 4
    value = into_gap(float(levels[holds.argmax()]), top) if holds.any() else ABOVE
    return Threshold(value, in_words(value, top, apart, made))


def within_templates(
    top: Float32[np.ndarray, " s"], apart: Collisions, alike: Collisions, *, rate: float = RATE
) -> Threshold | None:
    """The threshold for rows of about one length where most of them follow templates; None where they do not.

    `top` and `apart` are as for `threshold`, but of these rows alone; `alike` join halves of a row and of one among
    those most similar to it. Most rows follow templates if more than half of `alike` reach, with a third row, the
    threshold by `apart`.
    """
    reaching = int((alike.reached >= threshold(top, apart).value).sum())
    if reaching * 2 <= len(alike.reached):
        return None
    levels = levels_of(top, alike)
    rates, counted = collision_rates(levels, alike)
    fails = np.flatnonzero((rates > rate) & (counted > 0))
    above = levels[fails[-1] + 1 :] if len(fails) else levels
    value = into_gap(float(above[0]), top) if len(above) else ABOVE
    return Threshold(value, in_words(value, top, alike, "rows made of halves of two of one template"))


def levels_of(top: Float32[np.ndarray, " s"], collisions: Collisions) -> Float64[np.ndarray, " l"]:
    """Thresholds at which a rate changes: similarities that occur, and numbers just above a collision."""
    reached = collisions.reached.astype(np.float64)
    levels = np.unique(np.concatenate([top.astype(np.float64), reached, reached + JUST]))
    return levels[(levels > 0) & (levels <= 1)]


def into_gap(value: float, top: Float32[np.ndarray, " s"]) -> float:
    """The middle between a threshold and the least similar row above it, if `ENOUGH` rows are above; else the value."""
    above = top[top >= value]
    return (value + float(above.min())) / 2 if len(above) >= ENOUGH else value


def in_words(value: float, top: Float32[np.ndarray, " s"], collisions: Collisions, made: str) -> str:
    """The threshold in words."""
    level = np.array([value])
    start = f"similarity of {value:.3f} or more" if value <= 1 else "equal rows alone"
    return (
        f"{start}: of {len(collisions.reached):,} {made}, which cannot be copies, "
        f"{collision_rates(level, collisions)[0][0]:.2%} are that similar to a row, "
        f"of {len(top):,} rows {share_from(level, top)[0]:.2%}"
    )


def collision_rates(
    levels: Float64[np.ndarray, " l"], collisions: Collisions
) -> tuple[Float64[np.ndarray, " l"], Int64[np.ndarray, " l"]]:
    """Share of made rows that reach each level, among those whose parents do not, and the number of the latter."""
    counted = np.searchsorted(np.sort(collisions.parents), levels, side="left")
    # Counted and reaching: parents < level <= reached.
    spans = collisions.reached > collisions.parents
    starts, ends = np.sort(collisions.parents[spans]), np.sort(collisions.reached[spans])
    reaching = np.searchsorted(starts, levels, side="left") - np.searchsorted(ends, levels, side="left")
    return reaching / np.maximum(counted, 1), counted.astype(np.int64)


def share_from(levels: Float64[np.ndarray, " l"], values: Float32[np.ndarray, " s"]) -> Float64[np.ndarray, " l"]:
    """Share of values that are each level or more."""
    below = np.searchsorted(np.sort(values.astype(np.float64)), levels, side="left")
    return 1 - below / max(len(values), 1)
