"""One vector of each sequence of token vectors."""

from typing import Any

import torch


def pooled(output: Any) -> torch.Tensor:
    """One vector per image of whatever an encoder gave."""
    if isinstance(output, torch.Tensor):
        return output
    found = getattr(output, "pooler_output", None)
    if found is not None:
        return found  # type: ignore[no-any-return]
    last: torch.Tensor = output.last_hidden_state
    return last[:, 0] if last.ndim == 3 else last.mean(dim=(2, 3))
