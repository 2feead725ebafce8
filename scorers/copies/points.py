"""Copies among rows of numbers, by a distance whose threshold follows from mirrored rows, which cannot be copies.

A row is mirrored at the mean of its 20 nearest others: the image lies among rows of the data, as far from them as they
are from each other, yet it is no copy. A row whose 10 nearest others are its copies does not count: its image would be
one more.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt64

from secateur.scorers.contract import rows_text
from secateur.scorers.copies.contract import Copies, Parts, Progress, check_parts
from secateur.scorers.copies.found import Contents, Found, contents_of
from secateur.scorers.copies.near_points import Points, Rows, Scale, join_near
from secateur.scorers.copies.thresholds import ABOVE, Collisions, Threshold, threshold

SAMPLE = 4096
"""Rows in the sample for the threshold."""

AROUND = 20
"""Nearest others at whose mean a row is mirrored."""

FEWEST = 2 * (AROUND + 2)
"""Fewest distinct rows for an estimate of the usual distances: below, only equal rows are copies."""


def vector_copies(
    vectors: Shaped[np.ndarray, "n d"],
    part: Parts,
    *,
    given: Bool[np.ndarray, " n"] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Copies:
    """Copies by the cosine of vectors, float16 or float32 `[n, d]`; rows of zeros are copies of each other alone, and
    rows that are not `given`, bool `[n]`, are none.

    Memory holds one float32 copy of the vectors. Raises ValueError for parts that do not fit and for rows that are not
    finite.
    """
    check_parts(part, len(vectors), "vectors")
    refuse_unfinite(vectors, "vectors")
    contents = contents_of(row_keys(vectors), part, given)
    points = np.asarray(vectors[contents.first], np.float32)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.float32(1e-30))
    return point_copies(points, contents, part, Scale(None), "embeddings", seed, progress)


def table_copies(
    numbers: Float32[np.ndarray, "n d"], part: Parts, *, seed: int = 0, progress: Progress | None = None
) -> list[Copies]:
    """Copies by standardised distance; a list of one.

    Columns are standardised to mean 0 and deviation 1 over all rows (constant ones are left out). Similarity is 1 minus
    the distance of two rows divided by √(2·columns), the distance of unrelated rows. NaN is a value of its own: it
    equals NaN and is as far from a number as two unrelated numbers are. Memory holds two float32 copies of the numbers.
    Raises ValueError for parts that do not fit and for infinite numbers.
    """
    check_parts(part, len(numbers), "rows")
    contents = contents_of(row_keys(numbers), part)
    points = standardised(numbers)[contents.first]
    scale = Scale(float(np.sqrt(2 * max(points.shape[1], 1))))
    return [point_copies(points, contents, part, scale, "standardised distance", seed, progress)]


def point_copies(
    points: Points, contents: Contents, part: Parts, scale: Scale, measure: str, seed: int, progress: Progress | None
) -> Copies:
    """Copies among distinct points in the order of their contents."""
    limit, known = mirrored_threshold(points, scale, seed)
    found = Found(contents)
    reason = limit.reason
    if limit.value <= 1:
        radius = scale.radius(limit.value)
        met = join_near(points, radius, found, scale, known, seed=seed, progress=progress)
        if len(known[0]):
            reason += f"; the search met {met:.1%} of the {len(known[0]):,} sampled rows' nearest copies"

    def similarity(left: Int64[np.ndarray, " p"], right: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, " p"]:
        step = max(1, (1 << 24) // max(points.shape[1], 1))
        parts = [
            np.linalg.norm(points[left[at : at + step]] - points[right[at : at + step]], axis=1)
            for at in range(0, len(left), step)
        ]
        return scale(np.concatenate([np.empty(0, np.float32), *parts]).astype(np.float32))

    return found.copies(part, measure, limit.value, reason, similarity)


def mirrored_threshold(points: Points, scale: Scale, seed: int) -> tuple[Threshold, tuple[Rows, Rows]]:
    """The threshold by the rate of mirrored rows, and sampled rows with their nearest copies."""
    if len(points) < FEWEST or points.shape[1] == 0:
        few = f"equal rows alone: {len(points)} distinct rows are too few to know usual distances"
        return Threshold(ABOVE, few), (np.empty(0, np.int64), np.empty(0, np.int64))
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(points), min(SAMPLE, len(points)), replace=False))
    others, distances = around(points, points[rows], rows, AROUND)
    images = mirrored_at(points[rows], points[others].mean(axis=1), on_sphere=scale.whole is None)
    _, reached = around(points, images, rows, 1)
    crowd = scale(distances[:, AROUND // 2 - 1])
    mirrored = Collisions(scale(reached[:, 0]), crowd)
    top = scale(distances[:, 0])
    limit = threshold(top, mirrored, made=f"rows mirrored at the mean of the {AROUND} nearest to each")
    copies = top >= limit.value
    return limit, (rows[copies], others[copies, 0])


def mirrored_at(
    rows: Float32[np.ndarray, "s d"], means: Float32[np.ndarray, "s d"], *, on_sphere: bool
) -> Float32[np.ndarray, "s d"]:
    """Rows mirrored at means; unit vectors at the direction of the mean, which keeps the angle. Mirroring at the mean
    itself, which lies within the sphere, and projecting back would bring them nearer to all others."""
    if not on_sphere:
        return np.asarray(2 * means - rows, np.float32)
    means = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-30))
    return np.asarray(2 * np.vecdot(rows, means)[:, None] * means - rows, np.float32)


def around(
    points: Points, queries: Float32[np.ndarray, "q d"], left_out: Int64[np.ndarray, " q"], count: int
) -> tuple[Int64[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """The `count` points nearest to each query, without the one left out for it, nearest first, by comparing all."""
    import faiss

    spare = min(len(points), count + 5)
    others = faiss.knn(np.ascontiguousarray(queries), points, spare)[1].astype(np.int64)
    distances = np.empty(others.shape, np.float32)
    for start in range(0, len(queries), 256):
        part = slice(start, start + 256)
        distances[part] = np.linalg.norm(points[others[part]] - queries[part, None], axis=2)
    distances[others == left_out[:, None]] = np.inf
    order = np.lexsort((others, distances), axis=1)[:, :count]
    return np.take_along_axis(others, order, 1), np.take_along_axis(distances, order, 1)


def standardised(numbers: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n e"]:
    """Columns of mean 0 and deviation 1 without constant ones; a further column of 0 and √2 for each with NaN."""
    columns = []
    for column in numbers.T:
        missing = np.isnan(column)
        if len(wrong := np.flatnonzero(np.isinf(column))):
            raise ValueError(f"numbers are infinite at {rows_text(wrong)}; repair or drop them first")
        present = column[~missing].astype(np.float64)
        deviation = float(present.std()) if len(present) else 0.0
        if deviation > 0:
            values = np.zeros(len(column), np.float32)
            values[~missing] = (present - present.mean()) / deviation
            columns.append(values)
        if 0 < missing.sum() < len(column):
            columns.append(missing * np.float32(np.sqrt(2)))
    return np.stack(columns, axis=1) if columns else np.empty((len(numbers), 0), np.float32)


def row_keys(rows: Shaped[np.ndarray, "n ..."]) -> UInt64[np.ndarray, " n"]:
    """64-bit hash of the values of each row; 0 and -0 are equal, and so are all NaN."""
    keys = np.zeros(len(rows), np.uint64)
    step = max(1, (1 << 26) // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows[start : start + step]).reshape(len(rows[start : start + step]), -1)
        if block.dtype.kind == "f":
            block = np.where(np.isnan(block), block.dtype.type(np.nan), block + block.dtype.type(0))
        raw = np.ascontiguousarray(block).view(np.uint8)
        raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8)))
        key = np.full(len(raw), rows[:1].nbytes + 1, np.uint64)
        for word in np.ascontiguousarray(np.ascontiguousarray(raw).view(np.uint64).T):
            key = (key ^ word) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(32)
        keys[start : start + step] = key
    return keys


def refuse_unfinite(rows: Shaped[np.ndarray, "n d"], kind: str) -> None:
    """Raise ValueError that names rows with NaN or infinity."""
    step = max(1, (1 << 24) // max(1, rows.shape[1]))
    wrong = [
        start + np.flatnonzero(~np.isfinite(rows[start : start + step]).all(axis=1))
        for start in range(0, len(rows), step)
    ]
    if len(found := np.concatenate([np.empty(0, np.int64), *wrong])):
        raise ValueError(f"{kind} are NaN or infinite at {rows_text(found)}; repair or drop them first")
