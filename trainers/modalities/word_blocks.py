"""Words of many texts at once, as arrays: the same words as those of `words.pieces_of` text by text.

Words follow from the kind of each character (`kinds`), by the expressions of `words.py` for all of Unicode. Texts in
scripts without spaces between words are split one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import regex
from jaxtyping import Bool, Int64, Integer, UInt8

from secateur.trainers.modalities import words as of_text
from secateur.trainers.modalities.rows import Batches, batches_of

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

BYTES = 1 << 22
"""Bytes of the texts of a block; a longer text is a separate block. The peak memory is about 30 times as large."""
SIGN, START, JOINER, SPACELESS = 1, 2, 4, 8
"""Kinds of characters: inside words, at the beginning of words, inside words if a sign follows, of scripts without
spaces."""


@dataclass(frozen=True)
class Words:
    """Words of texts, `[w]` each: the words, the number of each word's text, and whether it forms a pair with the word
    before it. Words of a text are in order; texts need not be."""

    words: "pa.LargeStringArray"
    rows: Int64[np.ndarray, " w"]
    linked: Bool[np.ndarray, " w"]

    def coded(self, known: "pa.Array") -> Int64[np.ndarray, " w"]:
        """Place of each word among the known ones, -1 for unknown words."""
        import pyarrow.compute as pc  # Here, because the import takes a tenth of a second.

        once = self.words.dictionary_encode()
        places = pc.index_in(once.dictionary, value_set=known).fill_null(-1).to_numpy()
        return np.asarray(places[once.indices.to_numpy()], np.int64)


def blocks_of_texts(rows: "Batches | datasets.Dataset", column: str) -> "Iterator[pa.LargeStringArray]":
    """Texts of consecutive rows in blocks of about `BYTES`, with "" for missing ones."""
    for table in batches_of(rows, [column]):
        yield from split(cells_of(table, column))


def cells_of(table: "pa.Table", column: str) -> "pa.LargeStringArray":
    """Texts of a batch, with "" for missing ones."""
    import pyarrow as pa

    cells = table[column].cast(pa.large_string()).combine_chunks()
    return cells.fill_null("") if cells.null_count else cells


def split(cells: "pa.LargeStringArray") -> "Iterator[pa.LargeStringArray]":
    """Texts in blocks of about `BYTES`."""
    ends, start = offsets_of(cells), 0
    while start < len(cells):
        end = max(start + 1, int(np.searchsorted(ends, ends[start] + BYTES, "right")) - 1)
        yield cells.slice(start, end - start)
        start = end


def words_in(cells: "pa.LargeStringArray") -> Words:
    """Words of texts without nulls."""
    import pyarrow as pa

    offsets = offsets_of(cells)
    letters = np.frombuffer(cells.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    others = np.unique(np.searchsorted(offsets, np.flatnonzero(letters >= 128), "right") - 1)
    if not len(others):
        return ascii_words(letters, offsets)
    mask = np.ones(len(cells), np.bool_)
    mask[others] = False
    plain = cells.filter(pa.array(mask))
    ends = offsets_of(plain)
    letters = np.frombuffer(plain.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
    parts = [(ascii_words(letters, ends - ends[0]), np.flatnonzero(mask))]
    texts = [of_text.plain(text) for text in cells.take(pa.array(others)).to_pylist()]
    parts += [(part, others) for part in unicode_words(texts)]
    return Words(
        pa.concat_arrays([part.words for part, _ in parts]),
        np.concatenate([places[part.rows] for part, places in parts]),
        np.concatenate([part.linked for part, _ in parts]),
    )


def ascii_words(letters: UInt8[np.ndarray, " b"], offsets: Int64[np.ndarray, " n1"]) -> Words:
    """Words of concatenated ASCII texts."""
    starts, ends = runs(ascii_kinds()[letters], offsets)
    kept = lower_case()[letters[between(starts, ends, len(letters))]]
    return words_at(starts, ends, offsets, kept.tobytes(), np.cumsum(ends - starts))


def unicode_words(texts: list[str]) -> Iterator[Words]:
    """Words of normalised texts: first of those in scripts with spaces, then of the others."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    characters = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    found = kinds()[characters]
    spaceless = np.unique(np.searchsorted(offsets, np.flatnonzero(found & SPACELESS), "right") - 1)
    for row in spaceless.tolist():
        found[offsets[row] : offsets[row + 1]] = 0
    starts, ends = runs(found, offsets)
    kept = characters[between(starts, ends, len(characters))]
    widths = np.cumsum(1 + (kept > 0x7F).astype(np.int64) + (kept > 0x7FF) + (kept > 0xFFFF))
    last = np.cumsum(ends - starts) - 1
    yield words_at(starts, ends, offsets, kept.tobytes().decode("utf-32-le").encode(), widths[last])
    held: list[str] = []
    rows: list[int] = []
    linked: list[bool] = []
    for row in spaceless.tolist():
        spaced, sequences = of_text.pieces_of(texts[row])
        for words in (*spaced, *([each] for each in sequences)):
            held += words
            rows += [row] * len(words)
            linked += [place > 0 for place in range(len(words))]
    yield Words(pa.array(held, pa.large_string()), np.array(rows, np.int64), np.array(linked, np.bool_))


def runs(
    found: UInt8[np.ndarray, " c"], offsets: Int64[np.ndarray, " n1"]
) -> tuple[Int64[np.ndarray, " w"], Int64[np.ndarray, " w"]]:
    """Beginnings and ends of words among characters of these kinds; no word crosses the end of a text."""
    inside = (found & SIGN).view(np.bool_)
    joiners = np.flatnonzero(found & JOINER)
    joiners = joiners[~np.isin(joiners + 1, offsets)]
    inside[joiners] = (found[joiners + 1] & SIGN).view(np.bool_)
    there = offsets[:-1][offsets[1:] > offsets[:-1]]
    begins, finishes = inside.copy(), inside.copy()
    begins[1:] &= ~inside[:-1]
    begins[there] = inside[there]
    finishes[:-1] &= ~inside[1:]
    last = offsets[1:][offsets[1:] > offsets[:-1]] - 1
    finishes[last] = inside[last]
    starts, ends = np.flatnonzero(begins), np.flatnonzero(finishes) + 1
    if not (found[starts] & START).all():
        # Marks before the first letter of a run, such as one on a space, are no part of its word.
        letters = np.append(np.flatnonzero(found & START), len(found))
        starts = letters[np.searchsorted(letters, starts)]
    long = ends - starts >= 2
    return starts[long], ends[long]


def between(starts: Int64[np.ndarray, " w"], ends: Int64[np.ndarray, " w"], count: int) -> Bool[np.ndarray, " c"]:
    """Mask of the `count` characters that lie in one of the runs."""
    steps = np.zeros(count + 1, np.int8)
    steps[starts] += 1
    steps[ends] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)


def words_at(
    starts: Int64[np.ndarray, " w"],
    ends: Int64[np.ndarray, " w"],
    offsets: Int64[np.ndarray, " n1"],
    kept: bytes,
    stops: Integer[np.ndarray, " w"],
) -> Words:
    """Words from their beginnings and ends in the characters, their concatenated bytes, and their ends in these."""
    import pyarrow as pa

    counts = np.diff(np.searchsorted(starts, offsets))
    rows = np.repeat(np.arange(len(counts)), counts)
    linked = np.zeros(len(rows), np.bool_)
    linked[1:] = rows[1:] == rows[:-1]
    places = np.concatenate([[0], stops]).astype(np.int64)
    buffers = [None, pa.py_buffer(places), pa.py_buffer(kept)]
    return Words(pa.LargeStringArray.from_buffers(len(rows), buffers[1], buffers[2]), rows, linked)


def offsets_of(cells: "pa.LargeStringArray") -> Int64[np.ndarray, " n1"]:
    """Beginning of each text in the bytes of an array, and the end of the last one."""
    if not len(cells):
        return np.zeros(1, np.int64)
    return np.frombuffer(cells.buffers()[1], np.int64)[cells.offset : cells.offset + len(cells) + 1]


@cache
def ascii_kinds() -> UInt8[np.ndarray, " characters"]:
    """Kind of each character of ASCII."""
    words = [of_text.ASCII.fullmatch(chr(code) * 2) is not None for code in range(128)]
    return np.where(words, SIGN | START, 0).astype(np.uint8)


@cache
def lower_case() -> UInt8[np.ndarray, " characters"]:
    """Each character of ASCII in lower case."""
    return np.frombuffer("".join(map(chr, range(128))).lower().encode(), np.uint8)


@cache
def kinds() -> UInt8[np.ndarray, " characters"]:
    """Kind of each character of Unicode, by its code point."""
    # Surrogates are no characters: spaces take their place, because no word has one.
    every = "".join(" " if 0xD800 <= code < 0xE000 else chr(code) for code in range(0x110000))
    found = np.zeros(len(every), np.uint8)
    for kind, expression in {
        SIGN: of_text.SIGN,
        START: of_text.FIRST,
        JOINER: "[\u200c\u200d]",
        SPACELESS: of_text.LETTER,
    }.items():
        for run in regex.finditer(rf"(?V1){expression}+", every):
            found[run.start() : run.end()] |= kind
    return found
