"""What a subset saves: samples, steps, seconds and money of each training, and from which training on it has paid for
what was spent once to make it.

Once: what a selection would not have been made without, its proxy, scores, embeddings, choice, tuned settings, teacher.
Again and again: the training on what is kept, and within it a sampler's own work and a teacher that is asked for every
batch. A trial's `compute` tells them apart: the part `training` recurs, all others are spent once.
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
"""The part of a trial's compute that every further training on the subset costs again."""
NEXT_TO_NOTHING = 0.02
"""Of a training's seconds: what costs less is not worth a word."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Saved:
    """One arm at one budget beside everything, over the seeds that both have."""

    arm: str
    title: str
    selection: str
    """The trials' `selection`: the arm at its budget."""
    keep: int | float | None
    kept: int
    """Samples kept, of an in-training selection those of an epoch; the mean where seeds differ."""
    of: int
    seeds: int
    steps: float
    """Optimiser steps that one training saves, the mean over seeds."""
    full_steps: float
    work: float
    """As many samples trained on that one training saves, the mean over seeds."""
    full_work: float
    seconds: float
    """That one training saves: the median over seeds."""
    least_seconds: float
    """That one training saves, in the seed that saved the least."""
    full_seconds: float
    """Of one training on everything: the median over seeds."""
    once: Mapping[str, Cost]
    """What was spent once, by part: means over seeds."""
    equal_steps: bool = False
    """Whether trainings take equally many steps, so that differing seconds are chance."""

    @property
    def once_seconds(self) -> float:
        """What was spent once, in seconds."""
        return sum(cost.seconds for cost in self.once.values())

    @property
    def once_work(self) -> float:
        """What was spent once, in as many samples trained on."""
        return sum(cost.samples for cost in self.once.values())

    @property
    def shorter(self) -> bool:
        """Whether a training takes less work; of equally much, differing seconds are chance."""
        return self.work > 0 and not self.equal_steps

    @property
    def saves(self) -> bool | None:
        """Whether a training saves time; None where in some seeds it took longer than one on everything."""
        if not self.shorter or self.seconds <= 0:
            return False
        return True if self.least_seconds > 0 else None

    @property
    def pays_from(self) -> int | None:
        """Number of the training by which the seconds saved make up for those spent once; None where that is never, or
        not sure."""
        return max(1, math.ceil(self.once_seconds / self.seconds)) if self.saves else None

    def content(self, cost_per_hour: float | None) -> dict[str, Any]:
        """JSON-able; money where an hour has a price."""
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
    """What all that was compared saves, and the words for what is recommended."""

    rows: Sequence[Saved]
    sentences: Sequence[str]
    table: Table
    cost_per_hour: float | None = None
    trainings: int = 0
    """Of the study itself, whose seconds no row counts."""
    seconds: float = 0.0

    def content(self) -> dict[str, Any]:
        """JSON-able."""
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
    """What subsets save beside the whole, and in words what the selection saves that is `recommended`.

    None where samples are not what is pruned, the whole was not run, or no trial knows what its training cost.
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
    """Seconds of each training of a study; where all samples stay, selections share one."""
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
    """One arm at a budget beside the whole; None where it keeps everything in one go, or costs are not known."""
    common = sorted(trials.keys() & whole.keys())
    pairs = [(trials[seed], whole[seed]) for seed in common]
    if not pairs or not all(TRAINING in one.compute for pair in pairs for one in pair):
        return None
    if all(one.kept == one.of and not one.in_training for one, _ in pairs):
        return None
    # A budget of a column is another number of rows in each seed.
    counts: list[float] = [one.kept or 0 for one, _ in pairs]
    if keep == OWN and any(one.in_training for one, _ in pairs):  # what an epoch keeps is known from what it saw
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
    """Of one part, over seeds."""
    count = len(costs)
    forward, backward = (round(sum(getattr(cost, way) for cost in costs) / count) for way in ("forward", "backward"))
    return Cost(forward, backward, sum(cost.seconds for cost in costs) / count)


def price(seconds: float, cost_per_hour: float | None) -> float | None:
    """What so many seconds cost, in the currency of the price of an hour; None without one."""
    return None if cost_per_hour is None else seconds / HOUR * cost_per_hour


def ordinal(number: int) -> str:
    """A place in a row, in words up to ten.

    >>> ordinal(3), ordinal(21), ordinal(112)
    ('third', '21st', '112th')
    """
    if number <= len(ORDINALS):
        return ORDINALS[number - 1]
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


@dataclass(frozen=True)
class Words:
    """Rows on their way into sentences and a table."""

    study: Study
    whole: str
    compare_at: str | None

    @property
    def other(self) -> str:
        """Everything, as a sentence calls it."""
        return other_of(self.study, self.whole)

    def money(self, seconds: float) -> str:
        """What so many seconds cost; empty where an hour has no price."""
        amount = price(seconds, self.study.cost_per_hour)
        if amount is None:
            return ""
        return f"{amount:,.2f}" if abs(amount) >= 1 else f"{amount:.2g}"

    def aside(self, seconds: float, *facts: str) -> str:
        """Facts and the price of so many seconds in brackets; nothing where there are neither."""
        told = [fact for fact in facts if fact]
        told += [f"in money {self.money(seconds)}"] if self.study.cost_per_hour else []
        return f" ({'; '.join(told)})" if told else ""

    def of(self, rows: Sequence[Saved], recommended: str | None, trainings: int, seconds: float) -> list[str]:
        """Sentences: what the recommendation saves, or why nothing does, and what it took to find out."""
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
        """What one training saves."""
        samples = f"{row.of - row.kept:,} of {row.of:,} samples"
        if row.saves is False:
            return f"The recommended subset saves {samples} of storage, and nothing in training."
        share = self.aside(row.seconds, f"{row.seconds / row.full_seconds:.0%}")
        return (
            f"The recommended subset saves {samples}, and in each training {row.steps / row.full_steps:.0%} of the "
            f"steps and {span(row.seconds)} of {span(row.full_seconds)}{share}."
        )

    def break_even(self, row: Saved) -> str:
        """What was spent once, and from which training on that has paid."""
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
        """Every arm at every budget."""
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
        """Whether a row chooses anew in every epoch."""
        selection = self.study.selections.get(row.arm.removesuffix(KD))
        return selection is not None and selection.in_training
