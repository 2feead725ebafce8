"""How much can go: the smallest budget that is not worse than everything by more than a margin, and how sure that is.

Non-inferiority by one-sided paired t-tests over seeds. The budgets of an arm are tested from the largest to the
smallest, each at the arm's full level, and the first failure ends it: by the closed-testing principle the chance of any
false claim is at most that level, whatever depends on what (Maurer, Hothorn and Lehmacher 1995). Several arms share the
level out among them (Bonferroni), which pays for the choice of the best. Seeds may come in stages, and a budget between
two others may be tested after these.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from secateur.trainers.judging import sequential
from secateur.trainers.judging.sequential import Check, Looks, State, check, judged, quantile

__all__ = ["Check", "Claim", "State", "check", "claims", "pooled", "power", "seeds_for", "shown_margin"]

LEVEL = 0.05
"""Chance of a false claim over all arms and budgets; the claim holds at 95%."""
POWER = 0.8
"""Chance with which a margin that "can be shown" is shown where nothing is lost."""
MOST_SEEDS = 1000
"""More seeds than that are not proposed."""
Differences = Float64[np.ndarray, " seeds"]


REFINED = 0.1
"""Share of a level that each budget spares for the one between it and the next larger, in studies that refine."""


@dataclass(frozen=True)
class Claim:
    """What an arm may drop: its budgets as they were tested, of which the last one failed unless all passed."""

    checks: Mapping[int | float, Check]
    level: float
    """Chance of a false claim that this arm was given."""

    @property
    def smallest(self) -> int | float | None:
        """The smallest budget of which nothing speaks against the claim; None where the first one failed."""
        return next((keep for keep, check in reversed([*self.checks.items()]) if check.not_worse), None)

    @property
    def open(self) -> int | float | None:
        """The budget at which the test waits for more seeds; None where it has come to its end."""
        return next((keep for keep, check in self.checks.items() if check.state is State.OPEN), None)


def claims(
    arms: Mapping[str, Mapping[int | float, Differences]],
    margin: float,
    *,
    level: float = LEVEL,
    looks: Looks = (),
    between: Mapping[int | float, int | float] | None = None,
) -> dict[str, Claim]:
    """The claim of each arm. `arms` hold for every budget, the largest first, the differences from everything by seed:
    the arm's value minus that of everything in the unit of the margin, the better the higher.

    With `looks` a budget is tested at each of them until its verdict is clear, see `sequential.py`; differences are
    those of the seeds 0, 1, 2, …, as many as were run, none where a budget was not run.

    `between` are budgets besides, each by the next smaller one of the sequence: where that fails, the one between is
    tested. It must have its level before anybody looks. So of the level L that is left when a budget's turn comes, a
    tenth is kept for the one between, and the budget is tested at the rest, which it hands on if it passes. So the
    first budget of the sequence that loses the margin, and all those between before it, have levels that add up to the
    arm's: whatever depends on what, the chance of any false claim is at most that.

    Raises ValueError for a margin that is not positive, and for an arm without a budget.
    """
    if not margin > 0:
        raise ValueError(f"margin: must be above 0, got {margin}")
    own = level / max(len(arms), 1)
    for name, budgets in arms.items():
        if not budgets:
            raise ValueError(f"{name!r} has no budget to test")
    return {name: claim_of(budgets, margin, own, looks, between or {}) for name, budgets in arms.items()}


def claim_of(
    budgets: Mapping[int | float, Differences],
    margin: float,
    level: float,
    looks: Looks,
    between: Mapping[int | float, int | float],
) -> Claim:
    """The claim of one arm at its level."""
    checks: dict[int | float, Check] = {}
    left = level
    for keep, differences in budgets.items():
        if keep in between.values():
            continue
        spared = left * REFINED if keep in between else 0.0
        left -= spared
        checks[keep] = judged(differences, margin, left, looks)
        if checks[keep].state is State.OPEN:
            break
        if not checks[keep].not_worse:
            if keep in between:
                others = budgets.get(between[keep], differences[:0])
                checks[between[keep]] = judged(others, margin, spared, looks)
            break
    return Claim(checks, level)


def power(seeds: int, spread: float, margin: float, level: float, looks: Looks = ()) -> float:
    """Chance that one comparison shows a budget that loses nothing to be within the margin.

    `spread` is the standard deviation of differences by seed; the test statistic has a noncentral t distribution. With
    several `looks` the last of them is `seeds`.
    """
    from scipy import stats

    if len(looks) > 1:
        return sequential.power(looks, spread, margin, level)
    if seeds < 2:
        return 0.0
    if spread == 0:
        return float(2.0**-seeds <= level)
    return float(stats.nct.sf(quantile(seeds, level), seeds - 1, margin / spread * math.sqrt(seeds)))


def shown_margin(seeds: int, spread: float, level: float, looks: Looks = ()) -> float:
    """The smallest margin that so many seeds show with a chance of `POWER` where nothing is lost; infinite for one."""
    from scipy import optimize

    if seeds < 2:
        return math.inf
    if spread == 0:
        return 0.0 if power(seeds, 0.0, 1.0, level, looks) else math.inf
    # In standard deviations a margin of both quantiles together is too much, for Student's t is wider than the normal.
    most = (
        4
        * (quantile(seeds, sequential.level_of_look(looks or (seeds,), level)) + 1)
        / math.sqrt(min(looks or (seeds,)))
    )
    found = optimize.brentq(lambda ratio: power(seeds, 1.0, ratio, level, looks) - POWER, 0.0, most)
    return float(found) * spread


def seeds_for(margin: float, spread: float, level: float, looks: Looks = ()) -> int | None:
    """The fewest seeds that show a margin with a chance of `POWER` where nothing is lost; None beyond MOST_SEEDS.

    With `looks`, which do not show it, the last one is moved behind them: it is more than their last, at the level
    that each of them has.
    """
    level = sequential.level_of_look(looks, level) if looks else level
    if power(MOST_SEEDS, spread, margin, level) < POWER:
        return None
    low, high = looks[-1] if looks else 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, spread, margin, level) >= POWER else (middle, high)
    return high


def pooled(spreads: Sequence[float]) -> float:
    """One standard deviation of several of equally many seeds."""
    return float(np.sqrt(np.mean(np.square(spreads)))) if len(spreads) else math.nan
