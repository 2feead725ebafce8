"""What each selection does to every class, and which classes it loses."""

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
"""The fact of an outcome that holds the share of each class's test samples that its model finds."""
LEFT, POINTS, SAMPLES = 0.25, 0.1, 5
"""A class is lost where less than a quarter of its recall with everything is left, and with it at least ten points and
as many as five test samples: that five are lost and none is won has a chance of 3% where nothing changed (sign test).
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

    Selections are in the order of how much they keep, the most first.
    """

    word: str
    """class, or label."""
    names: tuple[str, ...]
    test_samples: tuple[int, ...]
    recalls: Mapping[str, Recalls]
    lost: Mapping[str, tuple[Lost, ...]]
    """By the key of a selection; the one that falls most in front."""


def by_class(study: AnyStudy, outcomes: Mapping[Trial, Outcome], source: Mapping[str, Any]) -> ByClass | None:
    """Of the trials that were run, at equal epochs where these are compared at steps, too; None where their outcomes
    hold no recalls, as those of numbers.
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
    """The same of a study of any kind whose source is in the store."""
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
    """Classes of which next to nothing is left, by selection; none where everything was not trained on."""
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
    """Whether next to nothing is left of a class's recall with everything."""
    fall = whole - recall
    return recall < LEFT * whole and fall >= POINTS and fall * test_samples >= SAMPLES


def lost_findings(study: AnyStudy, found: ByClass | None) -> list[dict[str, Any]]:
    """One finding for each selection that loses a class, of its largest budget that does."""
    if found is None:
        return []
    listed = []
    for arm in [*study.arms, *study.unbudgeted]:
        if keys := [key for key in found.lost if arm in (key, key.rpartition("@")[0])]:
            listed.append(finding(study, arm, keys, found))
    return listed


def finding(study: AnyStudy, arm: str, keys: list[str], found: ByClass) -> dict[str, Any]:
    """What an arm loses at the first of its keys, and at which others it loses a class too."""
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
