"""A network for tables: an embedding per categorical column beside the standardised numbers (Guo and Berkhahn 2016,
"Entity embeddings of categorical variables")."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from secateur.trainers.contract import reads

UNKNOWN = 0
"""Code of a category that training did not have: its embedding is zero and stays so."""


def embedding_width(size: int, most: int) -> int:
    """Width of the embedding of a column with this many codes: 1.6 times its 0.56th power, the rule of fastai."""
    return max(1, min(most, round(1.6 * math.pow(size, 0.56))))


class TabularNetwork(nn.Module):
    """Fully connected layers with ReLU over numbers and embedded codes, float32 `[b, columns]` -> `[b, classes]`."""

    numbers: torch.Tensor

    def __init__(self, categories: Sequence[int], classes: int, hidden: Sequence[int], width: int, drop: float) -> None:
        super().__init__()
        self.codes = [column for column, size in enumerate(categories) if size]
        numbers = [column for column, size in enumerate(categories) if not size]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64), persistent=False)
        sizes = [categories[column] for column in self.codes]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, embedding_width(size, width), padding_idx=UNKNOWN) for size in sizes
        )
        widths = [len(numbers) + sum(embedding_width(size, width) for size in sizes), *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(drop)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        embedded = [table(inputs[:, column].long()) for column, table in zip(self.codes, self.embeddings, strict=True)]
        return self.layers(torch.cat([inputs[:, self.numbers], *embedded], dim=1))  # type: ignore[no-any-return]


@reads("codes")
def tabular_mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    categories: Sequence[int],
    hidden: Sequence[int] = (128, 64),
    embedding: int = 16,
    dropout: float = 0.1,
) -> nn.Module:
    """An MLP over columns of which some hold codes.

    `categories` has one entry per column: 0 for numbers, otherwise how many codes there are, 0 … size-1, where
    `UNKNOWN` stands for what training did not have. `embedding` is the widest that an embedding gets.
    """
    if len(shape) != 1 or len(categories) != shape[0]:
        raise ValueError(f"model 'tabular_mlp' got {len(categories)} column descriptions for inputs of shape {shape}")
    return TabularNetwork(categories, classes, hidden, embedding, dropout)
