"""Soft masks: the formula and its gradient, thresholds against a full sort, exact budgets, and plain models."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.selectors.masks.groups import counts_in
from secateur.selectors.masks.largest_of_each import largest_of_each
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.models.identity import shapes_of
from secateur.trainers.pruning.soft_mask import SoftMask, threshold
from secateur.trainers.pruning.soft_masks import (
    PruningSchedule,
    hard_masks,
    harden,
    settle,
    soft_masks,
    with_soft_masks,
    without_soft_masks,
)


def network() -> nn.Sequential:
    found = nn.Sequential(
        nn.Unflatten(1, (4, 3, 3)), nn.Conv2d(4, 8, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 6)
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if not name.startswith("2."):
                parameter.normal_(generator=generator)
    return found


def some_data() -> Data:
    inputs = np.random.default_rng(0).normal(size=(40, 36)).astype(np.float32)
    return Data(inputs, np.arange(40) % 6, 6)


Groups = list[list[tuple[int, ...]]]


def by_hand(weight: np.ndarray, units: Groups, pruned: int, tau: float, absolute: bool) -> np.ndarray:
    """m(w) of each weight by itself, from the places of the weights of each group."""
    borders = []
    for group in units:
        values = sorted(abs(weight[place]) for place in group)
        borders.append((values[pruned - 1] + values[pruned]) / 2)
    scale = tau if absolute else tau * float(np.mean(np.square(borders)))
    found = np.empty_like(weight)
    for group, border in zip(units, borders, strict=True):
        for place in group:
            found[place] = 1 / (1 + np.exp(-(weight[place] ** 2 - border**2) / scale))
    return found


def places(shape: tuple[int, ...], form: str, m: int) -> Groups:
    every = list(np.ndindex(*shape))
    if form == "unstructured":
        return [every]
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for place in every:
        groups.setdefault((place[0], place[1] // m, *place[2:]), []).append(place)
    return list(groups.values())


@pytest.mark.parametrize("shape", [(3, 8), (2, 8, 2, 3)])
@pytest.mark.parametrize(("form", "pruned"), [("unstructured", 5), ("n_of_m", 3)])
@pytest.mark.parametrize("absolute", [False, True])
def test_the_mask_and_its_gradient_are_the_formulas(
    shape: tuple[int, ...], form: str, pruned: int, absolute: bool
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    size = 4 if form == "n_of_m" else weight.numel()
    mask = SoftMask(size, form=form, m=4, temperature=0.3, absolute=absolute)  # type: ignore[arg-type]
    mask.pruned.fill_(pruned)
    values = weight.detach().numpy()
    units = places(shape, form, 4)
    m = by_hand(values, units, pruned, 0.3, absolute)
    masked = mask(weight)
    assert masked.detach().numpy() == pytest.approx(m * values, rel=1e-12)
    (gradient,) = torch.autograd.grad(masked.sum(), weight)
    if absolute:
        scale = 0.3
    else:
        borders = [np.sort(np.abs([values[p] for p in group]))[pruned - 1 : pruned + 1].mean() for group in units]
        scale = 0.3 * float(np.mean(np.square(borders)))
    assert gradient.numpy() == pytest.approx(m + 2 * values**2 / scale * m * (1 - m), rel=1e-10)


@pytest.mark.parametrize(("form", "pruned"), [("unstructured", 5), ("n_of_m", 3)])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_gradient_through_the_threshold_is_that_of_finite_differences(form: str, pruned: int, absolute: bool) -> None:
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    size, values, units = 4 if form == "n_of_m" else 24, weight.detach().numpy(), places((3, 8), form, 4)
    mask, held = (
        SoftMask(size, form=form, m=4, temperature=0.3, absolute=absolute, through=through) for through in (True, False)
    )
    tau = 0.3
    if not absolute:  # τ follows from t² and has no gradient.
        borders = [np.sort([abs(values[p]) for p in group])[pruned - 1 : pruned + 1].mean() for group in units]
        tau *= float(np.mean(np.square(borders)))
    gradients = []
    for each in (mask, held):
        each.pruned.fill_(pruned)
        assert each(weight).detach().numpy() == pytest.approx(by_hand(values, units, pruned, tau, True) * values)
        gradients.append(torch.autograd.grad(each(weight).sum(), weight)[0].numpy())
    for place in np.ndindex(3, 8):
        ends = []
        for step in (1e-6, -1e-6):
            moved = values.copy()
            moved[place] += step
            ends.append(float((by_hand(moved, units, pruned, tau, True) * moved).sum()))
        assert gradients[0][place] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-7)
    assert int((np.abs(gradients[0] - gradients[1]) > 1e-9).sum()) == 2 * len(units)  # the two beside each threshold


def test_a_gradient_through_the_norm_at_the_threshold_is_that_of_finite_differences() -> None:
    weight = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    mask = SoftMask(5, form="channel", m=4, temperature=0.5, absolute=True, through=True)
    mask.pruned.fill_(2)

    def total(values: np.ndarray) -> float:
        norms = np.linalg.norm(values.reshape(5, -1), axis=1)
        border = np.sort(norms)[1:3].mean()
        return float((values.reshape(5, -1).sum(1) / (1 + np.exp(-(norms**2 - border**2) / 0.5))).sum())

    (gradient,) = torch.autograd.grad(mask(weight).sum(), weight)
    values = weight.detach().numpy()
    for place in np.ndindex(*values.shape):
        moved = [values.copy(), values.copy()]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        assert float(gradient[place]) == pytest.approx((total(moved[0]) - total(moved[1])) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("form", ["unstructured", "n_of_m", "channel"])
def test_zeros_beside_a_threshold_give_gradients_through_it_that_are_numbers(form: str) -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 2.0, 3.0]], requires_grad=True)
    size = {"unstructured": 12, "n_of_m": 4, "channel": 3}[form]
    mask = SoftMask(size, form=form, m=4, temperature=1.0, absolute=False, through=True)
    mask.pruned.fill_(1 if form == "channel" else size // 2)
    (gradient,) = torch.autograd.grad(mask(weight).sum(), weight)
    assert torch.isfinite(gradient).all()


def test_a_filter_has_one_mask_by_its_norm_and_the_gradient_goes_through_the_norm() -> None:
    weight = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    mask = SoftMask(5, form="channel", m=4, temperature=0.5, absolute=False)
    mask.pruned.fill_(2)
    values = weight.detach().numpy().reshape(5, -1)
    squares = (values**2).sum(1)
    border = (np.sqrt(np.sort(squares)[1]) + np.sqrt(np.sort(squares)[2])) / 2
    tau = 0.5 * border**2
    m = 1 / (1 + np.exp(-(squares - border**2) / tau))
    masked = mask(weight)
    assert masked.detach().numpy().reshape(5, -1) == pytest.approx(m[:, None] * values, rel=1e-12)
    (gradient,) = torch.autograd.grad(masked.sum(), weight)
    along = values.sum(1) * m * (1 - m) / tau
    assert gradient.numpy().reshape(5, -1) == pytest.approx(m[:, None] + along[:, None] * 2 * values, rel=1e-10)


def test_a_hard_mask_passes_gradients_to_what_stays_alone() -> None:
    weight = torch.tensor([[3.0, -1.0, 0.5, -4.0]], requires_grad=True)
    cold = SoftMask(4, form="unstructured", m=4, temperature=0.0, absolute=False)
    turned = SoftMask(4, form="unstructured", m=4, temperature=1.0, absolute=False)
    turned.hard.fill_(1)
    for mask in (cold, turned):
        mask.pruned.fill_(2)
        (gradient,) = torch.autograd.grad(mask(weight).sum(), weight)
        assert mask(weight).tolist() == [[3.0, 0.0, 0.0, -4.0]]
        assert gradient.tolist() == [[1.0, 0.0, 0.0, 1.0]]
    assert cold.mask(torch.zeros(1, 4), 2).tolist() == [[0.0] * 4]
    assert SoftMask(4, form="unstructured", m=4, temperature=1.0, absolute=False)(weight) is weight


@pytest.mark.parametrize("temperature", [1.0, 0.3, 1e-2])
def test_where_what_goes_is_zero_already_the_mask_is_what_it_tends_to(temperature: float) -> None:
    """Zeros on the smaller side of a threshold that goes to 0: not one half, for any earlier threshold."""
    soft = SoftMask(4, form="unstructured", m=4, temperature=temperature, absolute=False)

    def at(small: float) -> tuple[list[float], list[float]]:
        weight = torch.tensor([[0.0, 0.0, small, 3.0]], requires_grad=True)
        mask = soft.mask(weight, 2)
        (gradient,) = torch.autograd.grad((mask * weight).sum(), weight)
        return mask.flatten().tolist(), gradient.flatten().tolist()

    for near, limit in zip(at(1e-9), at(1e-30), strict=True):
        del near[2], limit[2]  # The kept weight, which is also 0 in the limit.
        assert near == pytest.approx(limit, abs=1e-6)
    weight = torch.tensor([[0.0, 0.0, 0.0, 3.0]], requires_grad=True)
    zero = 1 / (1 + np.exp(1 / temperature))
    assert soft.mask(weight, 2).flatten().tolist() == pytest.approx([zero, zero, zero, 1.0])
    (gradient,) = torch.autograd.grad((soft.mask(weight, 2) * weight).sum(), weight)
    assert gradient.flatten().tolist() == pytest.approx([zero, zero, zero, 1.0])


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_thresholds_and_the_largest_of_each_are_those_of_a_full_sort(
    rows: list[list[int]], pruned: int, seed: int
) -> None:
    values = torch.tensor(rows, dtype=torch.float32)
    found = threshold(values, pruned)[:, 0].tolist()
    assert found == [(sorted(row)[pruned - 1] + sorted(row)[pruned]) / 2 for row in rows]
    kept = largest_of_each(values.numpy(), 5 - pruned, seed=seed)
    for row, mask in zip(rows, kept, strict=True):
        assert sorted(np.array(row)[mask]) == sorted(row)[pruned:]


def test_ties_are_drawn_and_wrong_counts_refused() -> None:
    same = np.zeros((1, 60))
    one, other = (largest_of_each(same, 20, seed=seed) for seed in (1, 2))
    assert one.sum() == other.sum() == 20
    assert (one != other).any()
    assert not (one == largest_of_each(np.arange(60.0)[::-1][None], 20, seed=1)).all()
    with pytest.raises(ValueError, match="61 of 60"):
        largest_of_each(same, 61, seed=0)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        largest_of_each(np.array([[np.nan, 1.0]]), 1, seed=0)
    for pruned in (0, 5):
        with pytest.raises(ValueError, match="no threshold"):
            threshold(torch.zeros(1, 5), pruned)


def test_the_schedule_is_dense_then_ranks_all_weights_together_then_rises() -> None:
    model = with_soft_masks(network())
    schedule = PruningSchedule(0.25, dense=0.2, ramp=0.5, fine_tune=0.1)
    schedule(model, 1, 10)
    assert {(int(mask.pruned), int(mask.final)) for mask, _ in soft_masks(model).values()} == {(0, -1)}
    weights = {name: weight.abs() for name, (_, weight) in soft_masks(model).items()}
    border = torch.cat([weight.flatten() for weight in weights.values()]).sort(descending=True).values[79]
    final = {name: int((weight < border).sum()) for name, weight in weights.items()}
    assert sum(final.values()) == 320 - 80
    schedule(model, 2, 10)
    with torch.no_grad():
        next(iter(soft_masks(model).values()))[1].mul_(100.0)  # The ranking happens once.
    for done, share, hard in [(2, 0.0, 0), (5, 0.6, 0), (7, 1.0, 0), (9, 1.0, 0), (10, 1.0, 1)]:
        schedule(model, done, 10)
        for name, (mask, _) in soft_masks(model).items():
            assert int(mask.final) == final[name]
            assert int(mask.pruned) == int(share * final[name] + 0.5)
            assert int(mask.hard) == hard
    PruningSchedule(0.25, dense=0.2, ramp=0.5, power=3.0)(model, 5, 10)
    first = next(iter(soft_masks(model).values()))[0]
    assert int(first.pruned) == int((1 - 0.4**3) * int(first.final) + 0.5)


def test_the_state_of_a_model_holds_where_the_schedule_stands() -> None:
    model = with_soft_masks(network())
    PruningSchedule(0.3, dense=0.0, ramp=0.5)(model, 3, 10)
    other = with_soft_masks(network())
    other.load_state_dict(model.state_dict())
    inputs = torch.as_tensor(some_data().inputs)
    assert torch.equal(other.eval()(inputs), model.eval()(inputs))
    assert not torch.equal(network().eval()(inputs), model(inputs))
    assert PruningSchedule(0.3).made_of != PruningSchedule(0.3, ramp=0.4).made_of


def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data, config = some_data(), TrainingConfig(epochs=6, batch_size=10, optimiser="sgd", learning_rate=0.01)
    start, schedule = with_soft_masks(network(), temperature=0.5), PruningSchedule(0.3, dense=0.25, ramp=0.5)

    def stop(done: int, steps: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    whole = train(data, config, seed=0, start=start, after_step=schedule).model.state_dict()
    with pytest.raises(KeyboardInterrupt):
        train(
            data,
            config,
            seed=0,
            start=start,
            after_step=schedule,
            progress=stop,
            snapshots=Snapshots(tmp_path, steps=5),
        )
    went_on = train(data, config, seed=0, start=start, after_step=schedule, snapshots=Snapshots(tmp_path, steps=5))
    assert whole.keys() == went_on.model.state_dict().keys()
    assert all(torch.equal(value, whole[name]) for name, value in went_on.model.state_dict().items())
    masks = soft_masks(went_on.model).values()
    assert sum(int(mask.final) for mask, _ in masks) == sum(int(mask.pruned) for mask, _ in masks) == 320 - 96


def test_a_snapshot_of_another_schedule_is_refused(tmp_path: Path) -> None:
    data, config, kept = some_data(), TrainingConfig(epochs=1), Snapshots(tmp_path, steps=1, keep=True)
    start = with_soft_masks(network())
    train(data, config, seed=0, start=start, after_step=PruningSchedule(0.3), snapshots=kept)
    with pytest.raises(ValueError, match="after_step"):
        train(data, config, seed=0, start=start, after_step=PruningSchedule(0.4), snapshots=kept)


@pytest.mark.parametrize(
    ("form", "keep", "of", "count"),
    [("unstructured", 0.13, 320, 42), ("n_of_m", 0.25, 320, 80), ("channel", 0.5, 128, 64)],
)
def test_a_hardened_model_is_plain_and_keeps_the_budget_exactly(form: str, keep: float, of: int, count: int) -> None:
    start = with_soft_masks(network(), form=form)  # type: ignore[arg-type]
    soft, again = copy.deepcopy(start), copy.deepcopy(start)
    PruningSchedule(keep, dense=0.0, ramp=0.5)(soft, 10, 10)
    plain, kept = harden(soft, some_data(), seed=0)
    assert (kept.count, kept.of) == (count, of)
    assert kept.made_for == shapes_of(network()) == shapes_of(plain)
    for name, mask in kept.groups.items():
        weight = dict(plain.named_parameters())[name].detach().numpy()
        original = dict(network().named_parameters())[name].detach().numpy()
        assert np.array_equal(weight, np.where(mask, original, 0.0))
        if form == "unstructured":
            assert np.abs(original[mask]).min() >= np.abs(original[~mask]).max()
        if form == "n_of_m":
            for group in places(mask.shape, form, 4):
                values = [abs(original[place]) for place in group]
                assert [mask[place] for place in group] == [value == max(values) for value in values]
        if form == "channel":
            rows = mask.reshape(len(mask), -1)
            assert (rows.all(1) | ~rows.any(1)).all()
            norms = np.linalg.norm(original.reshape(len(mask), -1), axis=1)
            assert norms[rows.all(1)].min() >= norms[~rows.any(1)].max()
    # The soft models still work: copies share the property that torch would have removed from all of them.
    inputs = torch.as_tensor(some_data().inputs)
    assert torch.isfinite(soft.eval()(inputs)).all()
    assert torch.equal(again.eval()(inputs), network().eval()(inputs))


def test_batch_norm_is_measured_again_with_hard_masks() -> None:
    soft, data = with_soft_masks(network()), some_data()
    PruningSchedule(0.3, dense=0.0, ramp=0.0)(soft, 1, 1)
    plain, _ = harden(soft, data, seed=0)
    with torch.no_grad():
        signals = plain[1](plain[0](torch.as_tensor(data.inputs)))  # type: ignore[index]
    assert torch.allclose(plain[2].running_mean, signals.mean((0, 2, 3)), atol=1e-5)  # type: ignore[index]
    assert torch.allclose(plain[2].running_var, signals.transpose(0, 1).flatten(1).var(1), rtol=1e-4)  # type: ignore[index]


def test_blind_masks_have_the_same_counts_and_other_places() -> None:
    for form, keep in (("unstructured", 0.2), ("n_of_m", 0.5), ("channel", 0.5)):
        model = with_soft_masks(network(), form=form)  # type: ignore[arg-type]
        settle(model, keep, seed=0)
        best, blind = hard_masks(model, seed=1), hard_masks(model, seed=1, draw=True)
        assert counts_in(best) == counts_in(blind)
        assert any((mask != blind[name]).any() for name, mask in best.items())
        other = hard_masks(model, seed=2, draw=True)
        assert any((mask != blind[name]).any() for name, mask in other.items())


def test_without_masks_it_is_the_same_model() -> None:
    model = network()
    masked = with_soft_masks(model)
    settle(masked, 0.1, seed=0)
    plain = without_soft_masks(masked).state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())
    assert len(plain) == len(model.state_dict())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": -1.0}, "at least 0"),
        ({"form": "n_of_m", "m": 3}, "1.weight has 4 inputs, not groups of 3"),
        ({"form": "n_of_m", "m": 1}, "change m"),
    ],
)
def test_masks_that_do_not_fit_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_soft_masks(network(), **settings)  # type: ignore[arg-type]


def test_bad_budgets_and_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="one with hidden layers"):
        with_soft_masks(nn.Sequential(nn.Linear(4, 2)), form="channel")
    with pytest.raises(ValueError, match="no soft masks"):
        settle(network(), 0.5, seed=0)
    grouped = with_soft_masks(network(), form="n_of_m")
    for keep in (0.3, 0.1, 2):
        with pytest.raises(ValueError, match="use one of 1/4, 2/4"):
            settle(grouped, keep, seed=0)
    with pytest.raises(ValueError, match="raise keep"):
        settle(with_soft_masks(network()), 1, seed=0)
    with pytest.raises(ValueError, match="not decided"):
        hard_masks(grouped, seed=0)
    with pytest.raises(ValueError, match="of 1 together at most"):
        PruningSchedule(0.5, dense=0.6, ramp=0.5)
    with pytest.raises(ValueError, match="of 1 together at most"):
        PruningSchedule(0.5, fine_tune=-0.1)
    with pytest.raises(ValueError, match="power"):
        PruningSchedule(0.5, power=0.0)
