"""Pooling of token vectors to one vector per sequence."""

from __future__ import annotations

from typing import Any

from secateur.scorers.lazy import torch


def pooled(output: Any) -> torch.Tensor:
    """One vector per image from an encoder's output: a tensor, pooled output, class token, or mean over positions."""
    if isinstance(output, torch.Tensor):
        return output
    found = getattr(output, "pooler_output", None)
    if found is not None:
        return found  # type: ignore[no-any-return]
    last: torch.Tensor = output.last_hidden_state
    return last[:, 0] if last.ndim == 3 else last.mean(dim=(2, 3))


def mean_of_real(hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean over real tokens, `[b, length, d]` and bool `[b, length]` -> `[b, d]`; zeros for rows without any."""
    weights = real.unsqueeze(2).to(hidden.dtype)
    return hidden.masked_fill(~real.unsqueeze(2), 0).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
