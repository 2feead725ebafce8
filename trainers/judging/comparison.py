"""Paired tests of arms against the random baseline at the same budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float64

NOISE = 1e-12
"""Rounding error of a difference of two accuracies, far below the effect of one test sample."""
LEVEL = 0.05
"""Significance level of corrected p-values."""


class Verdict(StrEnum):
    """The verdict of a comparison."""

    BETTER = "better"
    NO_BETTER = "no better"
    WORSE = "worse"
    ONE_SEED = "one seed"
    """No verdict: one seed gives no interval and no test."""


@dataclass(frozen=True)
class Summary:
    """Mean over seeds with the half-width of its 95% t-interval; the half-width is None for a single seed."""

    mean: float
    """Mean over seeds."""
    half_width: float | None
    """Half-width of the mean's interval; None for one seed."""
    seeds: int
    """Number of seeds."""


@dataclass(frozen=True)
class Comparison:
    """An arm against another: differences paired by seed, p-value Holm-corrected over the family."""

    verdict: Verdict
    """Better, no better, worse, or one seed."""
    difference: float
    """Mean of the arm's value minus the other's, in the unit of the metric."""
    half_width: float | None
    """Half-width of the difference's interval; None for one seed."""
    p_value: float | None
    """The corrected p-value; None for one seed."""
    effect_size: float | None
    """Cohen's d of the paired differences; None where they do not vary."""
    seeds: int
    """Number of paired seeds."""


def summarise(values: Sequence[float]) -> Summary:
    """Mean and 95% t-interval of one number per seed."""
    return Summary(float(np.mean(values)), half_width_of(np.asarray(values, np.float64)), len(values))


def half_width_of(values: Float64[np.ndarray, " seeds"]) -> float | None:
    """Half-width of the 95% t-interval of the mean; None for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def compare(
    arms: Mapping[str, Sequence[float]], baseline: Sequence[float], *, higher_is_better: bool = True
) -> dict[str, Comparison]:
    """Each arm against one baseline, all in the same order of seeds.

    Paired two-sided t-tests; Holm's step-down correction over all arms given. Raises ValueError where the numbers of
    seeds differ.
    """
    return compare_pairs({name: (values, baseline) for name, values in arms.items()}, higher_is_better=higher_is_better)


def compare_pairs(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, higher_is_better: bool = True
) -> dict[str, Comparison]:
    """`compare` for pairs of (the arm's values, its own baseline's). All pairs are one family."""
    differences: dict[str, Float64[np.ndarray, " seeds"]] = {}
    for name, (values, baseline) in pairs.items():
        if len(values) != len(baseline):
            raise ValueError(
                f"{name!r} has {len(values)} seeds and its baseline {len(baseline)}: they cannot be paired"
            )
        differences[name] = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    corrected = holm({name: p_value_of(paired) for name, paired in differences.items() if len(paired) > 1})
    return {name: compared(paired, corrected.get(name), higher_is_better) for name, paired in differences.items()}


def compared(paired: Float64[np.ndarray, " seeds"], p_value: float | None, higher_is_better: bool) -> Comparison:
    """One family member's numbers and verdict, from its differences by seed and its corrected p-value."""
    mean = float(paired.mean())
    verdict = Verdict.NO_BETTER
    if p_value is None:
        verdict = Verdict.ONE_SEED
    elif p_value < LEVEL:
        verdict = Verdict.BETTER if (mean > 0) == higher_is_better else Verdict.WORSE
    effect = mean / float(paired.std(ddof=1)) if varies(paired) else None
    return Comparison(verdict, mean, half_width_of(paired), p_value, effect, len(paired))


def varies(differences: Float64[np.ndarray, " seeds"]) -> bool:
    """Whether paired differences differ from one another by more than rounding."""
    return bool(np.ptp(differences) > NOISE)


def p_value_of(differences: Float64[np.ndarray, " seeds"]) -> float:
    """Two-sided p-value of a paired t-test; 1 where all differences are zero.

    Other equal differences leave the t-test without a denominator, and accuracies on a finite test split coincide
    easily. They get the p-value of the exact sign-flip test (Fisher 1935), 2 of the 2^seeds patterns of signs.
    """
    from scipy import stats

    if not varies(differences):
        return 1.0 if abs(differences[0]) < NOISE else 2.0 ** (1 - len(differences))
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (Holm 1979)."""
    corrected: dict[str, float] = {}
    running = 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_value))
        corrected[name] = running
    return corrected
