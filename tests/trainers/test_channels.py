"""Removed channels: the smaller network computes the same as the big one with these channels set to zero."""

import copy
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from secateur.selectors.masks.random_mask import random_masks
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.judging.network_costs import macs_by_layer, masked_macs, parameters_of
from secateur.trainers.models.registry import build
from secateur.trainers.pruning.channels import channel_layers, kept_channels, remove_channels
from secateur.trainers.pruning.kept import Kept

MLP = "secateur.trainers.models.normalised_mlp:normalised_mlp"


def convolutions_then_flatten(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Every kind of cut: a convolution with a bias and no batch norm, a flatten between, a linear with batch norm."""
    return nn.Sequential(
        nn.Conv2d(shape[-1], 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(20, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, classes),
    )  # fmt: skip


def with_branches(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A sum of two layers and a depthwise convolution, whose channels cannot be removed alone."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(shape[-1], 4, 3, padding=1)
            self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
            self.inner, self.outer = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)
            self.last = nn.Linear(4, classes)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            stem = self.stem(inputs).relu()
            return self.last((stem + self.outer(self.inner(self.depthwise(stem)).relu())).mean((2, 3)))

    return Branches()


def network(model: str, settings: dict[str, int], seed: int = 0) -> nn.Module:
    """A float64 network in evaluation mode with random numbers everywhere, also in batch norm's statistics."""
    found = (
        build(TrainingConfig(model=model, epochs=1, model_settings=settings), (8, 8, 1), 10, seed=seed).double().eval()
    )
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for value in (module.weight, module.bias, module.running_mean):
                    value.normal_(generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0, generator=generator)  # type: ignore[union-attr]
    return found


def some(model: nn.Module, share: float = 0.4) -> Kept:
    """A random share of the channels of every layer."""
    shapes = {name: (layer.channels,) for name, layer in channel_layers(model, inputs(1)).items()}
    counts = {name: max(1, round(share * shape[0])) for name, shape in shapes.items()}
    return kept_channels(model, random_masks(shapes, counts, seed=5), inputs(1), of_these_weights=True)


def inputs(count: int) -> torch.Tensor:
    return torch.rand(count, 8, 8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(9)) * 16


def zeroed(model: nn.Module, kept: Kept) -> nn.Module:
    """The big network with zeros for its pruned filters, and their biases, scales and shifts in batch norm."""
    masked = copy.deepcopy(model)
    layers = channel_layers(model, inputs(1))
    with torch.no_grad():
        for name, mask in kept.groups.items():
            gone = torch.from_numpy(~mask)
            for part in (name, layers[name].norm):
                for parameter in masked.get_submodule(part).parameters() if part else ():
                    parameter[gone] = 0.0
    return masked


@pytest.mark.parametrize(
    ("model", "settings", "layers"),
    [
        (MLP, {"width": 10}, 3),
        ("cnn", {"width": 5}, 3),
        ("resnet18", {"width": 16}, 8),
        (f"{__name__}:convolutions_then_flatten", {}, 3),
        (f"{__name__}:with_branches", {}, 1),
    ],
)
def test_a_smaller_network_computes_what_the_masked_one_does(model: str, settings: dict[str, int], layers: int) -> None:
    big = network(model, settings)
    kept = some(big)
    assert len(kept.groups) == layers
    before = {name: value.clone() for name, value in big.state_dict().items()}
    smaller = remove_channels(big, kept, inputs(1))
    with torch.no_grad():
        told, masked, whole = smaller(inputs(6)), zeroed(big, kept)(inputs(6)), big(inputs(6))
    torch.testing.assert_close(told, masked, rtol=1e-9, atol=1e-9)
    assert (told - whole).abs().max() > 1e-3
    for name, mask in kept.groups.items():
        assert len(smaller.get_parameter(f"{name}.weight")) == mask.sum() < mask.size
    assert parameters_of(smaller) < parameters_of(big)
    assert all(torch.equal(value, before[name]) for name, value in big.state_dict().items())


def test_layers_are_in_the_models_order_with_their_batch_norm() -> None:
    layers = channel_layers(network("cnn", {"width": 4}), inputs(1))
    assert [(name, layer.channels, layer.norm) for name, layer in layers.items()] == [
        ("1.0.0", 4, "1.0.1"), ("1.1.0", 8, "1.1.1"), ("1.2", 16, "1.3"),
    ]  # fmt: skip


def test_only_the_first_convolution_of_a_residual_block_can_be_pruned() -> None:
    layers = channel_layers(network("resnet18", {"width": 16}), inputs(1))
    assert all(name.endswith("layer.0.convolution") for name in layers)


def test_it_keeps_training_mode_and_what_learns() -> None:
    big = network("cnn", {"width": 4}).train()
    big.get_parameter("1.2.weight").requires_grad_(False)
    smaller = remove_channels(big, some(big), inputs(1))
    assert smaller.training
    assert {name: p.requires_grad for name, p in smaller.named_parameters()} == {
        name: p.requires_grad for name, p in big.named_parameters()
    }
    assert not smaller.get_parameter("1.2.weight").requires_grad


def changed(kept: Kept, groups: dict[str, np.ndarray]) -> Kept:
    return Kept("channel", {**kept.groups, **groups}, kept.made_for)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda kept: Kept("weight", kept.groups, kept.made_for), "kept units are weights"),
        (lambda kept: changed(kept, {"1.2": np.ones(5, np.bool_)}), r"5 channels .*'1.2', which has 16"),
        (lambda kept: changed(kept, {"1.7": np.ones(10, np.bool_)}), "'1.7', which is none whose channels"),
        (lambda kept: changed(kept, {"1.2": np.zeros(16, np.bool_)}), "'1.2' would keep no channel"),
    ],
)
def test_what_does_not_fit_is_refused(spoil: Callable[[Kept], Kept], said: str) -> None:
    big = network("cnn", {"width": 4})
    with pytest.raises(ValueError, match=said):
        remove_channels(big, spoil(some(big)), inputs(1))


def test_another_model_is_refused() -> None:
    big = network("cnn", {"width": 4})
    with pytest.raises(ValueError, match="another model"):
        remove_channels(network("cnn", {"width": 4}, seed=1), some(big), inputs(1))
    of_shapes = kept_channels(big, some(big).groups, inputs(1))
    assert remove_channels(network("cnn", {"width": 4}, seed=1), of_shapes, inputs(1))
    with pytest.raises(ValueError, match="another model"):
        remove_channels(network("cnn", {"width": 5}), of_shapes, inputs(1))


def test_a_network_of_one_layer_has_nothing_to_prune() -> None:
    with pytest.raises(ValueError, match="nothing can be pruned"):
        channel_layers(network("mlp", {"hidden": ()}), inputs(1))  # type: ignore[dict-item]


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError, match=r"the extra `structured`"):
        channel_layers(network("cnn", {"width": 4}), inputs(1))


def test_multiply_accumulates_are_those_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    width = 6
    big = network("cnn", {"width": width})
    found = macs_by_layer(big, inputs(3))
    assert capsys.readouterr().out == "", "torch's counter has a table to print"
    by_hand = {"1.0.0": 64 * 9 * width, "1.1.0": 16 * 9 * width * 2 * width, "1.2": 4 * 9 * 2 * width * 4 * width}
    by_hand["1.7"] = 4 * width * 10
    assert {name: found[name] for name in by_hand} == by_hand
    assert found[""] == sum(by_hand.values())
    masks = {"1.1.0.weight": np.arange(9 * width * 2 * width).reshape(2 * width, width, 3, 3) % 3 == 0}
    gone = int((~masks["1.1.0.weight"]).sum())
    assert masked_macs(big, inputs(3), masks) == found[""] - 16 * gone


def test_multiply_accumulates_of_a_pruned_network_are_those_by_hand() -> None:
    big = network(MLP, {"width": 8})
    layers = ("1.1", "1.4", "1.7")
    counts = dict(zip(layers, (3, 4, 5), strict=True))
    masks = random_masks(dict.fromkeys(layers, (8,)), counts, seed=0)
    smaller = remove_channels(big, kept_channels(big, masks, inputs(1)), inputs(1))
    assert macs_by_layer(smaller, inputs(2))[""] == 64 * 3 + 3 * 4 + 4 * 5 + 5 * 10
    assert parameters_of(smaller) == 64 * 3 + 3 * 4 + 4 * 5 + 5 * 10 + 10 + 2 * (3 + 4 + 5)
