"""Means and norms of the inputs of a network's linear layers, for scores and rescaling of deltas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from safetensors.numpy import load_file, save_file

from secateur.scorers.lazy import nn, torch


@dataclass(frozen=True)
class LayerInputs:
    """Mean and Euclidean norm of each input of a layer over all rows, float64 `[inputs]`."""

    means: Float64[np.ndarray, " inputs"]
    norms: Float64[np.ndarray, " inputs"]


def layer_inputs(
    model: nn.Module, feed: Callable[[nn.Module, torch.Tensor], object], batches: Iterable[torch.Tensor]
) -> dict[str, LayerInputs]:
    """Inputs of every `nn.Linear`, by the name of its weight, while `feed(model, batch)` runs in evaluation mode.

    All dimensions but the last count as rows: samples, and tokens of samples. All uses of a layer count; unused layers
    are missing in the result. Restores the model's mode.
    """
    sums: dict[str, tuple[torch.Tensor, torch.Tensor, int]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def take(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            rows = given[0].detach().flatten(0, -2).double()
            total, squares, count = sums.get(name, (0, 0, 0))
            sums[name] = total + rows.sum(0), squares + rows.square().sum(0), count + len(rows)

        return take

    hooks = [
        layer.register_forward_pre_hook(watch(f"{name}.weight" if name else "weight"))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                feed(model, batch)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {
        name: LayerInputs((total / count).cpu().numpy(), squares.sqrt().cpu().numpy())
        for name, (total, squares, count) in sums.items()
    }


def save_inputs(inputs: Mapping[str, LayerInputs], file: Path) -> None:
    """Write a safetensors file with `<weight>.means` and `<weight>.norms`, float64, of every layer."""
    arrays = {
        f"{name}.{part}": getattr(each, part) for name, each in sorted(inputs.items()) for part in ("means", "norms")
    }
    save_file(arrays, file)


def load_inputs(file: Path) -> dict[str, LayerInputs]:
    """The inputs that `save_inputs` wrote; raises ValueError that names the tensor for any other file."""
    arrays = load_file(file)
    found = {}
    for name in sorted({name.rpartition(".")[0] for name in arrays}):
        means, norms = (arrays.get(f"{name}.{part}") for part in ("means", "norms"))
        if means is None or norms is None or means.ndim != 1 or means.shape != norms.shape:
            raise ValueError(
                f"{file}: {name!r} has no means and norms of one length: it was not written by save_inputs"
            )
        if not (np.isfinite(means).all() and np.isfinite(norms).all()):
            raise ValueError(f"{file}: means or norms of {name!r} are NaN or infinite")
        found[name] = LayerInputs(means.astype(np.float64), norms.astype(np.float64))
    return found
