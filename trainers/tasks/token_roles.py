"""What each token of a sample is: padding, context, the header of an answer, or a completion token, which is learned.

Samples are int32 `[n, 2, length]`: token ids, and below each id its role. Ids alone would not say it: many tokenizers
pad with the token that ends a text. Padding may stand on either side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64

from secateur.scorers.lazy import torch

PADDING, CONTEXT, HEADER, SCORED = range(4)
"""Roles: nothing; read and not learned; the same, and written by the template before an answer; learned."""
ROLE = 3
"""Mask of the role within the number."""
CUT = 4
"""Added to the role of a sample's last token where the sample was longer than the encoding's length."""


def scored_in(inputs: Any) -> Any:
    """Which tokens are learned, bool `[n, length]`, of an array or a tensor."""
    return (inputs[:, 1] & ROLE) == SCORED


def real_in(inputs: Any) -> Any:
    """Which tokens are no padding, bool `[n, length]`, of an array or a tensor."""
    return (inputs[:, 1] & ROLE) != PADDING


def used_columns(inputs: Int[torch.Tensor, "b two length"]) -> Int[torch.Tensor, "b two shorter"]:
    """Inputs without the columns at both ends that are padding in every sample."""
    used = real_in(inputs).any(0).nonzero().flatten()
    return inputs[..., int(used[0]) : int(used[-1]) + 1]


def by_length(inputs: Int[torch.Tensor, "b two length"], tokens: int) -> Iterator[torch.Tensor]:
    """Samples of similar lengths together, each part of as many as `tokens` padded tokens hold, one at least."""
    lengths = real_in(inputs).sum(1)
    order = lengths.argsort(descending=True, stable=True)
    counts, first = lengths[order].tolist(), 0
    while first < len(order):
        size = max(1, tokens // max(1, counts[first]))
        yield order[first : first + size]
        first += size


def cut_rows(inputs: Any) -> Any:
    """Which samples were cut, bool `[n]`, of an array or a tensor."""
    return ((inputs[:, 1] & CUT) != 0).any(1)


def token_counts(inputs: Int[np.ndarray, "n 2 length"], block: int = 65_536) -> Int64[np.ndarray, " n"]:
    """Completion tokens of each sample; of a memory map one block of samples is in memory."""
    parts = [scored_in(inputs[first : first + block]).sum(1) for first in range(0, len(inputs), block)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def sizes_of(
    inputs: Int[np.ndarray, "n 2 length"], rows: Int64[np.ndarray, " m"], block: int = 65_536
) -> Int64[np.ndarray, "2 n"]:
    """Of these rows, by their places among all, how many tokens each has, and how many of them are learned; 0 of
    others. Of a memory map one block of samples is in memory."""
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
    """The completions behind their headers, and at the very beginning the start token where the sample begins with it.

    A sample without a header, or whose header begins with the start token itself, is not given two.
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
    """The tokens of a mask moved to the left in their order, padding behind them; where `started`, bool `[b]`, the
    start token stands in front."""
    head = torch.stack([torch.full((len(inputs),), start), torch.full((len(inputs),), CONTEXT)], dim=1)
    whole = torch.cat([head.to(inputs)[:, :, None], inputs], dim=2)
    kept = torch.cat([started[:, None], keep], dim=1)
    order = (~kept).int().argsort(dim=1, stable=True)
    moved = whole.gather(2, order[:, None].expand_as(whole))
    return torch.where(kept.gather(1, order)[:, None], moved, 0)
