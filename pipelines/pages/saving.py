"""Saving by a subset: samples, steps, seconds and money of each training, and the training at which it breaks even with
its one-time cost.

One-time costs are the inputs of a selection: its proxy, scores, embeddings, choice, tuned settings, teacher.
Recurring costs are the training on the kept samples, including a sampler's own work and a teacher that answers for
every batch. A trial's `compute` separates them: the part `training` recurs, all others are one-time costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.pipelines.pages.names import other_of, title_of
from secateur.pipelines.pages.recommendation import Runs
from secateur.pipelines.pages.words import HOUR, Table, span
from secateur.pipelines.studies.grid import KD, OWN, selection_key
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.outcome import Cost, Outcome

TRAINING = "training"
"""The part of a trial's compute that recurs in every further training on the subset."""
NEXT_TO_NOTHING = 0.02
"""Share of a training's seconds below which a cost is negligible."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Saved:
    """One arm at one budget compared with the full data, over their common seeds."""

    arm: str
    title: str
    selection: str
    """The trials' `selection`: the arm at its budget."""
    keep: int | float | None
    kept: int
    """Kept samples, for an in-training selection those of an epoch; the mean if seeds differ."""
    of: int
    seeds: int
    steps: float
    """Optimiser steps saved per training, mean over seeds."""
    full_steps: float
    work: float
    """Work saved per training, in samples trained on, mean over seeds."""
    full_work: float
    seconds: float
    """Saved per training: median over seeds."""
    least_seconds: float
    """Saved per training in the seed with the least saving."""
    full_seconds: float
    """Of one training on the full data: median over seeds."""
    once: Mapping[str, Cost]
    """One-time costs by part: means over seeds."""
    equal_steps: bool = False
    """Whether trainings take equally many steps, so that differences in seconds are chance."""

    @property
    def once_seconds(self) -> float:
        """One-time cost in seconds."""
        return sum(cost.seconds for cost in self.once.values())

    @property
    def once_work(self) -> float:
        """One-time cost in samples trained on."""
        return sum(cost.samples for cost in self.once.values())

    @property
    def shorter(self) -> bool:
        """Whether a training takes less work; with equal work, differences in seconds are chance."""
        return self.work > 0 and not self.equal_steps

    @property
    def saves(self) -> bool | None:
        """Whether a training saves time; None if it took longer than the full one in some seeds."""
        if not self.shorter or self.seconds <= 0:
            return False
        return True if self.least_seconds > 0 else None

    @property
    def pays_from(self) -> int | None:
        """Number of the training at which the saved seconds exceed the one-time cost; None if they never do, or if that
        is uncertain."""
        return max(1, math.ceil(self.once_seconds / self.seconds)) if self.saves else None

    def content(self, cost_per_hour: float | None) -> dict[str, Any]:
        """JSON-able content, with money if the study gives a price per hour."""
        told = {name: value for name, value in vars(self).items() if name not in ("once", "equal_steps")}
        money = {name: price(getattr(self, name), cost_per_hour) for name in ("seconds", "full_seconds")}
        return told | {
            "once": {part: {"samples": cost.samples, "seconds": cost.seconds} for part, cost in self.once.items()},
            "once_seconds": self.once_seconds,
            "once_work": self.once_work,
            "money": money["seconds"],
            "full_money": money["full_seconds"],
            "once_money": price(self.once_seconds, cost_per_hour),
            "saves": self.saves,
            "pays_from": self.pays_from,
        }


@dataclass(frozen=True)
class Saving:
    """Savings of all selections, and sentences on the recommended one."""

    rows: Sequence[Saved]
    sentences: Sequence[str]
    table: Table
    cost_per_hour: float | None = None
    trainings: int = 0
    """Trainings of the study itself, which no row counts."""
    seconds: float = 0.0

    def content(self) -> dict[str, Any]:
        """JSON-able content."""
        return {
            "cost_per_hour": self.cost_per_hour,
            "sentences": list(self.sentences),
            "rows": [row.content(self.cost_per_hour) for row in self.rows],
            "study": {
                "trainings": self.trainings,
                "seconds": self.seconds,
                "money": price(self.seconds, self.cost_per_hour),
            },
        }


def saving_of(study: AnyStudy, runs: Runs, recommended: str | None) -> Saving | None:
    """Savings of subsets against the full data, with sentences on the `recommended` selection.

    None for units other than samples, without results on the full data, and without known costs of training.
    """
    whole = next((name for name in study.references if runs.get(name)), None)
    if not isinstance(study, Study) or whole is None:
        return None
    rows = [
        row
        for arm in [*study.arms, *study.unbudgeted]
        for keep in ([OWN] if arm in study.unbudgeted else study.budgets)
        if (row := saved(study, arm, keep, runs.get(selection_key(arm, keep), {}), runs[whole])) is not None
    ]
    if not rows:
        return None
    spent = trainings_of(runs)
    words = Words(study, whole, next(iter(runs[whole].values())).compare_at)
    said = words.of(rows, recommended, len(spent), sum(spent))
    return Saving(rows, said, words.table(rows), study.cost_per_hour, len(spent), sum(spent))


def trainings_of(runs: Runs) -> list[float]:
    """Seconds of each training of a study; selections that keep all samples share one."""
    seconds: dict[tuple[str, int], float] = {}
    for selection, trials in runs.items():
        name = selection.rpartition("@")[0] or selection
        for seed, outcome in trials.items():
            shared = outcome.kept == outcome.of and not outcome.in_training
            seconds[(KD if name.endswith(KD) else "") if shared else selection, seed] = outcome.seconds
    return [*seconds.values()]


def saved(
    study: Study, arm: str, keep: int | float | str, trials: Mapping[int, Outcome], whole: Mapping[int, Outcome]
) -> Saved | None:
    """One arm at a budget against the full data; None if it keeps all samples statically, or costs are unknown."""
    common = sorted(trials.keys() & whole.keys())
    pairs = [(trials[seed], whole[seed]) for seed in common]
    if not pairs or not all(TRAINING in one.compute for pair in pairs for one in pair):
        return None
    if all(one.kept == one.of and not one.in_training for one, _ in pairs):
        return None
    # The number of rows in a budget of a column differs between seeds.
    counts: list[float] = [one.kept or 0 for one, _ in pairs]
    if keep == OWN and any(one.in_training for one, _ in pairs):  # samples seen show the size of an epoch
        counts = [one.samples_seen / max(1, one.epochs) for one, _ in pairs]
    parts = dict.fromkeys(part for one, _ in pairs for part in one.compute if part != TRAINING)
    seconds = np.array([[one.compute[TRAINING].seconds for one in pair] for pair in pairs], np.float64)
    work = np.array([[one.compute[TRAINING].samples for one in pair] for pair in pairs], np.float64)
    steps = np.array([[one.steps for one in pair] for pair in pairs], np.float64)
    return Saved(
        arm=arm,
        title=title_of(study, arm),
        selection=selection_key(arm, keep),
        keep=None if isinstance(keep, str) else keep,
        kept=round(float(np.mean(counts))),
        of=pairs[0][0].of or 0,
        seeds=len(pairs),
        steps=float((steps[:, 1] - steps[:, 0]).mean()),
        full_steps=float(steps[:, 1].mean()),
        work=float((work[:, 1] - work[:, 0]).mean()),
        full_work=float(work[:, 1].mean()),
        seconds=float(np.median(seconds[:, 1] - seconds[:, 0])),
        least_seconds=float((seconds[:, 1] - seconds[:, 0]).min()),
        full_seconds=float(np.median(seconds[:, 1])),
        once={part: mean_cost([one.compute.get(part, Cost()) for one, _ in pairs]) for part in parts},
        equal_steps=pairs[0][0].compare_at == "equal steps",
    )


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """Mean cost of one part over seeds."""
    count = len(costs)
    forward, backward = (round(sum(getattr(cost, way) for cost in costs) / count) for way in ("forward", "backward"))
    return Cost(forward, backward, sum(cost.seconds for cost in costs) / count)


def price(seconds: float, cost_per_hour: float | None) -> float | None:
    """Price of a time span, in the currency of the price per hour; None without one."""
    return None if cost_per_hour is None else seconds / HOUR * cost_per_hour


def ordinal(number: int) -> str:
    """An ordinal number, in words up to ten.

    >>> ordinal(3), ordinal(21), ordinal(112)
    ('third', '21st', '112th')
    """
    if number <= len(ORDINALS):
        return ORDINALS[number - 1]
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


@dataclass(frozen=True)
class Words:
    """Turns rows into sentences and a table."""

    study: Study
    whole: str
    compare_at: str | None

    @property
    def other(self) -> str:
        """Title of the full data in sentences."""
        return other_of(self.study, self.whole)

    def money(self, seconds: float) -> str:
        """Price of a time span; empty without a price per hour."""
        amount = price(seconds, self.study.cost_per_hour)
        if amount is None:
            return ""
        return f"{amount:,.2f}" if abs(amount) >= 1 else f"{amount:.2g}"

    def aside(self, seconds: float, *facts: str) -> str:
        """Facts and the price of a time span in brackets; empty if there are none."""
        told = [fact for fact in facts if fact]
        told += [f"in money {self.money(seconds)}"] if self.study.cost_per_hour else []
        return f" ({'; '.join(told)})" if told else ""

    def of(self, rows: Sequence[Saved], recommended: str | None, trainings: int, seconds: float) -> list[str]:
        """Sentences on the recommendation's saving, or the reason for none, and on the study's own cost."""
        chosen = next((row for row in rows if row.selection == recommended), None)
        if chosen is not None:
            said = [self.sentence(chosen), self.break_even(chosen)]
        elif recommended == self.whole:
            said = ["Everything is kept, so nothing is saved; the table lists the saving of each subset."]
        else:
            said = []
        if self.compare_at == "equal steps":
            said.append(
                f"At equal steps every training is as long as one on {self.other}, so none saves time: write "
                "`training: {epochs: …}` to compare shorter trainings, with `compare_at: [epochs, steps]` "
                "for both."
            )
        if trainings:
            took = f"{span(seconds)}{self.aside(seconds)}"
            said.append(f"The {trainings:,} trainings of the study itself took {took}, not counted here.")
        return said

    def sentence(self, row: Saved) -> str:
        """A sentence on the saving per training."""
        samples = f"{row.of - row.kept:,} of {row.of:,} samples"
        if row.saves is False:
            return f"The recommended subset saves {samples} of storage, and nothing in training."
        share = self.aside(row.seconds, f"{row.seconds / row.full_seconds:.0%}")
        return (
            f"The recommended subset saves {samples}, and in each training {row.steps / row.full_steps:.0%} of the "
            f"steps and {span(row.seconds)} of {span(row.full_seconds)}{share}."
        )

    def break_even(self, row: Saved) -> str:
        """A sentence on the one-time cost, and the training at which it breaks even."""
        parts = sorted(row.once.items(), key=lambda part: -part[1].seconds)
        listed = ", ".join(f"{name} {cost.seconds:.3g}" for name, cost in parts if cost.seconds)
        little = row.once_seconds < NEXT_TO_NOTHING * row.full_seconds
        cost = f"Making it took {span(row.once_seconds)} once{self.aside(row.once_seconds, listed)}"
        cost = "Making it costs next to nothing" if little else cost
        if row.pays_from is not None:
            return f"{cost}: it pays from the {ordinal(row.pays_from)} training on."
        if row.saves is None:
            return f"{cost}; whether it pays is not sure, for in some seeds the training took no less time."
        return f"{cost}: in training time it never pays."

    def table(self, rows: Sequence[Saved]) -> Table:
        """A table with every arm at every budget."""
        priced = self.study.cost_per_hour is not None
        head = [self.study.arm, "kept", "steps saved %", "seconds saved of each training", "%"]
        head += ["money saved"] if priced else []
        head += ["seconds spent once", *(["money spent once"] if priced else []), "spent on", "pays from training"]
        lines = [head]
        for row in rows:
            kept = f"{row.kept:,}" + (" per epoch" if self.in_training(row) else "")
            line = [row.title, kept, f"{100 * row.steps / row.full_steps:.0f}" if row.full_steps else "0"]
            timed = row.shorter
            line += [f"{row.seconds:.2f} of {row.full_seconds:.2f}" if timed else f"none of {row.full_seconds:.2f}"]
            line += [f"{100 * row.seconds / row.full_seconds:.0f}" if timed and row.full_seconds else ""]
            line += [self.money(row.seconds) if timed else ""] if priced else []
            line += [f"{row.once_seconds:.2f}", *([self.money(row.once_seconds)] if priced else [])]
            spent = {part: cost.seconds for part, cost in row.once.items() if cost.seconds >= 0.005}
            line += [", ".join(f"{part} {seconds:.2f}" for part, seconds in spent.items())]
            never = "never" if row.saves is False else "not sure"
            lines.append([*line, f"{row.pays_from:,}" if row.pays_from is not None else never])
        return lines

    def in_training(self, row: Saved) -> bool:
        """Whether a row's selection draws anew in every epoch."""
        selection = self.study.selections.get(row.arm.removesuffix(KD))
        return selection is not None and selection.in_training
