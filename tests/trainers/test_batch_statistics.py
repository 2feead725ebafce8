"""Batch norm over a whole data set equals batch norm over one batch of all samples, for any blocks."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from secateur.trainers.contract import Data
from secateur.trainers.loop.batch_statistics import measured_again


class InSmallBlocks(Data):
    def blocks(self, size: int = 4096, *, rows: np.ndarray | None = None) -> Iterator[Data]:
        return super().blocks(min(size, 7), rows=rows)


def rare(*shape: int) -> np.ndarray:
    """Values with a column that differs from 0 in a single sample, far from the other columns."""
    values = np.random.default_rng(0).normal(300.0, 2.0, shape).astype(np.float32)
    values[:, 1] = 0.0
    values[-1, 1] = 5.0
    return values


def network(convolution: bool) -> nn.Module:
    first = nn.Conv2d(2, 3, 3) if convolution else nn.Linear(2, 3)
    norms = (nn.BatchNorm2d, nn.BatchNorm2d) if convolution else (nn.BatchNorm1d, nn.BatchNorm1d)
    second = nn.Conv2d(3, 4, 1) if convolution else nn.Linear(3, 4)
    found = nn.Sequential(norms[0](2), first, nn.ReLU(), norms[1](3), second, norms[1](4), nn.Flatten())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(generator=generator)
    return found


@pytest.mark.parametrize("shape", [(50, 2), (20, 2, 5, 4)])
def test_it_is_as_if_all_samples_were_one_batch(shape: tuple[int, ...]) -> None:
    data = InSmallBlocks(rare(*shape), np.zeros(shape[0], np.int64), 1)
    measured = measured_again(network(len(shape) > 2), data)
    assert not measured.training
    whole = copy.deepcopy(measured).train().double()
    norms = [module for module in whole if hasattr(module, "running_mean")]
    for module in norms:
        module.momentum = 1.0
    with torch.no_grad():
        whole(torch.as_tensor(data.inputs).double())
    for own, module in zip((each for each in measured if hasattr(each, "running_mean")), norms, strict=True):
        torch.testing.assert_close(own.running_mean.double(), module.running_mean, rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(own.running_var.double(), module.running_var, rtol=6e-2, atol=1e-6)
    first = next(iter(measured))
    axes = (0, *range(2, len(shape)))
    assert first.running_mean.tolist() == pytest.approx(data.inputs.mean(axes, dtype=np.float64).tolist(), rel=1e-6)
    by_hand = data.inputs.astype(np.float64).var(axes, ddof=1)
    assert first.running_var.tolist() == pytest.approx(by_hand.tolist(), rel=1e-6)


def test_blocks_do_not_matter_and_hooks_are_gone() -> None:
    inputs, labels = rare(50, 2), np.zeros(50, np.int64)
    one = measured_again(network(False), Data(inputs, labels, 1)).state_dict()
    other = measured_again(network(False), InSmallBlocks(inputs, labels, 1))
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, one[name], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in other.modules())


def test_one_without_statistics_is_left_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.BatchNorm1d(2))
    measured_again(model, Data(rare(9, 2), np.zeros(9, np.int64), 1))
    assert model[0].running_mean is None
