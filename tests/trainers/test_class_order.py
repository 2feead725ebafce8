"""Teachers with classes in another order, with other names or numbers, by model, cache and transformers' config."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import TeacherLogits, cache_logits
from secateur.trainers.distillation.objective import distil
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train
from secateur.trainers.tasks.class_order import places_are_guessed, places_of, refuse_other_order, task_of_model
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression

CPU = torch.device("cpu")
CONFIG = TrainingConfig(model="mlp", model_settings={"hidden": [8]}, steps=60, batch_size=32, learning_rate=0.02)
NAMES = ("ant", "bee", "cat", "dog")


def samples(task: Task, order: tuple[int, ...] = (0, 1, 2, 3)) -> Data:
    """Four groups of points; class k of the task is group `order[k]`."""
    generator = np.random.default_rng(0)
    groups = np.arange(160) % 4
    inputs = generator.normal(size=(160, 2)) + 3 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[groups]
    classes = np.argsort(order)[groups]
    if task.target == "labels":
        shown: Any = (classes[:, None] == np.arange(4)) | (classes[:, None] == (np.arange(4) + 1) % 4)
    else:
        shown = classes
    return Data(inputs.astype(np.float32), shown, task)


def named(names: tuple[str, ...], kind: str = "classes") -> Task:
    return Classification(len(names), names) if kind == "classes" else MultiLabel(len(names), names)


@pytest.fixture(scope="module")
def ordered() -> tuple[Data, nn.Module]:
    """Data with classes in the order of their names, and a model of them."""
    data = samples(named(NAMES))
    return data, train(data, CONFIG, seed=0, device=CPU).model


ORDER = (2, 0, 3, 1)
OTHERS = tuple(NAMES[place] for place in ORDER)


@pytest.fixture(scope="module")
def shuffled() -> nn.Module:
    """The same classes in another order."""
    return train(samples(named(OTHERS), ORDER), CONFIG, seed=0, device=CPU).model


def as_transformers(model: nn.Module, names: tuple[str, ...], *, text_keys: bool = False) -> nn.Module:
    """The interface of a classifier of transformers: its config, and logits in an output object."""
    known: dict[Any, str] = {str(n) if text_keys else n: name for n, name in reversed(list(enumerate(names)))}

    class Hugging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config = copy.deepcopy(model[1]), SimpleNamespace(id2label=known)  # type: ignore[index]
            self.standardise = copy.deepcopy(model[0])  # type: ignore[index]

        def forward(self, inputs: torch.Tensor) -> Any:
            return SimpleNamespace(logits=self.inner(self.standardise(inputs)))

    return Hugging()


def teacher_of(model: nn.Module, data: Data, *, how: str) -> Teacher:
    if how == "live":
        return Teacher(model)
    return Teacher(cached=cache_logits(model, data, top_k=2 if how == "the highest two" else None))


def share_right(teacher: Teacher, data: Data) -> float:
    ids = torch.arange(len(data))
    said = teacher(ids, data.network_inputs(CPU), data.task)
    return float((said.argmax(dim=1).numpy() == data.targets).mean())


@pytest.mark.parametrize("how", ["live", "cached", "the highest two"])
def test_a_teacher_of_another_order_is_as_good_as_one_of_the_same(
    how: str, ordered: tuple[Data, nn.Module], shuffled: nn.Module
) -> None:
    data, model = ordered
    same, other = (teacher_of(each, data, how=how) for each in (model, shuffled))
    assert share_right(same, data) > 0.95
    assert share_right(other, data) > 0.95
    ids, inputs = torch.arange(160), data.network_inputs(CPU)
    by_hand = teacher_of(shuffled, data, how=how)(ids, inputs)[:, [OTHERS.index(name) for name in NAMES]]
    assert torch.equal(other(ids, inputs, data.task), by_hand)
    # Read by place, the teacher would be wrong nearly everywhere, and so would its students.
    assert (teacher_of(shuffled, data, how=how)(ids, inputs).argmax(1).numpy() == data.targets).mean() < 0.05
    objective = distil(other, alpha=1.0, temperature=1.0)
    student = train(data, CONFIG, seed=1, device=CPU, objective=objective).model
    assert evaluate(student, data)["accuracy"] > 0.9


@pytest.mark.parametrize("text_keys", [False, True])
@pytest.mark.parametrize("how", ["live", "cached"])
def test_the_labels_of_a_model_of_transformers_are_its_classes(
    how: str, text_keys: bool, ordered: tuple[Data, nn.Module], shuffled: nn.Module
) -> None:
    data, _ = ordered
    model = as_transformers(shuffled, OTHERS, text_keys=text_keys)
    assert share_right(teacher_of(model, data, how=how), data) > 0.95
    with pytest.raises(ValueError, match=r"the teacher knows 4 classes \(w, x, y, z\), the data have 4 \(ant,"):
        share_right(teacher_of(as_transformers(shuffled, tuple("wxyz")), data, how=how), data)
    unnamed = as_transformers(shuffled, tuple(f"LABEL_{number}" for number in range(4)))
    with pytest.warns(UserWarning, match="in that order, ant, bee, cat, dog; name them"):
        share_right(teacher_of(unnamed, data, how=how), data)


def test_caches_remember_their_classes_on_disk(
    ordered: tuple[Data, nn.Module], shuffled: nn.Module, tmp_path: Path
) -> None:
    data, _ = ordered
    cache_logits(shuffled, data).save(tmp_path)
    read = TeacherLogits.load(tmp_path)
    assert read.task == {"name": "classification", "classes": 4, "names": list(OTHERS), "counts": [40] * 4}
    assert share_right(Teacher(cached=read), data) > 0.95
    with pytest.warns(UserWarning, match="only one of teacher and student has names"):  # as in caches of before
        assert share_right(Teacher(cached=replace(read, task=None)), data) < 0.05


def test_a_model_is_evaluated_by_the_names_of_classes(ordered: tuple[Data, nn.Module], shuffled: nn.Module) -> None:
    data, model = ordered
    own = evaluate(shuffled, samples(named(OTHERS), ORDER))
    assert evaluate(shuffled, data) == pytest.approx(own)
    assert evaluate(model, data)["accuracy"] > 0.95
    with pytest.raises(ValueError, match=r"the model knows 4 classes \(ant, .*\), the data .* \(ant, bee, cat, eel\)"):
        evaluate(model, samples(named((*NAMES[:3], "eel"))))


def test_several_labels_are_matched_like_classes() -> None:
    data, other = samples(named(NAMES, "labels")), samples(named(OTHERS, "labels"), ORDER)
    places = [OTHERS.index(name) for name in NAMES]
    moved = Data(other.inputs, data.targets[:, np.argsort(places)], other.task)
    model = train(moved, CONFIG, seed=0, device=CPU).model
    ids, inputs = torch.arange(160), data.network_inputs(CPU)
    for how in ("live", "cached"):
        teacher = teacher_of(model, data, how=how)
        assert torch.equal(teacher(ids, inputs, data.task), teacher_of(model, data, how=how)(ids, inputs)[:, places])
        assert ((teacher(ids, inputs, data.task) > 0).numpy() == data.targets).mean() > 0.8
        assert ((teacher(ids, inputs) > 0).numpy() == data.targets).mean() < 0.6


CASES: list[tuple[Task, Task, Any]] = [
    (Classification(3), Classification(3), None),
    (Classification(3, list("abc")), Classification(3, list("abc")), None),
    (Classification(3, list("bca")), Classification(3, list("abc")), [2, 0, 1]),
    (Classification(3, list("102")), Classification(3, list("012")), [1, 0, 2]),
    (Classification(3, list("012")), Classification(3, list("201")), [2, 0, 1]),
    (Classification(3), Classification(3, list("abc")), "guessed"),
    (Classification(3, list("abc")), Classification(3), "guessed"),
    (Classification(3, list("012")), Classification(3, list("abc")), "guessed"),
    (Classification(3), Classification(3, list("102")), "guessed"),
    (Classification(3, list("012")), Classification(3), None),
    (Classification(2), Classification(3), "knows 2 classes (without names), the data have 3 (without names)"),
    (
        Classification(4, list("abcd")),
        Classification(3, list("abc")),
        "knows 4 classes (a, b, c, d), the data have 3 (a,",
    ),
    (Classification(3, list("abd")), Classification(3, list("abc")), "(a, b, d), the data have 3 (a, b, c)"),
    (Classification(3, list("aab")), Classification(3, list("aab")), "(a, a, b), the data have 3 (a, a, b)"),
    (MultiLabel(3, list("bca"), [1, 2, 3]), MultiLabel(3, list("abc")), [2, 0, 1]),
    (MultiLabel(3, list("abc")), Classification(3, list("abc")), "outputs of another task"),
    (Regression(mean=[0.0], scale=[1.0]), Regression(mean=[0.0], scale=[1.0]), None),
    (Regression(mean=[0.0], scale=[2.0]), Regression(mean=[0.0], scale=[1.0]), "on another scale"),
]


@pytest.mark.parametrize(("theirs", "own", "expected"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_classes_are_matched_by_name_guessed_or_refused_with_both_lists(theirs: Task, own: Task, expected: Any) -> None:
    if isinstance(expected, str) and expected != "guessed":
        with pytest.raises(ValueError, match=r"^the teacher ") as refusal:
            places_of(theirs, own, "the teacher")
        assert expected in str(refusal.value)
        return
    places = places_of(theirs, own, "the teacher")
    assert (None if places is None else places.tolist()) == (None if expected == "guessed" else expected)
    assert places_are_guessed(theirs, own) == (expected == "guessed")


def test_nothing_is_guessed_of_models_that_say_nothing() -> None:
    assert task_of_model(nn.Linear(2, 3), Classification(3)) is None
    assert not places_are_guessed(None, Classification(3))
    assert places_are_guessed(None, Classification(3, list("abc")))


@pytest.mark.parametrize("kind", ["classes", "labels"])
@pytest.mark.parametrize(("rows", "classes"), [(40, 3), (4000, 10), (4000, 300)])
def test_outputs_without_names_are_refused_only_where_another_order_fits_better(
    rows: int, classes: int, kind: str
) -> None:
    generator = np.random.default_rng(0)
    task = named(tuple(f"c{number}" for number in range(classes)), kind)
    labels = generator.integers(0, classes, rows)
    truth = labels[:, None] == np.arange(classes)
    targets = truth if kind == "labels" else labels
    noise = generator.normal(size=(rows, classes))
    right = np.where(truth, 2.0, -2.0) + noise
    refuse_other_order(right, targets, task)
    refuse_other_order(noise, targets, task)  # A poor teacher has no other order.
    refuse_other_order(np.where(np.arange(classes) == 1, 2.0, -2.0) + 0 * noise, targets, task)  # Always one class.
    with pytest.raises(ValueError, match=r"are right in the order c0, .*% in another; write the names"):
        refuse_other_order(right[:, np.roll(np.arange(classes), 1)], targets, task)
