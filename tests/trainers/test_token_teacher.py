"""A teacher of completions, token by token: against float64 loops over single tokens, from a cache and by the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from sft_rows import CONFIG, encoded, rows_of

from secateur.scorers.contract import NotFinite
from secateur.scorers.observers.loss import Loss
from secateur.trainers.contract import Data
from secateur.trainers.distillation import token_teacher
from secateur.trainers.distillation.cached_logits import TeacherLogits, write
from secateur.trainers.distillation.objective import Distillation, distil
from secateur.trainers.distillation.token_teacher import (
    STARTS,
    TokenLogits,
    TokenTeacher,
    cache_tokens,
    starts_of,
    tokens_in_blocks,
)
from secateur.trainers.distillation.tuning import tune_distillation
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models
from secateur.trainers.models import token_losses
from secateur.trainers.models.taught_tokens import divergence, highest
from secateur.trainers.tasks.token_roles import PADDING, ROLE, SCORED, scored_in

CPU = torch.device("cpu")
ROWS, K, HEAT = 40, 5, 2.0


def network(data: Data, seed: int, **settings: Any) -> Any:
    """A network with large weights, so that its predictions differ."""
    config = CONFIG.model_copy(update={"model_settings": {"layers": 1, "width": 16, "heads": 2, **settings}})
    model = models.build(config, data.inputs.shape[1:], data.task, seed=seed, learned=data.model_settings)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    return model.eval()


@pytest.fixture(scope="module")
def taught() -> tuple[Data, Any, Any]:
    """Data, a larger teacher and a student."""
    data, _ = encoded(rows_of(ROWS))
    return data, network(data, 1, width=32, layers=2), network(data, 2)


def logits_of(model: Any, row: np.ndarray) -> np.ndarray:
    """Logits of one sample's completion tokens, float64 `[t, vocabulary]`, by the library's forward pass of one row."""
    real = (row[1] & ROLE) != PADDING
    with torch.no_grad():
        hidden = model[1].body(input_ids=torch.from_numpy(row[0][real].astype(np.int64))[None]).last_hidden_state[0]
        every = model[1].logits(hidden).double().numpy()
    places = np.flatnonzero((row[1][real] & ROLE) == SCORED)
    return every[places - 1]


def by_hand(teacher: np.ndarray, student: np.ndarray, *, halved: bool) -> float:
    """Mean over the tokens of a sample of T² KL over the K most probable tokens and all others as one, in float64."""
    found = []
    for told, said in zip(teacher, student, strict=True):
        top = np.argsort(-told)[:K]
        others = np.setdiff1d(np.arange(len(told)), top)
        values, rest = told[top] - told.max(), HEAT * logsumexp((told[others] - told.max()) / HEAT)
        if halved:
            values = values.astype(np.float16).astype(np.float64)
            each = np.float64(np.float16(np.float32(rest - HEAT * np.log(len(others)))))
            rest = each + HEAT * np.log(len(others))
        p = log_softmax(np.append(values, rest) / HEAT)
        q = log_softmax(said / HEAT)
        q = np.append(q[top], logsumexp(q[others]))
        found.append(HEAT**2 * float((np.exp(p) * (p - q)).sum()))
    return float(np.mean(found))


def taught_losses(teacher: TokenTeacher, student: Any, data: Data, alpha: float = 1.0) -> torch.Tensor:
    """A student's training losses on all rows, by the objective, in one batch."""
    from secateur.trainers.contract import GradientBatch

    objective: Any = distil(teacher, alpha=alpha, temperature=HEAT)
    inputs, ids = torch.from_numpy(data.inputs), torch.arange(len(data))
    outputs = student(inputs, objective.lesson(ids, inputs))
    targets = data.task.tensor(data.targets)
    batch = GradientBatch(ids, outputs, targets, data.task.losses(outputs, targets), data.task)
    found: torch.Tensor = objective(batch, inputs)
    return found


@pytest.mark.parametrize("cached", [False, True])
def test_what_a_student_descends_is_the_divergence_of_a_loop_over_single_tokens(
    taught: tuple[Data, Any, Any], cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, teacher, student = taught
    monkeypatch.setattr(token_losses, "PIECE", 4000)  # ten tokens at a time
    monkeypatch.setattr(token_losses, "BUDGET", 300)
    how = {"top_k": K, "temperature": HEAT}
    told = TokenTeacher(cached=cache_tokens(teacher, data, **how)) if cached else TokenTeacher(teacher, **how)
    found = taught_losses(told, student, data).detach().numpy()
    for row in range(0, ROWS, 3):
        sides = logits_of(teacher, data.inputs[row]), logits_of(student, data.inputs[row])
        assert found[row] == pytest.approx(by_hand(*sides, halved=cached), rel=1e-4, abs=1e-5)
    assert taught_losses(told, teacher, data).abs().max() < (1e-4 if cached else 1e-5), "it has nothing to teach itself"


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    lesson = highest(torch.randn(3, 9), 4, 1.5)
    logits = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    wide = [each.double() if each.is_floating_point() else each for each in lesson[:3]]

    def summed(given: torch.Tensor) -> torch.Tensor:
        relative = given.double()
        p = torch.cat([wide[0], (wide[2] + 1.5 * np.log(5))[:, None]], 1).div(1.5).log_softmax(1)
        q = (relative / 1.5).log_softmax(1)
        rest = q.scatter(1, lesson.indices, -torch.inf).logsumexp(1)
        return (1.5**2 * (p.exp() * (p - torch.cat([q.gather(1, lesson.indices), rest[:, None]], 1))).sum(1)).sum()

    assert torch.autograd.gradcheck(summed, logits)
    (expected,) = torch.autograd.grad(summed(logits), logits)
    ours = logits.detach().float().requires_grad_()
    (found,) = torch.autograd.grad(divergence(ours, *lesson).sum(), ours)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-4)


def test_tokens_that_only_the_student_or_the_teacher_knows_count_as_others() -> None:
    torch.manual_seed(0)
    lesson, student = highest(torch.randn(2, 9), 3, 1.0), torch.randn(2, 12)
    told = np.concatenate([lesson.values, lesson.rest[:, None] + np.log(6)], 1)
    for row in range(2):
        p, q = log_softmax(told[row].astype(np.float64)), log_softmax(student[row].double().numpy())
        top = lesson.indices[row].numpy()
        q = np.append(q[top], logsumexp(np.delete(q, top)))
        assert float(divergence(student, *lesson)[row]) == pytest.approx((np.exp(p) * (p - q)).sum(), abs=1e-5)


def test_alpha_weighs_both_parts_and_watchers_see_the_plain_loss(taught: tuple[Data, Any, Any]) -> None:
    data, teacher, student = taught
    told = TokenTeacher(teacher, top_k=K, temperature=HEAT)
    with torch.no_grad():
        plain = data.task.losses(student(torch.from_numpy(data.inputs)), data.task.tensor(data.targets))
    kd = taught_losses(told, student, data)
    torch.testing.assert_close(taught_losses(told, student, data, 0.3), 0.7 * plain + 0.3 * kd)
    config = CONFIG.model_copy(update={"steps": None, "epochs": 1, "learning_rate": 1e-9, "length_buckets": 2})
    watcher = Loss(ROWS, CPU)
    objective = distil(told, alpha=0.5, temperature=HEAT)
    train(data, config, seed=2, start=student, objective=objective, observers=[watcher], device=CPU)
    torch.testing.assert_close(watcher.reduce().float(), plain, atol=1e-5, rtol=0)


def test_a_student_taught_from_the_cache_is_the_one_taught_anew_and_comes_closer_to_its_teacher(
    taught: tuple[Data, Any, Any],
) -> None:
    data, teacher, _ = taught
    config = CONFIG.model_copy(update={"steps": 30, "learning_rate": 1e-2, "accumulate": 2})
    settings = Distillation(alpha=1.0, temperature=HEAT, top_k=K)
    sides = [
        TokenTeacher(teacher, top_k=K, temperature=HEAT),
        TokenTeacher(cached=cache_tokens(teacher, data, top_k=K, temperature=HEAT)),
    ]
    students = [
        train(data, config, seed=0, objective=settings.objective(each, config, keep=1.0), device=CPU).model
        for each in sides
    ]
    for one, other in zip(students[0].parameters(), students[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)
    plain = train(data, config, seed=0, device=CPU).model
    far = [float(taught_losses(sides[0], model, data).detach().mean()) for model in (students[0], plain)]
    assert far[0] < 0.7 * far[1]


def test_files_hold_every_token_in_order_and_a_pass_goes_on_at_a_block(
    taught: tuple[Data, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, teacher, _ = taught
    how: dict[str, Any] = {"device": CPU, "top_k": K, "temperature": HEAT, "block": 16}
    parts = list(tokens_in_blocks(teacher, data, **how))
    assert [len(part) for part in parts] == [int(scored_in(data.inputs[at : at + 16]).sum()) for at in (0, 16, 32)]
    (again,) = tokens_in_blocks(teacher, data, start=32, **how)
    np.testing.assert_array_equal(again.values, parts[2].values)
    starts = starts_of(data)
    write(tmp_path, parts, int(starts[-1]))
    np.save(tmp_path / STARTS, starts)
    read, whole = TokenLogits.load(tmp_path), cache_tokens(teacher, data, top_k=K, temperature=HEAT)
    assert isinstance(read.tokens, TeacherLogits)
    assert sum(array.nbytes for array in read.arrays.values()) == starts[-1] * (4 * K + 2)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)
    ids = torch.tensor([7, 3, 31])
    lessons = [TokenTeacher(cached=read).lesson(ids, torch.zeros(3))]
    monkeypatch.setattr(token_teacher, "RESIDENT", 0)
    lessons.append(TokenTeacher(cached=read).lesson(ids, torch.zeros(3)))
    expected = np.concatenate([read.tokens.values[starts[i] : starts[i + 1]] for i in ids])
    for lesson in lessons:
        np.testing.assert_array_equal(lesson.values, expected)
    with pytest.raises(ValueError, match="cached for temperature 2, they cannot serve 3"):
        distil(TokenTeacher(cached=read), alpha=0.5, temperature=3.0)


def test_tokens_beyond_half_of_uint16_come_back_as_they_were() -> None:
    indices = np.array([[40000, 65535, 3]], np.uint16)
    tokens = TeacherLogits(np.zeros((1, 3), np.float16), 1 << 16, indices, np.zeros(1, np.float16), 1.0)
    lesson = TokenTeacher(cached=TokenLogits(tokens, np.array([0, 1]))).lesson(torch.tensor([0]), torch.zeros(1))
    assert lesson.indices.tolist() == [[40000, 65535, 3]]


def test_a_teacher_that_diverged_is_refused_by_its_rows(taught: tuple[Data, Any, Any]) -> None:
    data = taught[0]
    broken = network(data, 1)
    with torch.no_grad():
        broken[1].body.norm.weight.fill_(float("nan"))
    with pytest.raises(NotFinite, match="teacher's logits are NaN or infinite"):
        cache_tokens(broken, data)


def test_the_search_of_weight_and_temperature_teaches_by_tokens(taught: tuple[Data, Any, Any]) -> None:
    data, config = taught[0], CONFIG.model_copy(update={"steps": 2})
    chosen: Callable[..., Any] = lambda rows, budget, seed: np.arange(len(rows)) < budget  # noqa: E731
    tuned = tune_distillation(
        data, config, Distillation(tune=True, top_k=3), chosen, keep=[0.5], alphas=(0.0, 1.0), temperatures=(1.0, 2.0),
        seeds=1,
    )  # fmt: skip
    assert tuned.results[0.5, 1.0, 1.0] != tuned.results[0.5, 1.0, 2.0]
    assert tuned.results[0.5, 0.0, 1.0] == tuned.results[0.5, 0.0, 2.0]
