"""Statistics of batch norm over a whole data set, instead of averages over the last few batches of training.

If a pruned channel is active in few samples, batches without these shrink its running variance to nearly 0, and batch
norm then scales the next such sample up by a factor of hundreds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Data


def measured_again(model: nn.Module, data: Data) -> nn.Module:
    """Set batch norm's statistics to those of the whole data set, in place; the model is in evaluation mode then.

    Measures layer by layer in running order, each on outputs of the earlier layers in evaluation mode. This takes one
    pass over the data for each layer, and the result does not depend on the blocks. In float64, with torch's unbiased
    variance. (Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv 2105.07576.)
    """
    model.eval()
    order: list[Any] = []
    first = data.blocks(2)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    seen(model, [next(first)], {norm: lambda norm, _: order.append(norm) for norm in norms})
    for norm in dict.fromkeys(order):
        moments = Moments()
        seen(model, data.blocks(), {norm: moments.add})
        moments.put_into(norm)
    return model


class Moments:
    """Sums over samples and positions of each channel, float64."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: Any = 0.0
        self.squares: Any = 0.0
        self.origin: Any = None

    def add(self, norm: nn.Module, values: torch.Tensor) -> None:
        """Add values `[b, channels, …]`."""
        rows = values.detach().double().transpose(0, 1).flatten(1)
        if self.origin is None:
            self.origin = rows[:, :1]  # Near the mean, against cancellation in a small variance.
        self.count += rows.shape[1]
        self.sums = self.sums + (rows - self.origin).sum(1)
        self.squares = self.squares + (rows - self.origin).square().sum(1)

    def put_into(self, norm: Any) -> None:
        """Write mean and variance into a batch norm."""
        if norm.running_mean is None or norm.running_var is None:
            return
        mean = self.sums / self.count
        spread = self.squares - self.count * mean.square()
        norm.running_mean.copy_(self.origin[:, 0] + mean)
        norm.running_var.copy_(spread.clamp_min(0.0) / max(1, self.count - 1))


def seen(model: nn.Module, blocks: Any, watchers: Mapping[Any, Callable[[Any, torch.Tensor], None]]) -> None:
    """Call each watcher with the inputs of its batch norm, over forward passes of all blocks."""

    def hook(watcher: Callable[[Any, torch.Tensor], None]) -> Callable[[Any, Any], None]:
        return lambda norm, inputs: watcher(norm, inputs[0])

    handles = [norm.register_forward_pre_hook(hook(watcher)) for norm, watcher in watchers.items()]
    try:
        with torch.inference_mode():
            for block in blocks:
                model(block.network_inputs())
    finally:
        for handle in handles:
            handle.remove()
