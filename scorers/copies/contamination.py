"""Contamination of benchmark items by training texts, by the two usual measures.

*n-gram overlap*: whether any 13 consecutive words of an item occur in training (GPT-3's rule, which evaluation
harnesses fix at 13); *covered tokens*: the share of an item's words that lie in such a run (as in Llama's and Tülu's
reports, of 8 words). Items shorter than that have no such n-gram and would always pass, so runs have at most half of
an item's words, at least 3. N-grams in more than 10 training texts are boilerplate (licences, instructions, counting)
and do not count.
"""

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64, UInt64

from secateur.scorers.copies.word_sets import Words, grams, words_of

OVERLAP, COVERED, LEAST = 13, 8, 3
"""Words of a run by either measure, and fewest in short items."""

BOILERPLATE = 10
"""Most training texts with an n-gram that counts."""


def contamination(train: pl.Series, items: pl.Series) -> pl.DataFrame:
    """One row per item, in their order, missing texts as empty ones.

    Columns: `overlap_13` bool (whether a run of `overlap_n` words is in training), `overlap_n` int64 (13, or less for
    short items; 0 for items of fewer than 3 words, which have no result), `covered` float64 (share of its words in runs
    of `covered_n` words that are in training), `covered_n` int64 (8 or less), and `longest` int64 (words of its longest
    stretch in training, as far as such runs cover it).

    Memory holds about 40 bytes per word of training texts, and 24 more for each of their n-grams that an item has.
    """
    known, asked = words_of(train), words_of(items)
    half = np.maximum(LEAST, asked.lengths // 2)
    overlap, longest_any, covered_any, n_any = inside(known, asked, np.minimum(OVERLAP, half))
    # Runs of short items have one length for both measures, and one search.
    long = half > COVERED
    _, longest, covered, n_covered = inside(known, asked, np.where(long, COVERED, 0))
    covered, n_covered = np.where(long, covered, covered_any), np.where(long, n_covered, n_any)
    return pl.DataFrame(
        {
            "overlap_13": overlap,
            "overlap_n": n_any,
            "covered": covered / np.maximum(asked.lengths, 1),
            "covered_n": n_covered,
            "longest": np.maximum(longest, longest_any),
        }
    )


def inside(
    known: Words, asked: Words, length: Int64[np.ndarray, " i"]
) -> tuple[Bool[np.ndarray, " i"], Int64[np.ndarray, " i"], Int64[np.ndarray, " i"], Int64[np.ndarray, " i"]]:
    """For each item, with runs of its own `length`: whether one is in `known`, the longest stretch of words that runs
    cover, the number of words covered, and the length (0 where the item is shorter)."""
    length = np.where(asked.lengths >= length, length, 0)
    owner = np.repeat(np.arange(len(length)), asked.lengths)
    # +1 where a run that is in training begins, -1 behind its end.
    steps = np.zeros(len(asked.hashes) + 1, np.int64)
    for words in np.unique(length[length > 0]):
        begins = np.flatnonzero((length == words)[owner])
        begins = begins[begins + words <= asked.starts[1:][owner[begins]]]
        runs = grams(asked.hashes, int(words))[begins]
        hits = begins[contained(runs, usual_grams(known, int(words), runs))]
        np.add.at(steps, hits, 1)
        np.add.at(steps, hits + words, -1)
    covered = np.cumsum(steps[:-1]) > 0
    counted = np.bincount(owner[covered], minlength=len(length))
    return counted > 0, stretches(covered, owner, len(length)), counted, length


def usual_grams(known: Words, words: int, asked: UInt64[np.ndarray, " a"]) -> UInt64[np.ndarray, " g"]:
    """N-grams among those `asked` that texts have, without those that more than ten of them have."""
    owner = np.repeat(np.arange(len(known.keys)), known.lengths)
    within = owner[: max(0, len(owner) - words + 1)] == owner[words - 1 :]
    every = grams(known.hashes, words)[: len(within)]
    # Training has far more n-grams than the items: only those of the items are sorted.
    place = np.flatnonzero(within & contained(every, asked))
    gram, text = every[place], owner[place]
    order = np.lexsort((text, gram))
    gram, text = gram[order], text[order]
    new = np.ones(len(gram), bool)
    new[1:] = (gram[1:] != gram[:-1]) | (text[1:] != text[:-1])
    unique, texts = np.unique(gram[new], return_counts=True)
    return np.asarray(unique[texts <= BOILERPLATE])


def contained(values: UInt64[np.ndarray, " v"], among: UInt64[np.ndarray, " a"]) -> Bool[np.ndarray, " v"]:
    """Whether each value is among others, by hashing: `numpy.isin` would sort both."""
    return np.asarray(pl.Series(values).is_in(pl.Series(among).unique().implode()).to_numpy())


def stretches(covered: Bool[np.ndarray, " t"], owner: Int64[np.ndarray, " t"], items: int) -> Int64[np.ndarray, " i"]:
    """Words of the longest stretch of covered ones within each item."""
    longest = np.zeros(items, np.int64)
    joined = covered.copy()
    joined[1:] &= ~(covered[1:] & covered[:-1] & (owner[1:] == owner[:-1]))
    begins = np.flatnonzero(joined)
    if len(begins) == 0:
        return longest
    number = np.cumsum(joined) - 1
    sizes = np.bincount(number[covered], minlength=len(begins))
    np.maximum.at(longest, owner[begins], sizes)
    return longest
