"""Networks of Minegishi et al., "Bridging Lottery Ticket and Grokking" (arXiv 2310.19470), and of their code."""

import math

import torch
from torch import nn
from torch.nn import functional


class LookupMlp(nn.Module):
    """A row of a table per token, summed over tokens; ReLU; a linear layer: ids int `[b, tokens]` -> `[b, classes]`.

    Also takes counts of tokens, float `[b, vocabulary]`, instead of ids.
    """

    def __init__(self, vocabulary: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.table = nn.Linear(vocabulary, hidden, bias=False)
        self.output = nn.Linear(hidden, classes, bias=False)
        # The same variances as the products of `ProductMlp`.
        drawn(self.table, vocabulary)
        drawn(self.output, hidden)

    def input_table(self) -> torch.Tensor:
        """Contribution of each token to the hidden layer, `[vocabulary, hidden]`."""
        return self.table.weight.t()

    def output_weight(self) -> torch.Tensor:
        """Weights from the hidden layer to logits, `[classes, hidden]`."""
        return self.output.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        table = self.input_table()
        # A matrix product: the backward pass of a lookup is slow on a CPU, and not deterministic on a GPU.
        counts = inputs if inputs.is_floating_point() else occurrences(inputs, table)
        hidden = functional.relu(counts @ table)
        return functional.linear(hidden, self.output_weight())


class ProductMlp(LookupMlp):
    """The network of the paper: embedding, linear, sum over tokens, ReLU, linear, unembedding; no biases.

    There is no nonlinearity between the two matrices on either side of the ReLU, so their products are the table and
    the output of a `LookupMlp`. The forward pass uses these: no batch has `width` activations. Training and pruning act
    on all four matrices.
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
    """One causal layer with one head and logits at the last position; no positions, no normalisation, no biases.

    Takes ids int `[b, tokens]`, or counts of tokens, float `[b, vocabulary]`, at one position.
    """

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
        if inputs.is_floating_point():
            ones = inputs.unsqueeze(1)
        else:
            ones = functional.one_hot(inputs.long(), self.embedding.in_features).to(self.embedding.weight.dtype)
        stream = self.embedding(ones)
        last = stream[:, -1]  # The logits need no other position, and the last one sees all tokens.
        scores = (self.key(stream) @ self.query(last).unsqueeze(2)).squeeze(2) / math.sqrt(last.shape[1])
        seen = (scores.softmax(dim=1).unsqueeze(1) @ self.value(stream)).squeeze(1)
        last = last + self.mixed(seen)
        last = last + self.outward(functional.relu(self.inward(last)))
        return self.unembedding(last)  # type: ignore[no-any-return]


def drawn(layer: nn.Linear, fan_in: int) -> None:
    """Draw weights from N(0, 1 / fan_in), as the published code does."""
    nn.init.normal_(layer.weight, std=fan_in**-0.5)


def occurrences(inputs: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Counts of tokens in each row: ids int `[b, tokens]` -> `[b, vocabulary]`, in the table's dtype."""
    counts = like.new_zeros((len(inputs), len(like)))
    return counts.scatter_add_(1, inputs.long(), like.new_ones(inputs.shape))
