"""Networks by name, each fed with raw inputs: what standardises them is the network's first layer.

A trained model is therefore whole: its file and this module turn the data set's own values into logits.
"""

import importlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from secateur.trainers.contract import Data, Recipe


class Standardise(nn.Module):
    """Raw inputs to float32 with mean 0 and standard deviation 1 per channel or column; images to channels first."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def fit(self, data: Data) -> None:
        """Measure the data by blocks in float64; a channel that never varies keeps a deviation of 1."""
        count, total, square = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        for block in data.blocks():
            values = torch.as_tensor(block.inputs).double().flatten(0, -2)
            count, total, square = count + len(values), total + values.sum(0), square + values.square().sum(0)
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 0, variance.sqrt(), 1.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = (inputs.float() - self.mean) / self.std
        return values.movedim(-1, 1) if values.ndim == 4 else values


def mlp(shape: tuple[int, ...], classes: int, *, hidden: tuple[int, ...] = (128,)) -> nn.Module:
    """Fully connected layers with ReLU between them."""
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def cnn(shape: tuple[int, ...], classes: int, *, width: int = 32) -> nn.Module:
    """Three convolutions with batch norm, pooled: a small network for images from 8 x 8."""
    if len(shape) != 3:
        raise ValueError(f"model 'cnn' wants images, the inputs have shape {shape}; use model 'mlp'")

    def stage(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)
        )

    return nn.Sequential(
        stage(shape[-1], width),
        stage(width, 2 * width),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}


def factory_of(model: str) -> Callable[..., nn.Module]:
    """The function behind a model's name or `module:factory`; it takes `(input shape, classes, **settings)`.

    Raises ValueError that lists the names there are.
    """
    if model in MODELS:
        return MODELS[model]
    module, colon, name = model.partition(":")
    if not colon:
        known = ", ".join(sorted(MODELS))
        raise ValueError(f"no model is called {model!r}; there are {known}, or write module:factory")
    try:
        factory: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model {model!r} cannot be imported: {error}") from error
    return factory


def build(recipe: Recipe, shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
    """A fresh network for inputs of `shape`, its weights drawn from `seed` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = factory_of(recipe.model)(shape, classes, **recipe.model_settings)
    return nn.Sequential(Standardise(shape[-1]), network)


def save(model: nn.Module, folder: Path, recipe: Recipe, shape: tuple[int, ...], classes: int) -> None:
    """Write `model.safetensors` and the `model.json` that rebuilds it into an existing folder."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    rebuild: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "shape": shape, "classes": classes}
    (folder / "model.json").write_text(json.dumps(rebuild, indent=2) + "\n")


def load(folder: Path) -> nn.Module:
    """Read back what `save` wrote, in evaluation mode on the CPU."""
    rebuild = json.loads((folder / "model.json").read_text())
    model = build(Recipe(**rebuild["recipe"]), tuple(rebuild["shape"]), rebuild["classes"], seed=0)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()
