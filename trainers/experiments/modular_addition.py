"""Arithmetic modulo a prime, and the small networks that generalise on it long after they have memorised it.

Task and networks of Minegishi et al., "Bridging Lottery Ticket and Grokking" (arXiv 2310.19470), and of their code.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int32, Int64
from torch import nn
from torch.nn import functional

from secateur.scorers.contract import TrainingBatch
from secateur.trainers.contract import Data, reads

Operation = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Int64[np.ndarray, " n"]]

OPERATIONS: dict[str, Operation] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "quadratic": lambda a, b: a * a + a * b + b * b,
}
"""Operations by name, before the remainder is taken."""
SYMMETRIC = ("add", "quadratic")
"""Those where (b, a) has the label of (a, b): one in training would give the other in the test away."""


def pairs_of(operation: str, modulus: int) -> Int32[np.ndarray, "n 2"]:
    """Every question that there is, in a fixed order: pairs with a <= b of a symmetric operation, else all pairs."""
    if operation not in OPERATIONS:
        raise ValueError(f"no operation is called {operation!r}; there are {', '.join(OPERATIONS)}")
    if operation in SYMMETRIC:
        first, second = np.triu_indices(modulus)
    else:
        first, second = np.divmod(np.arange(modulus * modulus), modulus)
    return np.stack([first, second], axis=1).astype(np.int32)


def data_of(pairs: Int32[np.ndarray, "n 2"], operation: str, modulus: int) -> Data:
    """These questions with their answers as labels, encoded as tokens 0 … modulus-1."""
    wide = pairs.astype(np.int64)
    labels = OPERATIONS[operation](wide[:, 0], wide[:, 1]) % modulus
    return Data(pairs, labels, modulus, {"kind": "tokens", "vocabulary": modulus})


def split_pairs(
    operation: str, modulus: int, fraction: float, *, seed: int
) -> tuple[Int32[np.ndarray, "n 2"], Int32[np.ndarray, "m 2"]]:
    """Training and test questions, shuffled by `seed`: a share of `fraction`, rounded down, is for training.

    Raises ValueError where either would be empty.
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


class LookupMlp(nn.Module):
    """A row of a table per token, summed over tokens; ReLU; a linear layer: ids int `[b, tokens]` -> `[b, classes]`."""

    def __init__(self, vocabulary: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.table = nn.Linear(vocabulary, hidden, bias=False)
        self.output = nn.Linear(hidden, classes, bias=False)
        # The variances that the products of `ProductMlp` have.
        drawn(self.table, vocabulary)
        drawn(self.output, hidden)

    def input_table(self) -> torch.Tensor:
        """What each token adds to the hidden layer, `[vocabulary, hidden]`."""
        return self.table.weight.t()

    def output_weight(self) -> torch.Tensor:
        """From the hidden layer to logits, `[classes, hidden]`."""
        return self.output.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        table = self.input_table()
        # A matrix product: looking rows up is slow backwards on a CPU, and differs from run to run on a GPU.
        hidden = functional.relu(occurrences(inputs, table) @ table)
        return functional.linear(hidden, self.output_weight())


class ProductMlp(LookupMlp):
    """The network of the paper: embedding, linear, sum over tokens, ReLU, linear, unembedding; no biases.

    Nothing stands between the two matrices on either side of the ReLU, so their products are the table and the output
    of a `LookupMlp`, and it is computed like that: `width` never meets the batch. All four are learnt and pruned.
    """

    def __init__(self, vocabulary: int, classes: int, hidden: int, width: int) -> None:
        nn.Module.__init__(self)
        self.embedding = nn.Linear(vocabulary, width, bias=False)
        self.inward = nn.Linear(width, hidden, bias=False)
        self.outward = nn.Linear(hidden, width, bias=False)
        self.unembedding = nn.Linear(width, classes, bias=False)
        for layer in (self.embedding, self.inward, self.outward, self.unembedding):
            drawn(layer, layer.in_features)

    def input_table(self) -> torch.Tensor:
        return functional.linear(self.embedding.weight.t(), self.inward.weight)

    def output_weight(self) -> torch.Tensor:
        return self.unembedding.weight @ self.outward.weight


class OneLayerTransformer(nn.Module):
    """One layer with one head, causal, read at the last position; no positions, no normalisation, no biases."""

    def __init__(self, vocabulary: int, classes: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(vocabulary, width, bias=False)
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.inward = nn.Linear(width, hidden, bias=False)
        self.outward = nn.Linear(hidden, width, bias=False)
        self.unembedding = nn.Linear(width, classes, bias=False)
        drawn(self.embedding, vocabulary)
        for layer in (self.query, self.key, self.value, self.mixed, self.inward, self.outward, self.unembedding):
            drawn(layer, width)

    def input_table(self) -> torch.Tensor:
        """The vector of each token, `[vocabulary, width]`."""
        return self.embedding.weight.t()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        ones = functional.one_hot(inputs.long(), self.embedding.in_features).to(self.embedding.weight.dtype)
        stream = self.embedding(ones)
        last = stream[:, -1]  # of one causal layer nothing else is read, and it sees all tokens
        scores = (self.key(stream) @ self.query(last).unsqueeze(2)).squeeze(2) / math.sqrt(last.shape[1])
        seen = (scores.softmax(dim=1).unsqueeze(1) @ self.value(stream)).squeeze(1)
        last = last + self.mixed(seen)
        last = last + self.outward(functional.relu(self.inward(last)))
        return self.unembedding(last)  # type: ignore[no-any-return]


def drawn(layer: nn.Linear, fan_in: int) -> None:
    """Draw weights from N(0, 1 / fan_in), as the published code does."""
    nn.init.normal_(layer.weight, std=fan_in**-0.5)


def occurrences(inputs: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """How often each token occurs in a row: ids int `[b, tokens]` -> `[b, vocabulary]`, of the table's type."""
    counts = like.new_zeros((len(inputs), len(like)))
    return counts.scatter_add_(1, inputs.long(), like.new_ones(inputs.shape))


@reads("tokens")
def lookup_mlp(shape: tuple[int, ...], classes: int, *, vocabulary: int, hidden: int = 48) -> nn.Module:
    """`LookupMlp`: the paper's network with one matrix on either side of the ReLU. It computes the same functions, and
    learns them otherwise.
    """
    return LookupMlp(vocabulary, classes, hidden)


@reads("tokens")
def product_mlp(
    shape: tuple[int, ...], classes: int, *, vocabulary: int, hidden: int = 48, width: int = 500
) -> nn.Module:
    """`ProductMlp`, the paper's fully connected network."""
    return ProductMlp(vocabulary, classes, hidden, width)


@reads("tokens")
def one_layer_transformer(
    shape: tuple[int, ...], classes: int, *, vocabulary: int, width: int = 128, hidden: int = 128
) -> nn.Module:
    """`OneLayerTransformer`, the paper's."""
    return OneLayerTransformer(vocabulary, classes, width, hidden)


NETWORKS = {each.__name__: each for each in (product_mlp, lookup_mlp, one_layer_transformer)}
"""The factories here by name."""


def float64_cross_entropy(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
    """Cross-entropies float64 `[b]`, to be passed to `train` as `objective`.

    Those of float32 become 0 long before a network that has memorised stops learning, and their gradients with them.
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
    """First of the steps whose value is at least the threshold; None where there is none, never a number instead."""
    reached = np.flatnonzero(values >= threshold)
    return int(steps[reached[0]]) if len(reached) else None
