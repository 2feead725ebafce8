"""A network for tables: an embedding per categorical column beside the standardised numbers (Guo and Berkhahn 2016,
"Entity embeddings of categorical variables")."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.scorers.lazy import nn
from secateur.trainers.contract import reads


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
    """An MLP over columns of numbers and category codes.

    `categories` has one entry per column: 0 for numbers, else the number of codes 0 … size-1, with `UNKNOWN` for
    categories that training did not have. `embedding` is the largest width of an embedding. Raises ValueError if
    `categories` does not match the inputs.
    """
    if len(shape) != 1 or len(categories) != shape[0]:
        raise ValueError(f"model 'tabular_mlp' got {len(categories)} column descriptions for inputs of shape {shape}")
    from secateur.trainers.models.networks import TabularNetwork

    return TabularNetwork(categories, classes, hidden, embedding, dropout)
