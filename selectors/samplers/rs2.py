"""RS2: train each epoch on a fresh random subset (Okanovic et al., "Repeated Random Sampling for Minimizing the
Time-to-Accuracy of Learning", ICLR 2024, arXiv 2305.18424).
"""

from dataclasses import dataclass
from math import gcd
from typing import Literal

import numpy as np

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import KeyedPermutation, derive_seed
from secateur.selectors.draws.ranks import Ids
from secateur.selectors.samplers.contract import Draw, EpochSampler, KeptShare, Shard, Shuffled, listed

KEPT_ORDERS = 2
"""Passes whose order is in memory: an epoch may end one and begin the next."""


class Rs2(EpochSampler):
    """Each epoch a random subset of the same size, no losses needed.

    Without replacement, epochs are consecutive pieces of a random order of everything, and a new order follows when
    one is used up, so each pass presents each sample exactly once. `remainder` decides about samples that do not
    fill a last piece: `carry` puts them at the head of the next epoch (which may then hold a sample twice, once from
    each pass), `drop` leaves them out of that pass. With replacement, each epoch is a draw of its own, in which
    a sample occurs once at most.

    With `stratified`, each class gives its exact share of an epoch rounded down or up (the whole rounding
    in a piece from two passes counts for each part); roundings move on with the epochs, so that classes too small for a
    sample per epoch have their turn. It needs `strata`, int64 `[samples]`.

    Memory is that of a few tables of √samples numbers, whatever the epoch; stratified, two numbers per sample.

    >>> sampler = Rs2(6, keep=3)
    >>> seen = []
    >>> for epoch in range(2):
    ...     sampler.set_epoch(epoch)
    ...     seen += list(sampler)
    >>> sorted(seen)
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        samples: int,
        strata: Ids | None = None,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        keep: KeptShare,
        replacement: bool = False,
        stratified: bool = False,
        remainder: Literal["carry", "drop"] = "carry",
        seed: int = 0,
    ) -> None:
        self.size = resolve_keep(keep, samples)
        self.replacement, self.remainder = replacement, remainder
        if stratified:
            if strata is None:
                raise ValueError("a stratified Rs2 needs strata, int64, one per sample")
            if len(strata) != samples:
                raise ValueError(f"there are strata of {len(strata)} samples, for {samples}")
        self.strata = strata if stratified else None
        self._orders: dict[int, KeyedPermutation | StratifiedOrder] = {}
        settings = {"keep": keep, "replacement": replacement, "stratified": stratified, "remainder": remainder}
        super().__init__(samples, shard, seed, settings, {"strata": self.strata})

    def planned(self, epoch: int) -> tuple[int, bool]:
        """Always the same size."""
        return self.size, True

    def draw(self, epoch: int) -> Draw:
        """A piece of the stream of passes, or of this epoch's own order."""
        if self.replacement:
            start = epoch * self.samples + self._turn(epoch)
        elif self.remainder == "carry":
            start = epoch * self.size
        else:
            passes, piece = divmod(epoch, self.samples // self.size)
            start = passes * self.samples + piece * self.size
        turn, offset = divmod(start, self.samples)
        first, ends = self.order(turn), offset + self.size > self.samples
        if self.replacement:
            stream = _Stream(first, first, offset, self.samples)
        else:
            stream = _Stream(first, self.order(turn + 1) if ends else first, offset, self.samples)
        if self.strata is None:
            return Draw(self.size, stream)
        # Strata come in turn in a stratified order: shuffle, so that batches are random too.
        order = KeyedPermutation(self.size, derive_seed(self.seed, epoch, 2))
        return Draw(self.size, Shuffled(listed(stream, self.size), order))

    def order(self, turn: int) -> "KeyedPermutation | StratifiedOrder":
        """The order of everything in pass `turn`."""
        if turn not in self._orders:
            for old in sorted(self._orders)[: len(self._orders) + 1 - KEPT_ORDERS]:
                del self._orders[old]
            key = derive_seed(self.seed, turn, 1)
            by_class = self.strata is not None
            self._orders[turn] = (
                StratifiedOrder(self.strata, self.size, key) if by_class else KeyedPermutation(self.samples, key)  # type: ignore[arg-type]
            )
        return self._orders[turn]

    def _turn(self, epoch: int) -> int:
        """Start of an independent epoch in its order: anywhere, so that every class's rounding has its turn."""
        step = gcd(self.size, self.samples)
        return derive_seed(self.seed, epoch, 3) % (self.samples // step) * step


@dataclass(frozen=True)
class _Stream:
    """Ids from place `offset` of one order on, and then from the head of the next."""

    first: "KeyedPermutation | StratifiedOrder"
    following: "KeyedPermutation | StratifiedOrder"
    offset: int
    samples: int

    def __call__(self, positions: Ids) -> Ids:
        places = positions + self.offset
        later = places >= self.samples
        if not later.any():
            return self.first(places)
        ids = np.empty_like(places)
        ids[~later] = self.first(places[~later])
        ids[later] = self.following(places[later] - self.samples)
        return ids


class StratifiedOrder:
    """A random order in which every piece of `size`, and every circular one, is stratified.

    Samples are lined up by class, at random within it; the one at place q of the line comes at place q · size mod
    samples. A piece then takes evenly spaced places of the line (systematic sampling), so of each run of places, and
    thus of each class, its exact share rounded down or up.
    """

    def __init__(self, strata: Ids, size: int, seed: int) -> None:
        shuffle = KeyedPermutation(len(strata), seed)(np.arange(len(strata)))
        classes = np.unique(strata, return_inverse=True)[1]
        small = classes.astype(np.min_scalar_type(int(classes.max())))  # numpy sorts 16-bit integers in linear time
        self.line = shuffle[np.argsort(small[shuffle], kind="stable")]
        self.step = gcd(size, len(strata))
        self.cycle = len(strata) // self.step
        self.inverse = pow(size // self.step, -1, self.cycle) if self.cycle > 1 else 0

    def __call__(self, positions: Ids) -> Ids:
        """Samples at these positions, int64."""
        multiple, repeat = np.divmod(positions, self.step)
        return np.asarray(self.line[repeat * self.cycle + multiple * self.inverse % self.cycle], dtype=np.int64)
