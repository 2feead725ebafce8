"""Arithmetic modulo a prime, and small networks that generalise on it long after memorising it.

Task and networks of Minegishi et al., "Bridging Lottery Ticket and Grokking" (arXiv 2310.19470), and of their code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Int, Int32, Int64

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.lazy import functional, nn, torch
from secateur.trainers.contract import Data, reads

Operation = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Int64[np.ndarray, " n"]]

OPERATIONS: dict[str, Operation] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "quadratic": lambda a, b: a * a + a * b + b * b,
}
"""Operations by name, before the modulus."""
SYMMETRIC = ("add", "quadratic")
"""Operations where (b, a) has the label of (a, b): one in the training split would leak the other in the test."""


def pairs_of(operation: str, modulus: int) -> Int32[np.ndarray, "n 2"]:
    """All pairs in a fixed order; of a symmetric operation those with a <= b. Raises ValueError for an unknown one."""
    if operation not in OPERATIONS:
        raise ValueError(f"no operation is called {operation!r}; there are {', '.join(OPERATIONS)}")
    if operation in SYMMETRIC:
        first, second = np.triu_indices(modulus)
    else:
        first, second = np.divmod(np.arange(modulus * modulus), modulus)
    return np.stack([first, second], axis=1).astype(np.int32)


def data_of(pairs: Int32[np.ndarray, "n 2"], operation: str, modulus: int) -> Data:
    """These pairs as tokens 0 … modulus-1, with the results as labels."""
    wide = pairs.astype(np.int64)
    labels = OPERATIONS[operation](wide[:, 0], wide[:, 1]) % modulus
    return Data(pairs, labels, modulus, {"kind": "tokens", "vocabulary": modulus})


def split_pairs(
    operation: str, modulus: int, fraction: float, *, seed: int
) -> tuple[Int32[np.ndarray, "n 2"], Int32[np.ndarray, "m 2"]]:
    """Training and test pairs, shuffled by `seed`; the training split has a share of `fraction`, rounded down.

    Raises ValueError if either split would be empty.
    """
    pairs = pairs_of(operation, modulus)
    count = int(fraction * len(pairs))
    if not 0 < count < len(pairs):
        raise ValueError(
            f"fraction {fraction} leaves {count} of {len(pairs)} pairs for training: both splits need some; "
            "change fraction or modulus"
        )
    order = np.random.default_rng(seed).permutation(len(pairs))
    return pairs[order[:count]], pairs[order[count:]]


@reads("tokens")
def lookup_mlp(shape: tuple[int, ...], classes: int, *, vocabulary: int, hidden: int = 48) -> nn.Module:
    """`LookupMlp`: the paper's network with one matrix on either side of the ReLU. It computes the same functions, but
    its training differs.
    """
    from secateur.trainers.models.modular_networks import LookupMlp

    return LookupMlp(vocabulary, classes, hidden)


@reads("tokens")
def product_mlp(
    shape: tuple[int, ...], classes: int, *, vocabulary: int, hidden: int = 48, width: int = 500
) -> nn.Module:
    """`ProductMlp`, the paper's fully connected network."""
    from secateur.trainers.models.modular_networks import ProductMlp

    return ProductMlp(vocabulary, classes, hidden, width)


@reads("tokens")
def one_layer_transformer(
    shape: tuple[int, ...], classes: int, *, vocabulary: int, width: int = 128, hidden: int = 128
) -> nn.Module:
    """`OneLayerTransformer`, the paper's transformer."""
    from secateur.trainers.models.modular_networks import OneLayerTransformer

    return OneLayerTransformer(vocabulary, classes, width, hidden)


NETWORKS = {each.__name__: each for each in (product_mlp, lookup_mlp, one_layer_transformer)}
"""The factories of this module by name."""


def float64_cross_entropy(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
    """Cross-entropies float64 `[b]`; the argument `objective` of `train`.

    In float32 they and their gradients become 0 long before a network that has memorised stops learning.
    """
    return functional.nll_loss(batch.outputs.double().log_softmax(dim=1), batch.targets, reduction="none")


def spectrum_of(table: Float[np.ndarray, "vocabulary width"]) -> Float64[np.ndarray, " frequencies"]:
    """Share of power at each frequency 1 … vocabulary // 2 of a table's columns over the tokens, in float64.

    Networks that have learnt modular addition use few frequencies (Nanda et al. 2023, arXiv 2301.05217).
    """
    power = np.square(np.abs(np.fft.rfft(table.astype(np.float64), axis=0))).sum(axis=1)[1:]
    return np.asarray(power / power.sum())


def first_reached(
    steps: Int[np.ndarray, " looks"], values: Float64[np.ndarray, " looks"], threshold: float
) -> int | None:
    """First step with a value of at least the threshold; None if there is none."""
    reached = np.flatnonzero(values >= threshold)
    return int(steps[reached[0]]) if len(reached) else None
