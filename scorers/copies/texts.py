"""Copies among texts: equal ones, and near ones by words and pairs of words, with the exact similarity of each pair."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64, Shaped

from secateur.scorers.copies.contract import Copies, Parts, Progress, check_parts
from secateur.scorers.copies.found import Contents, Found, contents_of
from secateur.scorers.copies.points import vector_copies
from secateur.scorers.copies.sharing import candidates, meet, signatures
from secateur.scorers.copies.thresholds import Collisions, threshold
from secateur.scorers.copies.word_sets import Words, WordSets, halves, word_sets, words_of

SAMPLE = 2048
"""Rows, and rows made of two, that the threshold follows from."""

WORK = 1 << 33
"""N-grams of other texts that sampled rows are compared with at most: about a minute; beyond, fewer are sampled."""

DENSE = 1 << 23
"""Similarities that are held at once."""

SCHEMES = ((3, 64), (2, 64), (2, 160))
"""MinHashes in a band, and bands, tried until enough of the copies of sampled rows are found."""

LEAST_WORDS = 4
"""Words of which each half has a pair."""

LEAST_RECALL = 0.99
"""Share of sampled rows whose most similar copy the search must find, or it searches more widely."""


def text_copies(
    texts: pl.Series,
    part: Parts,
    *,
    vectors: Shaped[np.ndarray, "n d"] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Copies]:
    """Copies by words and pairs of words and, where `vectors` `[n, d]` are given, by embeddings: one result each.

    Texts that differ in case, punctuation or spaces alone are equal; texts of fewer than four words are copies where
    they are equal alone, since so few words meet by chance. A missing text is nobody's copy. Memory is some 100 bytes a
    word and 1 kB a text. Raises ValueError for parts that do not fit.
    """
    check_parts(part, len(texts), "texts")
    words = words_of(texts)
    given = texts.is_not_null().to_numpy()
    contents = contents_of(words.keys, part, given)
    found = [by_words(words.take(contents.first), contents, part, seed, progress)]
    if vectors is not None:
        found.append(vector_copies(vectors, part, given=given, seed=seed, progress=progress))
    return found


def by_words(words: Words, contents: Contents, part: Parts, seed: int, progress: Progress | None) -> Copies:
    """Copies by the Jaccard similarity of words and pairs of words."""
    sets = word_sets(words.kept(words.lengths >= LEAST_WORDS))
    sample = sampled(words, sets, seed)
    limit = threshold(sample.top, sample.mixed, sample.alike)
    known = np.flatnonzero(sample.top >= limit.value)
    for hashes, bands in SCHEMES:
        keys = signatures(sets, hashes, bands, seed)
        met = meet(keys, sample.rows[known], sample.nearest[known])
        if met.mean() >= LEAST_RECALL if len(known) else True:
            break
    found = Found(contents)
    sides = contents.sides
    for band in range(len(keys)):
        for left, right in candidates(keys, band, sides):
            alike = sets.similarity(left, right)
            stay = alike >= limit.value
            found.offer(left[stay], right[stay], alike[stay])
        if progress:
            progress(band + 1, len(keys))
    reason = limit.reason
    if len(known):
        reason += f"; the search met {met.mean():.1%} of the {len(known):,} sampled rows' nearest copies"
    return found.copies(part, "word n-grams", limit.value, reason, sets.similarity)


@dataclass(frozen=True)
class Sample:
    """Contents drawn, the content most similar to each, and rows made of two."""

    rows: Int64[np.ndarray, " s"]
    nearest: Int64[np.ndarray, " s"]
    top: Float32[np.ndarray, " s"]
    mixed: Collisions
    alike: Collisions


def sampled(words: Words, sets: WordSets, seed: int) -> Sample:
    """What the threshold follows from, by exact comparison with every content that has a word."""
    usual = np.bincount(sets.codes, minlength=sets.features)
    usable = np.flatnonzero(words.lengths >= LEAST_WORDS)
    each = max(1.0, float((usual.astype(np.float64) ** 2).sum()) / max(len(usable), 1))
    random = np.random.default_rng(seed)
    count = int(min(len(usable), SAMPLE, max(256, WORK / (3 * each))))
    rows = np.sort(random.choice(usable, count, replace=False)) if count else usable
    nearest, top = nearest_sets(sets.take(rows), sets, (rows,))
    pairs = random.choice(usable, (2, count)) if count else np.empty((2, 0), np.int64)
    pairs = pairs[:, pairs[0] != pairs[1]]
    linked = np.stack([rows, nearest])[:, nearest >= 0]
    return Sample(rows, nearest, top, *(collisions(words, sets, *two) for two in (pairs, linked)))


def collisions(
    words: Words,
    sets: WordSets,
    first: Int64[np.ndarray, " k"],
    second: Int64[np.ndarray, " k"],
) -> Collisions:
    """Rows of the first half of one content and the second half of another against every third content."""
    made = word_sets(halves(words, first, second), sets.names)
    _, reached = nearest_sets(made, sets, (first, second))
    return Collisions(reached, sets.similarity(first, second))


def nearest_sets(
    queries: WordSets, sets: WordSets, left_out: tuple[Int64[np.ndarray, " q"], ...]
) -> tuple[Int64[np.ndarray, " q"], Float32[np.ndarray, " q"]]:
    """The most similar set of each of some, but for those `left_out` of it, by comparing all; -1 and 0 where none."""
    from scipy.sparse import csr_array

    nearest, top = np.full(len(queries), -1, np.int64), np.zeros(len(queries), np.float32)
    used = np.unique(queries.codes)
    used = used[used < sets.features]
    columns = sets.matrix[:, used].T.tocsr()
    rows = queries.matrix[:, used].tocsr()
    queries_sizes, sets_sizes = queries.sizes.astype(np.float32), sets.sizes.astype(np.float32)
    step = max(1, DENSE // max(len(sets), 1))
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        shared = csr_array(rows[part] @ columns).toarray()
        union = np.subtract(queries_sizes[part, None], shared)
        union += sets_sizes
        alike = np.divide(shared, np.maximum(union, 1, out=union), out=shared)
        for others in left_out:
            alike[np.arange(len(alike)), others[part]] = 0
        best = alike.argmax(axis=1)
        top[part] = alike[np.arange(len(alike)), best]
        nearest[part] = np.where(top[part] > 0, best, -1)
    return nearest, top
