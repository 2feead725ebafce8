"""AdamR: Adam with a pull of the weights towards the pre-trained ones, which makes fine-tuning deltas robust to pruning
(Deng et al., "DARE the extreme", ICLR 2025, arXiv 2410.09344, section on DAREx-L2).

Before each step of Adam, θ ← θ - (lr · λ / R) (θ - θ₀), where R is the root of the mean of the bias-corrected second
moments over all parameters: the pull keeps its size relative to Adam's own normalised step. If all gradients have been
0, R is 0 and counts as 1, as in the authors' code. lr · λ / R is clamped to 1 (ours), so no pull goes past θ₀.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secateur.scorers.lazy import torch


def pull_towards(
    optimiser: torch.optim.Optimizer, anchor: Sequence[torch.Tensor], strength: float
) -> torch.utils.hooks.RemovableHandle:
    """Pull the weights towards `anchor` before every step of an Adam or AdamW; remove the handle to end it.

    `anchor` has a tensor of the same shape for each parameter, in the optimiser's order, and is not copied. `strength`
    is λ. Parameters without a gradient do not move. The pull does not synchronise with the device. Raises ValueError
    for another optimiser, anchors that do not fit and a negative strength; a step raises it under float16's loss
    scaling, where gradients reach the optimiser scaled.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> handle = pull_towards(torch.optim.AdamW([weight]), [torch.zeros(2)], 0.1)
    """
    if not isinstance(optimiser, torch.optim.Adam):  # AdamW is a subclass
        raise ValueError(f"AdamR takes R from Adam's second moments: use Adam or AdamW, not {type(optimiser).__name__}")
    if strength < 0:
        raise ValueError(f"the pull must be 0 or stronger, got {strength}")
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    shapes, anchored = [tuple(each.shape) for each in parameters], [tuple(each.shape) for each in anchor]
    if shapes != anchored:
        raise ValueError(f"the pull is towards tensors of shapes {anchored}, the optimiser's are {shapes}")
    towards = dict(zip(map(id, parameters), anchor, strict=True))

    def pull(stepping: torch.optim.Optimizer, arguments: Any, settings: Any) -> None:
        if getattr(stepping, "grad_scale", None) is not None:
            raise ValueError("AdamR cannot read scaled gradients: train in float32 or bfloat16")
        scale = _second_moments(stepping)
        if scale is None:
            return
        with torch.no_grad():
            for group in stepping.param_groups:
                for each in group["params"]:
                    if each.grad is not None:
                        share = (group["lr"] * strength / scale).clamp(max=1.0).to(each.device)
                        each.sub_(share * (each - towards[id(each)]))

    return optimiser.register_step_pre_hook(pull)


def _second_moments(optimiser: torch.optim.Optimizer) -> torch.Tensor | None:
    """R of the coming step, a scalar tensor, 1 instead of 0; None if no parameter has a gradient.

    It computes the moments of the coming step without storing them: the optimiser updates them itself.
    """
    total, entries = None, 0
    with torch.no_grad():
        for group in optimiser.param_groups:
            beta = group["betas"][1]
            for each in group["params"]:
                if each.grad is None:
                    continue
                state = optimiser.state[each]
                steps = state["step"] + 1 if state else torch.ones(())
                moments = (1 - beta) * each.grad.float().square()
                if state:
                    moments += beta * state["exp_avg_sq"]
                correction = (1 - beta ** steps.to(each.device)).double()
                part = moments.sum(dtype=torch.float64) / correction
                total = part if total is None else total + part.to(total.device)
                entries += each.numel()
    if total is None:
        return None
    root = (total / entries).sqrt()
    return torch.where(root == 0, torch.ones_like(root), root)
