"""Costs of running a network: multiply-accumulates, parameters, and time on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import numpy as np

from secateur.scorers.lazy import nn, torch

WARM_UP, REPEATS = 5, 40
"""Forward passes before and during a measurement of time."""


def macs_by_layer(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Multiply-accumulates per sample by module name, `""` for the whole network, in evaluation mode.

    `example` are inputs `[b, …]` of the network. Matrix products and convolutions count; element-wise operations (batch
    norm, ReLU, biases) do not.
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(example)
    model.train(was_training)
    told, root = counter.get_flop_counts(), type(model).__name__
    names = {name: f"{root}.{name}" if name else "Global" for name, _ in model.named_modules()}
    # A multiply-accumulate is two floating-point operations.
    return {name: sum(told.get(key, {}).values()) // (2 * len(example)) for name, key in names.items()}


def masked_macs(model: nn.Module, example: torch.Tensor, masks: Mapping[str, np.ndarray]) -> int:
    """Multiply-accumulates per sample of kept weights, by masks of parameter names; True keeps.

    It is the cost for a kernel that skips every pruned weight; dense kernels skip none. Raises ValueError if a layer
    does not use its weights equally often.
    """
    by_layer = macs_by_layer(model, example)
    saved = 0
    for name, mask in masks.items():
        each, rest = divmod(by_layer[name.rpartition(".")[0]], mask.size)
        if rest:
            raise ValueError(f"the weights of {name} are not all used equally often: its masked cost is unknown")
        saved += each * int(np.count_nonzero(~mask))
    return by_layer[""] - saved


def parameters_of(model: nn.Module) -> int:
    """Total number of parameters: weights, biases, scales."""
    return sum(parameter.numel() for parameter in model.parameters())


def latency(model: nn.Module, inputs: torch.Tensor) -> float:
    """Median seconds of a forward pass over `inputs`, on the CPU with one thread."""
    threads = torch.get_num_threads()
    network, taken = model.cpu().eval(), []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(WARM_UP + REPEATS):
                began = time.perf_counter()
                network(inputs)
                taken.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(taken[WARM_UP:])
