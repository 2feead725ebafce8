"""Whether a selection beat random at the same budget, said honestly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

NOISE = 1e-12
"""Rounding of a difference of two accuracies, and far less than one test sample makes."""


@dataclass(frozen=True)
class Summary:
    """Mean over seeds with the half-width of its 95% t-interval; the half-width is None for a single seed."""

    mean: float
    half_width: float | None
    seeds: int
    percent: bool = True
    """Whether the number is a share in [0, 1], told in percent."""

    @property
    def shown(self) -> float:
        """The mean as it is told."""
        return scale_of(self.percent) * self.mean

    @property
    def shown_half_width(self) -> float:
        """The half-width as it is told; 0 where there is none."""
        return scale_of(self.percent) * (self.half_width or 0.0)

    def __str__(self) -> str:
        spread = "" if self.half_width is None else f" ± {number_text(self.half_width, self.percent)}"
        return f"{number_text(self.mean, self.percent)}{spread}"


@dataclass(frozen=True)
class Comparison:
    """A selection beside its baseline: differences are paired by seed, p-values Holm-corrected over the family."""

    difference: float
    half_width: float | None
    p_value: float | None
    effect_size: float | None
    """Cohen's d of the paired differences; None where they do not vary."""
    verdict: str
    percent: bool = True

    @property
    def scale(self) -> float:
        """What differences are multiplied by when they are told."""
        return scale_of(self.percent)

    @property
    def brief(self) -> str:
        """The verdict in a table's trial, where the column says against what."""
        word = self.verdict.partition(" than ")[0] if self.p_value is not None else "one seed"
        told = "" if self.p_value is None else f", p {self.p_value:.2g}"
        return f"{word} ({signed_text(self.difference, self.percent)}{told})"


def scale_of(percent: bool) -> float:
    """What numbers are multiplied by when they are told."""
    return 100.0 if percent else 1.0


def number_text(value: float, percent: bool) -> str:
    """A share as percent with one decimal; any other number with about three digits."""
    if percent:
        return f"{100 * value:.1f}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"


def signed_text(value: float, percent: bool) -> str:
    """A difference, with its sign."""
    return ("+" if value >= 0 else "") + number_text(value, percent)


def summarise(values: Sequence[float], *, percent: bool = True) -> Summary:
    """Mean and 95% t-interval of one number per seed."""
    return Summary(float(np.mean(values)), half_width_of(np.asarray(values, np.float64)), len(values), percent)


def half_width_of(values: Float64[np.ndarray, " seeds"]) -> float | None:
    """Half the width of the 95% t-interval of the mean; None for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def compare(
    selections: Mapping[str, Sequence[float]],
    baseline: Sequence[float],
    *,
    against: str = "random",
    percent: bool = True,
    higher_is_better: bool = True,
) -> dict[str, Comparison]:
    """Each selection against one baseline, all given in the same order of seeds: accuracies in [0, 1], or what
    `percent` and `higher_is_better` say.

    Paired two-sided t-tests; Holm's step-down correction over all selections given. Raises ValueError where the
    numbers of seeds differ.
    """
    reference = np.asarray(baseline, np.float64)
    for name, values in selections.items():
        if len(values) != len(reference):
            raise ValueError(f"{name!r} has {len(values)} seeds and {against} {len(reference)}: they cannot be paired")
    differences = {name: np.asarray(values, np.float64) - reference for name, values in selections.items()}
    corrected = holm({name: p_value_of(d) for name, d in differences.items()}) if len(reference) > 1 else {}
    compared = {}
    for name, paired in differences.items():
        spread, mean = float(paired.std(ddof=1)) if len(paired) > 1 else 0.0, float(paired.mean())
        p_value = corrected.get(name)
        compared[name] = Comparison(
            difference=mean,
            half_width=half_width_of(paired),
            p_value=p_value,
            effect_size=mean / spread if varies(paired) else None,
            verdict=verdict_of(mean, p_value, len(paired), against, percent=percent, higher_is_better=higher_is_better),
            percent=percent,
        )
    return compared


def varies(differences: Float64[np.ndarray, " seeds"]) -> bool:
    """Whether paired differences differ from one another by more than rounding."""
    return bool(np.ptp(differences) > NOISE)


def p_value_of(differences: Float64[np.ndarray, " seeds"]) -> float:
    """Two-sided p-value of a paired t-test; 1 where all differences are zero.

    Differences that do not vary otherwise leave the t-test without a denominator, and accuracies of a finite test split
    coincide easily: they get the exact sign-flip test (Fisher 1935), 2 of the 2^seeds patterns of signs.
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


def verdict_of(
    difference: float,
    p_value: float | None,
    seeds: int,
    against: str,
    *,
    percent: bool = True,
    higher_is_better: bool = True,
) -> str:
    """One plain sentence."""
    points = f"{signed_text(difference, percent)}{' points' if percent else ''}"
    if p_value is None:
        return f"one seed says nothing: {points} against {against}"
    if p_value >= 0.05:
        return f"no better than {against} ({points}, p = {p_value:.2f} over {seeds} seeds)"
    word = "better" if (difference > 0) == higher_is_better else "worse"
    return f"{word} than {against} ({points}, p = {p_value:.2g} over {seeds} seeds)"
