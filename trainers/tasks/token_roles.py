"""Roles of a sample's tokens: padding, context, the header of an answer, or a learned completion token.

Samples are int32 `[n, 2, length]`: token ids, and the role of each. Ids alone do not determine roles: many tokenizers
pad with the token that ends a text. Padding may be on either side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64

from secateur.scorers.lazy import torch

PADDING, CONTEXT, HEADER, SCORED = range(4)
"""Roles: padding; read and not learned; the same, from the template before an answer; learned."""
ROLE = 3
"""Bit mask of the role within the number."""
CUT = 4
"""Bit in the role of a sample's last token if the encoding cut the sample."""


def scored_in(inputs: Any) -> Any:
    """Mask of learned tokens, bool `[n, length]`, of an array or a tensor."""
    return (inputs[:, 1] & ROLE) == SCORED


def real_in(inputs: Any) -> Any:
    """Mask of tokens other than padding, bool `[n, length]`, of an array or a tensor."""
    return (inputs[:, 1] & ROLE) != PADDING


def used_columns(inputs: Int[torch.Tensor, "b two length"]) -> Int[torch.Tensor, "b two shorter"]:
    """Inputs without the columns at both ends with padding in every sample."""
    used = real_in(inputs).any(0).nonzero().flatten()
    return inputs[..., int(used[0]) : int(used[-1]) + 1]


def by_length(inputs: Int[torch.Tensor, "b two length"], tokens: int) -> Iterator[torch.Tensor]:
    """Parts of samples of similar lengths, each with at most `tokens` padded tokens, or with one sample."""
    lengths = real_in(inputs).sum(1)
    order = lengths.argsort(descending=True, stable=True)
    counts, first = lengths[order].tolist(), 0
    while first < len(order):
        size = max(1, tokens // max(1, counts[first]))
        yield order[first : first + size]
        first += size


def cut_rows(inputs: Any) -> Any:
    """Mask of cut samples, bool `[n]`, of an array or a tensor."""
    return ((inputs[:, 1] & CUT) != 0).any(1)


def token_counts(inputs: Int[np.ndarray, "n 2 length"], block: int = 65_536) -> Int64[np.ndarray, " n"]:
    """Number of completion tokens of each sample; holds one block of a memory map in memory."""
    parts = [scored_in(inputs[first : first + block]).sum(1) for first in range(0, len(inputs), block)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def sizes_of(
    inputs: Int[np.ndarray, "n 2 length"], rows: Int64[np.ndarray, " m"], block: int = 65_536
) -> Int64[np.ndarray, "2 n"]:
    """Number of tokens and of learned tokens of these rows, by their places among all rows; 0 for others. Holds one
    block of a memory map in memory."""
    found = np.zeros((2, len(inputs)), np.int64)
    for first in range(0, len(rows), block):
        some = rows[first : first + block]
        roles = inputs[some][:, 1] & ROLE
        found[:, some] = (roles != PADDING).sum(1), (roles == SCORED).sum(1)
    return found


def bare(inputs: Int[torch.Tensor, "b two length"], start: int) -> Int[torch.Tensor, "b two longer"]:
    """The completions alone: the start token, then each sample's learned tokens."""
    return packed(inputs, scored_in(inputs), start, torch.ones(len(inputs), dtype=torch.bool, device=inputs.device))


def headed(inputs: Int[torch.Tensor, "b two length"], start: int) -> Int[torch.Tensor, "b two longer"]:
    """The completions after their headers, with the start token in front if the sample begins with it.

    A sample without a header also gets the start token; one whose header begins with it gets no second one.
    """
    roles = inputs[:, 1] & ROLE
    header = roles == HEADER
    first, own = (roles != PADDING).int().argmax(1), header.int().argmax(1)
    rows = torch.arange(len(inputs), device=inputs.device)
    begins = (inputs[rows, 0, first] == start) & (inputs[rows, 0, own] != start)
    return packed(inputs, header | (roles == SCORED), start, begins | ~header.any(1))


def packed(
    inputs: Int[torch.Tensor, "b two length"], keep: Bool[torch.Tensor, "b length"], start: int, started: torch.Tensor
) -> Int[torch.Tensor, "b two longer"]:
    """The tokens of a mask moved to the left in order, followed by padding; with the start token in front where
    `started`, bool `[b]`."""
    head = torch.stack([torch.full((len(inputs),), start), torch.full((len(inputs),), CONTEXT)], dim=1)
    whole = torch.cat([head.to(inputs)[:, :, None], inputs], dim=2)
    kept = torch.cat([started[:, None], keep], dim=1)
    order = (~kept).int().argsort(dim=1, stable=True)
    moved = whole.gather(2, order[:, None].expand_as(whole))
    return torch.where(kept.gather(1, order)[:, None], moved, 0)
