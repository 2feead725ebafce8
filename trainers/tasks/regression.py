"""Regression: one or several numbers per sample, standardised inside, reported in the user's units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

from secateur.scorers.contract import rows_text
from secateur.scorers.lazy import functional, torch
from secateur.scorers.signals import NO_TOKENS, Batch, Signal
from secateur.trainers.tasks.contract import Metric, Task, refuse_not_finite

Targets = Float64[np.ndarray, "n *k"]
MOST_STRATA, LEAST_IN_STRATUM = 10, 50
CLASSLESS = "a number has no competing classes"
LACKS: dict[Signal, str] = {
    **NO_TOKENS,
    "probabilities": CLASSLESS,
    "target_probabilities": "a prediction of numbers says no probability of the target",
    "correct": "no distance counts as right; no published threshold says which would",
    "margin": CLASSLESS,
    "probability_margin": CLASSLESS,
}


@dataclass(frozen=True)
class Regression(Task):
    """Targets float64 `[n, k]` (or `[n]`, for one); outputs `[b, k]` are predictions of the standardised targets.

    The loss of a sample is the mean over its targets of half the squared residual, or of Huber's loss, which is
    squared up to a residual of `delta` and linear beyond (Huber 1964). Residuals are in standard deviations of the
    training targets. We know of no published EL2N, GraNd or forgetting for regression: the applicable scores and their
    form are our derivation (docs/score-definitions.md).
    """

    name = "regression"
    target = "numbers"
    settings = ("loss", "delta", "units")
    lacks = LACKS
    tempered = False

    loss: Literal["squared", "huber"] = "squared"
    delta: float = 1.0
    names: Sequence[str] = ()
    """Names of the targets; by default `target_0`, `target_1`, …"""
    units: Sequence[str] = ()
    """Units of the targets, for tables."""
    mean: Sequence[float] = ()
    """Mean of each target over the training rows; empty before `fitted`, as the next two."""
    scale: Sequence[float] = ()
    """Standard deviation (population) of each target; 1 for a constant one."""
    edges: Sequence[float] = ()
    """Highest value in each stratum but the last."""

    def __post_init__(self) -> None:
        for name in ("names", "units", "mean", "scale", "edges"):  # JSON gives lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.loss not in ("squared", "huber"):
            raise ValueError(f"the loss of regression is squared or huber, got {self.loss!r}")
        if not self.delta > 0:
            raise ValueError(f"delta of Huber's loss must be above 0, got {self.delta}")

    @property
    def width(self) -> int:
        """Targets per sample; raises ValueError before the task is fitted."""
        if not self.mean:
            raise ValueError("regression knows mean and scale of no targets yet: call fitted(targets) first")
        return len(self.mean)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """RMSE decides. For several targets the means over targets come first, then the metrics of each target; means
        of RMSE and MAE mix units, the mean of R² does not."""
        units = list(self.units) or [""] * self.width
        common = units[0] if len(set(units)) == 1 else ""
        found = measures("", common)
        if self.width > 1:
            found += [
                one for name, unit in zip(self.target_names(), units, strict=True) for one in measures(name, unit)
            ]
        return tuple(found)

    def target_names(self) -> list[str]:
        """Name of each target."""
        return list(self.names) or [f"target_{number}" for number in range(self.width)]

    def fitted(self, targets: Targets) -> Regression:
        """The task with mean, scale and strata of these targets, computed in float64."""
        if self.mean:
            return self
        values = columns_of(targets)
        self.check(values)
        if not len(values):
            raise ValueError("regression is fitted to the targets of no rows")
        for kind, given in (("names", self.names), ("units", self.units)):
            if given and len(given) != values.shape[1]:
                raise ValueError(f"there are {len(given)} {kind} for {values.shape[1]} targets")
        deviation = values.std(axis=0)
        # The mean of equal numbers may differ from them by a rounding error.
        varies = (values != values[:1]).any(axis=0)
        scaled = replace(
            self, mean=values.mean(axis=0).tolist(), scale=np.where(varies, deviation, 1.0).tolist(), edges=()
        )
        return replace(scaled, edges=edges_of(scaled.order(values)).tolist())

    def state(self) -> dict[str, Any]:
        """See `Task.state`."""
        lists = {name: list(getattr(self, name)) for name in ("names", "units", "mean", "scale", "edges")}
        return {"name": self.name, "loss": self.loss, "delta": self.delta, **lists}

    def check(self, targets: Targets, rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError that names rows with a missing or infinite target, and for another number of targets."""
        values = columns_of(targets)
        if self.mean and values.shape[1] != self.width:
            raise ValueError(f"there are {values.shape[1]} targets per row, the task was fitted to {self.width}")
        rows = np.arange(len(values)) if rows is None else rows
        bad = rows[~np.isfinite(values[rows]).all(axis=1)]
        if len(bad):
            raise ValueError(f"targets are missing or infinite at {rows_text(bad)}: drop these rows or mend them")

    def standardised(self, targets: Targets) -> Float64[np.ndarray, "n k"]:
        """Targets in standard deviations from the mean of the training targets."""
        return np.asarray((columns_of(targets) - np.asarray(self.mean)) / np.asarray(self.scale))

    def in_units(self, outputs: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        """Outputs of a network as predictions in the user's units."""
        return np.asarray(np.asarray(outputs, np.float64) * np.asarray(self.scale) + np.asarray(self.mean))

    def tensor(self, targets: Targets) -> torch.Tensor:
        """Standardised targets, float32 `[n, k]`."""
        return torch.from_numpy(self.standardised(targets).astype(np.float32))

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Half the mean squared residual, or Huber's loss, per sample."""
        if self.loss == "huber":
            return functional.huber_loss(outputs, targets, reduction="none", delta=self.delta).mean(dim=1)
        return (outputs - targets).square().mean(dim=1) / 2

    def predictions(self, batch: Batch) -> torch.Tensor:
        """The outputs, `[b, k]`."""
        return batch.outputs

    def error(self, batch: Batch) -> torch.Tensor:
        """Residuals in standard deviations, `[b, k]`: the gradient of the squared loss, summed over targets.

        Also of Huber's loss, whose own gradient would be equal for all residuals beyond `delta`.
        """
        return batch.outputs - batch.targets

    def target_output(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the outputs: for one target the prediction itself."""
        return outputs.sum(dim=1)

    def distance(self, teacher: torch.Tensor, student: torch.Tensor, *, temperature: float) -> torch.Tensor:
        """Half the mean squared distance to the teacher's predictions; the temperature has no effect."""
        if teacher.shape != student.shape:
            raise ValueError(
                f"the teacher predicts {tuple(teacher.shape)}, the student {tuple(student.shape)}: both must predict "
                "the same targets"
            )
        return (student - teacher).square().mean(dim=1) / 2

    def evaluate(self, outputs: Float[np.ndarray, "n k"], targets: Targets) -> dict[str, float]:
        """RMSE, MAE, R² and Spearman's rank correlation, means over targets first.

        R² is undefined for a constant target, the rank correlation also for constant predictions.
        """
        refuse_not_finite(outputs)
        self.check(targets)
        values, guesses = columns_of(targets), self.in_units(outputs)
        each = [measured(values[:, column], guesses[:, column]) for column in range(self.width)]
        found = {name: float(np.mean([one[name] for one in each])) for name in each[0] if all(name in e for e in each)}
        if self.width > 1:
            for name, one in zip(self.target_names(), each, strict=True):
                found |= {f"{measure}_{name}": value for measure, value in one.items()}
        return found

    def order(self, targets: Targets) -> Float64[np.ndarray, " n"]:
        """The number whose quantiles are the strata: the target, or the mean of several standardised ones."""
        values = columns_of(targets)
        return np.asarray(values[:, 0] if values.shape[1] == 1 else self.standardised(values).mean(axis=1))

    def strata(self, targets: Targets) -> Int64[np.ndarray, " n"]:
        """Quantile of the target among the training targets; a value of many rows is a separate stratum."""
        return np.searchsorted(np.asarray(self.edges), self.order(targets), side="left").astype(np.int64)

    def stratum_names(self) -> list[str]:
        """The range of each stratum."""
        ends = [f"{edge:.4g}" for edge in self.edges]
        if not ends:
            return ["all"]
        return [f"to {ends[0]}", *(f"to {end}" for end in ends[1:]), f"above {ends[-1]}"]

    def guesses(self, outputs: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        """The predictions in the user's units."""
        return self.in_units(outputs)

    def shown(self, target: Any) -> str:
        """The numbers with their units."""
        units = list(self.units) or [""] * len(np.atleast_1d(target))
        parts = zip(np.atleast_1d(target).tolist(), units, strict=True)
        return ", ".join(f"{value:.6g} {unit}".rstrip() for value, unit in parts)


def columns_of(targets: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """Targets as float64 `[n, k]`."""
    values = np.asarray(targets, np.float64)
    return values[:, np.newaxis] if values.ndim == 1 else values


def measures(target: str, unit: str) -> list[Metric]:
    """The metrics of one target, or of the mean of all."""
    after = f"_{target}" if target else ""
    return [
        Metric(f"rmse{after}", higher_is_better=False, unit=unit),
        Metric(f"mae{after}", higher_is_better=False, unit=unit),
        # No floor for a single target, which may not be learnable: the mean over all decides.
        Metric(f"r2{after}", floor=None if target else 0.0),
        Metric(f"spearman{after}"),
    ]


def measured(values: Float64[np.ndarray, " n"], guesses: Float64[np.ndarray, " n"]) -> dict[str, float]:
    """The defined metrics of one target."""
    from scipy.stats import spearmanr
    from sklearn import metrics

    errors: dict[str, Callable[..., Any]] = {
        "rmse": metrics.root_mean_squared_error,
        "mae": metrics.mean_absolute_error,
    }
    found = {name: float(measure(values, guesses)) for name, measure in errors.items()}
    if np.ptp(values) > 0:
        found["r2"] = float(metrics.r2_score(values, guesses))
        if np.ptp(guesses) > 0:
            found["spearman"] = float(spearmanr(values, guesses).statistic)
    return found


def edges_of(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " strata_less_one"]:
    """Highest value in each quantile but the last; merges equal ones, and separates a value that fills a quantile.

    There are `min(10, n / 50)` quantiles, of ranks, so heavy tails do not get several.
    """
    bins = max(1, min(MOST_STRATA, len(values) // LEAST_IN_STRATUM))
    if bins == 1:
        return np.empty(0)
    unique, counts = np.unique(values, return_counts=True)
    masses = np.flatnonzero(counts * bins >= len(values))
    quantiles = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    fixed = np.concatenate([unique[masses], unique[masses[masses > 0] - 1]])
    edges = np.unique(np.concatenate([quantiles, fixed]))
    # The rest of a quantile beside such a value may be small: it joins the next one.
    rows = np.diff(np.searchsorted(np.sort(values), edges, side="right"), prepend=0)
    edges = edges[np.isin(edges, fixed) | (2 * bins * rows >= len(values))]
    return np.asarray(edges[edges < unique[-1]])
