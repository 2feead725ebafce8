"""A teacher's highest logits at completion tokens, and the divergence of a student from them.

Each completion token keeps the `k` highest logits, relative to the highest, and the mass of all other tokens. The
divergence compares these k + 1 outcomes: KL(teacher ‖ student) over the k tokens and "any other". It is at most the
divergence over the whole vocabulary, and 0 if the student agrees with the teacher. A cache does not know the
distribution within the rest, so it teaches nothing about it. (Scaling the k probabilities up to 1 would teach that no
other token is possible; spreading the rest evenly would overstate rare tokens.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Float, Integer

from secateur.scorers.lazy import torch


class Lesson(NamedTuple):
    """A teacher's logits at the completion tokens of a batch, concatenated: `values` float `[t, k]` are the highest
    logits minus the first, `indices` int64 `[t, k]` their tokens. `rest` float `[t]` is one logit for all other tokens
    of the vocabulary that gives them their total mass at `temperature`."""

    values: torch.Tensor
    indices: torch.Tensor
    rest: torch.Tensor
    temperature: float
    vocabulary: int


def highest(logits: Float[torch.Tensor, "t vocabulary"], k: int, temperature: float) -> Lesson:
    """The `k` highest logits of each token, in float32; `k` is below the size of the vocabulary."""
    top = logits.float().topk(k, dim=1)
    relative = logits.float() - top.values[:, :1]
    others = (relative / temperature).scatter(1, top.indices, -math.inf).logsumexp(dim=1)
    size = logits.shape[1]
    rest = temperature * (others - math.log(size - k))
    return Lesson(top.values - top.values[:, :1], top.indices, rest, temperature, size)


def divergence(
    logits: Float[torch.Tensor, "t all"],
    values: Float[torch.Tensor, "t k"],
    indices: Integer[torch.Tensor, "t k"],
    rest: Float[torch.Tensor, " t"],
    temperature: float,
    vocabulary: int,
) -> Float[torch.Tensor, " t"]:
    """Squared temperature times KL(teacher ‖ student) over the k tokens and all others as one, float32 with gradient.

    A student may have more tokens than the tokenizer's `vocabulary`; these count as others.
    """
    others = rest.float() + temperature * math.log(vocabulary - values.shape[1])
    told = (torch.cat([values.float(), others[:, None]], dim=1) / temperature).log_softmax(dim=1)
    said = (logits.float() / temperature).log_softmax(dim=1)
    beyond = said.scatter(1, indices, -math.inf).logsumexp(dim=1)
    own = torch.cat([said.gather(1, indices), beyond[:, None]], dim=1)
    return temperature**2 * (told.exp() * (told - own)).sum(dim=1)
