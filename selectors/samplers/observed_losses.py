"""The latest loss of every sample, gathered on the training device and merged once per epoch."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from secateur.scorers.contract import rows_text
from secateur.scorers.given import refuse_no_tensors
from secateur.scorers.lazy import distributed, torch

NEVER = -1


class ObservedLosses:
    """Losses, float32 `[samples]` with NaN for samples not seen yet, and the epoch in which each was seen last.

    `observe` only appends, on the device where the losses are; `merge` moves the appended losses to the host once,
    shares them with the other processes, and replaces both tensors: it never writes in place, so a `state_dict` does
    not change.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.losses = torch.full((samples,), float("nan"), dtype=torch.float32)
        self.last_seen = torch.full((samples,), NEVER, dtype=torch.int32)
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def observe(self, ids: torch.Tensor, losses: torch.Tensor) -> None:
        """Append a batch: int64 `[b]` and float `[b]`. Raises TypeError and ValueError for other types and shapes."""
        refuse_no_tensors("observe", ids=ids, losses=losses)
        if ids.dtype != torch.int64:
            raise TypeError(f"ids must be int64, got {ids.dtype}: floats and short integers cannot name every sample")
        if ids.shape != losses.shape or ids.ndim != 1:
            raise ValueError(
                f"observe needs one loss per id, got ids {tuple(ids.shape)} and losses {tuple(losses.shape)}; "
                'compute the loss with reduction="none", averaged over tokens or pixels'
            )
        self.pending.append((ids.detach().clone(), losses.detach().to(torch.float32, copy=True)))
        # Like carrying in binary: few tensors at any time, each sample copied log(batches) times.
        while len(self.pending) > 1 and _joinable(*self.pending[-2:]):
            second, first = self.pending.pop(), self.pending.pop()
            self.pending.append((torch.cat((first[0], second[0])), torch.cat((first[1], second[1]))))

    def merge(self, epoch: int) -> None:
        """Take in the losses of every process of `epoch`; of several losses of one sample the last counts.

        Raises ValueError for ids out of range and for losses that are NaN or infinite, and RuntimeError where
        processes do not hold the same losses.
        """
        ids = torch.cat([torch.empty(0, dtype=torch.int64), *(ids.cpu() for ids, _ in self.pending)])
        losses = torch.cat([torch.empty(0, dtype=torch.float32), *(losses.cpu() for _, losses in self.pending)])
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            ids, losses = self._gather(ids, losses, epoch)
        self._check(ids.numpy(), losses.numpy())
        merged, seen = self.losses.numpy().copy(), self.last_seen.numpy().copy()
        merged[ids.numpy()] = losses.numpy()
        seen[ids.numpy()] = epoch
        self.losses, self.last_seen, self.pending = torch.from_numpy(merged), torch.from_numpy(seen), []

    def any_seen(self) -> bool:
        """Whether any loss has been merged."""
        return bool((self.last_seen != NEVER).any())

    def _check(self, ids: Int64[np.ndarray, " n"], losses: Float32[np.ndarray, " n"]) -> None:
        outside = np.unique(ids[(ids < 0) | (ids >= self.samples)])
        if len(outside):
            raise ValueError(f"observed ids are not within 0 … {self.samples - 1}: {rows_text(outside)}")
        broken = np.unique(ids[~np.isfinite(losses)])
        if len(broken):
            raise ValueError(
                f"the observed loss is NaN or infinite at {rows_text(broken)}: training has diverged there, or a batch "
                "that the loss scaler skipped was passed to observe"
            )

    def _gather(self, ids: torch.Tensor, losses: torch.Tensor, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Observations of all processes, in the order of their ranks: ids travel as int64, losses as float32, apart."""
        device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
        checksum = zlib.crc32(self.losses.numpy().tobytes())
        mine = torch.tensor([len(ids), epoch, self.samples, checksum], dtype=torch.int64, device=device)
        headers = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(headers, mine)
        everyone = torch.stack(headers).cpu()
        if (everyone[1:, 1:] != everyone[0, 1:]).any():
            raise RuntimeError(
                "processes do not hold the same losses: (epoch, samples, checksum) by rank are "
                f"{everyone[:, 1:].tolist()}; load the same checkpoint in each, and call set_epoch in each"
            )
        counts = everyone[:, 0].tolist()
        return _gathered(ids, counts, device), _gathered(losses, counts, device)

    def state_dict(self) -> dict[str, Any]:
        """Merged and pending tensors; none of them changes later."""
        parts = [{"ids": ids, "losses": losses} for ids, losses in self.pending]
        return {"losses": self.losses, "last_seen": self.last_seen, "pending": parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`, unless it is an earlier one of the present state.

        A loader with workers takes its snapshots when it fetches a batch, before the losses of the batches in between
        are known; those in a checkpoint of the sampler itself must survive that.
        """
        seen = torch.equal(self.last_seen, state["last_seen"].cpu())
        same = seen and torch.equal(self.losses.view(torch.int32), state["losses"].cpu().view(torch.int32))
        mine, theirs = sum(len(ids) for ids, _ in self.pending), sum(len(part["ids"]) for part in state["pending"])
        if same and mine > theirs:
            return
        self.losses, self.last_seen = state["losses"].cpu(), state["last_seen"].cpu()
        self.pending = [(part["ids"], part["losses"]) for part in state["pending"]]


def _joinable(first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]) -> bool:
    same_devices = first[0].device == second[0].device and first[1].device == second[1].device
    return same_devices and len(first[0]) <= len(second[0])


def _gathered(values: torch.Tensor, counts: list[int], device: torch.device | str) -> torch.Tensor:
    """Values of all ranks, one after the other: padded to one length for the exchange, then cut back."""
    padded = torch.zeros(max(1, *counts), dtype=values.dtype, device=device)
    padded[: len(values)] = values.to(device)
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).cpu()
