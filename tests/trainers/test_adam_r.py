"""AdamR against its update written out in float64, for the optimisers that it supports."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.trainers.loop.adam_r import pull_towards


def written_out(start, anchors, gradients, *, rate, strength, betas, eps, decay):
    """Float64 AdamW after the pull; every parameter has a gradient in every step."""
    weights = [each.astype(np.float64) for each in start]
    means, squares = ([np.zeros_like(each) for each in weights] for _ in range(2))
    for step, given_now in enumerate(gradients, start=1):
        for place, gradient in enumerate(given_now):
            means[place] = betas[0] * means[place] + (1 - betas[0]) * gradient
            squares[place] = betas[1] * squares[place] + (1 - betas[1]) * gradient**2
        corrected = [each / (1 - betas[1] ** step) for each in squares]
        scale = np.sqrt(np.concatenate([each.ravel() for each in corrected]).mean())
        for place, anchor in enumerate(anchors):
            away = weights[place] - anchor
            weights[place] = weights[place] - rate * strength / scale * away
            weights[place] = weights[place] * (1 - rate * decay)
            ratio = means[place] / (1 - betas[0] ** step) / (np.sqrt(corrected[place]) + eps)
            weights[place] = weights[place] - rate * ratio
    return weights


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 999),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
def test_steps_are_those_of_the_formula(seed, strength, decay, fused):
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (4,), ()]
    start, anchors = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    gradients = [[rng.normal(0, 0.1, shape) for shape in shapes] for _ in range(6)]
    weights = [torch.nn.Parameter(torch.tensor(each, dtype=torch.float32)) for each in start]
    # Two groups: R covers all of them.
    groups = [{"params": weights[:1]}, {"params": weights[1:]}]
    optimiser = torch.optim.AdamW(groups, 0.01, betas=(0.9, 0.99), weight_decay=decay, fused=fused)
    pull_towards(optimiser, [torch.tensor(each, dtype=torch.float32) for each in anchors], strength)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = torch.tensor(gradient, dtype=torch.float32)
        optimiser.step()
    expected = written_out(
        start,
        anchors,
        gradients,
        rate=0.01,
        strength=strength,
        betas=(0.9, 0.99),
        eps=1e-8,
        decay=decay,
    )
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.detach().numpy(), value, rtol=2e-4, atol=2e-5)


def test_a_stronger_pull_ends_nearer_and_a_removed_one_is_gone():
    def distance(strength, removed=False):
        weight = torch.nn.Parameter(torch.zeros(50))
        optimiser = torch.optim.Adam([weight], 0.05)
        handle = pull_towards(optimiser, [torch.zeros(50)], strength)
        if removed:
            handle.remove()
        target = torch.linspace(-2, 2, 50)
        for _ in range(200):
            optimiser.zero_grad()
            (weight - target).square().mean().backward()
            optimiser.step()
        return float(weight.detach().norm())

    free = distance(0.0)
    assert distance(0.2) < distance(0.02) < free
    assert distance(0.2, removed=True) == free


def test_parameters_without_a_gradient_stay():
    moving, still = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([moving, still], 0.1, weight_decay=0)
    pull_towards(optimiser, [torch.zeros(3), torch.zeros(3)], 1.0)
    optimiser.step()
    assert moving.detach().tolist() == [1, 1, 1]
    moving.grad = torch.ones(3)
    optimiser.step()
    assert still.detach().tolist() == [1, 1, 1]
    assert (moving.detach() < 0.9).all()


def test_where_all_gradients_are_zero_the_pull_is_that_of_a_ratio_of_one():
    weight = torch.nn.Parameter(torch.tensor([3.0, -1.0]))
    optimiser = torch.optim.AdamW([weight], 0.1, weight_decay=0)
    pull_towards(optimiser, [torch.ones(2)], 0.5)
    weight.grad = torch.zeros(2)
    optimiser.step()
    assert weight.detach().tolist() == pytest.approx([1 + 2 * 0.95, 1 - 2 * 0.95])


@pytest.mark.parametrize("gradient", [1e-18, 1e-12, 1e-6])
def test_tiny_gradients_never_pull_past_the_anchor(gradient):
    weight = torch.nn.Parameter(torch.full((4,), 3.0))
    optimiser = torch.optim.Adam([weight], 1e-3)
    pull_towards(optimiser, [torch.ones(4)], 0.2)
    weight.grad = torch.full((4,), gradient)
    optimiser.step()
    # Adam's own step is at most 1e-3; without the limit the pull would have been 2e-4 / gradient times the distance.
    assert ((weight.detach() - 1).abs() <= 1e-3 + 1e-6).all()


def test_what_cannot_be_pulled_is_refused():
    weight = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="not SGD"):
        pull_towards(torch.optim.SGD([weight], 0.1), [torch.zeros(3)], 0.1)
    with pytest.raises(ValueError, match=r"shapes \[\(2,\)\]"):
        pull_towards(torch.optim.Adam([weight]), [torch.zeros(2)], 0.1)
    with pytest.raises(ValueError, match="-1"):
        pull_towards(torch.optim.Adam([weight]), [torch.zeros(3)], -1.0)
    optimiser = torch.optim.AdamW([weight], fused=True)
    pull_towards(optimiser, [torch.zeros(3)], 0.1)
    optimiser.grad_scale = torch.ones(())
    weight.grad = torch.ones(3)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        optimiser.step()
