"""One vector per completion from forward passes alone: the weighted mean of its hidden states, or a sketch of the
gradient of its loss by the network's head.

Weighted means are those of RDS+ (Ivison et al. 2025, arXiv 2503.01807, and its code): the real token at position t = 1
… T of the prompt and the completion has the weight t / (1 + … + T); the mean has length one.

The gradient of a sample's loss by the head is the sum over its completion tokens of (softmax - one-hot) ⊗ hidden state,
vocabulary x width numbers. Its count sketch (Pham and Pagh 2013, "Fast and Scalable Polynomial Kernels via Explicit
Feature Maps") does not need these: it sums each factor into `size` buckets with random signs; the circular convolution
of both sums is the sketch of the outer product. The expected dot product of sketches is that of the gradients, with a
standard deviation of the order of 1/sqrt(size) of the product of their norms. The sketch replaces LESS's random
projection (Xia et al. 2024, arXiv 2402.04333), for the last layer alone and without Adam's direction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from secateur.trainers.contract import Data
from secateur.trainers.models import token_losses
from secateur.trainers.models.token_losses import TokenLosses
from secateur.trainers.tasks.token_roles import by_length, real_in, used_columns

SIZE = 4096
"""Numbers of a sketch: 16 KB per sample and checkpoint on disk; memory holds one block of them."""
SEED = 0


def tokens_of(model: Any) -> TokenLosses:
    """The `TokenLosses` part of a model; raises ValueError if there is none."""
    found = next((part for part in model.modules() if isinstance(part, TokenLosses)), None)
    if found is None:
        raise ValueError(
            f"{type(model).__name__} shows no hidden states of tokens: vectors and gradients of completions are those "
            "of language_model"
        )
    return found


@torch.no_grad()
def weighted_means(model: Any, data: Data, rows: Int64[np.ndarray, " b"], device: torch.device) -> torch.Tensor:
    """Weighted means of the last hidden states over all real tokens, of length one, float32 `[b, d]` on the CPU.

    Raises ValueError for a network without hidden states of tokens.
    """
    network = tokens_of(model.to(device).eval())
    inputs = data.take(rows).network_inputs(device)
    found = torch.empty(len(rows), network.body.config.hidden_size)
    for part in by_length(inputs, token_losses.BUDGET):
        some = used_columns(inputs[part])
        real = real_in(some)
        weights = (real.cumsum(1) * real).double()
        hidden = network.hidden(some[:, 0].long(), real).double().masked_fill(~real.unsqueeze(2), 0)
        mean = torch.linalg.vecdot(hidden.mT, (weights / weights.sum(1, keepdim=True)).unsqueeze(1))
        found[part.cpu()] = torch.nn.functional.normalize(mean, dim=1).float().cpu()
    return found


class Buckets:
    """Sums vectors of `count` numbers into `size` buckets with random signs; `factor` 0 and 1 have separate draws."""

    def __init__(self, count: int, size: int, factor: int, device: torch.device) -> None:
        random = np.random.default_rng([SEED, factor])
        self.size = size
        self.buckets = torch.from_numpy(random.integers(0, size, count)).to(device)
        self.signs = torch.from_numpy(2 * random.integers(0, 2, count, dtype=np.int64) - 1).float().to(device)

    def spectrum(self, vectors: torch.Tensor) -> torch.Tensor:
        """Fourier transform of the sums: float32 `[k, count]` -> complex64 `[k, size // 2 + 1]`."""
        sums = vectors.new_zeros(len(vectors), self.size)
        found: torch.Tensor = torch.fft.rfft(sums.index_add_(1, self.buckets, vectors * self.signs))
        return found


@torch.no_grad()
def head_sketches(
    model: Any, data: Data, rows: Int64[np.ndarray, " b"], device: torch.device, *, size: int = SIZE
) -> torch.Tensor:
    """Sketches of the gradients of samples' losses by the network's head, of length one, float32 `[b, size]` on the
    CPU.

    The gradient is that of the head alone, also if its weights are tied to the embedding. Raises ValueError for a
    network without hidden states of tokens.
    """
    network = tokens_of(model.to(device).eval())
    inputs = data.take(rows).network_inputs(device)
    vocabulary, width = network.body.config.vocab_size, network.body.config.hidden_size
    biased = network.head is not None and network.head.bias is not None
    first, second = Buckets(vocabulary, size, 0, device), Buckets(width + biased, size, 1, device)
    found = torch.empty(len(rows), size)
    for part in by_length(inputs, token_losses.BUDGET):
        hidden, wanted, owners = network.scored(inputs[part])
        total = torch.zeros(len(part), size // 2 + 1, dtype=torch.complex64, device=device)
        for some in network.parts(len(wanted)):
            error = network.logits(hidden[some]).softmax(1)
            error[torch.arange(len(error), device=device), wanted[some]] -= 1
            fed = hidden[some].float()
            fed = torch.nn.functional.pad(fed, (0, 1), value=1.0) if biased else fed
            total.index_add_(0, owners[some], first.spectrum(error) * second.spectrum(fed))
        sketches = torch.fft.irfft(total, n=size)
        found[part.cpu()] = torch.nn.functional.normalize(sketches.double(), dim=1).float().cpu()
    return found
