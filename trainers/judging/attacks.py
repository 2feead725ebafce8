"""Adversarial inputs, which measure the robustness of a classifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Data

BLOCK = 1024


def fast_gradient_sign(model: nn.Module, data: Data, step: float, span: tuple[float, float]) -> Data:
    """Move each input value by `step` in the direction that raises its sample's loss, clamped to the span.

    Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples" (ICLR 2015, arXiv 1412.6572): x + ε
    sign(∂loss/∂x). `step` and `span`, the lowest and the highest allowed value, are in the unit of the raw inputs
    `[n, …]`; the result is float32. Puts the model into evaluation mode. Raises ValueError for a negative step.

    >>> import numpy as np, torch
    >>> from secateur.trainers.contract import Data
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> with torch.no_grad():
    ...     _ = model.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    >>> data = Data(np.array([[5, 250]], dtype=np.uint8), np.array([0]), 2)
    >>> fast_gradient_sign(model, data, 8.0, (0.0, 255.0)).inputs
    array([[  0., 255.]], dtype=float32)
    """
    if step < 0:
        raise ValueError(f"a step of an attack is at least 0, not {step}")
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for block in data.blocks(BLOCK):
        inputs = torch.as_tensor(np.asarray(block.inputs, dtype=np.float32), device=device).requires_grad_()
        losses = block.task.losses(model(inputs), block.task.tensor(block.targets).to(device))
        (slope,) = torch.autograd.grad(losses.sum(), inputs)
        moved = (inputs.detach() + step * slope.sign()).clamp(*span)
        parts.append(moved.cpu().numpy())
    return replace(data, inputs=np.concatenate(parts))
