"""Time to accuracy: steps and seconds until a training reaches a share of the full set's result, or a given value.

In-training selections claim to shorten it (Okanovic et al. 2024, "Repeated random sampling for minimizing the
time-to-accuracy of learning"). Seconds include the training and all inputs of the selection, but not the evaluations on
the test split. A value counts as reached at the first evaluation that has it, so times are exact to one interval
between evaluations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.pipelines.pages.names import other_of, title_of
from secateur.pipelines.pages.recommendation import Runs, finite
from secateur.pipelines.pages.words import Table, number, scale_of
from secateur.pipelines.studies.grid import KD, OWN, selection_key
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

CURVE = "curve"
"""The fact of an outcome with the evaluations during its training: steps, seconds, metrics by name."""


@dataclass(frozen=True)
class Target:
    """A target in words and in the unit of the metric; a share for shares."""

    title: str
    value: float


@dataclass(frozen=True)
class Reached:
    """Time of one arm's trainings at one budget to a target; a median is infinite if half of the seeds miss it."""

    arm: str
    selection: str
    keep: int | float | None
    in_training: bool
    target: Target
    seeds: int
    reached: int
    """Number of seeds whose training reached it."""
    steps: float
    seconds: float
    """Medians over seeds; seconds include the selection's inputs."""
    beside: Mapping[str, float]
    """The median of seconds divided by that of `everything` and of `random` at the same budget, if both are finite."""

    def content(self) -> dict[str, Any]:
        """JSON-able; an infinite median is None."""
        told = {name: value for name, value in vars(self).items() if name not in ("target", "beside")}
        return finite(told) | {"target": vars(self.target), "beside": dict(self.beside)}


@dataclass(frozen=True)
class TimeToAccuracy:
    """All measurements, and sentences on them."""

    rows: Sequence[Reached]
    sentences: Sequence[str]
    table: Table

    def content(self) -> dict[str, Any]:
        """JSON-able."""
        return {"split": "test", "sentences": list(self.sentences), "rows": [row.content() for row in self.rows]}


def targets_of(study: Study, metric: Metric, whole: Sequence[Outcome]) -> list[Target]:
    """Shares of the mean result of `whole` (for lower-is-better metrics, the result divided by the share), then values.

    Shares of a result that is not above 0 are meaningless and left out.
    """
    asked = study.watched
    result = float(np.mean([outcome.metrics[metric.name] for outcome in whole]))
    targets = []
    for share in sorted(asked.shares) if asked and result > 0 else ():
        value = result * share if metric.higher_is_better else result / share
        targets.append(Target(f"{100 * share:g}% of the full set's", value))
    return targets + [
        Target(f"{value:g}", value / scale_of(metric)) for value in (sorted(asked.values) if asked else ())
    ]


def time_to_of(study: AnyStudy, metric: Metric, runs: Runs) -> TimeToAccuracy | None:
    """Times of trainings to the full set's result; None without evaluations during training, or without a full set."""
    if not isinstance(study, Study) or not runs.get("full"):
        return None
    cells: list[tuple[str, int | float | None, str]] = [("full", None, "full")]
    cells += [(arm, keep, selection_key(arm, keep)) for arm in study.arms for keep in study.budgets]
    cells += [(arm, None, selection_key(arm, OWN)) for arm in study.unbudgeted]
    known = {key: list(runs[key].values()) for _, _, key in cells if key in runs}
    known = {key: trials for key, trials in known.items() if all(CURVE in one.facts for one in trials)}
    if "full" not in known or len(known) == 1:
        return None
    rows = []
    for target in targets_of(study, metric, known["full"]):
        medians = {key: medians_of(trials, metric, target) for key, trials in known.items()}
        for arm, keep, key in cells:
            if key in known:
                random = medians.get(selection_key(study.baseline, keep)) if keep is not None else None
                others = {"everything": medians["full"], **({"random": random} if random else {})}
                rows.append(reached(study, arm, keep, key, target, medians[key], others, len(known[key])))
    if not rows:
        return None
    words = Words(study, metric)
    return TimeToAccuracy(rows, words.sentences(rows), words.table(rows))


@dataclass(frozen=True)
class Medians:
    """Medians of steps and seconds to a target over seeds, and the number of seeds that reached it."""

    steps: float
    seconds: float
    reached: int


def medians_of(trials: Sequence[Outcome], metric: Metric, target: Target) -> Medians:
    """Medians over the seeds of one arm at one budget."""
    found = np.array([first(outcome, metric, target) for outcome in trials], np.float64)
    steps, seconds = np.median(found, axis=0).tolist()
    return Medians(steps, seconds, int(np.isfinite(found[:, 0]).sum()))


def first(outcome: Outcome, metric: Metric, target: Target) -> tuple[float, float]:
    """Steps and seconds at the first evaluation that reaches the target; infinite if none does."""
    sign = 1 if metric.higher_is_better else -1
    once = outcome.all_seconds - outcome.seconds if outcome.compute else 0.0
    for point in outcome.facts[CURVE]:
        if sign * point["metrics"][metric.name] >= sign * target.value:
            return point["steps"], point["seconds"] + once
    return math.inf, math.inf


def reached(
    study: Study,
    arm: str,
    keep: int | float | None,
    selection: str,
    target: Target,
    own: Medians,
    others: Mapping[str, Medians],
    seeds: int,
) -> Reached:
    """One line of the table."""
    finite_ones = {name: other.seconds for name, other in others.items() if math.isfinite(other.seconds)}
    beside = {name: own.seconds / other for name, other in finite_ones.items() if other and math.isfinite(own.seconds)}
    chosen = study.selections.get(arm.removesuffix(KD))
    in_training = chosen is not None and chosen.in_training
    return Reached(arm, selection, keep, in_training, target, seeds, own.reached, own.steps, own.seconds, beside)


@dataclass(frozen=True)
class Words:
    """Turns lines into sentences and a table."""

    study: Study
    metric: Metric

    def place(self, row: Reached) -> str:
        """An arm at its budget."""
        if row.arm == "full":
            return other_of(self.study, row.arm)
        return title_of(self.study, row.arm) + (f" at {row.keep:g}" if row.keep is not None else "")

    def goal(self, target: Target) -> str:
        """A target in a sentence."""
        name = self.metric.name.replace("_", " ")
        unit = "%" if self.metric.percent else f" {self.metric.unit}".rstrip()
        value = f"{number(target.value, self.metric)}{unit}"
        return f"{target.title} {name} ({value})" if "%" in target.title else f"{name} of {value}"

    def sentences(self, rows: Sequence[Reached]) -> list[str]:
        """The fastest in-training selection, or else any, at the highest target that one of them reaches."""
        chosen = [row for row in rows if row.in_training] or [
            row for row in rows if row.arm not in ("full", self.study.baseline)
        ]
        there = [row for row in chosen if math.isfinite(row.seconds)]
        what = "selection in training" if chosen and chosen[0].in_training else self.study.arm
        if not there:
            lowest = self.goal(rows[0].target)
            return [f"No {what} reached {lowest} in half of its seeds."] if chosen else []
        order = list(dict.fromkeys(row.target for row in rows))
        best = max(there, key=lambda row: (order.index(row.target), -row.seconds))
        others = [
            row
            for row in rows
            if row.target == best.target
            and row.selection in ("full", selection_key(self.study.baseline, best.keep or OWN))
        ]
        beside = ", ".join(self.beside(row) for row in reversed(others))
        return [
            f"Soonest at {self.goal(best.target)} is {self.place(best)}, by {best.seconds:.3g} seconds and "
            f"{best.steps:,.0f} steps in the median ({best.reached} of {best.seeds} seeds reached it), what it is made "
            f"of included; {beside}."
        ]

    def beside(self, row: Reached) -> str:
        """The other side of the comparison in a sentence."""
        if math.isinf(row.seconds) or math.isnan(row.seconds):
            return f"{self.place(row)} reached it in {row.reached} of {row.seeds}"
        return f"{self.place(row)} took {row.seconds:.3g} seconds and {row.steps:,.0f} steps"

    def table(self, rows: Sequence[Reached]) -> Table:
        """A table with every arm at every budget for every target."""
        head = ["target", self.study.arm, "kept", "seeds that reach it", "steps", "seconds, all included"]
        lines = [[*head, "of everything's seconds", "of random's seconds"]]
        for row in rows:
            known = math.isfinite(row.seconds)
            kept = "all" if row.arm == "full" else "own" if row.keep is None else f"{row.keep:g}"
            line = [
                f"{row.target.title} ({number(row.target.value, self.metric)})",
                title_of(self.study, row.arm),
                kept,
            ]
            line += [f"{row.reached} of {row.seeds}"]
            line += [f"{row.steps:,.0f}", f"{row.seconds:.2f}"] if known else ["not reached", "not reached"]
            line += [f"{row.beside[other]:.2f} x" if other in row.beside else "" for other in ("everything", "random")]
            lines.append(line)
        return lines
