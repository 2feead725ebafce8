"""Cross-fitting: each sample is scored by networks that did not see it, those of its fold, which learn from all others.

Samples of equal inputs are in one fold: a copy would tell a network what it must not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import xxhash
from jaxtyping import Int64, Shaped

from secateur.selectors.draws.ranks import random_keys
from secateur.trainers.contract import Data

Run = TypeVar("Run")
Folds = Int64[np.ndarray, " samples"]
"""The fold of each sample, counted from 0."""


def groups_of(data: Data) -> Int64[np.ndarray, " n"]:
    """A number for each sample, equal where the encoded inputs have the same bytes."""
    digests = np.empty(len(data), np.uint64)
    for start in range(0, len(data), 4096):
        block = np.ascontiguousarray(data.inputs[start : start + 4096])
        digests[start : start + len(block)] = [xxhash.xxh3_64_intdigest(row.data) for row in block]
    return np.unique(digests, return_inverse=True)[1].astype(np.int64)


def folds_of(
    groups: Shaped[np.ndarray, " n"], strata: Int64[np.ndarray, " n"], folds: int, *, seed: int = 0
) -> Int64[np.ndarray, " n"]:
    """The fold of each sample; the groups of each stratum are dealt out in turn, in an order drawn by the seed, so that
    of each a fold has as many as another, or one more. A group is of the stratum of its first sample.

    Raises ValueError where there are fewer groups than folds.
    """
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < folds:
        raise ValueError(f"proxy.folds: {folds} folds of {len(first)} different samples; name fewer")
    order = np.lexsort((random_keys(first.astype(np.int64), seed), strata[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[inverse]


def by_fold(runs: Sequence[Run], folds: Folds) -> list[Sequence[Run]]:
    """Runs of each fold, of runs in the order of their seeds, and of their folds within a seed."""
    count = int(folds.max()) + 1
    return [runs[fold::count] for fold in range(count)]
