"""What a teacher says of completion tokens, and how far a student is from it: the highest few logits of each token.

Of the highest `k` each token keeps the logit, less the highest of them, and of all other tokens together the mass. A
student is compared on these k + 1 outcomes: KL(teacher ‖ student) of the k tokens and of "any other". That is never
more than the divergence over the whole vocabulary, and 0 where the student says what the teacher says: a cache does not
know how the rest is spread, so it teaches nothing of that. (Scaling the k up to 1 would teach that no other token is
possible, and spreading the rest evenly that rare tokens are likelier than they are.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Float, Integer

from secateur.scorers.lazy import torch


class Lesson(NamedTuple):
    """What a teacher says of the completion tokens of a batch, one behind the other: `values` float `[t, k]` are the
    highest logits less the first, `indices` int64 `[t, k]` their tokens, and `rest` float `[t]` the logit which, given
    to each other token of the vocabulary, has their mass at `temperature`."""

    values: torch.Tensor
    indices: torch.Tensor
    rest: torch.Tensor
    temperature: float
    vocabulary: int


def highest(logits: Float[torch.Tensor, "t vocabulary"], k: int, temperature: float) -> Lesson:
    """The `k` highest logits of each token, below the size of the vocabulary, in float32."""
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

    A student may know more tokens than the tokenizer's `vocabulary`; these count as others.
    """
    others = rest.float() + temperature * math.log(vocabulary - values.shape[1])
    told = (torch.cat([values.float(), others[:, None]], dim=1) / temperature).log_softmax(dim=1)
    said = (logits.float() / temperature).log_softmax(dim=1)
    beyond = said.scatter(1, indices, -math.inf).logsumexp(dim=1)
    own = torch.cat([said.gather(1, indices), beyond[:, None]], dim=1)
    return temperature**2 * (told.exp() * (told - own)).sum(dim=1)
