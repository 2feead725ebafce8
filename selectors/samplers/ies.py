"""IES: stop training on samples whose loss no longer bends (Yuan et al., "Instance-dependent Early Stopping", ICLR
2025; the rule as in the authors' code).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import Field

from secateur.scorers.lazy import torch
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import Ids
from secateur.selectors.samplers.contract import Draw, EpochSampler, Shard, shuffled
from secateur.selectors.samplers.observed_losses import ObservedLosses


class LossHistory(ObservedLosses):
    """The last losses of every sample, float32 `[samples, length]`, newest last, NaN for samples seen less often.

    `saved` counts samples that past epochs did not train on, `left_out` those that the current epoch leaves out.
    """

    def __init__(self, samples: int, length: int) -> None:
        super().__init__(samples)
        self.history = torch.full((samples, length), float("nan"), dtype=torch.float32)
        self.saved = self.left_out = 0

    def merge(self, epoch: int) -> None:
        """As `ObservedLosses.merge`; a sample with a loss in the epoch forgets its oldest one."""
        super().merge(epoch)
        seen = self.last_seen == epoch
        longer = torch.cat((self.history[seen][:, 1:], self.losses[seen][:, None]), dim=1)
        self.history = self.history.masked_scatter(seen[:, None], longer)
        self.saved += self.left_out

    def state_dict(self) -> dict[str, Any]:
        """As `ObservedLosses.state_dict`, with the additions of this class."""
        return {**super().state_dict(), "history": self.history, "saved": self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`."""
        super().load_state_dict(state)
        self.history, self.saved = state["history"].cpu(), int(state["saved"])


class Ies(EpochSampler):
    """Each epoch has all samples but the mastered ones, whose losses have lately moved along a straight line.

    A sample is mastered where the sum of the `last` moving averages, over `window`, of its loss's absolute second
    differences is below `threshold` (the authors take 1e-3 for CIFAR-10, 2e-3 for CIFAR-100 and recommend 1e-1 to 1e-5,
    in units of the loss). This takes window + last + 2 losses: with the authors' settings the seventh epoch is the
    first to leave any out. Each epoch decides anew, and lets samples return.

    The sampler needs their losses all the same. The loop computes them at the end of each epoch, for the ids
    `forward_only`, without gradients and in evaluation mode, and passes them to `observe`. So it saves backward passes,
    `saved_backward` of them, and no forward passes. A loss that stays high is mastered as well as one that stays low:
    the losses of samples that an epoch leaves out are `observed.losses[forward_only]`.

    The gradient is not that of all samples, not even in expectation; weights are always 1. Where all samples are
    mastered, the one that bends most stays. The authors' code differs in two points: an epoch without mastered samples
    keeps the rows of the one before, and a sample that an epoch has not shown repeats its second difference.
    """

    def __init__(
        self,
        samples: int,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        threshold: Annotated[float, Field(gt=0)] = 1e-3,
        window: Annotated[int, Field(ge=1, le=100)] = 3,
        last: Annotated[int, Field(ge=1, le=100)] = 1,
        seed: int = 0,
    ) -> None:
        self.threshold, self.window, self.last = threshold, window, last
        self.past = LossHistory(samples, window + last + 2)
        self.observed = self.past
        settings = {"threshold": threshold, "window": window, "last": last}
        super().__init__(samples, shard, seed, settings, {})

    def planned(self, epoch: int) -> tuple[int, bool]:
        """All, until an epoch can leave samples out; then at most all."""
        return self.samples, epoch < self.window + self.last + 2

    def draw(self, epoch: int) -> Draw:
        """Samples that are not mastered."""
        bends = bending(self.past.history.numpy(), self.window, self.last)
        trained = ~(bends < self.threshold)  # NaN is not mastered
        if not trained.any():
            trained[np.argmax(bends)] = True
        self._mastered = np.flatnonzero(~trained)
        self.past.left_out = len(self._mastered)
        return shuffled(np.flatnonzero(trained), derive_seed(self.seed, epoch, 1))

    @property
    def forward_only(self) -> Ids:
        """See `EpochSampler.forward_only`: this process's share of the mastered samples, equally many in each."""
        if self.shard.world == 1 or not len(self._mastered):
            return self._mastered
        places = np.arange(-(-len(self._mastered) // self.shard.world)) * self.shard.world + self.shard.rank
        return self._mastered[places % len(self._mastered)]

    @property
    def saved_backward(self) -> int:
        """Backward passes of single samples that the epochs up to this one save, over all processes."""
        return self.past.saved + self.past.left_out

    def set_epoch(self, epoch: int) -> None:
        """See `EpochSampler.set_epoch`; warns where losses of mastered samples are missing."""
        before, mastered = self.epoch, self._mastered
        super().set_epoch(epoch)
        if epoch > before and (self.past.last_seen.numpy()[mastered] != before).any():
            self.warn_once(
                "samples that an epoch left out have no loss of that epoch, and cannot return: compute the losses of "
                "sampler.forward_only at the end of each epoch, without gradients, and call sampler.observe(ids, "
                "losses)"
            )


def bending(history: Float32[np.ndarray, "n length"], window: int, last: int) -> Float64[np.ndarray, " n"]:
    """Sum of the `last` moving averages, over `window`, of absolute second differences; NaN where losses are missing.

    >>> bending(np.float32([[6, 5, 4, 3, 2, 1], [0, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 4]]), 3, 1).tolist()
    [0.0, 2.0, 1.0]
    """
    sizes = np.abs(np.diff(history.astype(np.float64), n=2, axis=1))
    averages = np.lib.stride_tricks.sliding_window_view(sizes, window, axis=1).mean(axis=2)
    # The oldest difference is in no summed average: a sample that lacks it is still too young.
    return np.asarray(np.where(np.isnan(sizes[:, 0]), np.nan, averages[:, -last:].sum(axis=1)))
