"""Non-inferiority of one budget as seeds come in: looks after some numbers of seeds, and an end as soon as it is clear.

Whoever tests at 5% after 5, 10 and 20 seeds claims what is false in more than 5%. So each look has a smaller level, the
same for all, at which the chance that any look claims falsely is the level as a whole (Pocock 1977, for Student's t by
simulation). Giving up early claims nothing, so it needs no correction: where the upper bound is below minus the margin,
and where the rest of the seeds would hardly show anything even if nothing were lost.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64

from secateur.trainers.judging.comparison import varies

REPETITIONS = 400_000
"""Simulated studies behind the level of a look."""
FEWER = 40_000
"""Simulated studies behind a power: a quarter of a point."""
HOPE = 0.1
"""A budget is given up where the chance that it is shown by the last look, if nothing is lost, is below that."""
Looks = tuple[int, ...]


class State(StrEnum):
    """Where the test of one budget stands."""

    SHOWN = "shown"
    WORSE = "loses more"
    """Its upper bound is below minus the margin."""
    GIVEN_UP = "given up"
    """More seeds would hardly show it."""
    UNDECIDED = "undecided"
    """After the last seed."""
    OPEN = "needs more seeds"
    IDLE = "more seeds would change nothing"
    """As much, or more, is shown to go by another arm."""


@dataclass(frozen=True)
class Check:
    """One budget of an arm beside everything: mean difference by seed, the better the higher, and its lower bound."""

    difference: float
    lower: float
    """Of the mean difference, at the level of the look; minus infinity for a single seed."""
    spread: float
    """Standard deviation of the differences by seed."""
    seeds: int
    not_worse: bool
    """Whether the lower bound is above minus the margin."""
    state: State = State.UNDECIDED
    level: float = math.nan
    """Chance of a false claim over all looks."""


def check(differences: Float64[np.ndarray, " seeds"], margin: float, level: float) -> Check:
    """Whether a mean difference is above minus the margin.

    Differences that do not vary leave the t-test without a denominator: n of them that are all above minus the margin
    are what a mean at it would give with a chance of at most 1 in 2^n (the sign test).
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
    """Where the test of a budget stands, of the differences of the seeds 0, 1, 2, … as far as they were run.

    Only what lies before a look counts there, so seeds that were run besides change nothing. Without `looks` there is
    one, after all seeds that there are.
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
        # Seeds that are all alike say nothing of those to come.
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
    """Chance that the last look shows it if the seeds to come lose nothing; the spread is taken for the true one."""
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
    """Means and standard deviations at each look of seeds that are standard normal, always the same draws."""
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
    """The level of every look at which the chance of any false claim is at most `level`.

    That is a quantile of the smallest p-value of any look at studies whose mean is exactly at the margin, two standard
    errors of the simulation on the safe side.
    """
    from scipy import stats

    if len(looks) == 1:
        return level
    (means, sds), p_values = drawn(looks), np.ones(REPETITIONS)
    for place, seeds in enumerate(looks):
        statistics = means[:, place] / sds[:, place] * math.sqrt(seeds)
        small = statistics > quantile(seeds, level)  # no other can be among those asked for
        p_values[small] = np.minimum(p_values[small], stats.t.sf(statistics[small], seeds - 1))
    count = int(REPETITIONS * level - 2 * math.sqrt(REPETITIONS * level * (1 - level)))
    # So small a level is out of the simulation's reach: shared out among the looks it is safe as well.
    return max(float(np.sort(p_values)[count - 1]) if count > 0 else 0.0, level / len(looks))


def power(looks: Looks, spread: float, margin: float, level: float) -> float:
    """Chance that looks show a budget that loses nothing, with all that gives it up before."""
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
    """Looks from one number of seeds on, twice as many each time, and at the last.

    >>> looks_between(5, 20), looks_between(3, 10)
    ((5, 10, 20), (3, 6, 10))
    """
    looks = [first]
    while 2 * looks[-1] < last:
        looks.append(2 * looks[-1])
    return (*looks, last)
