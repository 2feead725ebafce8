"""Near copies of new rows among all, from an earlier audit's memory of the others and at its thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int64, UInt64

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.memory import Memory
from secateur.pipelines.audits.nearly import EMBEDDINGS, among, numbers_of, too_few
from secateur.pipelines.audits.seen import seen
from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.found import Contents, Found, Similarity, contents_of
from secateur.scorers.copies.near_points import Scale

DECODED = 256
"""Pictures per read."""
BLOCK = 64
"""New contents per block of comparisons with all."""
HELD = 1 << 14
"""Pairs whose differences memory holds at once."""
Pairs = Callable[[Int64[np.ndarray, " q"], Found], Similarity]
"""Offers pairs of new and other contents, and returns a function for the similarity of any two contents."""


@dataclass(frozen=True)
class Way:
    """A measure's comparison of the `m` readable rows."""

    keys: UInt64[np.ndarray, " m"]
    """Keys that are equal for equal content."""
    pairs: Callable[[Contents], Pairs]
    looks: dict[str, np.ndarray]
    """Arrays of these rows for the next audit."""
    given: Bool[np.ndarray, " m"] | None = None
    """Rows with something to compare; None for all."""


@dataclass(frozen=True)
class Asked:
    """The `m` readable rows, a mask of the new ones among them, and the memory of the others."""

    rows: AuditRows
    memory: Memory
    sound: Int64[np.ndarray, " m"]
    fresh: Bool[np.ndarray, " m"]
    at: Int64[np.ndarray, " known"]
    """Place among these rows of each remembered row, in the order of the memory."""
    seed: int

    @property
    def new(self) -> Int64[np.ndarray, " k"]:
        """New rows, by their numbers in the audit."""
        return np.asarray(self.sound[self.fresh])


def near_again(
    rows: AuditRows, memory: Memory, places: Int64[np.ndarray, " known"], new: Bool[np.ndarray, " n"], *, seed: int
) -> tuple[tuple[Copies, ...], dict[str, np.ndarray]]:
    """Copies by each measure of the memory, unchanged for known rows, and the arrays of `looks_of` for all rows."""
    sound = np.flatnonzero(rows.sound)
    at = np.full(len(rows), -1, np.int64)
    at[sound] = np.arange(len(sound))
    asked = Asked(rows, memory, sound, new[sound], at[places[rows.sound[places]]], seed)
    found, looks = [], dict[str, np.ndarray]()
    for measure in memory.near:
        way = WAYS[rows.kind if measure.measure != EMBEDDINGS else EMBEDDINGS](asked, measure)
        found.append(among(one_again(asked, measure, way, places, at), sound, len(rows)))
        looks |= way.looks
    return tuple(found), looks


def one_again(
    asked: Asked, measure: Copies, way: Way, places: Int64[np.ndarray, " known"], at: Int64[np.ndarray, " n"]
) -> Copies:
    """Copies by one measure among readable rows; `at` is the place of each row among these."""
    part = asked.rows.part[asked.sound]
    contents = contents_of(way.keys, part, way.given)
    found = Found(contents)
    offer_known(found, measure, places, at)
    had = np.zeros(len(contents), np.bool_)
    known = contents.of[~asked.fresh]
    had[known[known >= 0]] = True
    similarity = way.pairs(contents)(np.flatnonzero(~had), found)
    reason = f"{measure.reason}; new rows are held to the threshold of the audit that looked at all"
    again = found.copies(part, measure.measure, measure.threshold, without_twice(reason), similarity)
    return replace(again, bands=measure.bands)


def without_twice(reason: str) -> str:
    """A reason without repeated clauses."""
    return "; ".join(dict.fromkeys(reason.split("; ")))


def offer_known(
    found: Found, measure: Copies, places: Int64[np.ndarray, " known"], at: Int64[np.ndarray, " n"]
) -> None:
    """Offer the pairs and groups of the memory; `at` is the place of each row among the readable ones."""
    of = found.contents.of

    def content(known: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        contents: Int64[np.ndarray, " k"] = of[at[places[known]]]
        return contents

    every = [measure.between]
    alike = [measure.between_similarity]
    for other, similarity in ((measure.partner, measure.similarity), (measure.across, measure.across_similarity)):
        there = np.flatnonzero(other >= 0)
        every.append(np.stack([there, other[there]], axis=1))
        alike.append(similarity[there])
    for pairs, similarity in zip(every, alike, strict=True):
        left, right = content(pairs[:, 0]), content(pairs[:, 1])
        apart = left != right
        found.offer(left[apart], right[apart], similarity[apart])
    grouped = np.flatnonzero(measure.group >= 0)
    found.join(content(grouped), content(measure.group[grouped]))


def by_words(asked: Asked, measure: Copies) -> Way:
    """Compare each new text with every other one by words and pairs of words, exactly."""
    from scipy.sparse import csr_array

    from secateur.scorers.copies.texts import LEAST_WORDS
    from secateur.scorers.copies.word_sets import Words, word_sets, words_of

    old = Words(*(asked.memory.looks[name] for name in ("hashes", "starts", "keys")))
    own = words_of(pl.Series(asked.rows.held(asked.new), dtype=pl.String))
    stacked = Words(
        np.concatenate([old.hashes, own.hashes]),
        np.concatenate([old.starts, old.starts[-1] + own.starts[1:]]),
        np.concatenate([old.keys, own.keys]),
    )
    order, count = np.empty(len(asked.sound), np.int64), len(asked.at)
    order[asked.at], order[np.flatnonzero(asked.fresh)] = np.arange(count), count + np.arange(len(asked.new))
    words = stacked.take(order)

    def pairs(contents: Contents) -> Pairs:
        distinct = words.take(contents.first)
        sets, limits = word_sets(distinct.kept(distinct.lengths >= LEAST_WORDS)), measure.limits(distinct.lengths)

        def offer(new: Int64[np.ndarray, " q"], found: Found) -> Similarity:
            across = sets.matrix.T.tocsr()
            for start in range(0, len(new), BLOCK):
                some = new[start : start + BLOCK]
                shared = csr_array(sets.matrix[some] @ across).tocoo()
                left, right, both = some[shared.row], shared.col.astype(np.int64), shared.data
                alike = (both / (sets.sizes[left] + sets.sizes[right] - both)).astype(np.float32)
                stay = (alike >= np.maximum(limits[left], limits[right])) & (left != right)
                found.offer(left[stay], right[stay], alike[stay])
            return sets.similarity

        return offer

    return Way(words.keys, pairs, {"hashes": words.hashes, "starts": words.starts, "keys": words.keys})


def by_looks(asked: Asked, measure: Copies) -> Way:
    """Compare views of each new picture with all others, whose thumbnails are in the memory."""
    from secateur.scorers.copies.pictures import Gallery

    new, remembered = asked.new, asked.memory.looks
    starts = range(0, len(new), DECODED)
    cells = ((start, asked.rows.held(new[start : start + DECODED])) for start in starts)
    own = seen(cells, np.ones(len(new), np.bool_)).thumbnails
    parts = [remembered["pixels"], own.pixels]
    deep = max(pixels.shape[3] for pixels in parts if len(pixels))
    whole = [np.broadcast_to(pixels, (*pixels.shape[:3], deep)) if len(pixels) else None for pixels in parts]
    pixels = np.empty((len(asked.sound), *parts[0].shape[1:3], deep), np.uint8)
    keys = np.empty(len(asked.sound), np.uint64)
    places = asked.at, np.flatnonzero(asked.fresh)
    for where, values, named in zip(places, whole, (remembered["keys"], own.keys), strict=True):
        if values is not None:
            pixels[where], keys[where] = values, named

    def pairs(contents: Contents) -> Pairs:
        gallery = Gallery(pixels[contents.first], asked.seed)

        def offer(new: Int64[np.ndarray, " q"], found: Found) -> Similarity:
            for start in range(0, len(new) if gallery.look is not None else 0, BLOCK):
                some = new[start : start + BLOCK]
                others, alike = gallery.candidates(gallery.pixels[some], some, exhaustive=True)
                near = (others >= 0) & (alike >= measure.threshold)
                left, right = np.repeat(some, near.sum(axis=1)), others[near]
                found.offer(left, right, gallery.similarity(left, right))
            return gallery.similarity

        return offer

    return Way(keys, pairs, {"pixels": pixels, "keys": keys})


def by_columns(asked: Asked, measure: Copies) -> Way:
    """Compare each new row of a table with every other one by their standardised distance."""
    from secateur.scorers.copies.points import row_keys, standardised

    numbers = numbers_of(asked.rows.features)[asked.sound]
    points = standardised(numbers)
    scale = Scale(float(np.sqrt(2 * max(points.shape[1], 1))))
    return Way(row_keys(numbers), lambda contents: within_reach(points[contents.first], scale, measure.threshold), {})


def by_vectors(asked: Asked, measure: Copies) -> Way:
    """Compare the vector of each new row with every other one by their cosine; known rows have remembered vectors."""
    from secateur.scorers.copies.points import row_keys

    assert asked.rows.vectors is not None
    old, had = asked.memory.looks["vectors"], asked.memory.looks["given"]
    own, given = asked.rows.vectors.of(asked.rows, asked.new)
    values, there = np.zeros((len(asked.sound), old.shape[1]), np.float32), np.zeros(len(asked.sound), np.bool_)
    values[asked.at], there[asked.at] = old, had
    if len(own):
        values[asked.fresh], there[asked.fresh] = own, given
    points = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-30))
    looks = {"vectors": values, "given": there}
    compared = np.zeros_like(there) if measure.threshold > 1 and too_few(old[had]) else there
    return Way(
        row_keys(values),
        lambda contents: within_reach(points[contents.first], Scale(None), measure.threshold),
        looks,
        compared,
    )


def within_reach(distinct: Float32[np.ndarray, "m d"], scale: Scale, threshold: float) -> Pairs:
    """Pairs of points whose similarity is at least the threshold, exactly."""

    def similarity(left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, " p"]:
        parts = [
            np.linalg.norm(distinct[left[at : at + HELD]] - distinct[right[at : at + HELD]], axis=1)
            for at in range(0, len(left), HELD)
        ]
        return scale(np.concatenate([np.empty(0, np.float32), *parts]).astype(np.float32))

    def offer(new: Int64[np.ndarray, " q"], found: Found) -> Similarity:
        squares, limit = (distinct**2).sum(axis=1), scale.radius(min(threshold, 1.0)) ** 2 * 1.001 + 1e-5
        for start in range(0, len(new) if threshold <= 1 else 0, BLOCK):
            some = new[start : start + BLOCK]
            apart = squares[some, None] + squares - 2 * distinct[some] @ distinct.T
            places, right = np.nonzero(apart <= limit)
            left = some[places]
            alike = similarity(left, right)
            stay = (alike >= threshold) & (left != right)
            found.offer(left[stay], right[stay], alike[stay])
        return similarity

    return offer


WAYS: Mapping[str, Callable[[Asked, Copies], Way]] = {
    "text": by_words,
    "image": by_looks,
    "features": by_columns,
    EMBEDDINGS: by_vectors,
}
"""Comparisons by kind of rows, and for vectors."""
