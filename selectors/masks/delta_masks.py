"""Masks of the entries of a fine-tuning delta: DARE's draw (Yu et al., "Language models are Super Mario", ICML 2024,
arXiv 2311.03099, section 3.1) or the highest scores (Wanda: Sun et al., ICLR 2024, arXiv 2306.11695).

Entries come in blocks, for a checkpoint need not fit in memory. Every draw and every tie is a hash of (seed, the
tensor's name, the entry's place in it): neither the order of tensors nor the sharding nor the size of blocks changes a
mask.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt64

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import KeyedPermutation, derive_seed
from secateur.selectors.draws.quotas import proportional
from secateur.selectors.draws.ranks import random_keys

Block = tuple[Float32[np.ndarray, " m"], int, int]
"""Scores of consecutive entries, none negative; the place of the first one in its tensor; the tensor's seed."""
Blocks = Callable[[], Iterable[Block]]
"""All blocks, in the same order whenever it is called."""

ENTRIES = 1 << 18
"""Entries in a block of work: some MB of temporaries."""
COLLECTED = 1 << 22
"""Entries around a threshold that are held in memory (32 MB); where there are more, another pass narrows them down."""
DIGIT = 16


def tensor_seed(seed: int, name: str) -> int:
    """A seed of its own for each tensor, by its name."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return derive_seed(seed, int.from_bytes(digest, "little") >> 1)


def tensor_budgets(entries: Mapping[str, int], keep: float) -> dict[str, int]:
    """Number of entries of each tensor that stay: exactly a share of `keep` in all, in each as near as counts allow.

    Every tensor that has entries keeps at least one, unless there are more tensors than entries to keep.

    >>> tensor_budgets({"weight": 1000, "bias": 10}, 0.01)
    {'weight': 9, 'bias': 1}
    """
    names = sorted(entries)
    sizes = np.array([entries[name] for name in names], dtype=np.int64)
    total = resolve_keep(keep, int(sizes.sum()))
    quotas = proportional(sizes, total, floor=int(total >= np.count_nonzero(sizes)))
    found = dict(zip(names, quotas.tolist(), strict=True))
    return {name: found[name] for name in entries}


def draw_each(first: int, stop: int, keep: float, seed: int) -> Bool[np.ndarray, " m"]:
    """DARE's own draw: each of the entries `first` … `stop`-1 stays with probability `keep`, independently.

    Raises ValueError for a probability outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"entries stay with a probability within (0, 1], not {keep}")
    if keep == 1:
        return np.ones(stop - first, dtype=np.bool_)
    return np.asarray(random_keys(np.arange(first, stop), seed) < np.uint64(keep * 2.0**64))


def draw_count(entries: int, budget: int, seed: int) -> Bool[np.ndarray, " n"]:
    """Exactly `budget` of so many entries, every set of them as likely as any other; more budget adds to the set.

    One byte per entry. Raises ValueError for a budget outside 0 … entries.
    """
    check_budget(budget, entries)
    keep = np.zeros(entries, dtype=np.bool_)
    order = KeyedPermutation(entries, seed)
    for start in range(0, budget, ENTRIES):
        keep[order(np.arange(start, min(start + ENTRIES, budget)))] = True
    return keep


@dataclass
class Cut:
    """The rank above which entries stay: the bits of the score, then half of the entry's hash.

    `ties` of the entries that equal it stay, in the order in which they come: call it with the blocks of `cut_of` in
    the same order, once each.
    """

    rank: int
    ties: int

    def __call__(self, block: Block) -> Bool[np.ndarray, " m"]:
        """Mask of a block."""
        scores, first, seed = block
        bits = scores.view(np.uint32)
        score, low = np.uint32(self.rank >> 32), np.uint64(self.rank & 0xFFFFFFFF)
        keep = bits > score
        tied = np.flatnonzero(bits == score)
        if len(tied):
            hashes = random_keys(tied + first, seed) >> np.uint64(32)
            keep[tied[hashes > low]] = True
            equal = tied[hashes == low][: self.ties]
            keep[equal] = True
            self.ties -= len(equal)
        return np.asarray(keep)


def cut_of(blocks: Blocks, budget: int) -> Cut:
    """The cut above which lie exactly `budget` entries of all blocks together, found without the scores in memory.

    Radix selection: one pass counts leading digits of the ranks, a second usually collects the few entries that share
    the digit of the cut; hashes decide among equal scores. Raises ValueError for a budget outside 1 … entries.
    """
    prefix, shift, wanted = 0, 64, budget
    while True:
        shift -= DIGIT
        counts = np.zeros(1 << DIGIT, dtype=np.int64)
        for block in blocks():
            digits = _ranks(block, prefix, shift + DIGIT, shift) & np.uint64((1 << DIGIT) - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=1 << DIGIT)
        from_top = counts[::-1].cumsum()
        if shift == 64 - DIGIT:
            check_budget(budget, int(from_top[-1]), least=1)
        place = int(np.searchsorted(from_top, wanted))
        wanted -= int(from_top[place - 1]) if place else 0
        digit = (1 << DIGIT) - 1 - place
        prefix = prefix << DIGIT | digit
        if shift == 0:
            return Cut(prefix, wanted)
        if counts[digit] <= COLLECTED:
            ranks = np.concatenate([_ranks(block, prefix, shift, 0) for block in blocks()])
            rank = np.partition(ranks, len(ranks) - wanted)[len(ranks) - wanted]
            return Cut(int(rank), wanted - int(np.count_nonzero(ranks > rank)))


def _ranks(block: Block, prefix: int, above: int, shift: int) -> UInt64[np.ndarray, " few"]:
    """Ranks shifted right by `shift`, of the entries whose bits from `above` on are `prefix`; it hashes only few."""
    scores, first, seed = block
    bits = scores.view(np.uint32)
    known = 64 - above
    places: np.ndarray | None = None
    if known:
        head = np.uint32(prefix >> max(known - 32, 0))
        places = np.flatnonzero((bits >> np.uint32(32 - min(known, 32))) == head)
        bits = bits[places]
    if shift >= 32:
        return (bits >> np.uint32(shift - 32)).astype(np.uint64)
    entries = np.arange(first, first + len(scores)) if places is None else places + first
    ranks = bits.astype(np.uint64) << np.uint64(32) | random_keys(entries, seed) >> np.uint64(32)
    if known > 32:
        ranks = ranks[ranks >> np.uint64(above) == np.uint64(prefix)]
    return np.asarray(ranks >> np.uint64(shift))


def keep_by_row(
    scores: Float32[np.ndarray, "rows columns"], budget: int, first: int, seed: int
) -> Bool[np.ndarray, "rows columns"]:
    """The `budget` highest scores of every row, ties by hash; `first` is the place of the first entry in its tensor."""
    rows, columns = scores.shape
    check_budget(budget, columns, least=1)
    hashes = random_keys(np.arange(first, first + scores.size), seed).reshape(rows, columns)
    ranks = scores.view(np.uint32).astype(np.uint64) << np.uint64(32) | hashes >> np.uint64(32)
    keep = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(keep, np.argpartition(ranks, columns - budget, axis=1)[:, columns - budget :], True, axis=1)
    return keep


def check_budget(budget: int, entries: int, least: int = 0) -> None:
    """Raise ValueError for a budget outside `least` … entries."""
    if not least <= budget <= entries:
        raise ValueError(f"a budget of {budget} entries is not within {least} … {entries}")
