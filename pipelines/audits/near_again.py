"""Near copies of new rows among all, by what an earlier audit keeps of the others and at its thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64, UInt64

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.memory import Memory
from secateur.pipelines.audits.nearly import among, numbers_of
from secateur.pipelines.audits.seen import seen
from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.found import Contents, Found, Similarity, contents_of

DECODED = 256
"""Pictures that are read at once."""
BLOCK = 64
"""New contents that are compared with all at once."""
Pairs = Callable[[Int64[np.ndarray, " q"], Found], Similarity]
"""Offers pairs of new contents and others, and says how similar any two contents are."""


def near_again(
    rows: AuditRows, memory: Memory, places: Int64[np.ndarray, " known"], new: Bool[np.ndarray, " n"], *, seed: int
) -> tuple[tuple[Copies, ...], dict[str, np.ndarray]]:
    """Copies by each measure of before, known ones as they were, and what all rows look like, as `looks_of` has it."""
    if not memory.near:
        return (), {}
    sound = np.flatnonzero(rows.sound)
    fresh = new[sound]
    at = np.full(len(rows), -1, np.int64)
    at[sound] = np.arange(len(sound))
    before = places[rows.sound[places]]  # in the order of what is remembered
    [measure] = memory.near
    ways = {"text": by_words, "image": by_looks, "features": by_columns}
    keys, pairs, looks = ways[rows.kind](rows, memory, at[before], sound, fresh, seed, measure.threshold)
    part = rows.part[sound]
    contents = contents_of(keys, part)
    found = Found(contents)
    offer_known(found, measure, places, at)
    had = np.zeros(len(contents), np.bool_)
    had[contents.of[~fresh]] = True
    similarity = pairs(contents)(np.flatnonzero(~had), found)
    reason = f"{measure.reason}; new rows are held to the threshold of the audit that looked at all"
    copies = found.copies(part, measure.measure, measure.threshold, without_twice(reason), similarity)
    return (among(copies, sound, len(rows)),), looks


def without_twice(reason: str) -> str:
    """A reason in which nothing is said twice."""
    return "; ".join(dict.fromkeys(reason.split("; ")))


def offer_known(
    found: Found, measure: Copies, places: Int64[np.ndarray, " known"], at: Int64[np.ndarray, " n"]
) -> None:
    """Pairs and groups of before; `at` is the place of each row among those that can be read."""
    of = found.contents.of

    def content(known: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        contents: Int64[np.ndarray, " k"] = of[at[places[known]]]
        return contents

    for other, alike in ((measure.partner, measure.similarity), (measure.across, measure.across_similarity)):
        there = np.flatnonzero(other >= 0)
        left, right = content(there), content(other[there])
        apart = left != right
        found.offer(left[apart], right[apart], alike[there][apart])
    grouped = np.flatnonzero(measure.group >= 0)
    found.join(content(grouped), content(measure.group[grouped]))


def by_words(
    rows: AuditRows, memory: Memory, at: Int64[np.ndarray, " known"], sound: Int64[np.ndarray, " m"],
    fresh: Bool[np.ndarray, " m"], seed: int, threshold: float,
) -> tuple[UInt64[np.ndarray, " m"], Any, dict[str, np.ndarray]]:  # fmt: skip
    """Texts by words and pairs of words, exactly: of each new text with every other one."""
    from scipy.sparse import csr_array

    from secateur.scorers.copies.texts import LEAST_WORDS
    from secateur.scorers.copies.word_sets import Words, word_sets, words_of

    old = Words(*(memory.looks[name] for name in ("hashes", "starts", "keys")))
    own = words_of(pl.Series(rows.held(sound[fresh]), dtype=pl.String))
    stacked = Words(
        np.concatenate([old.hashes, own.hashes]),
        np.concatenate([old.starts, old.starts[-1] + own.starts[1:]]),
        np.concatenate([old.keys, own.keys]),
    )
    order = np.empty(len(sound), np.int64)
    order[at], order[np.flatnonzero(fresh)] = np.arange(len(at)), len(at) + np.arange(int(fresh.sum()))
    words = stacked.take(order)

    def pairs(contents: Contents) -> Pairs:
        distinct = words.take(contents.first)
        sets = word_sets(distinct.kept(distinct.lengths >= LEAST_WORDS))

        def offer(asked: Int64[np.ndarray, " q"], found: Found) -> Similarity:
            across = sets.matrix.T.tocsr()
            for start in range(0, len(asked), BLOCK):
                some = asked[start : start + BLOCK]
                shared = csr_array(sets.matrix[some] @ across).tocoo()
                left, right, both = some[shared.row], shared.col.astype(np.int64), shared.data
                alike = (both / (sets.sizes[left] + sets.sizes[right] - both)).astype(np.float32)
                stay = (alike >= threshold) & (left != right)
                found.offer(left[stay], right[stay], alike[stay])
            return sets.similarity

        return offer

    return words.keys, pairs, {"hashes": words.hashes, "starts": words.starts, "keys": words.keys}


def by_looks(
    rows: AuditRows, memory: Memory, at: Int64[np.ndarray, " known"], sound: Int64[np.ndarray, " m"],
    fresh: Bool[np.ndarray, " m"], seed: int, threshold: float,
) -> tuple[UInt64[np.ndarray, " m"], Any, dict[str, np.ndarray]]:  # fmt: skip
    """Pictures by their look: views of each new one among all, whose thumbnails are remembered."""
    from secateur.scorers.copies.pictures import Gallery

    asked = sound[fresh]
    starts = range(0, len(asked), DECODED)
    cells = ((start, rows.held(asked[start : start + DECODED])) for start in starts)
    own = seen(cells, np.ones(len(asked), np.bool_)).thumbnails
    parts = [memory.looks["pixels"], own.pixels]
    deep = max(pixels.shape[3] for pixels in parts if len(pixels))
    whole = [np.broadcast_to(pixels, (*pixels.shape[:3], deep)) if len(pixels) else None for pixels in parts]
    pixels = np.empty((len(sound), *parts[0].shape[1:3], deep), np.uint8)
    keys = np.empty(len(sound), np.uint64)
    for where, values, named in ((at, whole[0], memory.looks["keys"]), (np.flatnonzero(fresh), whole[1], own.keys)):
        if values is not None:
            pixels[where], keys[where] = values, named

    def pairs(contents: Contents) -> Pairs:
        gallery = Gallery(pixels[contents.first], seed)

        def offer(asked: Int64[np.ndarray, " q"], found: Found) -> Similarity:
            for start in range(0, len(asked) if gallery.look is not None else 0, BLOCK):
                some = asked[start : start + BLOCK]
                others, alike = gallery.candidates(gallery.pixels[some], some, exhaustive=True)
                near = (others >= 0) & (alike >= threshold)
                left, right = np.repeat(some, near.sum(axis=1)), others[near]
                found.offer(left, right, gallery.similarity(left, right))
            return gallery.similarity

        return offer

    return keys, pairs, {"pixels": pixels, "keys": keys}


def by_columns(
    rows: AuditRows, memory: Memory, at: Int64[np.ndarray, " known"], sound: Int64[np.ndarray, " m"],
    fresh: Bool[np.ndarray, " m"], seed: int, threshold: float,
) -> tuple[UInt64[np.ndarray, " m"], Any, dict[str, np.ndarray]]:  # fmt: skip
    """Rows of a table by their standardised distance: of each new row to every other one."""
    from secateur.scorers.copies.points import row_keys, standardised

    numbers = numbers_of(rows.features)[sound]
    points = standardised(numbers)
    reach = float(np.sqrt(2 * max(points.shape[1], 1)))

    def pairs(contents: Contents) -> Pairs:
        distinct = points[contents.first]

        def similarity(left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> Any:
            return (1 - np.linalg.norm(distinct[left] - distinct[right], axis=1) / reach).astype(np.float32)

        def offer(asked: Int64[np.ndarray, " q"], found: Found) -> Similarity:
            squares = (distinct**2).sum(axis=1)
            for start in range(0, len(asked), BLOCK):
                some = asked[start : start + BLOCK]
                apart = squares[some, None] + squares - 2 * distinct[some] @ distinct.T
                limit = ((1 - threshold) * reach) ** 2 * 1.001 + 1e-6
                places, right = np.nonzero(apart <= limit)
                left = some[places]
                alike = similarity(left, right)
                stay = (alike >= threshold) & (left != right)
                found.offer(left[stay], right[stay], alike[stay])
            return similarity

        return offer

    return row_keys(numbers), pairs, {}
