"""Texts as TF-IDF, sparse float32 `[n, terms]`: fitted and computed in blocks of texts, in a buffer of fixed size."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from secateur.trainers.modalities.frequencies import Frequencies
from secateur.trainers.modalities.rows import Batches, results_of
from secateur.trainers.modalities.texts import WITHOUT_TERM, TextEncoding
from secateur.trainers.modalities.word_blocks import Words, blocks_of_texts, cells_of, split, words_in
from secateur.trainers.sparse_rows import Inputs, SparseRows

if TYPE_CHECKING:
    import datasets
    import polars as pl
    import pyarrow as pa
    from scipy.sparse import csr_matrix

DISTINCT = 1 << 20
"""Distinct words up to which counts are exact."""
PAIRS = 1 << 22
"""Distinct pairs of frequent words up to which counts are exact."""


@dataclass(frozen=True)
class TfidfEncoder:
    """TF-IDF of the most frequent training terms (`words.terms_of`), with logarithmic counts and rows of length 1.

    `idf` are the inverse document frequencies of `terms`, which are sorted.
    """

    column: str
    terms: tuple[str, ...]
    idf: Float32[np.ndarray, " terms"]

    sparse, spared = True, ()
    dtype = np.dtype(np.float32)

    @classmethod
    def fit(cls, rows: "Batches | datasets.Dataset", column: str, encoding: TextEncoding) -> "TfidfEncoder":
        """Fit terms and their weights; raises ValueError if no training text has a word.

        Reads the texts twice: a pair is at most as frequent as either of its words, so the second pass counts only
        pairs of frequent words.
        """
        words = frequent_words(rows, column, encoding.terms)
        if not words:
            raise ValueError(f"column {column!r}: no word in the training texts")
        chosen, total = frequent_terms(rows, column, words, encoding.terms)
        # As in scikit-learn: with one additional text that has every term.
        idf = (np.log((1 + total) / (1 + chosen["texts"].to_numpy())) + 1).astype(np.float32)
        return cls(column, tuple(chosen["value"]), idf)

    @property
    def model_settings(self) -> dict[str, Any]:
        return {"kind": "numbers"}

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.terms),)

    def encode_batch(self, table: "pa.Table", first: int = 0) -> SparseRows:
        """Weights of every row."""
        from scipy.sparse import vstack

        parts = [self._weights(part) for part in split(cells_of(table, self.column))]
        whole = vstack(parts, format="csr") if len(parts) != 1 else parts[0]
        return SparseRows.of(whole.indptr, whole.indices, whole.data, len(self.terms))

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Inputs | None = None) -> dict[str, Any]:
        """Number of terms, and the share of texts without any of them."""
        if isinstance(inputs, SparseRows):
            empty = int((np.diff(inputs.starts) == 0).sum())
        else:
            empty = sum(len(part) - len(np.unique(self._found(part)[0])) for part in blocks_of_texts(rows, self.column))
        return {"terms": len(self.terms), WITHOUT_TERM: empty / max(1, len(rows))}

    def save(self, folder: Path) -> None:
        """Write `encoding.json`: terms and their inverse document frequencies."""
        learned = {"column": self.column, "terms": list(self.terms), "idf": self.idf.tolist()}
        (folder / "encoding.json").write_text(json.dumps({"encoder": "tfidf"} | learned) + "\n")

    def _weights(self, cells: "pa.LargeStringArray") -> "csr_matrix":
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import TfidfTransformer

        rows, terms = self._found(cells)
        once, counts = distinct(rows * len(self.terms) + terms)
        starts = np.searchsorted(once, np.arange(len(cells) + 1) * len(self.terms))
        values = (counts.astype(np.float32), (once % len(self.terms)).astype(np.int32), starts.astype(np.int64))
        weigh = TfidfTransformer(sublinear_tf=True)
        weigh.idf_ = self.idf
        return weigh.transform(csr_matrix(values, shape=(len(cells), len(self.terms))), copy=False)

    def _found(self, cells: "pa.LargeStringArray") -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
        """Every occurrence of a term: the place of its text, and the term."""
        found = words_in(cells)
        codes = found.coded(self._lookup.words)
        single = self._lookup.single[codes]  # Code -1 takes the last entry, -1.
        places, pairs = pairs_in(found, codes, len(self._lookup.words))
        near = np.minimum(np.searchsorted(self._lookup.pairs, pairs), max(len(self._lookup.pairs) - 1, 0))
        known = self._lookup.pairs[near] == pairs if len(self._lookup.pairs) else np.zeros(len(pairs), np.bool_)
        rows = np.concatenate([found.rows[single >= 0], found.rows[places[known]]])
        return rows, np.concatenate([single[single >= 0], self._lookup.of_pairs[near[known]]])

    @cached_property
    def _lookup(self) -> "Lookup":
        return Lookup.of(self.terms)


@dataclass(frozen=True)
class Lookup:
    """Terms by their words: all words in terms, the term of each single word (-1: none, with a last -1 for unknown
    words), and the sorted numbers of word pairs with their terms."""

    words: "pa.LargeStringArray"
    single: Int64[np.ndarray, " words1"]
    pairs: Int64[np.ndarray, " pairs"]
    of_pairs: Int64[np.ndarray, " pairs"]

    @classmethod
    def of(cls, terms: tuple[str, ...]) -> "Lookup":
        """The lookup of terms; a space separates the words of a pair."""
        import pyarrow as pa

        parts = [term.split(" ") for term in terms]
        words = sorted({word for part in parts for word in part})
        places = {word: place for place, word in enumerate(words)}
        single = np.full(len(words) + 1, -1, np.int64)
        pairs: dict[int, int] = {}
        for term, (first, *second) in enumerate(parts):
            if second:
                pairs[places[first] * len(words) + places[second[0]]] = term
            else:
                single[places[first]] = term
        ordered = np.array(sorted(pairs), np.int64)
        return cls(pa.array(words, pa.large_string()), single, ordered, np.array([pairs[p] for p in ordered], np.int64))


def pairs_in(
    found: Words, codes: Int64[np.ndarray, " w"], count: int
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Places of words that form a pair of known words with the word before them, and the numbers of the pairs."""
    there = codes >= 0
    both = found.linked & there
    both[1:] &= there[:-1]
    places = np.flatnonzero(both)
    return places, codes[places - 1] * count + codes[places]


def distinct(values: Int64[np.ndarray, " k"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Distinct values, ascending, and their counts; by sorting, because `np.unique` without counts hashes."""
    ordered = np.sort(values)
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    return ordered[first], np.diff(np.append(first, len(ordered)))


def frequent_words(rows: "Batches | datasets.Dataset", column: str, terms: int) -> list[str]:
    """Sorted candidate words: all that may be among the `terms` most frequent terms, alone or in a pair."""
    import polars as pl

    counted = Frequencies(DISTINCT)
    for counts in results_of(rows, [column], partial(word_counts, column)):
        counted.add(counts)
    sums = counted.sums()
    if sums.is_empty():
        return []
    least = sums["count"][min(terms, len(sums)) - 1]
    return sums.filter(pl.col("count") >= least)["value"].sort().to_list()


def word_counts(column: str, table: "pa.Table", first: int) -> "Iterator[pl.DataFrame]":
    """Counts of the words in the texts of a batch, by blocks of texts."""
    import polars as pl

    for cells in split(cells_of(table, column)):
        once = words_in(cells).words.value_counts()
        counts = {"value": pl.from_arrow(once.field("values")), "count": pl.from_arrow(once.field("counts"))}
        yield pl.DataFrame(counts)


def frequent_terms(
    rows: "Batches | datasets.Dataset", column: str, words: list[str], terms: int
) -> "tuple[pl.DataFrame, int]":
    """The most frequent words and pairs, sorted, with `texts`, the number of texts that have each; and the number of
    all texts."""
    import polars as pl
    import pyarrow as pa

    size, total = len(words), 0
    counts, texts, pairs = np.zeros(size, np.int64), np.zeros(size, np.int64), PairCounts(size)
    work = partial(term_counts, column, pa.array(words, pa.large_string()))
    for some, holding, several, among, rows_of_block in results_of(rows, [column], work):
        counts += some
        texts += holding
        pairs.add(several, among)
        total += rows_of_block
    every = np.concatenate([counts, pairs.counts.data])
    least = int(np.partition(every, len(every) - terms)[len(every) - terms]) if len(every) > terms else 0
    single, (first, second, many, held) = np.flatnonzero(counts >= least), pairs.above(least)
    texts_of = {
        "value": [words[place] for place in single]
        + [f"{words[one]} {words[other]}" for one, other in zip(first.tolist(), second.tolist(), strict=True)],
        "count": np.concatenate([counts[single], many]),
        "texts": np.concatenate([texts[single], held]),
    }
    chosen = pl.DataFrame(texts_of).sort("count", "value", descending=[True, False]).head(terms)
    return chosen.sort("value"), total


def term_counts(
    column: str, known: "pa.LargeStringArray", table: "pa.Table", first: int
) -> "Iterator[tuple[np.ndarray, np.ndarray, csr_matrix, csr_matrix, int]]":
    """For blocks of texts of a batch: counts of each known word and of the texts that have it, both for pairs as
    matrices `[words, words]`, and the number of texts."""
    size = len(known)
    for cells in split(cells_of(table, column)):
        found = words_in(cells)
        codes = found.coded(known)
        there = codes >= 0
        counts = np.bincount(codes[there], minlength=size)
        texts = np.bincount(distinct(found.rows[there] * size + codes[there])[0] % size, minlength=size)
        places, both = pairs_in(found, codes, size)
        once = distinct(found.rows[places] * size**2 + both)[0] % size**2
        yield counts, texts, pair_matrix(both, size), pair_matrix(once, size), len(cells)


def pair_matrix(pairs: Int64[np.ndarray, " k"], words: int) -> "csr_matrix":
    """Counts of pairs, which are numbered first times `words` plus second, as a matrix `[words, words]`."""
    from scipy.sparse import csr_matrix

    where = (pairs // words, pairs % words)
    return csr_matrix((np.ones(len(pairs), np.int64), where), shape=(words, words))


class PairCounts:
    """Counts of pairs of so many words, and of the texts that have them.

    Exact while there are at most `PAIRS` distinct pairs. Beyond, it drops the less frequent half each time, as
    `Frequencies` does.
    """

    def __init__(self, words: int) -> None:
        from scipy.sparse import csr_matrix

        self.words = words
        self.counts = csr_matrix((words, words), dtype=np.int64)
        self.texts = csr_matrix((words, words), dtype=np.int64)

    def add(self, counts: "csr_matrix", texts: "csr_matrix") -> None:
        """Add the counts of pairs in further texts, and of these texts, as matrices of `pair_matrix`."""
        self.counts = self.counts + counts
        self.texts = self.texts + texts
        if self.counts.nnz > PAIRS:
            least = np.partition(self.counts.data, PAIRS // 2)[PAIRS // 2]
            kept = self.counts > least
            self.counts, self.texts = self.counts.multiply(kept).tocsr(), self.texts.multiply(kept).tocsr()

    def above(self, least: int) -> tuple[Int64[np.ndarray, " k"], ...]:
        """First and second word, count and number of texts of pairs with a count of at least `least`."""
        for both in (self.counts, self.texts):  # Both have the same pairs; this puts them in the same order.
            both.sum_duplicates()
        chosen = np.flatnonzero(self.counts.data >= max(least, 1))
        first = np.repeat(np.arange(self.words), np.diff(self.counts.indptr))[chosen]
        second = self.counts.indices[chosen].astype(np.int64)
        return first, second, self.counts.data[chosen], self.texts.data[chosen]
