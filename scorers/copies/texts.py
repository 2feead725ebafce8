"""Copies among texts: equal ones, and near ones by words and pairs of words, with the exact similarity of each pair."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64, Int64, Shaped

from secateur.scorers.copies.contract import Copies, Parts, Progress, check_parts, limits_of
from secateur.scorers.copies.found import Contents, Found, contents_of
from secateur.scorers.copies.points import vector_copies
from secateur.scorers.copies.sharing import candidates, meet, signatures
from secateur.scorers.copies.thresholds import JUST, RATE, Collisions, Threshold, threshold, within_templates
from secateur.scorers.copies.word_sets import Words, WordSets, halves, word_sets, words_of

SAMPLE = 2048
"""Rows, and rows made of two, in the sample for the threshold."""

BAND = int(2 / RATE)
"""Fewest sampled texts of about one length with a threshold of their own: at `RATE` two of so many reach it."""

MATES = 4
"""Number of most similar texts, one of which gives half of a row made within a template. If it were always the most
similar, rows with the same slot words would give both halves, and most of the made rows would not count."""

WORK = 1 << 33
"""Most n-grams of other texts to compare sampled rows with, about a minute; beyond, the sample is smaller."""

DENSE = 1 << 23
"""Similarities in memory at once."""

SCHEMES = ((3, 64), (2, 64), (2, 160))
"""MinHashes in a band, and bands, tried until enough of the copies of sampled rows are found."""

LEAST_WORDS = 4
"""Fewest words of a text whose halves both have a pair of words."""

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

    Texts that differ in case, punctuation or spaces alone are equal; texts of fewer than four words are copies only
    where they are equal, since so few words agree by chance. A missing text is no copy. Memory is about 100 bytes per
    word and 1 kB per text. Raises ValueError for parts that do not fit.
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
    limit, lengths = sample.limits()
    limits = limits_of(lengths, words.lengths, limit.value)
    known = np.flatnonzero(sample.top >= np.maximum(limits[sample.rows], limits[sample.nearest]))
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
            stay = alike >= np.maximum(limits[left], limits[right])
            found.offer(left[stay], right[stay], alike[stay])
        if progress:
            progress(band + 1, len(keys))
    reason = limit.reason
    if len(known):
        reason += f"; the search met {met.mean():.1%} of the {len(known):,} sampled rows' nearest copies"
    return replace(found.copies(part, "word n-grams", limit.value, reason, sets.similarity), bands=lengths)


@dataclass(frozen=True)
class Sample:
    """Sampled contents, the content most similar to each, and rows made of two.

    `mixed` join any two. `bands` hold, by the most words of a band, the similarities of its sampled contents,
    rows made of any two of them, and rows made of one of them and one of those most like it."""

    rows: Int64[np.ndarray, " s"]
    nearest: Int64[np.ndarray, " s"]
    top: Float32[np.ndarray, " s"]
    mixed: Collisions
    bands: dict[int, tuple[Float32[np.ndarray, " b"], Collisions, Collisions]]

    def limits(self) -> tuple[Threshold, Float64[np.ndarray, "b 2"]]:
        """The lowest threshold with the reasons of all, and, as `Copies.bands`, that of each band."""
        usual = threshold(self.top, self.mixed)
        found = {most: within_templates(*band) for most, band in self.bands.items()}
        bands = [(float(most), usual.value if one is None else one.value) for most, one in found.items()]
        reasons = [] if found and None not in found.values() else [usual.reason]
        least = LEAST_WORDS
        for most, one in found.items():
            if one is not None:
                reasons.append(f"of {least:,} to {most:,} words, where most texts follow templates, {one.reason}")
            least = most + 1
        value = min((limit for _, limit in bands), default=usual.value)
        return Threshold(value, "; ".join(reasons)), np.array(bands, np.float64).reshape(-1, 2)


def sampled(words: Words, sets: WordSets, seed: int) -> Sample:
    """The sample for the threshold, by exact comparison with every content of enough words."""
    usual = np.bincount(sets.codes, minlength=sets.features)
    usable = np.flatnonzero(words.lengths >= LEAST_WORDS)
    each = max(1.0, float((usual.astype(np.float64) ** 2).sum()) / max(len(usable), 1))
    random = np.random.default_rng(seed)
    count = int(min(len(usable), SAMPLE, max(256, WORK / (4 * each))))
    rows = np.sort(random.choice(usable, count, replace=False)) if count else usable
    pairs = random.choice(usable, (2, count)) if count else np.empty((2, 0), np.int64)
    mixed = collisions(words, sets, *pairs[:, pairs[0] != pairs[1]])
    nearest, top, mates = mates_of(rows, sets, random)
    bands: dict[int, tuple[Float32[np.ndarray, " b"], Collisions, Collisions]] = {}
    own, least = words.lengths[rows], 0
    for most in length_bands(own):
        inside = (own > least) & (own <= most)
        among = usable[(words.lengths[usable] > least) & (words.lengths[usable] <= most)]
        pairs = random.choice(among, (2, int(inside.sum())))
        linked = np.stack([rows, mates])[:, inside & (mates >= 0)]
        apart = collisions(words, sets, *pairs[:, pairs[0] != pairs[1]])
        bands[most], least = (top[inside], apart, collisions(words, sets, *linked)), most
    return Sample(rows, nearest, top, mixed, bands)


def length_bands(lengths: Int64[np.ndarray, " s"]) -> list[int]:
    """The most words in each band of texts of about one length; a band has as few lengths as hold `BAND` texts."""
    most: list[int] = []
    held = 0
    for length, texts in zip(*np.unique(lengths, return_counts=True), strict=True):
        held += int(texts)
        if held >= BAND:
            most.append(int(length))
            held = 0
    return [*most[:-1], int(lengths.max())] if len(lengths) else []


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
    """The set most similar to each query, without those `left_out` for it, by comparing all; -1 and 0 where none."""
    nearest, top = np.full(len(queries), -1, np.int64), np.zeros(len(queries), np.float32)
    for part, alike in similarities(queries, sets, left_out):
        nearest[part], top[part] = best_of(alike)
    return nearest, top


def mates_of(
    rows: Int64[np.ndarray, " s"], sets: WordSets, random: np.random.Generator
) -> tuple[Int64[np.ndarray, " s"], Float32[np.ndarray, " s"], Int64[np.ndarray, " s"]]:
    """The set most similar to each row, its similarity, and one of the `MATES` most similar; -1 and 0 where none.

    Chance breaks ties for the latter: if the first always won, all rows of a template would have one mate.
    """
    nearest, top = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.float32)
    mates = nearest.copy()
    noise = np.tile(random.random(len(sets), np.float32) * np.float32(JUST), 2)
    ranks, shifts = random.integers(MATES, size=len(rows)), random.integers(max(len(sets), 1), size=len(rows))
    for part, alike in similarities(sets.take(rows), sets, (rows,)):
        nearest[part], top[part] = best_of(alike)
        for row, shift in enumerate(shifts[part]):
            alike[row] += np.where(alike[row] > 0, noise[shift : shift + len(sets)], 0)
        for rank in range(MATES):
            best = best_of(alike)[0]
            mates[part] = np.where((ranks[part] >= rank) & (best >= 0), best, mates[part])
            alike[np.arange(len(alike)), best] = 0
    return nearest, top, mates


def best_of(alike: Float32[np.ndarray, "q m"]) -> tuple[Int64[np.ndarray, " q"], Float32[np.ndarray, " q"]]:
    """The place of the first maximum of each row, and its value; -1 and 0 where none is above 0."""
    best = alike.argmax(axis=1)
    top = alike[np.arange(len(alike)), best]
    return np.where(top > 0, best, -1), top


def similarities(
    queries: WordSets, sets: WordSets, left_out: tuple[Int64[np.ndarray, " q"], ...]
) -> Iterator[tuple[slice, Float32[np.ndarray, "q m"]]]:
    """Some queries at a time and their similarities to all sets, 0 to those `left_out`."""
    from scipy.sparse import csr_array

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
        yield part, alike
