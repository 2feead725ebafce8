"""The smallest budget that is worse than the full data by at most a margin, with a level of confidence.

Non-inferiority by one-sided paired t-tests over seeds. The test goes through an arm's budgets from the largest to the
smallest, each at the arm's full level, and stops at the first failure. By the closed-testing principle the chance of
any false claim is at most that level, under any dependence (Maurer, Hothorn and Lehmacher 1995). Several arms split the
level (Bonferroni), which pays for choosing the best arm. Seeds may come in stages, and the test may add a budget
between two others afterwards.
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
"""Chance to show a margin that "can be shown" where the true loss is zero."""
MOST_SEEDS = 1000
"""Largest proposed number of seeds."""
Differences = Float64[np.ndarray, " seeds"]


REFINED = 0.1
"""Share of a level that each budget reserves for the budget between it and the next larger one, in refining studies."""


@dataclass(frozen=True)
class Claim:
    """The claim of an arm: its budgets in order of testing; the last one failed unless all passed."""

    checks: Mapping[int | float, Check]
    level: float
    """This arm's share of the chance of a false claim."""

    @property
    def smallest(self) -> int | float | None:
        """The smallest budget that passed; None if the first one failed."""
        return next((keep for keep, check in reversed([*self.checks.items()]) if check.not_worse), None)

    @property
    def open(self) -> int | float | None:
        """The budget at which the test waits for more seeds; None after its end."""
        return next((keep for keep, check in self.checks.items() if check.state is State.OPEN), None)


def claims(
    arms: Mapping[str, Mapping[int | float, Differences]],
    margin: float,
    *,
    level: float = LEVEL,
    looks: Looks = (),
    between: Mapping[int | float, int | float] | None = None,
) -> dict[str, Claim]:
    """The claim of each arm. `arms` hold, for every budget from the largest on, the differences from the full data by
    seed: the arm's value minus that of the full data, in the unit of the margin, signed so that higher is better.

    With `looks` the test of a budget looks at each of them until its verdict is clear, see `sequential.py`; differences
    belong to the seeds 0, 1, 2, … that were run, and are empty for a budget that was not run.

    `between` maps a budget of the sequence to an extra budget between it and the next larger one; if the former fails,
    the extra one is tested. Its level must be fixed before the first look. So when a budget's turn comes with level L,
    a tenth of L is reserved for its extra budget; the budget itself is tested at the rest, and hands the rest on if it
    passes. The levels of the first budget that loses the margin and of all extra budgets up to it thus sum to at most
    the arm's level: under any dependence, the chance of any false claim is at most that.

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
    """Chance that the test of one budget without a true loss passes.

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
    """The smallest margin that so many seeds show with a chance of `POWER` without a true loss; infinite for one."""
    from scipy import optimize

    if seeds < 2:
        return math.inf
    if spread == 0:
        return 0.0 if power(seeds, 0.0, 1.0, level, looks) else math.inf
    # An upper bound in standard deviations, with room for Student's t, which is wider than the normal distribution.
    most = (
        4
        * (quantile(seeds, sequential.level_of_look(looks or (seeds,), level)) + 1)
        / math.sqrt(min(looks or (seeds,)))
    )
    found = optimize.brentq(lambda ratio: power(seeds, 1.0, ratio, level, looks) - POWER, 0.0, most)
    return float(found) * spread


def seeds_for(margin: float, spread: float, level: float, looks: Looks = ()) -> int | None:
    """The fewest seeds that show a margin with a chance of `POWER` without a true loss; None beyond MOST_SEEDS.

    With `looks`, which do not suffice, the result is larger than the last of them, at the level of each look.
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
    """Pooled standard deviation of several with equally many seeds; NaN for none."""
    return float(np.sqrt(np.mean(np.square(spreads)))) if len(spreads) else math.nan
