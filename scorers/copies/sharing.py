"""Candidate pairs of similar sets: those that agree in a band of weighted MinHash, found by sorting, band after band.

A MinHash is the least of the numbers drawn for the n-grams of a set, each an exponential variable divided by the
n-gram's weight. Two sets share it with a probability equal to their weighted Jaccard similarity (Ioffe, ICDM 2010, for
weights of n-grams alone). Rare n-grams weigh more, log(1 + texts / texts that have it), or stop words would decide.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from secateur.scorers.copies.found import Sides
from secateur.scorers.copies.word_sets import WordSets

WINDOW = 32
"""Sets behind each set in its bucket that form pairs with it; larger buckets are chained."""

Pair = tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]


def signatures(sets: WordSets, rows: int, bands: int, seed: int) -> UInt64[np.ndarray, "b m"]:
    """Key of each set in each of `bands` bands of `rows` MinHashes: 8 bytes a set and band. Empty sets have key 0."""
    filled = np.flatnonzero(sets.sizes > 0)
    weights = np.log1p(len(sets) / np.maximum(np.bincount(sets.codes, minlength=sets.features), 1)).astype(np.float32)
    random = np.random.default_rng(seed)
    keys = np.zeros((bands, len(sets)), np.uint64)
    if len(filled) == 0:
        return keys
    heads = sets.starts[:-1][filled]
    for band in range(bands):
        key = np.full(len(filled), band + 1, np.uint64)
        for _ in range(rows):
            drawn = random.standard_exponential(sets.features, dtype=np.float32) / weights
            least = np.minimum.reduceat(drawn[sets.codes], heads)
            key = (key ^ least.view(np.uint32)) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(31)
        keys[band, filled] = key
    return keys


def meet(
    keys: UInt64[np.ndarray, "b m"], left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]
) -> Bool[np.ndarray, " p"]:
    """Whether pairs agree in a band."""
    return np.asarray(((keys[:, left] == keys[:, right]) & (keys[:, left] != 0)).any(axis=0))


def candidates(keys: UInt64[np.ndarray, "b m"], band: int, sides: Sequence[Sides]) -> Iterator[Pair]:
    """Pairs that agree in a band and, as a rule, in none before it, at most as many at a time as there are sets.

    A bucket of up to 33 sets gives all its pairs. In a larger one each set is paired with 32 others and with the
    nearest of the other side before and after it, so that the number of pairs grows only with those of sets and parts.
    """
    key = keys[band]
    order = np.argsort(key, kind="stable")
    order = order[key[order] != 0]
    sorted_keys = key[order]
    for offset in range(1, WINDOW + 1):
        same = np.flatnonzero(sorted_keys[:-offset] == sorted_keys[offset:])
        if len(same) == 0:
            return
        left, right = order[same], order[same + offset]
        known = (keys[:band, left] == keys[:band, right]).any(axis=0)
        yield left[~known], right[~known]
    yield from across(order, sorted_keys, sides)
    yield from across(order[::-1], sorted_keys[::-1], sides)


def across(order: Int64[np.ndarray, " b"], keys: UInt64[np.ndarray, " b"], sides: Sequence[Sides]) -> Iterator[Pair]:
    """Each set with the last one before it, in its bucket, of the other side."""
    places = np.arange(len(order))
    for own, wanted in sides:
        last = np.maximum.accumulate(np.where(wanted[order], places, -1))
        before = np.concatenate([[-1], last[:-1]])
        stay = np.flatnonzero(own[order] & (before >= 0))
        stay = stay[keys[stay] == keys[before[stay]]]
        yield order[stay], order[before[stay]]
