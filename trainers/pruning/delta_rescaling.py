"""Rescaling of the kept entries of a delta: DARE's 1 / keep and DAREx's 1 / q (Deng et al., "DARE the extreme", ICLR
2025, arXiv 2410.09344).

Both divide kept entries by q. With q = keep the expected output is that of the fine-tuned model; a larger q gives up
some of it for less variance, which pays at a small share of a large delta. `q_by_search` finds one q by evaluating
models; `q_by_bound` (DAREx's rule), `q_by_least_bound` (its formula's minimum) and `q_by_moments` compute a q for each
layer from its mean inputs, without an evaluation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

Sums = Float64[np.ndarray, " outputs"]

PATIENCE = 3
"""Number of consecutive values of q without improvement, after which one more ends the search."""
CONFIDENCE = 0.95
"""Confidence of the bound."""
SLACK = math.log(2 / (1 - CONFIDENCE))
PASSED = 0.8
"""Share of a layer's outputs past their minimum that ends the scan."""
THOUSANDTH, LAST = 1e-3, 0.998
"""Step and last q of the scan."""
HIGHEST = 10_000.0
"""Largest bound that counts in the scan."""


@dataclass(frozen=True)
class FoundQ:
    """The chosen q, whether it is an end of the tried range, and every tried value with its score."""

    q: float
    at_bound: bool
    tried: tuple[tuple[float, float], ...] = ()


def q_by_search(score: Callable[[float], float], keep: float) -> FoundQ:
    """One q for the whole delta: the highest `score` of a coarse grid, then of a fine one around its best.

    The coarse grid goes from `keep`, which is DARE, in steps of a quarter of `keep` up to 1; it ends early after more
    than `PATIENCE` consecutive values without improvement. The fine grid covers 0.9 steps on either side of its best in
    tenths of a step, never below `keep`. The smallest q wins ties. `score` should average several draws of the mask,
    else the q fits one draw. Raises ValueError for a keep outside (0, 1] and for NaN scores.
    """
    check_keep(keep)
    step = keep / 4
    tried: dict[float, float] = {}

    def best() -> float:
        return max(sorted(tried), key=tried.__getitem__)

    def try_out(q: float) -> None:
        if q not in tried:
            tried[q] = float(score(q))
            if math.isnan(tried[q]):
                raise ValueError(f"the score at q = {q:g} is NaN: q cannot be chosen by it")

    worse = 0
    for place in range(coarse(keep)):
        q = keep + place * step
        before = tried[best()] if tried else -math.inf
        try_out(q)
        worse = 0 if tried[q] > before else worse + 1
        if worse > PATIENCE:
            break
    around = best()
    for tenth in range(-9, 10):
        q = around + tenth * step / 10
        if tenth and keep <= q <= 1:
            try_out(q)
    q = best()
    return FoundQ(q, at_bound=q in (min(tried), max(tried)), tried=tuple(sorted(tried.items())))


def coarse(keep: float) -> int:
    """Number of values in the coarse grid of `q_by_search`."""
    return int(4 * (1 - keep) / keep + 1e-9) + 1


def most_tried(keep: float) -> int:
    """Largest number of values that `q_by_search` tries: the whole coarse grid, and nine on either side of its best."""
    return coarse(keep) + 18


def mean_without_farthest(values: Sequence[float]) -> float:
    """Mean over draws of the mask; of three or more draws it excludes the farthest from the mean of all.

    >>> mean_without_farthest([1.0, 2.0, 30.0])
    1.5
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) > 2:
        numbers = np.delete(numbers, np.argmax(np.abs(numbers - numbers.mean())))
    return float(numbers.mean())


def q_by_moments(sums: Sums, squares: Sums, keep: float) -> FoundQ:
    """The q of a layer that minimises the squared mean plus the variance of the lost output, summed over outputs.

    `sums` and `squares` are those of `scorers.networks.output_change`. For Bernoulli draws the loss of an output is
    (1 - keep/q)² (Σc)² + keep (1 - keep) / q² Σc², whose minimum is q = keep + (1 - keep) Σc² / (Σc)²; it may exceed 1.
    If the layer's output does not change on average, the mean term is 0 for any q: then q is 1.

    >>> round(q_by_moments(np.array([2.0]), np.array([1.0]), 0.1).q, 3)
    0.325
    """
    check_keep(keep)
    whole, spread = float(np.square(sums).sum()), float(squares.sum())
    if whole == 0:
        return FoundQ(1.0, at_bound=spread > 0)
    return FoundQ(keep + (1 - keep) * spread / whole, at_bound=False)


def q_by_bound(sums: Sums, squares: Sums, keep: float, *, eta: float) -> FoundQ:
    """DAREx's q of a layer by the authors' rule: a scan of each output's bound in float16, then the mean over outputs.

    With p = 1 - keep and Φ = (1 - 2p) / ln((1 - p)/p) an output's bound is
    |η (1 - keep/q) Σc + η² Φ Σc² / (4q²) + ln(2 / (1 - CONFIDENCE))|. The scan computes it in float16 from q = keep to
    `LAST` by thousandths; the output's q is the last one with a bound not above the least so far. An output is past its
    minimum at the first q without improvement, ties included, and the scan ends when `PASSED` of the outputs are; until
    then every output may still improve. Float16 is part of the rule: the bound is flat around its minimum, so rounding
    ends the scan long before it, at a smaller q (`q_by_least_bound` finds the minimum itself). A bound above `HIGHEST`
    counts as no bound, and sums beyond float16 leave their output at `keep`.

    Choose `eta` by labels or by the change of outputs. `at_bound`: half of the outputs or more are at an end of the
    scan. Raises ValueError for keep or eta out of range.
    """
    scale = check_bound(keep, eta) * eta**2
    slack, whole, spread = (halved(each) for each in (SLACK, sums, squares))
    least, chosen = np.full(len(sums), HIGHEST, np.float32), np.full(len(sums), keep)
    passed = np.zeros(len(sums), dtype=np.bool_)
    last = keep
    for place in range(max(int((LAST - keep) / THOUSANDTH + 1e-9), 0) + 1):
        last = keep + place * THOUSANDTH
        with np.errstate(invalid="ignore"):  # A sum beyond float16 times 0 is NaN, which never counts as better.
            mean = halved(eta * halved((1 - keep / last) * whole))
        variance = halved(halved(halved(scale * spread) / (4 * last**2)) + slack)
        bound = np.abs(halved(mean + variance))
        passed |= bound >= least
        better = bound <= least
        chosen, least = np.where(better, last, chosen), np.where(better, bound, least)
        if passed.mean() >= PASSED:
            break
    ends = (chosen == keep) | (chosen == last)
    return FoundQ(float(chosen.mean()), at_bound=bool(ends.mean() >= 0.5))


def q_by_least_bound(sums: Sums, squares: Sums, keep: float, *, eta: float) -> FoundQ:
    """The q of a layer that minimises the bound of `q_by_bound` in exact arithmetic: the mean over its outputs.

    In u = 1/q the bound is the absolute value of a quadratic, so its minimum within keep … 1 has a closed form: a root,
    else the vertex or an end; the smallest q wins ties. `at_bound` and errors are those of `q_by_bound`.
    """
    square = check_bound(keep, eta) * eta**2 * squares / 4
    slope, rest = -eta * keep * sums, eta * sums + SLACK
    with np.errstate(divide="ignore", invalid="ignore"):  # A missing root or vertex is NaN or infinite.
        turn = -(slope + np.copysign(np.sqrt(slope**2 - 4 * square * rest), slope)) / 2
        roots = np.stack([turn / square, rest / turn])
        vertex = -slope / (2 * square)
    roots = np.where((roots >= 1) & (roots <= 1 / keep), roots, 0.0).max(axis=0)
    vertex = np.clip(np.nan_to_num(vertex, nan=1.0), 1, 1 / keep)
    places = np.stack([np.full(len(sums), 1 / keep), vertex, np.ones(len(sums))])
    lowest = np.abs((square * places + slope) * places + rest).argmin(axis=0)
    inverse = np.where(roots > 0, roots, places[lowest, np.arange(len(sums))])
    ends = (inverse == 1) | (inverse == 1 / keep)
    return FoundQ(float(np.mean(1 / inverse)), at_bound=bool(ends.mean() >= 0.5))


def halved(values: float | Float[np.ndarray, " outputs"]) -> Float32[np.ndarray, " *outputs"]:
    """Numbers rounded to float32, then to float16, as torch does between steps; infinite beyond float16's range."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32).astype(np.float16).astype(np.float32)


def check_bound(keep: float, eta: float) -> float:
    """Φ of the bound; raises ValueError for keep or eta out of range."""
    check_keep(keep)
    if not eta > 0:
        raise ValueError(f"eta must be above 0, got {eta}")
    if keep == 1:
        return 0.0
    return 0.5 if math.isclose(keep, 0.5) else (2 * keep - 1) / math.log(keep / (1 - keep))


def made_up(q: float, keep: float, kept: int, entries: int) -> float:
    """q corrected for a tensor that keeps `kept` of `entries` entries instead of the share `keep`, by their ratio.

    Without it, one kept entry of 10 at a budget of a hundredth would count a hundredfold. 1 for a tensor without kept
    entries.

    >>> made_up(0.01, 0.01, 1, 10)
    0.1
    """
    return q * (kept / entries) / keep if kept else 1.0


def check_keep(keep: float) -> None:
    """Raise ValueError for a kept share outside (0, 1]."""
    if not 0 < keep <= 1:
        raise ValueError(f"the share of a delta that stays must be within (0, 1], got {keep}")
