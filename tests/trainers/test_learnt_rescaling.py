"""A learnt q against least squares and a grid of all q."""

import numpy as np
import pytest
import torch
from torch import nn

from secateur.trainers.pruning.delta_rescaling import made_up
from secateur.trainers.pruning.learnt_rescaling import q_by_gradient

KEEP = 0.25


def parts(layers, seed=0):
    """A network's parameters before fine-tuning, their deltas, and some masks of a quarter of them."""
    generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    base = {name: torch.randn(each.shape, generator=generator) for name, each in layers.named_parameters()}
    deltas = {name: torch.randn(each.shape, generator=generator) for name, each in base.items()}
    draws = [{name: random.random(each.shape) < KEEP for name, each in deltas.items()} for _ in range(3)]
    return base, deltas, draws


def outputs_of(model, inputs):
    return lambda parameters: torch.func.functional_call(model, dict(parameters), (inputs,))


def test_of_one_linear_layer_it_is_the_least_squares_solution():
    model, inputs = nn.Linear(40, 3), torch.randn(64, 40, generator=torch.Generator().manual_seed(1))
    base, deltas, draws = parts(model)
    whole = (inputs.double() @ deltas["weight"].double().T + deltas["bias"].double()).numpy()
    up = down = 0.0
    for masks in draws:  # 1/q by least squares of whole - kept / q, with corrected counts.
        kept = {
            name: delta.double().numpy() * masks[name] / made_up(1.0, KEEP, int(masks[name].sum()), delta.numel())
            for name, delta in deltas.items()
        }
        part = inputs.double().numpy() @ kept["weight"].T + kept["bias"]
        up, down = up + float((part**2).sum()), down + float((part * whole).sum())
    assert up / down > KEEP
    asked = {"top": 3, "rate": 0.05, "patience": 400}
    found = q_by_gradient(outputs_of(model, inputs), base, deltas, draws, KEEP, **asked)
    assert found.q == {"": pytest.approx(up / down, rel=1e-3)}
    assert found.losses[-1] < found.losses[0]


def test_of_two_layers_no_pair_on_a_grid_is_better_than_the_learnt_one():
    model = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 6))
    inputs = torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    base, deltas, draws = parts(model)
    outputs = outputs_of(model, inputs)
    with torch.no_grad():
        intended = outputs({name: base[name] + delta for name, delta in deltas.items()})
    top = intended.argsort(dim=1, descending=True)[:, :5]

    def loss(q):
        missed = 0.0
        for masks in draws:
            changed = {}
            for name, delta in deltas.items():
                mask = torch.from_numpy(masks[name])
                share = made_up(q[name[0]], KEEP, int(mask.sum()), mask.numel())
                changed[name] = base[name] + delta * mask / share
            with torch.no_grad():
                missed += float((outputs(changed) - intended).gather(1, top).square().mean()) / len(draws)
        return missed

    found = q_by_gradient(outputs, base, deltas, draws, KEEP, rate=0.05, patience=300)
    assert loss(found.q) == pytest.approx(min(found.losses), rel=1e-5)
    grid = np.linspace(KEEP, 3.0, 15)
    best = min(loss({"0": one, "2": two}) for one in grid for two in grid)
    assert min(found.losses) <= best * 1.001
    assert loss(dict.fromkeys("02", KEEP)) > 1.5 * best  # DARE's rescaling is far from it.


def test_it_ends_when_nothing_gets_better_and_keeps_the_best():
    model, inputs = nn.Linear(40, 3), torch.randn(64, 40, generator=torch.Generator().manual_seed(1))
    base, deltas, draws = parts(model)
    found = q_by_gradient(outputs_of(model, inputs), base, deltas, draws, KEEP, rate=0.5, patience=2)
    least = found.losses.index(min(found.losses))
    assert len(found.losses) == least + 3
    assert not found.still_falling
    short = q_by_gradient(outputs_of(model, inputs), base, deltas, draws, KEEP, rate=1e-4, steps=3)
    assert short.still_falling
    assert all(q >= KEEP for q in (*found.q.values(), *short.q.values()))


def test_what_cannot_be_learnt_from_is_refused():
    model, inputs = nn.Linear(4, 3), torch.full((2, 4), torch.inf)
    base, deltas, draws = parts(model)
    with pytest.raises(ValueError, match="NaN or infinite"):
        q_by_gradient(outputs_of(model, inputs), base, deltas, draws, KEEP)
    with pytest.raises(ValueError, match="one draw"):
        q_by_gradient(outputs_of(model, inputs), base, deltas, [], KEEP)
    with pytest.raises(ValueError, match=r"within \(0, 1\]"):
        q_by_gradient(outputs_of(model, inputs), base, deltas, draws, 0.0)
