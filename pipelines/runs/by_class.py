"""Recall of every class under each selection, and the classes that it loses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.pipelines.files.shown_text import quoted
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import OWN, Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.registry import tasks

RECALLS = "recalls"
"""Key of an outcome's facts: the model's recall of each class on the test samples."""
LEFT, POINTS, SAMPLES = 0.25, 0.1, 5
"""A class is lost where its recall is below a quarter of that with everything, and lower by at least ten points and by
at least five test samples. Without a real change, five losses and no gain have a chance of 3% (sign test).
"""
Recalls = list[float | None]


@dataclass(frozen=True)
class Lost:
    """A class that a selection loses, and its recall: by the selection, by random, and with everything."""

    name: str
    recall: float
    random: float | None
    whole: float
    test_samples: int


@dataclass(frozen=True)
class ByClass:
    """Recalls of every class or label by the key of a selection, means over seeds, and the classes that each loses.

    Selections that keep most come first.
    """

    word: str
    """class, or label."""
    names: tuple[str, ...]
    test_samples: tuple[int, ...]
    recalls: Mapping[str, Recalls]
    lost: Mapping[str, tuple[Lost, ...]]
    """By the key of a selection; the class with the largest fall first."""


def by_class(study: AnyStudy, outcomes: Mapping[Trial, Outcome], source: Mapping[str, Any]) -> ByClass | None:
    """Recalls over the trials that were run, only those at equal epochs if the study compares at equal steps too; None
    where outcomes hold no recalls, such as those of numbers.
    """
    every: dict[str, list[Recalls]] = {}
    for trial, outcome in outcomes.items():
        if outcome.facts.get(RECALLS) and not trial.at_steps:
            every.setdefault(trial.selection, []).append(outcome.facts[RECALLS])
    counts = source.get("test_counts")
    if not every or not counts:
        return None
    kind = tasks().get(source["task"]["name"])
    names = tuple(source["label_names"])
    sizes = {trial.selection: outcome.kept or 0 for trial, outcome in outcomes.items()}
    recalls = {key: mean(every[key]) for key in sorted(every, key=lambda key: -sizes[key])}
    return ByClass(
        "label" if kind and kind.target == "labels" else "class",
        names,
        tuple(counts),
        recalls,
        lost_classes(study, names, counts, recalls),
    )


def by_class_in(store: Store, study: AnyStudy, outcomes: Mapping[Trial, Outcome]) -> ByClass | None:
    """`by_class` for a study of any kind; None where its source is not in the store."""
    key = (study.name, "source")
    known = isinstance(study, Study) and store.find(key)
    return by_class(study, outcomes, store.load(key)) if known else None


def mean(several: list[Recalls]) -> Recalls:
    """Mean over seeds; None where there are no test samples of the class."""
    values = np.array(several, np.float64).mean(axis=0)  # None becomes NaN
    return [None if np.isnan(value) else float(value) for value in values]


def lost_classes(
    study: AnyStudy, names: tuple[str, ...], counts: list[int], recalls: Mapping[str, Recalls]
) -> dict[str, tuple[Lost, ...]]:
    """Lost classes by selection; none where no model was trained on everything."""
    whole, found = recalls.get(study.references[0]), {}
    for key, own in recalls.items() if whole else ():
        name, _, keep = key.partition("@")
        random = recalls.get(f"{study.baseline}@{keep}") if name != study.baseline else None
        lost = [
            Lost(names[place], here, random[place] if random else None, all_of_it, counts[place])
            for place, (here, all_of_it) in enumerate(zip(own, whole or (), strict=True))
            if here is not None and all_of_it is not None and is_lost(here, all_of_it, counts[place])
        ]
        if lost:
            found[key] = tuple(sorted(lost, key=lambda one: one.recall - one.whole))
    return found


def is_lost(recall: float, whole: float, test_samples: int) -> bool:
    """Whether a class is lost by the bounds at `LEFT`; `whole` is its recall with everything."""
    fall = whole - recall
    return recall < LEFT * whole and fall >= POINTS and fall * test_samples >= SAMPLES


def lost_findings(study: AnyStudy, found: ByClass | None) -> list[dict[str, Any]]:
    """One finding for each selection that loses a class, about the largest budget at which it does."""
    if found is None:
        return []
    listed = []
    for arm in [*study.arms, *study.unbudgeted]:
        if keys := [key for key in found.lost if arm in (key, key.rpartition("@")[0])]:
            listed.append(finding(study, arm, keys, found))
    return listed


def finding(study: AnyStudy, arm: str, keys: list[str], found: ByClass) -> dict[str, Any]:
    """The finding about classes that an arm loses at the first of its keys, with the other budgets that lose some."""
    lost = found.lost[keys[0]]
    worst, plural = lost[0], "es" if found.word == "class" else "s"
    beside = [f"{100 * worst.random:.1f}% by {study.title(study.baseline)}"] if worst.random is not None else []
    beside.append(f"{100 * worst.whole:.1f}% with everything")
    budgets = [key.partition("@")[2] for key in keys]
    at = f" at {budgets[0]}" if budgets[0] not in ("", OWN) else ""
    text = (
        f"{study.title(arm)}{at} loses {found.word} {quoted(worst.name)}: {100 * worst.recall:.1f}% of its "
        f"{worst.test_samples:,} test samples are found, {' and '.join(beside)}"
    )
    if others := [quoted(one.name) for one in lost[1:]]:
        more = ", …" if len(others) > 5 else ""
        word = f"{len(others)} other {found.word}{plural if len(others) > 1 else ''}"
        text += f"; and {word}: {', '.join(others[:5])}{more}"
    if budgets[1:]:
        text += f"; it loses some at {', '.join(budgets[1:])}, too"
    classes = [one.name for one in lost]
    told = {"kind": f"lost {found.word}", "split": "test", "count": len(lost), "text": text, "rows": []}
    return told | {"selection": keys[0], "classes": classes}
