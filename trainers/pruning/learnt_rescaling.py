"""A q for each layer, learnt by gradient from the change of outputs on unlabelled inputs: DAREx's form for large models
(Deng et al., "DARE the extreme", ICLR 2025, arXiv 2410.09344).

As in the authors' code, the kept entries of a layer's delta are divided by |a| + keep, where a is the layer's only
parameter. The loss is the mean squared change of the outputs that the fine-tuned model rates highest; the optimiser is
AdamW on half a cosine; training ends after some steps without improvement. The authors do not give the initial a: here
it is a quarter of `keep`, because at 0 the gradient of |a| is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from secateur.scorers.lazy import torch
from secateur.trainers.pruning.delta_rescaling import check_keep, made_up

if TYPE_CHECKING:
    State = Mapping[str, torch.Tensor]

START = 0.25
"""Initial |a|, as a share of `keep`."""


@dataclass(frozen=True)
class LearntQ:
    """The q of each layer at the least loss, and the loss before each step and after the last."""

    q: Mapping[str, float]
    losses: tuple[float, ...]

    @property
    def still_falling(self) -> bool:
        """Whether the last loss was the least: more or larger steps might reduce it further."""
        return self.losses[-1] == min(self.losses)


def layer_of(parameter: str) -> str:
    """The layer of a parameter; weight and bias share their q.

    >>> layer_of("model.3.weight")
    'model.3'
    """
    return parameter.rpartition(".")[0]


def q_by_gradient(
    outputs: Callable[[State], torch.Tensor],
    base: State,
    deltas: State,
    draws: Sequence[Mapping[str, np.ndarray]],
    keep: float,
    *,
    top: int = 5,
    rate: float = 0.01,
    steps: int = 200,
    patience: int = 5,
) -> LearntQ:
    """The q of each layer that brings the outputs nearest to the fine-tuned model's, over some draws of the mask.

    `outputs` computes the outputs `[n, width]` of the model with given parameters, for the same inputs each time, such
    as by `torch.func.functional_call`. `base` and `deltas` are float tensors by parameter name; each of `draws` has a
    bool array of the same shape for every delta, and should differ from the evaluated mask. `made_up` corrects counts
    that rounding moved away from `keep`, as in the use of q. Raises ValueError for a keep outside (0, 1], no draw, and
    outputs that are not finite.

    >>> import numpy as np, torch
    >>> base, delta = {"1.weight": torch.zeros(1, 4)}, {"1.weight": torch.ones(1, 4)}
    >>> half = [{"1.weight": np.array([[True, True, False, False]])}]
    >>> inputs = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    >>> learnt = q_by_gradient(lambda p: inputs @ p["1.weight"].T, base, delta, half, 0.5, rate=0.05)
    >>> round(learnt.q["1"], 1)  # two thirds: the mask keeps 2 of a sum of 3
    0.7
    """
    check_keep(keep)
    if not draws:
        raise ValueError("q is learnt over one draw of the mask at least, and none is given")
    with torch.no_grad():
        intended = outputs({name: base[name] + delta for name, delta in deltas.items()})
    highest = intended.topk(min(top, intended.shape[1]), dim=1).indices
    kept = [kept_of(deltas, masks, keep) for masks in draws]
    layers = dict.fromkeys(map(layer_of, deltas))
    learnt = {layer: torch.tensor(START * keep, dtype=torch.float64, requires_grad=True) for layer in layers}
    optimiser = torch.optim.AdamW(learnt.values(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, losses = dict.fromkeys(layers, keep), list[float]()
    for step in range(steps + 1):
        found = {layer: float(value.detach().abs()) + keep for layer, value in learnt.items()}
        optimiser.zero_grad()
        loss = 0.0
        for delta in kept:
            missed = outputs(divided(base, delta, learnt, keep)) - intended
            squares = missed.gather(1, highest).square().mean() / len(kept)
            squares.backward()  # type: ignore[no-untyped-call]
            loss += float(squares.detach())
        if not math.isfinite(loss):
            raise ValueError(f"outputs are NaN or infinite at q {found}: the fine-tuned model's own must be finite")
        if not losses or loss < min(losses):
            best = found
        losses.append(loss)
        if step == steps or len(losses) - losses.index(min(losses)) > patience:
            break
        optimiser.step()
        schedule.step()
    return LearntQ(best, tuple(losses))


def kept_of(deltas: State, masks: Mapping[str, np.ndarray], keep: float) -> dict[str, torch.Tensor]:
    """The masked deltas, corrected for counts that rounding moved away from `keep`."""
    found = {}
    for name, delta in deltas.items():
        stays = torch.from_numpy(masks[name]).to(delta.device)
        found[name] = delta * stays / made_up(1.0, keep, int(stays.sum()), delta.numel())
    return found


def divided(base: State, kept: State, learnt: State, keep: float) -> dict[str, torch.Tensor]:
    """Parameters of the base plus the masked delta divided by |a| + keep of its layer."""
    return {name: base[name] + part / (learnt[layer_of(name)].abs() + keep).to(part) for name, part in kept.items()}
