"""The report: every selection beside random at the same budget, with a plain verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.pipelines.runs.costs import Cost
from secateur.pipelines.studies.grid import KD, OWN, Trial, selection_key
from secateur.pipelines.studies.samples import BASELINES, Study
from secateur.pipelines.studies.signals import PARTS
from secateur.trainers.judging.comparison import Comparison, Summary, compare, summarise

TITLES = {"uniform_random": "random", "stratified_random": "stratified random", "full": "full set"}
Results = Mapping[int, Mapping[str, Any]]
"""What was measured of a selection at a budget, by seed."""
Family = Mapping[str, Results]


@dataclass(frozen=True)
class Row:
    """One selection at one budget, over the seeds that all selections of that budget have.

    Comparisons are None where there is nothing to compare with. `against_plain` sets a taught twin beside the same
    samples without a teacher, `against_taught_random` beside random with one.
    """

    name: str
    keep: float | str
    kept: int
    in_training: bool
    """Whether `kept` are the samples of an epoch, chosen anew in each."""
    steps: int
    """Optimiser steps, of the longest seed."""
    steps_ratio: float | None
    """Steps over the baseline's, None where they are equal."""
    accuracy: Summary
    worst_class: Summary
    calibration_error: Summary
    loss: Summary
    random: Summary | None
    against_random: Comparison | None = None
    against_stratified: Comparison | None = None
    against_plain: Comparison | None = None
    against_taught_random: Comparison | None = None
    against_full: Comparison | None = None
    compute: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By part, and in all: `samples` trained on, or as much work, and `seconds`; means over seeds."""

    @property
    def distilled(self) -> bool:
        return self.name.endswith(KD)

    @property
    def plain_name(self) -> str:
        return self.name.removesuffix(KD)

    @property
    def title(self) -> str:
        """The name as a reader sees it."""
        plain = TITLES.get(self.plain_name, self.plain_name)
        return plain + (" + KD" if self.distilled else "") + ("" if self.steps_ratio is None else " †")

    @property
    def size(self) -> str:
        """Samples kept, as a reader sees them."""
        return f"{self.kept:,}" + (" per epoch" if self.in_training else "")


@dataclass(frozen=True)
class Report:
    """What a study found."""

    study: str
    description: str
    samples: int
    test_samples: int
    seeds: int
    compare_at: str
    """equal steps, or equal epochs."""
    rows: tuple[Row, ...]
    whole: tuple[Row, ...]
    """The full set, then selections that go by no budget of the study."""
    tuning: Mapping[str, Any]

    @property
    def full(self) -> Row | None:
        """The full set without a teacher."""
        return next((row for row in self.whole if row.name == "full"), None)

    @property
    def verdict(self) -> str:
        """One sentence over all selections, and one more over their taught twins."""
        judged = [row for row in self.rows if row.against_random and row.name not in BASELINES and not row.distilled]
        if self.seeds < 2:
            return "One seed says nothing about any selection; ask for more seeds."
        said = self.sentence([(row, row.against_random) for row in judged]) if judged else "Only baselines were run."
        taught = [(row, row.against_taught_random) for row in self.rows if row.plain_name not in BASELINES]
        if any(compared for _, compared in taught):
            said += f" With a teacher on both sides: {self.sentence(taught)}"
        return said

    def sentence(self, compared: list[tuple[Row, Comparison | None]]) -> str:
        """Which of these selections did better than random."""
        better = [
            f"{row.title} at {row.kept:,} kept"
            + (f" ({row.steps_ratio:.2g} times its steps)" if row.steps_ratio else "")
            for row, found in compared
            if found and found.verdict.startswith("better")
        ]
        return sentence_of(better, sum(found is not None for _, found in compared), self.seeds)


def sentence_of(better: list[str], compared: int, seeds: int, what: str = "selection") -> str:
    """Which of those compared did better than random."""
    if not better:
        return f"No {what} did better than random at the same budget, over {seeds} seeds."
    rest = "; the others were not" if len(better) < compared else ""
    return f"Better than random at the same budget, over {seeds} seeds: {', '.join(better)}{rest}."


def build_report(
    study: Study, source: Mapping[str, Any], evaluations: Mapping[Trial, Mapping[str, Any]], tuning: Mapping[str, Any]
) -> Report:
    """Gather the trials that were evaluated.

    Comparisons are paired by seed, so they use the seeds that both sides have. Trials are compared at equal optimiser
    steps, or at equal epochs where the config is of epochs; raises ValueError where trials of one budget are neither,
    because they would not be comparable.
    """
    results: dict[str, dict[int, Mapping[str, Any]]] = {}
    for trial, metrics in evaluations.items():
        results.setdefault(trial.selection, {})[trial.seed] = metrics
    told = {metrics["compare_at"] for metrics in evaluations.values()}
    if len(told) != 1:
        raise ValueError(
            f"trials were trained for {' and for '.join(sorted(told)) or 'nothing'}; train them again alike"
        )
    compare_at = told.pop()
    rows: list[Row] = []
    for keep in study.keep:
        rows += rows_at(keep, gathered(study, keep, results), compare_at)
    return Report(
        study=study.name,
        description=study.description,
        samples=source["samples"],
        test_samples=source["test_samples"],
        seeds=study.seeds,
        compare_at=compare_at,
        rows=tuple(rows),
        whole=tuple(rows_of_the_whole(gathered(study, OWN, results), compare_at)),
        tuning=tuning,
    )


def gathered(study: Study, keep: float | str, results: Mapping[str, Results]) -> Family:
    """What was evaluated at one budget, by name; with no budget, the full set too."""
    names = [name for name, selection in study.selections.items() if (selection.budget == OWN) == (keep == OWN)]
    found = {f"{name}{kd}": results.get(selection_key(f"{name}{kd}", keep), {}) for name in names for kd in ("", KD)}
    whole = {f"full{kd}": results.get(f"full{kd}", {}) for kd in ("", KD)} if keep == OWN else {}
    return {name: trials for name, trials in {**whole, **found}.items() if trials}


def rows_at(keep: float, family: Family, compare_at: str) -> list[Row]:
    """The rows of one budget, baselines first, each twin behind its plain self."""
    missing = [name for name in BASELINES if name not in family]
    if missing:
        raise ValueError(f"keep {keep}: {' and '.join(missing)} not evaluated; every report needs its baselines")
    seeds = comparable(f"keep {keep}", family, compare_at)
    accuracy = {name: [trials[seed]["accuracy"] for seed in seeds] for name, trials in family.items()}
    plain = {name: values for name, values in accuracy.items() if not name.endswith(KD)}
    twins = {name: values for name, values in accuracy.items() if name.endswith(KD)}
    random, taught_random = accuracy[BASELINES[0]], accuracy.get(f"{BASELINES[0]}{KD}")
    others = {name: values for name, values in plain.items() if name != BASELINES[0]}
    strata = {name: values for name, values in plain.items() if name not in BASELINES}
    taught = {name: values for name, values in twins.items() if name != f"{BASELINES[0]}{KD}"}
    against = {
        "against_random": compare(others, random) | compare(twins, random),
        "against_stratified": compare(strata, accuracy[BASELINES[1]], against="stratified random"),
        "against_plain": against_plain(plain, twins),
        "against_taught_random": compare(taught, taught_random, against="random + KD") if taught_random else {},
    }
    baselines = [f"{name}{kd}" for name in BASELINES for kd in ("", KD) if f"{name}{kd}" in family]
    return [
        row_of(
            name,
            keep,
            [family[name][seed] for seed in seeds],
            baseline=[family[BASELINES[0]][seed] for seed in seeds],
            random=summarise(random),
            **{which: found.get(name) for which, found in against.items()},
        )
        for name in [*baselines, *(name for name in family if name not in baselines)]
    ]


def against_plain(plain: Mapping[str, list[float]], twins: Mapping[str, list[float]]) -> dict[str, Comparison]:
    """Each twin against the same samples without a teacher; Holm's correction is over the twins."""
    pairs = {name: (values, plain[name.removesuffix(KD)]) for name, values in twins.items()}
    # Differences from one another's baselines form one family: shifted to a baseline of zero, they can be compared.
    shifted = {name: [a - b for a, b in zip(*pair, strict=True)] for name, pair in pairs.items()}
    seeds = len(next(iter(shifted.values()), []))
    return compare(shifted, [0.0] * seeds, against="the same samples without a teacher") if shifted else {}


def rows_of_the_whole(family: Family, compare_at: str) -> list[Row]:
    """The full set, its twin, and selections that go by their own settings, compared with the full set."""
    if "full" not in family:
        return []
    seeds = comparable("the full set", family, compare_at)
    accuracy = {name: [trials[seed]["accuracy"] for seed in seeds] for name, trials in family.items()}
    others = {name: values for name, values in accuracy.items() if name != "full"}
    against = compare(others, accuracy["full"], against="the full set")
    full = [family["full"][seed] for seed in seeds]
    return [
        row_of(
            name,
            OWN,
            [family[name][seed] for seed in seeds],
            baseline=full,
            random=None,
            against_full=against.get(name),
        )
        for name in family
    ]


def comparable(where: str, family: Family, compare_at: str) -> list[int]:
    """Seeds that all sides have; raises ValueError where their trainings were not equally long, as chosen."""
    counted = compare_at.removeprefix("equal ")
    lengths = {metrics[counted] for trials in family.values() for metrics in trials.values()}
    if len(lengths) > 1:
        raise ValueError(f"{where}: trials were trained for {sorted(lengths)} {counted}; train them again alike")
    seeds = sorted(set.intersection(*(set(trials) for trials in family.values())))
    if not seeds:
        raise ValueError(f"{where}: no seed was evaluated for every selection")
    return seeds


def row_of(
    name: str,
    keep: float | str,
    trials: list[Mapping[str, Any]],
    *,
    baseline: list[Mapping[str, Any]],
    random: Summary | None,
    **against: Comparison | None,
) -> Row:
    """Summaries over the seeds of one selection."""

    def over_seeds(metric: str) -> Summary:
        return summarise([trial[metric] for trial in trials])

    steps = max(trial["steps"] for trial in trials)
    equal = [trial["steps"] for trial in trials] == [trial["steps"] for trial in baseline]
    in_training = any(trial["in_training"] for trial in trials)
    per_epoch = round(float(np.mean([trial["samples_seen"] / trial["epochs"] for trial in trials])))
    return Row(
        name=name,
        keep=keep,
        kept=per_epoch if keep == OWN and in_training else trials[0]["kept"],
        in_training=in_training,
        steps=steps,
        steps_ratio=None if equal else steps / max(trial["steps"] for trial in baseline),
        accuracy=over_seeds("accuracy"),
        worst_class=over_seeds("worst_class_accuracy"),
        calibration_error=over_seeds("calibration_error"),
        loss=over_seeds("loss"),
        random=random,
        compute=compute_of([trial["compute"] for trial in trials]),
        **against,
    )


def compute_of(spent: list[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over seeds of every part, and of all together."""
    found: dict[str, dict[str, float]] = {}
    for part in (*PARTS, "all"):
        costs = [
            [Cost(**cost) for name, cost in each.items() if part in (name, "all")]  # type: ignore[arg-type]
            for each in spent
        ]
        if any(costs):
            found[part] = {
                "samples": float(np.mean([sum(cost.samples for cost in each) for each in costs])),
                "seconds": float(np.mean([sum(cost.seconds for cost in each) for each in costs])),
            }
    return found
