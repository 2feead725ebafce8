"""NaN or infinite outputs and losses, and outputs of another shape: errors with their origin, number and remedy."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secateur.scorers.contract import NotFinite, TrainingBatch, finite_outputs, naming
from secateur.scorers.observers.correctness import Correctness
from secateur.scorers.observers.forgetting import Forgetting
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.experiments.delta_pruning import Pruning
from secateur.trainers.judging.evaluation import evaluate, outputs_of
from secateur.trainers.judging.tuning import tune
from secateur.trainers.loop.run import Diverged
from secateur.trainers.loop.train import train
from secateur.trainers.tasks.regression import Regression

CPU = torch.device("cpu")
QUICK = TrainingConfig(model="mlp", model_settings={"hidden": [4]}, steps=3, batch_size=16)
RISING = {"optimiser": "sgd", "learning_rate": 1000.0, "weight_decay": 1000.0, "warmup": 0.0, "steps": 40}
WILD = TrainingConfig(**{**QUICK.model_dump(), **RISING})


def data(count: int = 40) -> Data:
    generator = np.random.default_rng(0)
    return Data(generator.normal(size=(count, 3)).astype(np.float32), generator.integers(0, 3, count), 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 2)])
def test_rows_that_hold_no_numbers_are_counted_and_named(value: float, kind: Any, shape: tuple[int, ...]) -> None:
    outputs = np.zeros(shape, np.float32)
    assert finite_outputs(kind(outputs)) is not None
    outputs.reshape(5, -1)[[1, 4], -1] = value
    with pytest.raises(NotFinite, match=r"^theirs are NaN or infinite at rows 11, 14, 2 of 5: its training diverged"):
        finite_outputs(kind(outputs), "theirs", first_row=10)
    finite_outputs(kind(outputs[:0]))


def test_whose_outputs_they_are_is_said_once_for_each_block() -> None:
    with pytest.raises(Diverged) as told, naming("hardest@0.1, seed 3"), naming("candidate 2"):
        raise Diverged("it diverged")
    assert str(told.value) == "hardest@0.1, seed 3: candidate 2: it diverged"
    with pytest.raises(ValueError, match=r"^another mistake$"), naming("not told"):
        raise ValueError("another mistake")


def broken_model(value: float) -> nn.Module:
    network = train(data(), QUICK, seed=0, device=CPU).model
    network.get_submodule("1.3").bias.data[0] = value
    return network


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_model_has_no_accuracy(value: float) -> None:
    model = broken_model(value)
    for judge in (evaluate, outputs_of):
        with pytest.raises(NotFinite, match=r"of the model Sequential are .* 40 of 40: so are its weights \(first"):
            judge(model, data())


def test_observers_that_count_events_refuse_infinite_outputs() -> None:
    for kind in (Correctness, Forgetting):
        watcher, outputs = kind(3, CPU), torch.tensor([[0.0, 1], [torch.inf, 0], [1, 0]])
        watcher.observe(TrainingBatch(torch.arange(3), outputs, torch.tensor([1, 0, 0]), torch.zeros(3)))
        watcher.end_epoch(0)
        with pytest.raises(ValueError, match=r"NaN or infinite at row 1$"):
            watcher.scores()


@pytest.mark.parametrize("steps", [1, 7])
def test_a_broken_teacher_is_told_from_a_student_that_diverged(steps: int) -> None:
    """After one step the student's own losses have always been finite."""
    teacher = Teacher(broken_model(np.nan))
    config = QUICK.model_copy(update={"steps": steps})
    objective = Distillation(alpha=0.5).objective(teacher, config, keep=1.0)
    with pytest.raises(Diverged, match=r"a loss of the objective is NaN .*such as a teacher whose training diverged"):
        train(data(), config, seed=0, device=CPU, objective=objective)
    good = Teacher(train(data(), QUICK, seed=0, device=CPU).model)
    with pytest.raises(Diverged, match=r"training diverged: .*lower learning_rate"):
        train(data(), WILD, seed=0, device=CPU, objective=Distillation(alpha=0.5).objective(good, WILD, keep=1.0))


def test_a_candidate_that_diverges_is_named() -> None:
    def choose(rows: np.ndarray, budget: int, candidate: float, seed: int) -> np.ndarray:
        return np.arange(len(rows)) < budget

    with pytest.raises(Diverged, match=r"^candidate 0\.3, seed 0: training diverged"):
        tune(data(), WILD, choose, (0.3, 0.5), keep=0.5, seeds=1)


def test_no_q_is_chosen_by_activations_that_are_no_numbers() -> None:
    model = broken_model(0.0)
    model.get_submodule("1.1").bias.data[0] = np.inf
    pruning = Pruning.__new__(Pruning)
    pruning.model, pruning.calibration, pruning.samples = model, torch.from_numpy(data().inputs), 0
    with pytest.raises(NotFinite, match="the last hidden activations of the model"):
        pruning.hidden()


class Reshaped(nn.Module):
    """A user's own network with outputs of another shape."""

    def __init__(self, classes: int, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(3, classes), change

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.change(self.layer(inputs))


def reshaped(shape: tuple[int, ...], classes: int, *, how: str) -> Any:
    kinds: dict[str, tuple[int, Callable[[torch.Tensor], Any]]] = {
        "flat": (1, lambda outputs: outputs.squeeze(1)),
        "one class less": (classes - 1, lambda outputs: outputs),
        "one class": (1, lambda outputs: outputs),
        "a middle": (classes, lambda outputs: outputs.unsqueeze(1)),
        "turned": (classes, lambda outputs: outputs.T),
        "a mean": (classes, lambda outputs: outputs.mean(dim=0, keepdim=True)),
        "a number": (classes, lambda outputs: outputs.mean()),
        "a pair": (classes, lambda outputs: (outputs, None)),
        "a mapping": (classes, lambda outputs: {"logits": outputs}),
        "good": (classes, lambda outputs: outputs),
    }
    return (lambda inputs: inputs) if how == "no module" else Reshaped(*kinds[how])


SHAPES = {
    "flat": "a tensor of shape [16]",
    "one class less": "a tensor of shape [16, 2]",
    "one class": "a tensor of shape [16, 1]",
    "a middle": "a tensor of shape [16, 1, 3]",
    "turned": "a tensor of shape [3, 16]",
    "a mean": "a tensor of shape [1, 3]",
    "a number": "a tensor of shape []",
    "a pair": "a tuple",
    "a mapping": "a dict",
}


@pytest.mark.parametrize("how", SHAPES)
def test_outputs_of_another_shape_are_told_with_the_factory(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    name = "test_finite_outputs:reshaped"
    config = TrainingConfig(model=name, model_settings={"how": how}, steps=1, batch_size=16)
    said = re.escape(f"model {name!r} gave {SHAPES[how]} for 16 samples; it must give a tensor of shape [16, 3]")
    with pytest.raises(ValueError, match=said):
        train(data(), config, seed=0, device=CPU)


def test_outputs_of_the_tasks_width_and_modules_alone_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    config = TrainingConfig(model="test_finite_outputs:reshaped", model_settings={"how": "good"}, steps=1)
    train(data(), config, seed=0, device=CPU)
    with pytest.raises(ValueError, match=r"'test_finite_outputs:reshaped' returned a function; it must return a torch"):
        train(data(), config.model_copy(update={"model_settings": {"how": "no module"}}), seed=0, device=CPU)
    numbers = np.random.default_rng(0).normal(size=(40, 2))
    told = Data(data().inputs, numbers, Regression(names=["a", "b"]).fitted(numbers))
    train(told, config, seed=0, device=CPU)
    flat = config.model_copy(update={"model_settings": {"how": "flat"}})
    with pytest.raises(ValueError, match=r"shape \[\d+\] for \d+ samples; .* \[\d+, 2\], .* of the task regression"):
        train(told, flat, seed=0, device=CPU)
