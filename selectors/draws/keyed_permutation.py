"""A random order of [0, N) that is computed, not stored: any position, in any process, after any restart.

An index is split into two digits, x = left · b + right with a · b ≥ N, and rounds in turn add to one digit a random
function of the other: the alternating Feistel network on Z_a x Z_b of Black and Rogaway, "Ciphers with arbitrary
finite domains" (CT-RSA 2002), method 3; the few values at N or above go through again (cycle walking, method 2). The
random functions are tables of √N entries, 0.8 MB for 10⁹ samples.
"""

from typing import Any

import numpy as np
from jaxtyping import Int64

from secateur.selectors.draws.blocks import over_blocks
from secateur.selectors.draws.ranks import random_keys

ROUNDS = 6
SMALL = 1 << 12
"""Below this many samples the order is stored: tables this short would repeat visibly."""


def derive_seed(seed: int, *words: int) -> int:
    """A seed of its own, within 0 … 2⁶³-1, for each `(seed, words)`, words in the same range.

    >>> derive_seed(1, 2, 3) == derive_seed(1, 3, 2)
    False
    """
    for word in words:
        seed = int(random_keys(np.array([word], dtype=np.int64), seed)[0] >> np.uint64(1))
    return seed


class KeyedPermutation:
    """A bijection on [0, count) chosen by `seed`; memory and set-up O(√count), each position O(1).

    Raises ValueError for a negative `count`, and for a count at which int64 would overflow.

    >>> order = KeyedPermutation(10, seed=1)
    >>> sorted(order(np.arange(10)).tolist()) == list(range(10))
    True
    """

    def __init__(self, count: int, seed: int) -> None:
        if not 0 <= count <= 1 << 62:
            raise ValueError(f"a permutation needs a count within 0 … 2**62, got {count}")
        self.count = count
        self.stored: np.ndarray | None = None
        if count <= SMALL:
            self.stored = np.argsort(random_keys(count, seed), kind="stable").astype(np.int64)
            return
        self.left = int(np.ceil(np.sqrt(count)))
        self.right = -(-count // self.left)
        sizes = [(self.right, self.left), (self.left, self.right)] * (ROUNDS // 2)
        self.tables = [_table(entries, below, derive_seed(seed, turn)) for turn, (entries, below) in enumerate(sizes)]

    def __call__(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Samples at these positions of the order, int64; positions must lie within 0 … count-1 (IndexError)."""
        if len(positions) and not (positions.min() >= 0 and positions.max() < self.count):
            raise IndexError(f"a position is outside 0 … {self.count - 1}")
        if self.stored is not None:
            return np.asarray(self.stored[positions], dtype=np.int64)
        out = np.empty(len(positions), dtype=np.int64)
        over_blocks(len(positions), lambda rows: self._walk(positions[rows], out[rows]))
        return out

    def _walk(self, positions: np.ndarray, out: np.ndarray) -> None:
        """One pass through the network, then further ones for values beyond the domain."""
        self._pass(positions, out)
        beyond = np.flatnonzero(out >= self.count)
        while len(beyond):
            again = np.empty(len(beyond), dtype=np.int64)
            self._pass(out[beyond], again)
            out[beyond] = again
            beyond = beyond[again >= self.count]

    def _pass(self, values: np.ndarray, out: np.ndarray) -> None:
        left, right, added = np.empty((3, len(values)), dtype=np.int64)
        np.floor_divide(values, self.right, out=left)
        np.multiply(left, self.right, out=added)
        np.subtract(values, added, out=right)
        for turn, table in enumerate(self.tables):
            target, source, size = (left, right, self.left) if turn % 2 == 0 else (right, left, self.right)
            np.take(table, source, out=added, mode="clip")
            target += added
            # Below `size`, subtracting it wraps to a huge unsigned number: the smaller of the two is the remainder.
            np.subtract(target, size, out=added)
            unsigned: Any = target.view(np.uint64)
            np.minimum(unsigned, added.view(np.uint64), out=unsigned)
        np.multiply(left, self.right, out=out)
        np.add(out, right, out=out)


def _table(entries: int, below: int, seed: int) -> np.ndarray:
    """Random numbers within 0 … below-1, int64 `[entries]`; the top half of each key is scaled, bias below 2⁻³² ·
    below.
    """
    if below > 1 << 31:
        raise ValueError(f"no permutation of about {below}² samples: more than 2**62")
    return ((random_keys(entries, seed) >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int64)
