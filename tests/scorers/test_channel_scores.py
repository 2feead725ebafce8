"""Scores of channels against loops over their numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from secateur.scorers.networks.l1_filter import l1_filter
from secateur.scorers.networks.slimming import slimming


@pytest.fixture
def model() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 4), nn.BatchNorm1d(4))
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=generator)
    return network


def test_l1_is_the_sum_of_each_filters_absolute_weights(model: nn.Module) -> None:
    found = l1_filter(model, ["0", "3"])
    assert {name: values.dtype for name, values in found.items()} == {"0": np.float32, "3": np.float32}
    for name in ("0", "3"):
        weight = model.get_submodule(name).weight
        by_hand = [sum(abs(value) for value in each.flatten().tolist()) for each in weight]  # type: ignore[union-attr]
        assert found[name] == pytest.approx(by_hand, rel=1e-6)


def test_slimming_is_the_absolute_scale_of_the_layers_own_batch_norm(model: nn.Module) -> None:
    found = slimming(model, {"0": "1", "3": "4"})
    for layer, norm in (("0", "1"), ("3", "4")):
        scales = model.get_submodule(norm).weight.tolist()  # type: ignore[union-attr,operator]
        assert min(scales) < 0
        assert found[layer].tolist() == pytest.approx([abs(value) for value in scales])


def test_scores_do_not_change_with_the_model_afterwards(model: nn.Module) -> None:
    found = slimming(model, {"0": "1"})
    before = found["0"].copy()
    with torch.no_grad():
        model.get_parameter("1.weight").zero_()
    assert np.array_equal(found["0"], before)
    assert before.any()
