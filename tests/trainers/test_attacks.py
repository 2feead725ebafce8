"""The fast gradient sign attack against formulas and all other directions."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from secateur.trainers.contract import Data
from secateur.trainers.judging.attacks import fast_gradient_sign


def test_against_a_linear_classifier_it_is_the_formula_and_keeps_to_the_span():
    random = np.random.default_rng(0)
    inputs, labels = random.integers(0, 256, (1500, 7), dtype=np.uint8), random.integers(0, 3, 1500)
    model = nn.Linear(7, 3)
    with torch.no_grad():
        model.weight.mul_(0.05)
    moved = fast_gradient_sign(model, Data(inputs, labels, 3), 4.0, (0.0, 255.0))
    weight, bias = (each.detach().double().numpy() for each in (model.weight, model.bias))
    logits = inputs @ weight.T + bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    slope = (odds / odds.sum(1, keepdims=True) - np.eye(3)[labels]) @ weight
    np.testing.assert_array_equal(moved.inputs, np.clip(inputs + 4.0 * np.sign(slope), 0, 255).astype(np.float32))
    assert moved.inputs.dtype == np.float32
    np.testing.assert_array_equal(moved.targets, labels)


def test_for_a_small_step_no_other_corner_of_the_box_raises_the_loss_more():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, 3)).train()
    inputs, labels = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 3
    step = 1e-3
    moved = fast_gradient_sign(model, Data(inputs, labels, 3), step, (-10.0, 10.0)).inputs
    judge = model.double().eval()

    def losses(values):
        with torch.no_grad():
            logits = judge(torch.as_tensor(values, dtype=torch.float64))
            return nn.functional.cross_entropy(logits, torch.as_tensor(labels), reduction="none").numpy()

    corners = [losses(inputs + step * np.array(signs)) for signs in itertools.product((-1, 1), repeat=4)]
    np.testing.assert_allclose(losses(moved), np.max(corners, axis=0), atol=1e-6)
    assert (losses(moved) > losses(inputs)).all()


def test_no_step_changes_nothing_and_a_negative_one_is_refused():
    data = Data(np.ones((3, 2), np.float32), np.zeros(3, np.int64), 2)
    np.testing.assert_array_equal(fast_gradient_sign(nn.Linear(2, 2), data, 0.0, (0.0, 1.0)).inputs, data.inputs)
    with pytest.raises(ValueError, match="at least 0, not -1"):
        fast_gradient_sign(nn.Linear(2, 2), data, -1.0, (0.0, 1.0))
