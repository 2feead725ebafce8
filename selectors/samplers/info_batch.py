"""InfoBatch: skip some easy samples each epoch and give the others their weight (Qin et al., "InfoBatch: Lossless
Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024, arXiv 2303.04947).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import Field

from secateur.scorers.lazy import torch
from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import KeyedPermutation, derive_seed
from secateur.selectors.draws.quotas import Counts, apportion
from secateur.selectors.draws.ranks import Ids
from secateur.selectors.samplers.contract import Draw, EpochSampler, KeptShare, Shard, Shuffled, listed, shuffled
from secateur.selectors.samplers.observed_losses import ObservedLosses

Share = Annotated[float, Field(gt=0, le=1)]
Rows = Int64[np.ndarray, " _"]
LEAST_SHARE = 0.1
"""Least share that a group keeps, as published: below it, the weights of single samples would dominate a batch."""


class InfoBatch(EpochSampler):
    """Keep all hard samples and a random part of the easy ones, whose losses count for those left out.

    With `rule="mean"` easy losses are strictly below the mean (of their class with `per_class`, which needs `strata`),
    and the share 1 - `prune` of them stays. With `rule="median"` they are below the median, which few large squared
    residuals do not move (our derivation). With `rule="percentile"` they are below `quantiles` of the losses, and
    `shares` of them stay, the easiest first. A sample not seen yet is never easy. Of a group of n, int(share · n) stay,
    at least one, with a weight of n over that number, so that the expected sum of gradients over an epoch is that of
    all data. `rescale=False` leaves weights at 1.

    `keep` (a fraction, or a count) sets the exact number of samples of each pruned epoch by scaling the shares of the
    easy groups. Where they would fall below a tenth, they stay there and the other samples are thinned too, with
    weights; where even that does not suffice, all samples have one share.

    From epoch `anneal_from` · epochs on, it keeps everything, with weights 1.

    >>> import torch
    >>> sampler = InfoBatch(8, epochs=10)
    >>> sampler.set_epoch(0)
    >>> sampler.observe(torch.arange(8), torch.tensor([0.1, 0.1, 0.1, 0.1, 2.0, 2.0, 2.0, 2.0]))
    >>> sampler.set_epoch(1)
    >>> len(sampler), sampler.weights(torch.arange(4, 8)).tolist()
    (6, [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(
        self,
        samples: int,
        epochs: int,
        strata: Ids | None = None,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        prune: Annotated[float, Field(ge=0, le=0.9)] = 0.5,
        anneal_from: Annotated[float, Field(ge=0, le=1)] = 0.875,
        rule: Literal["mean", "median", "percentile"] = "mean",
        per_class: bool = False,
        quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.2, 0.85),
        shares: tuple[Share, ...] = (0.25, 0.5),
        keep: KeptShare | None = None,
        rescale: bool = True,
        seed: int = 0,
    ) -> None:
        strata = np.empty(0, dtype=np.int64) if strata is None else strata
        if per_class and len(strata) != samples:
            raise ValueError(f"per_class needs strata, int64, one for each of {samples} samples, got {len(strata)}")
        self.budget = None if keep is None else resolve_keep(keep, samples)
        self.classes = np.unique(strata, return_inverse=True)[1] if per_class else None
        self.pruned_epochs = int(anneal_from * epochs + 1e-9)
        self.shares = np.array(shares if rule == "percentile" else [1 - prune], dtype=np.float64)
        self.quantiles = np.array(quantiles) if rule == "percentile" else None
        self.by_median = rule == "median"
        self.rescale = rescale
        self.observed = ObservedLosses(samples)
        super().__init__(
            samples, shard, seed, {
                "prune": prune, "anneal_from": anneal_from, "rule": rule, "per_class": per_class,
                "quantiles": quantiles, "shares": shares, "keep": keep, "rescale": rescale,
            }, {"epochs": epochs, "strata": self.classes},
        )  # fmt: skip

    @classmethod
    def refuse(cls, settings: Any, samples: int | None = None) -> None:
        """See `EpochSampler.refuse`."""
        if settings.rule != "percentile":
            return
        if settings.per_class:
            raise ValueError(
                "per_class goes with rule='mean' or 'median': the percentile rule ranks all losses together"
            )
        quantiles, shares = settings.quantiles, settings.shares
        if len(quantiles) != len(shares) or not quantiles or list(quantiles) != sorted(set(quantiles)):
            raise ValueError(f"quantiles must rise, with one share for each: got {quantiles} and {shares}")

    def planned(self, epoch: int) -> tuple[int, bool]:
        """Exact while annealing and with a budget; otherwise at most all samples."""
        if epoch >= self.pruned_epochs or self.budget is None:
            return self.samples, epoch >= self.pruned_epochs
        return self.budget, True

    def draw(self, epoch: int) -> Draw:
        """Everything while annealing, else a part of each group."""
        seed = derive_seed(self.seed, epoch, 1)
        if epoch >= self.pruned_epochs:
            return shuffled(np.arange(self.samples), seed)
        groups = self.groups(self.observed.losses.numpy())  # type: ignore[union-attr]
        counts = counts_of(np.array([len(group) for group in groups]), self.shares, self.budget)
        if counts is None:
            groups, counts = [np.arange(self.samples)], np.array([self.budget])
        pairs = enumerate(zip(groups, counts.tolist(), strict=True))
        kept = [part(group, count, derive_seed(seed, index)) for index, (group, count) in pairs]
        weights = weights_of(self.samples, groups, counts) if self.rescale else None
        return shuffled(np.concatenate(kept), seed, weights)

    def groups(self, losses: Float32[np.ndarray, " samples"]) -> list[Rows]:
        """Rows of each easy group, easiest first, then all other rows; comparisons with NaN are False, so unseen
        samples are not easy.
        """
        place = np.full(self.samples, len(self.shares), dtype=np.uint8)
        for group, limit in reversed(list(enumerate(self.limits(losses)))):
            place[losses < limit] = group
        return [np.flatnonzero(place == group) for group in range(len(self.shares) + 1)]

    def limits(
        self, losses: Float32[np.ndarray, " samples"]
    ) -> list[np.float64] | list[Float64[np.ndarray, " samples"]]:
        """Losses below which a sample belongs to each easy group: float64, one for all samples or one for each."""
        seen = ~np.isnan(losses)
        if not seen.any():
            return []
        known = losses[seen]
        if self.quantiles is not None:
            return list(np.quantile(known.astype(np.float64), self.quantiles))
        if self.classes is None:
            return [np.median(known.astype(np.float64)) if self.by_median else known.mean(dtype=np.float64)]
        if self.by_median:
            return [medians_of(known, self.classes[seen], int(self.classes.max()) + 1)[self.classes]]
        sums = np.bincount(self.classes[seen], weights=known, minlength=self.classes.max() + 1)
        counts = np.bincount(self.classes[seen], minlength=self.classes.max() + 1)
        return [(sums / np.maximum(counts, 1))[self.classes]]


def counts_of(sizes: Counts, shares: Float64[np.ndarray, " easy"], budget: int | None) -> Counts | None:
    """Number of samples of each group that stay, easy groups then the rest; None where a budget gives all one share."""
    easy, rest = sizes[:-1], int(sizes[-1])
    if budget is None:
        return np.append(np.minimum(easy, np.maximum(1, (shares * easy + 1e-9).astype(np.int64))), rest)
    least = np.minimum(easy, np.ceil(LEAST_SHARE * easy - 1e-9).astype(np.int64))
    spare = budget - rest - int(least.sum())
    if spare >= 0:
        return np.append(least + apportion(np.ceil(shares * easy).astype(np.int64), easy - least, spare), rest)
    if rest + spare >= LEAST_SHARE * rest:
        return np.append(least, rest + spare)
    return None


def weights_of(samples: int, groups: list[Rows], counts: Counts) -> torch.Tensor | None:
    """Float32 `[samples]`: the size of a sample's group over the number of it that stays; None where all stay."""
    if all(len(group) == count for group, count in zip(groups, counts, strict=True)):
        return None
    weights = np.ones(samples, dtype=np.float32)
    for group, count in zip(groups, counts.tolist(), strict=True):
        if count:
            weights[group] = len(group) / count
    return torch.from_numpy(weights)


def part(rows: Rows, count: int, seed: int) -> Rows:
    """A uniform draw of `count` of the rows without replacement."""
    return rows if count == len(rows) else listed(Shuffled(rows, KeyedPermutation(len(rows), seed)), count)


def medians_of(values: Float32[np.ndarray, " n"], groups: Ids, count: int) -> Float64[np.ndarray, " count"]:
    """Median of each of `count` groups, the mean of the lower and the upper one; 0 for an empty group."""
    order = np.lexsort((values, groups))
    ordered, sizes = values[order].astype(np.float64), np.bincount(groups, minlength=count)
    starts = np.cumsum(sizes) - sizes
    low, high = (starts + np.maximum(sizes - 1, 0) // 2), (starts + sizes // 2)
    last = max(len(ordered) - 1, 0)
    middle = (ordered[np.minimum(low, last)] + ordered[np.minimum(high, last)]) / 2
    return np.asarray(np.where(sizes > 0, middle, 0.0))
