"""Matching of a model's outputs with the classes of the data: by name, not by place.

A model trained with another order of the classes is as good as any, but mostly wrong if its outputs are read by place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, Shaped

from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.multi_label import MultiLabel

Places = Int64[np.ndarray, " width"]
SHOWN = 20
"""Largest number of names in a message."""


def places_of(theirs: Task, own: Task, whose: str) -> Places | None:
    """Place of each class (or label) of the data among a model's outputs; None if all places agree.

    If either side has no names, or only numbers from 0 on, other names are matched by place. Raises ValueError with
    both lists for other classes, and for tasks with outputs on other scales.
    """
    mine, others = names_of(own), names_of(theirs)
    if theirs.target != own.target or (own.target == "numbers" and plain(theirs.state()) != plain(own.state())):
        raise ValueError(
            f"{whose} learned {theirs.state()}, the data are {own.state()}: outputs of another task or "
            "on another scale cannot be compared; train it with the task of these data"
        )
    if own.target == "numbers" or not own.learns_target:  # outputs are no classes
        return None
    alike = sorted(mine) == sorted(others) and len(set(mine)) == len(mine)
    if theirs.width != own.width or not (alike or are_numbers(mine) or are_numbers(others)):
        raise ValueError(
            f"{whose} knows {theirs.width} classes ({listed(others)}), the data have {own.width} ({listed(mine)}): "
            "give one that learned the classes of these data, under the same names"
        )
    if not alike or mine == others:
        return None
    return np.array([others.index(name) for name in mine], dtype=np.int64)


def plain(state: Mapping[str, Any]) -> Any:
    """The state of a task after a round trip through JSON."""
    return json.loads(json.dumps(state))


def names_of(task: Task) -> list[str]:
    """Names of a task's outputs, empty if it has none."""
    return [str(name) for name in getattr(task, "names", ())]


def are_numbers(names: Sequence[str]) -> bool:
    """Whether names add nothing to places: there are none, or they are 0, 1, 2, …"""
    return list(names) == [str(number) for number in range(len(names))]


def places_are_guessed(theirs: Task | None, own: Task) -> bool:
    """Whether only one of data and model has names of classes, so that a match by place is a guess."""
    mine, others = names_of(own), names_of(theirs) if theirs else []
    return (
        own.target != "numbers" and sorted(mine) != sorted(others) and not (are_numbers(mine) and are_numbers(others))
    )


def listed(names: Sequence[str]) -> str:
    """Names as text for a message."""
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "without names"


def task_of_model(model: Any, own: Task) -> Task | None:
    """The task of a model, or one with the classes in `config.id2label` of a model of transformers.

    None if there is neither; LABEL_0, LABEL_1, …, which transformers writes by default, are no names.
    """
    task = getattr(model, "task", None)
    if isinstance(task, Task):
        return task
    known = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(known, Mapping) or not known:
        return None
    by_number = {int(number): str(name) for number, name in known.items()}
    names = [by_number[number] for number in sorted(by_number)]
    given = () if names == [f"LABEL_{number}" for number in range(len(names))] else tuple(names)
    return MultiLabel(len(names), given) if own.target == "labels" else Classification(len(names), given)


def refuse_other_order(outputs: Float[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."], own: Task) -> None:
    """Raise ValueError if outputs without names fit the targets clearly better in another order of the classes.

    Clearly: the recall over all samples' classes (or labels) in the best order exceeds that in the given order by a
    tenth plus the expected gain of the best order by chance. That gain is, per class, the largest of as many Poisson
    counts as there are classes.
    """
    from scipy.optimize import linear_sum_assignment

    classes = np.arange(own.width)
    truth = targets if own.target == "labels" else targets[:, None] == classes
    found = outputs > 0 if own.target == "labels" else outputs.argmax(axis=1)[:, None] == classes
    together = found.astype(np.float64).T @ truth.astype(np.float64)
    total = max(1, int(truth.sum()))
    as_given, best = together.trace() / total, together[linear_sum_assignment(together, maximize=True)].sum() / total
    expected = np.maximum(1, found.sum(axis=0) * truth.sum(axis=0) / max(1, len(truth)))
    chance = np.sqrt(2 * np.log(own.width + 1) * expected).sum() / total
    if best - as_given > 0.1 + chance:
        raise ValueError(
            f"its outputs have no class names, and fit the data's in another order: {100 * as_given:.1f}% are right in "
            f"the order {listed(names_of(own))}, {100 * best:.1f}% in another; write the names of its classes, in its "
            "order, under task.names of its model.json"
        )
