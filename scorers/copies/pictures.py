"""Copies among pictures: equal pixels, and near ones that were re-encoded, resized, brightened or cropped by some 5%.

The similarity of two pictures is the cosine of their most similar views, one whole and the other cropped somewhere. The
threshold follows from pictures flipped left to right, which look like the data and are no copies; a picture that is its
own mirror image does not count. docs/audit-copies.md has a comparison with imagehash's 64 bits.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped, UInt8

from secateur.scorers.copies.contract import Copies, Parts, Progress, check_parts
from secateur.scorers.copies.found import Found, contents_of
from secateur.scorers.copies.near_points import EXHAUSTIVE, LEAST_RECALL, PROBES, Scale, settle_crowded
from secateur.scorers.copies.points import FEWEST, vector_copies
from secateur.scorers.copies.thresholds import ABOVE, Collisions, Threshold, threshold
from secateur.scorers.copies.thumbnails import ASKED, Look, Thumbnails, look_of, thumbnails
from secateur.scorers.geometry.neighbours import inverted_lists
from secateur.scorers.geometry.vectors import Vectors

SAMPLE = 4096
"""Pictures in the sample for the threshold."""

RATE, WRONG = 0.0025, 0.05
"""As in `thresholds`, but lower: pictures are compared by the views of both, flipped ones by their own alone; and
pictures that are their own mirror image, which do not count, are often those most like others."""

COARSE = 64
"""Principal components in the search for candidates."""

NEAREST = 8
"""Candidates for each view."""

BLOCK = 256
"""Pictures whose views are in memory at once."""


def picture_copies(
    pictures: Thumbnails | Shaped[np.ndarray, "n h w *c"] | Iterable[Any],
    part: Parts,
    *,
    vectors: Shaped[np.ndarray, "n d"] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Copies]:
    """Copies by the look of pictures and, where `vectors` `[n, d]` are given, by embeddings: one result each.

    Pictures are uint8 arrays `[h, w]` or `[h, w, c]` or PIL images of any sizes, read once and one by one, or their
    thumbnails. Memory is about 4 kB per picture. Raises ValueError for parts that do not fit and for other pictures.
    """
    small = pictures if isinstance(pictures, Thumbnails) else thumbnails(pictures)
    check_parts(part, len(small), "pictures")
    contents = contents_of(small.keys, part)
    gallery = Gallery(small.pixels[contents.first], seed)
    limit, known = gallery.threshold()
    found, reason = Found(contents), limit.reason
    if limit.value <= 1:
        met = gallery.widen(*known)
        if len(known[0]):
            reason += f"; the search met {met:.1%} of the {len(known[0]):,} sampled rows' nearest copies"
        full = [np.empty(0, np.int64)]
        for start in range(0, len(gallery), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(gallery)))
            others, alike = gallery.candidates(gallery.pixels[rows], rows)
            near = (others >= 0) & (alike >= limit.value)
            full.append(rows[near.sum(axis=1) >= NEAREST])
            left, right = np.repeat(rows, near.sum(axis=1)), others[near]
            found.offer(left, right, gallery.similarity(left, right))
            if progress:
                progress(int(rows[-1]) + 1, len(gallery))
        settle_crowded(gallery.whole, Scale(None).radius(limit.value), found, np.concatenate(full), Scale(None), seed)
    looks = found.copies(part, "look of pictures", limit.value, reason, gallery.similarity)
    if vectors is None:
        return [looks]
    return [looks, vector_copies(vectors, part, seed=seed, progress=progress)]


class Gallery:
    """Distinct pictures, with a search by their look."""

    def __init__(self, pixels: UInt8[np.ndarray, "m side side c"], seed: int) -> None:
        self.pixels, self.seed = pixels, seed
        self.look: Look | None = look_of(pixels) if len(pixels) >= FEWEST else None
        self.whole = np.empty((0, 1), np.float32)
        self.lists = None
        if self.look is None:
            return
        self.whole = np.concatenate(
            [self.look.views(pixels[start : start + BLOCK])[:, 0] for start in range(0, len(pixels), BLOCK)]
        )
        self.coarse = coarse_of(self.whole)
        if len(pixels) > EXHAUSTIVE:
            self.vectors = Vectors(self.coarse, "euclidean")
            self.lists = inverted_lists(self.vectors, seed)
            self.lists.nprobe = PROBES

    def __len__(self) -> int:
        return len(self.pixels)

    def nearest(self, queries: Float32[np.ndarray, "q d"], count: int, *, exhaustive: bool) -> Int64[np.ndarray, "q k"]:
        """Pictures whose whole look is nearest to views, coarsely."""
        import faiss

        count = min(count, len(self))
        if self.lists is None or exhaustive:
            return np.asarray(faiss.knn(coarse_of(queries), self.coarse, count)[1], np.int64)
        shifted = (coarse_of(queries) - self.vectors.mean.astype(np.float32)) * np.float32(self.vectors.scale)
        return np.asarray(self.lists.search(shifted, count)[1], np.int64)

    def candidates(
        self,
        pixels: UInt8[np.ndarray, "b side side c"],
        left_out: Int64[np.ndarray, " b"],
        *,
        exhaustive: bool = False,
    ) -> tuple[Int64[np.ndarray, "b k"], Float32[np.ndarray, "b k"]]:
        """Pictures that may be copies, -1 for none, and the similarity of the most similar view of each of `pixels`."""
        assert self.look is not None
        views = self.look.views(pixels)
        asking = views[:, ASKED].reshape(-1, views.shape[2])
        others = self.nearest(asking, NEAREST + 1, exhaustive=exhaustive).reshape(len(pixels), -1)
        others = np.sort(np.where(others == left_out[:, None], -1, others), axis=1)
        others[:, 1:][others[:, 1:] == others[:, :-1]] = -1
        alike = np.matmul(views, self.whole[others.clip(0)].transpose(0, 2, 1)).max(axis=1)
        alike[others < 0] = -1
        return others, np.asarray(alike, np.float32)

    def similarity(self, left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, " p"]:
        """Cosine of the most similar views of pairs, one of them whole."""
        assert self.look is not None
        result = np.empty(len(left), np.float32)
        for start in range(0, len(left), BLOCK):
            first, second = left[start : start + BLOCK], right[start : start + BLOCK]
            sides = [
                np.matmul(self.look.views(self.pixels[cropped]), self.whole[whole][:, :, None])[:, :, 0].max(axis=1)
                for cropped, whole in ((first, second), (second, first))
            ]
            result[start : start + BLOCK] = np.maximum(*sides)
        return result.clip(-1, 1)

    def threshold(self) -> tuple[Threshold, tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]]:
        """The similarity that flipped pictures seldom reach, and sampled pictures with their copies."""
        none = np.empty(0, np.int64)
        if self.look is None:
            return Threshold(ABOVE, f"equal rows alone: {len(self)} distinct pictures are too few"), (none, none)
        rows = np.sort(np.random.default_rng(self.seed).choice(len(self), min(SAMPLE, len(self)), replace=False))
        top, reached, parents = (np.empty(len(rows), np.float32) for _ in range(3))
        nearest = np.empty(len(rows), np.int64)
        for start in range(0, len(rows), BLOCK):
            part, some = slice(start, start + BLOCK), rows[start : start + BLOCK]
            others, alike = self.candidates(self.pixels[some], some, exhaustive=True)
            best = alike.argmax(axis=1)
            nearest[part] = np.take_along_axis(others, best[:, None], 1)[:, 0]
            top[part] = alike.max(axis=1)
            flipped = np.ascontiguousarray(self.pixels[some][:, :, ::-1])
            parents[part] = np.matmul(self.look.views(flipped), self.whole[some][:, :, None])[:, :, 0].max(axis=1)
            reached[part] = self.candidates(flipped, some, exhaustive=True)[1].max(axis=1)
        limit = threshold(
            top, Collisions(reached, parents), made="pictures flipped left to right", rate=RATE, wrong=WRONG
        )
        copies = (top >= limit.value) & (nearest >= 0)
        return limit, (rows[copies], nearest[copies])

    def widen(self, rows: Int64[np.ndarray, " k"], others: Int64[np.ndarray, " k"]) -> float:
        """Search twice the lists until it finds enough of the pairs; returns the share found."""
        while True:
            hits = [
                (
                    self.candidates(self.pixels[rows[at : at + BLOCK]], rows[at : at + BLOCK])[0]
                    == others[at : at + BLOCK, None]
                ).any(axis=1)
                for at in range(0, len(rows), BLOCK)
            ]
            met = float(np.concatenate(hits).mean()) if hits else 1.0
            if self.lists is None or met >= LEAST_RECALL or self.lists.nprobe >= self.lists.nlist:
                return met
            self.lists.nprobe = min(2 * self.lists.nprobe, self.lists.nlist)


def coarse_of(vectors: Float32[np.ndarray, "q d"]) -> Float32[np.ndarray, "q c"]:
    """The first components of vectors, as unit vectors."""
    first = np.ascontiguousarray(vectors[:, :COARSE])
    return np.asarray(first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), np.float32(1e-12)), np.float32)
