"""Scores of weights against their definitions: masks pulled by hand, a full Hessian, paths counted, one by one."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from secateur.scorers.networks.grasp import grasp
from secateur.scorers.networks.magnitude import magnitude
from secateur.scorers.networks.snip import snip
from secateur.scorers.networks.synflow import flow, synflow
from secateur.selectors.masks.global_mask import global_mask

NAMES = ["0.weight", "2.weight"]


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def batch(seed: int, rows: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draws = np.random.default_rng(seed)
    return torch.tensor(draws.normal(size=(rows, 3))), torch.tensor(draws.integers(0, 2, rows))


def test_magnitude_is_the_absolute_value_of_a_copy(network: nn.Module) -> None:
    scores = magnitude(network, NAMES)
    before = network[0].weight.detach().abs().float().numpy().copy()
    with torch.no_grad():
        network[0].weight.zero_()
    assert np.array_equal(scores["0.weight"], before)


def test_snip_is_how_much_the_loss_feels_each_mask(network: nn.Module) -> None:
    inputs, labels = batch(1)
    scores = snip(network, NAMES, (inputs, labels))
    step = 1e-6
    for name in NAMES:
        for place in np.ndindex(scores[name].shape):
            losses = []
            for mask in (1 - step, 1 + step):
                pulled = copy.deepcopy(network)
                with torch.no_grad():
                    dict(pulled.named_parameters())[name][place] *= mask
                    losses.append(float(functional.cross_entropy(pulled(inputs), labels)))
            assert scores[name][place] == pytest.approx(abs(losses[1] - losses[0]) / (2 * step), rel=1e-3, abs=1e-6)


def test_grasp_is_the_weight_times_the_whole_hessian_times_the_gradient(network: nn.Module) -> None:
    halves = [batch(2), batch(3)]
    scores = grasp(network, NAMES, halves, temperature=2.0)
    plain = dict(network.named_parameters())
    flat = torch.cat([plain[name].detach().ravel() for name in NAMES])

    def loss_of(vector: torch.Tensor) -> torch.Tensor:
        first, second = vector[:12].view(4, 3), vector[12:].view(2, 4)
        total = vector.new_zeros(())
        for inputs, labels in halves:
            hidden = torch.tanh(inputs @ first.T + plain["0.bias"].detach())
            logits = hidden @ second.T + plain["2.bias"].detach()
            total = total + functional.cross_entropy(logits / 2.0, labels)
        return total

    hessian = torch.autograd.functional.hessian(loss_of, flat)
    gradient = torch.autograd.functional.jacobian(loss_of, flat)
    expected = (flat * (hessian @ gradient)).numpy()
    found = np.concatenate([scores[name].ravel() for name in NAMES])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_synflow_counts_paths_through_absolute_weights() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    first, second = (network[place].weight.detach().abs().double().numpy() for place in (0, 2))
    expected = [np.zeros((4, 3)), np.zeros((2, 4))]
    for i, h, o in itertools.product(range(3), range(4), range(2)):
        path = first[h, i] * second[o, h]
        expected[0][h, i] += path
        expected[1][o, h] += path
    scores = flow(network, NAMES, "", (3,))
    for name, known in zip(NAMES, expected, strict=True):
        np.testing.assert_allclose(scores[name], known, rtol=1e-6)
    # Synaptic flow is conserved: every layer carries the same in all.
    assert scores["0.weight"].sum() == pytest.approx(scores["2.weight"].sum(), rel=1e-5)


def test_synflow_in_rounds_cuts_no_layer_off_where_one_round_does() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(*[nn.Linear(30, 30, bias=False) for _ in range(4)], nn.Linear(30, 3, bias=False))
    names = [name for name, _ in network.named_parameters()]

    def choose(scores: dict[str, np.ndarray], density: float) -> dict[str, np.ndarray]:
        return global_mask(scores, density, seed=0)

    scores = synflow(network, names, "", (30,), 0.01, choose)
    several = choose(scores, 0.01)
    once = choose(synflow(network, names, "", (30,), 0.01, choose, rounds=1), 0.01)
    assert all((scores[name][~several[name]] < scores[name][several[name]].min()).all() for name in names)
    assert sum(int((values == -1).sum()) for values in scores.values()) == 3690 - round(0.01**0.99 * 3690)
    assert sum(int(mask.sum()) for mask in several.values()) == round(0.01 * (4 * 900 + 90))
    assert min(int(mask.sum()) for mask in several.values()) > 0
    assert min(int(mask.sum()) for mask in once.values()) == 0


@pytest.mark.parametrize("score", ["snip", "grasp", "synflow"])
def test_the_model_and_the_global_generator_stay_as_they_are(network: nn.Module, score: str) -> None:
    normed = nn.Sequential(*network, nn.BatchNorm1d(2).double()).eval()
    before, state = copy.deepcopy(normed.state_dict()), torch.get_rng_state()
    if score == "snip":
        snip(normed, NAMES, batch(0))
    elif score == "grasp":
        grasp(normed, NAMES, [batch(0)])
    else:
        synflow(normed, NAMES, "", (3,), 0.5, lambda scores, share: global_mask(scores, share, seed=0), rounds=3)
    assert all(torch.equal(value, before[name]) for name, value in normed.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not normed.training
    assert all(parameter.grad is None for parameter in normed.parameters())
