"""RePB: compare losses within short windows only (after "Inconsistency Biases in Dynamic Data Pruning", ICLR 2026).

Only the paper's abstract was available, and no code. The method compares losses within a window of consecutive batches,
during which the model hardly changes, trains the following phase on the samples that it keeps, and rescales losses by
the number of a sample's selections. Window, share and weights here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from secateur.scorers.lazy import torch
from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.samplers.contract import Draw, EpochSampler, KeptShare, Shard, listed, shuffled
from secateur.selectors.samplers.info_batch import LEAST_SHARE, counts_of, part, weights_of
from secateur.selectors.samplers.observed_losses import ObservedLosses


class WindowedLosses(ObservedLosses):
    """Mask `easy`, bool `[samples]`: whether a sample's latest loss was below the mean of its window.

    `order` are the ids of the current epoch, in the order in which all processes together show them, `size` the samples
    of a window. `chosen`, int32 `[samples]`, counts the epochs, of `rounds` in all, that held each sample.
    """

    def __init__(self, samples: int, size: int) -> None:
        super().__init__(samples)
        self.size, self.order = size, np.arange(samples)
        self.easy = torch.zeros(samples, dtype=torch.bool)
        self.chosen, self.rounds = torch.zeros(samples, dtype=torch.int32), 0

    def merge(self, epoch: int) -> None:
        """As `ObservedLosses.merge`; windows of the epoch are as equal in length as they can be."""
        super().merge(epoch)
        count = len(self.order)
        windows = max(1, round(count / self.size))
        seen = self.last_seen.numpy()[self.order] == epoch
        place, rows = (np.arange(count) * windows // count)[seen], self.order[seen]
        losses = self.losses.numpy()[rows].astype(np.float64)
        sums, counts = (np.bincount(place, weights, minlength=windows) for weights in (losses, None))
        easy, chosen = self.easy.numpy().copy(), self.chosen.numpy().copy()
        easy[rows] = losses < (sums / np.maximum(counts, 1))[place]
        chosen[self.order] += 1
        self.easy, self.chosen, self.rounds = torch.from_numpy(easy), torch.from_numpy(chosen), self.rounds + 1

    def state_dict(self) -> dict[str, Any]:
        """As `ObservedLosses.state_dict`, with the additions of this class."""
        return {**super().state_dict(), "easy": self.easy, "chosen": self.chosen, "rounds": self.rounds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`."""
        super().load_state_dict(state)
        self.easy, self.chosen, self.rounds = state["easy"].cpu(), state["chosen"].cpu(), int(state["rounds"])


class Repb(EpochSampler):
    """Keep all samples that were hard in their window, and a random part of the easy ones.

    An epoch, in its order, is cut into windows of about `window` samples (a fraction of all, or a count). Easy losses
    are strictly below the mean of their own window, so no sample counts as easy because it came late, when the model
    was better. The share 1 - `prune` of the easy ones stays in the next epoch, drawn anew each time; one that is left
    out stays easy until its next presentation. A sample not seen yet is hard.

    `rescale` multiplies losses. `probability`: with k of n easy samples drawn, each weighs n / k, and the expected sum
    of gradients over an epoch is that of all data. `history`: a sample in c of t epochs, this one among them, weighs
    t / c, at most 10; this ratio of observed counts is biased, most in early epochs. `none`: 1.

    `keep` (a fraction, or a count) sets the exact number of samples in each epoch, as with `InfoBatch`.

    >>> import torch
    >>> sampler = Repb(8, window=1.0)
    >>> sampler.set_epoch(0)
    >>> sampler.observe(torch.arange(8), torch.tensor([0.1, 0.1, 0.1, 0.1, 2.0, 2.0, 2.0, 2.0]))
    >>> sampler.set_epoch(1)
    >>> len(sampler), set(range(4, 8)) <= set(sampler)
    (6, True)
    """

    def __init__(
        self,
        samples: int,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        window: KeptShare = 0.1,
        prune: Annotated[float, Field(ge=0, le=0.9)] = 0.5,
        rescale: Literal["probability", "history", "none"] = "probability",
        keep: KeptShare | None = None,
        seed: int = 0,
    ) -> None:
        self.budget = None if keep is None else resolve_keep(keep, samples)
        self.shares, self.rescale = np.array([1 - prune]), rescale
        self.windows = WindowedLosses(samples, resolve_keep(window, samples))
        self.observed = self.windows
        settings = {"window": window, "prune": prune, "rescale": rescale, "keep": keep}
        super().__init__(samples, shard, seed, settings, {})

    def planned(self, epoch: int) -> tuple[int, bool]:
        """Exact with a budget, otherwise at most all samples."""
        return (self.samples, False) if self.budget is None else (self.budget, True)

    def draw(self, epoch: int) -> Draw:
        """A part of the easy samples, and the others."""
        seed, easy = derive_seed(self.seed, epoch, 1), self.windows.easy.numpy()
        groups = [np.flatnonzero(easy), np.flatnonzero(~easy)]
        counts = counts_of(np.array([len(group) for group in groups]), self.shares, self.budget)
        if counts is None:
            groups, counts = [np.arange(self.samples)], np.array([self.budget])
        pairs = enumerate(zip(groups, counts.tolist(), strict=True))
        kept = np.concatenate([part(group, count, derive_seed(seed, index)) for index, (group, count) in pairs])
        weights = weights_of(self.samples, groups, counts) if self.rescale == "probability" else None
        return shuffled(kept, seed, self._by_history(kept) if self.rescale == "history" else weights)

    def _by_history(self, kept: np.ndarray) -> torch.Tensor:
        """Number of epochs over that of epochs with each sample, the current one included."""
        held = self.windows.chosen.numpy().copy()
        held[kept] += 1
        return torch.from_numpy(np.float32((self.windows.rounds + 1) / np.maximum(held, 1)).clip(max=1 / LEAST_SHARE))

    def _begin(self) -> None:
        super()._begin()
        self.windows.order = listed(self._draw.at, self._draw.count)
