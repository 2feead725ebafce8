"""OrderDP: each epoch the samples of highest loss in a random part (Xu et al., "OrderDP: A Theoretically Guaranteed
Lossless Dynamic Data Pruning Framework", ICLR 2026; the rule as in the authors' code of April 2026).
"""

from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import keep_between
from secateur.selectors.samplers.contract import Draw, EpochSampler, KeptShare, Shard, shuffled
from secateur.selectors.samplers.info_batch import part
from secateur.selectors.samplers.observed_losses import ObservedLosses


class OrderDp(EpochSampler):
    """Each epoch draws the share `pool` of all samples, and keeps the share `top` of these with the highest losses.

    A sample not seen yet has the loss `unseen`: 3.0 in the authors' runs on CIFAR, 1.0 on ImageNet; with `first` it
    comes before all samples seen. A random draw breaks ties. All weights are 1, and there is no annealing: the authors'
    code takes a share of epochs for it and prunes in all of them.

    An epoch's gradient belongs to another objective than the mean loss: samples of high loss count more, and the
    easiest not at all. No weights make up for it. Given the losses, no draw can hold one of the easiest
    (1 - top) · pool samples; `inclusion` has the probabilities of the others. Wrong labels have high losses, and are
    drawn most: `guard` (ours, 0 as published) leaves out that share of the pool with the highest losses.

    `keep` sets the exact number of samples in each epoch: the pool is then so large that they are its share `top`, or
    it is everything, and `pool` is not used.

    >>> import torch
    >>> sampler = OrderDp(8, pool=1.0, top=0.5)
    >>> sampler.set_epoch(0)
    >>> sampler.observe(torch.arange(8), torch.tensor([0.1, 0.1, 0.1, 0.1, 2.0, 2.0, 2.0, 2.0]))
    >>> sampler.set_epoch(1)
    >>> sorted(sampler)
    [4, 5, 6, 7]
    """

    def __init__(
        self,
        samples: int,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        pool: Annotated[float, Field(gt=0, le=1)] = 0.75,
        top: Annotated[float, Field(gt=0, le=1)] = 0.85,
        guard: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        unseen: Annotated[float, Field(allow_inf_nan=False)] | Literal["first"] = 3.0,
        keep: KeptShare | None = None,
        seed: int = 0,
    ) -> None:
        budget = None if keep is None else resolve_keep(keep, samples)
        wanted = pool * samples if budget is None else budget / top
        self.pool = min(samples, max(1, int(wanted + 1e-9)))
        self.kept = budget or max(1, int(top * self.pool + 1e-9))
        self.guarded = min(int(guard * self.pool + 1e-9), self.pool - self.kept)
        self.unseen = np.float32(np.inf if unseen == "first" else unseen)
        self.observed = ObservedLosses(samples)
        settings = {"pool": pool, "top": top, "guard": guard, "unseen": unseen, "keep": keep}
        super().__init__(samples, shard, seed, settings, {})

    @classmethod
    def refuse(cls, settings: Any, samples: int | None = None) -> None:
        """See `EpochSampler.refuse`."""
        if settings.guard + settings.top > 1 + 1e-9:
            raise ValueError(
                f"guard {settings.guard} leaves out more of the pool than top {settings.top} leaves: they are at most 1"
                " together"
            )

    def planned(self, epoch: int) -> tuple[int, bool]:
        """Always the same size."""
        return self.kept, True

    def draw(self, epoch: int) -> Draw:
        """The highest losses of a random pool."""
        seed = derive_seed(self.seed, epoch, 1)
        rows = part(np.arange(self.samples), self.pool, derive_seed(seed, 1))
        losses = self.observed.losses.numpy()[rows]  # type: ignore[union-attr]
        losses = np.where(np.isnan(losses), self.unseen, losses)
        below = self.pool - self.kept - self.guarded
        top = keep_between(losses, below, self.kept, seed=derive_seed(seed, 2), ids=rows)
        return shuffled(rows[top], seed)

    def inclusion(self) -> Float64[np.ndarray, " samples"]:
        """Probability that an epoch holds the sample of each rank by loss, the highest first; they sum to `kept`.

        A sample is held if the pool has it, and the number of others there with higher losses puts it among those kept.
        """
        from scipy.stats import hypergeom

        higher = np.arange(self.samples)
        others = hypergeom(self.samples - 1, higher, self.pool - 1)
        within = others.cdf(self.guarded + self.kept - 1) - (others.cdf(self.guarded - 1) if self.guarded else 0)
        return np.asarray(self.pool / self.samples * within)
