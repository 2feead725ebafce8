"""Networks with selectable layers, for architecture searches over small spaces."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from secateur.scorers.lazy import nn
from secateur.trainers.contract import reads

Layer = int | Literal["skip"]
ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "gelu": "GELU"}


def activation_of(name: str) -> nn.Module:
    """The activation of that name; raises ValueError with all names for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r}; there are: {', '.join(ACTIVATIONS)}")
    module: nn.Module = getattr(nn, ACTIVATIONS[name])()
    return module


LAYERS = ("layer1", "layer2", "layer3", "layer4")


def same_network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical settings, equal for equal networks: widths without skipped layers, and defaults filled in.

    Without a hidden layer, activation and normalisation do not matter.
    """
    widths = [settings.get(name, "skip") for name in LAYERS]
    hidden = [width for width in widths if width != "skip"]
    rest = {"activation": "relu", "normalise": False} | {k: v for k, v in settings.items() if k not in LAYERS}
    return {"hidden": hidden} | (rest if hidden else {})


@reads("numbers")
def searchable_mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    layer1: Layer = "skip",
    layer2: Layer = "skip",
    layer3: Layer = "skip",
    layer4: Layer = "skip",
    activation: Literal["relu", "tanh", "gelu"] = "relu",
    normalise: bool = False,
) -> nn.Module:
    """Fully connected layers of the given widths without skipped ones, with batch norm if `normalise`."""
    hidden = [width for width in (layer1, layer2, layer3, layer4) if width != "skip"]
    widths = [math.prod(shape), *map(int, hidden)]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if normalise else [])]
        layers.append(activation_of(activation))
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


@reads("numbers")
def searchable_cnn(
    shape: tuple[int, ...],
    classes: int,
    *,
    layer1: Layer = "skip",
    layer2: Layer = "skip",
    layer3: Layer = "skip",
    layer4: Layer = "skip",
    activation: Literal["relu", "tanh", "gelu"] = "relu",
    normalise: bool = True,
) -> nn.Module:
    """3 x 3 convolutions of the given widths without skipped ones, each followed by pooling by 2 above 3 pixels."""
    if len(shape) != 3:
        raise ValueError(f"searchable_cnn wants images, the inputs have shape {shape}; use searchable_mlp")
    hidden = [width for width in (layer1, layer2, layer3, layer4) if width != "skip"]
    widths, side = [shape[-1], *map(int, hidden)], min(shape[:2])
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if normalise else [])]
        layers.append(activation_of(activation))
        if side > 3:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


for _factory in (searchable_mlp, searchable_cnn):
    _factory.same_network = same_network  # type: ignore[attr-defined]
