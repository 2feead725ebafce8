"""Sequential non-inferiority test of one budget: looks after some numbers of seeds, with early stopping.

Testing at 5% after 5, 10 and 20 seeds makes false claims in more than 5% of studies. So all looks have one smaller
level, at which the chance that any look makes a false claim is the total level (Pocock 1977, for Student's t by
simulation). Giving up early makes no claim and needs no correction. The test gives up if the upper bound is below minus
the margin, or if the remaining seeds would hardly pass even without a true loss.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64

from secateur.trainers.judging.comparison import varies

REPETITIONS = 400_000
"""Simulated studies for the level of a look."""
FEWER = 40_000
"""Simulated studies for a power: a standard error of a quarter of a percentage point."""
HOPE = 0.1
"""The test gives a budget up if its chance to pass at the last look, without a true loss, is below this."""
Looks = tuple[int, ...]


class State(StrEnum):
    """State of the test of one budget."""

    SHOWN = "shown"
    WORSE = "loses more"
    """The upper bound is below minus the margin."""
    GIVEN_UP = "given up"
    """More seeds would hardly make it pass."""
    UNDECIDED = "undecided"
    """No verdict after the last seed."""
    OPEN = "needs more seeds"
    IDLE = "more seeds would change nothing"
    """Another arm passes at this budget or a smaller one."""


@dataclass(frozen=True)
class Check:
    """One budget of an arm against the full data: mean difference by seed, higher is better, and its lower bound."""

    difference: float
    lower: float
    """Lower bound of the mean difference at the level of the look; minus infinity for a single seed."""
    spread: float
    """Standard deviation of the differences by seed."""
    seeds: int
    not_worse: bool
    """Whether the lower bound is above minus the margin."""
    state: State = State.UNDECIDED
    level: float = math.nan
    """Chance of a false claim over all looks."""


def check(differences: Float64[np.ndarray, " seeds"], margin: float, level: float) -> Check:
    """Test whether the mean difference is above minus the margin.

    Differences that do not vary leave the t-test without a denominator. The sign test takes its place: if the mean were
    at minus the margin, all n differences would lie above it with a chance of at most 1 in 2^n.
    """
    seeds = len(differences)
    mean = float(differences.mean()) if seeds else math.nan
    if seeds < 2:
        return Check(mean, -math.inf, math.nan, seeds, not_worse=False, level=level)
    if not varies(differences):
        sure = 2.0**-seeds <= level
        lower, upper, spread = (mean, mean, 0.0) if sure else (-math.inf, math.inf, 0.0)
    else:
        spread = float(differences.std(ddof=1))
        half = quantile(seeds, level) * spread / math.sqrt(seeds)
        lower, upper = mean - half, mean + half
    state = State.SHOWN if lower > -margin else State.WORSE if upper < -margin else State.UNDECIDED
    return Check(mean, lower, spread, seeds, lower > -margin, state, level)


def judged(differences: Float64[np.ndarray, " seeds"], margin: float, level: float, looks: Looks = ()) -> Check:
    """State of the test of a budget, from the differences of the seeds 0, 1, 2, … run so far.

    A look reads only the seeds before it, so extra seeds change nothing. Without `looks` there is one look, after all
    seeds.
    """
    if not looks:
        return check(differences, margin, level)
    own, found = level_of_look(looks, level), check(differences[:0], margin, level)
    for seeds in looks:
        if len(differences) < seeds:
            return replace(found, state=State.OPEN, level=level)
        found = replace(check(differences[:seeds], margin, own), level=level)
        if found.state is not State.UNDECIDED or seeds == looks[-1]:
            return found
        # Equal differences give no estimate of the spread of later seeds.
        if found.spread > 0 and float(hope(seeds, looks[-1], found.difference, found.spread, margin, own)) < HOPE:
            return replace(found, state=State.GIVEN_UP)
    return found


def hope(
    seeds: int,
    last: int,
    mean: float | Float64[np.ndarray, "..."],
    spread: float | Float64[np.ndarray, "..."],
    margin: float,
    level: float,
) -> Float64[np.ndarray, "..."]:
    """Chance to pass at the last look if the remaining seeds have no true loss; takes `spread` as the true one."""
    from scipy import special

    room = (seeds * np.asarray(mean) + last * margin) - quantile(last, level) * spread * math.sqrt(last)
    return np.asarray(special.ndtr(room / (spread * math.sqrt(last - seeds))), np.float64)


@cache
def quantile(seeds: int, level: float) -> float:
    """Upper quantile of Student's t for so many seeds."""
    from scipy import stats

    return float(stats.t.isf(level, seeds - 1))


@cache
def drawn(looks: Looks) -> tuple[Float64[np.ndarray, "studies looks"], Float64[np.ndarray, "studies looks"]]:
    """Means and standard deviations at each look of standard normal seeds; always the same draws."""
    rng, shape = np.random.default_rng(0), (REPETITIONS, len(looks))
    means, sds = np.empty(shape), np.empty(shape)
    before, mean, squares = 0, np.zeros(REPETITIONS), np.zeros(REPETITIONS)
    for place, seeds in enumerate(looks):
        more = seeds - before
        new = rng.standard_normal(REPETITIONS) / math.sqrt(more)
        within = rng.chisquare(more - 1, REPETITIONS) if more > 1 else 0.0
        squares = squares + within + (new - mean) ** 2 * (before * more / seeds)
        mean = (before * mean + more * new) / seeds
        means[:, place], sds[:, place], before = mean, np.sqrt(squares / (seeds - 1)), seeds
    return means, sds


@cache
def level_of_look(looks: Looks, level: float) -> float:
    """The level of each look for which the chance of any false claim is at most `level`.

    It is a quantile of the smallest p-value over all looks of studies with their mean exactly at the margin, lowered by
    two standard errors of the simulation.
    """
    from scipy import stats

    if len(looks) == 1:
        return level
    (means, sds), p_values = drawn(looks), np.ones(REPETITIONS)
    for place, seeds in enumerate(looks):
        statistics = means[:, place] / sds[:, place] * math.sqrt(seeds)
        small = statistics > quantile(seeds, level)  # Only these can be below the quantile.
        p_values[small] = np.minimum(p_values[small], stats.t.sf(statistics[small], seeds - 1))
    count = int(REPETITIONS * level - 2 * math.sqrt(REPETITIONS * level * (1 - level)))
    # The simulation cannot resolve a very small level; Bonferroni over the looks is safe as well.
    return max(float(np.sort(p_values)[count - 1]) if count > 0 else 0.0, level / len(looks))


def power(looks: Looks, spread: float, margin: float, level: float) -> float:
    """Chance that a budget without a true loss passes at any look, with early giving up."""
    own = level_of_look(looks, level)
    if spread == 0:
        return float(2.0 ** -looks[-1] <= own)
    means, sds = (values[:FEWER] for values in drawn(looks))
    ratio = margin / spread
    going, shown = np.ones(FEWER, dtype=np.bool_), 0
    for place, seeds in enumerate(looks):
        mean, sd = means[:, place], sds[:, place]
        half = quantile(seeds, own) * sd / math.sqrt(seeds)
        passes: Bool[np.ndarray, " n"] = mean - half > -ratio
        shown += int((going & passes).sum())
        going &= ~passes & (mean + half >= -ratio)
        if seeds != looks[-1]:
            going &= hope(seeds, looks[-1], mean, sd, ratio, own) >= HOPE
    return shown / FEWER


def looks_between(first: int, last: int) -> Looks:
    """Looks at `first` seeds, then at twice as many each time, and at `last`.

    >>> looks_between(5, 20), looks_between(3, 10)
    ((5, 10, 20), (3, 6, 10))
    """
    looks = [first]
    while 2 * looks[-1] < last:
        looks.append(2 * looks[-1])
    return (*looks, last)
