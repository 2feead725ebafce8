"""Cross-fitting: the networks of a fold train on all other folds and score the fold's samples.

Samples with equal inputs share a fold, because copies in other folds would leak labels.
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
    """A group number for each sample, equal for encoded inputs with the same bytes."""
    digests = np.empty(len(data), np.uint64)
    for start in range(0, len(data), 4096):
        block = np.ascontiguousarray(data.inputs[start : start + 4096])
        digests[start : start + len(block)] = [xxhash.xxh3_64_intdigest(row.data) for row in block]
    return np.unique(digests, return_inverse=True)[1].astype(np.int64)


def folds_of(
    groups: Shaped[np.ndarray, " n"], strata: Int64[np.ndarray, " n"], folds: int, *, seed: int = 0
) -> Int64[np.ndarray, " n"]:
    """The fold of each sample. Groups go to the folds in turn, stratum by stratum, in an order drawn by the seed; so
    the numbers of a stratum's groups differ by at most one between folds. A group has the stratum of its first sample.

    Raises ValueError for fewer groups than folds.
    """
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < folds:
        raise ValueError(f"proxy.folds: {folds} folds of {len(first)} different samples; name fewer")
    order = np.lexsort((random_keys(first.astype(np.int64), seed), strata[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[inverse]


def by_fold(runs: Sequence[Run], folds: Folds) -> list[Sequence[Run]]:
    """Runs of each fold, from runs ordered by seed, then by fold."""
    count = int(folds.max()) + 1
    return [runs[fold::count] for fold in range(count)]
