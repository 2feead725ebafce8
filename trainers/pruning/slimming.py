"""Training with a penalty that pulls batch norm's scales towards zero, so that scales rank channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Objective


def scale_penalty(model: nn.Module, strength: float) -> Objective:
    """The task's loss plus `strength` times the sum of |scale| over all batch norms, for a `train` with this `start`.

    It adds `strength` · sign(scale) to the gradient of each scale (Liu et al. 2017, Learning Efficient Convolutional
    Networks through Network Slimming, arXiv 1708.06519, equation 1). Raises ValueError for a model without batch norm,
    and for batch norm without scales.

    Forward hooks in the model give the objective the scales of the copy in training.
    """
    scales: dict[str, torch.Tensor] = {}
    norms = {name: each for name, each in model.named_modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)}
    for name, norm in norms.items():
        norm.register_forward_hook(noted(scales, name))
    if not norms or not all(norm.affine for norm in norms.values()):
        raise ValueError("slimming reads the scales of batch norm, the model lacks them: set method: l1_filter")

    def losses_of(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
        return batch.losses + strength * torch.stack([scale.abs().sum() for scale in scales.values()]).sum()

    return losses_of


def noted(scales: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    """A forward hook that records the scale of its module; a function, because copies of the model share it."""

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        scales[name] = module.weight  # type: ignore[assignment]

    return note
