"""Near copies of an audit's rows, by measures of their contents and by vectors where there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int16, Int64

from secateur.pipelines.audits.contract import AuditRows
from secateur.scorers.copies.contract import Copies

EMBEDDINGS = "embeddings"
"""Name of the measure of vectors."""
MOST_VALUES = 30
"""Most values of a text column that distances tell apart, the commonest."""


def near_copies(rows: AuditRows, *, seed: int = 0) -> list[Copies]:
    """Near copies of texts by words, of pictures by their look, of tables by standardised distance, and of all of them
    by vectors where there are any; none for fewer than two readable rows.
    """
    if rows.sound.sum() < 2:
        return []
    return [*by_content(rows, seed), *by_vectors(rows, seed)]


def by_vectors(rows: AuditRows, seed: int) -> list[Copies]:
    """Near copies by the cosine of vectors; none without vectors."""
    if rows.vectors is None:
        return []
    from secateur.scorers.copies.points import vector_copies

    values, given = rows.vectors.of_sound(rows)
    few = too_few(values[given])

    def search(some: Int64[np.ndarray, " m"], part: Int16[np.ndarray, " m"]) -> list[Copies]:
        if few:  # a network that gives all rows one vector would make all of them copies
            nobody = vector_copies(values, part, given=np.zeros_like(given), seed=seed)
            return [replace(nobody, reason=few)]
        return [vector_copies(values, part, given=given, seed=seed)]

    return [replace(one, reason=f"cosine of {rows.vectors.name}: {one.reason}") for one in of_sound(rows, search)]


def too_few(vectors: Float32[np.ndarray, "m d"]) -> str:
    """Reason for no near copies by vectors, where too few of them differ to choose a threshold; else empty."""
    from secateur.scorers.copies.points import FEWEST, row_keys

    distinct = len(np.unique(row_keys(vectors)))
    if distinct >= FEWEST:
        return ""
    return f"no near copies, for {distinct} distinct vectors are too few to choose a threshold ({FEWEST} are needed)"


def by_content(rows: AuditRows, seed: int) -> list[Copies]:
    """Near copies by the rows' contents."""
    if rows.kind == "text":
        from secateur.scorers.copies.texts import text_copies

        texts = rows.texts
        return of_sound(rows, lambda some, part: text_copies(texts.gather(some), part, seed=seed))
    if rows.kind == "features":
        from secateur.scorers.copies.points import table_copies

        numbers = numbers_of(rows.features)
        return of_sound(rows, lambda some, part: table_copies(numbers[some], part, seed=seed))
    from secateur.scorers.copies.pictures import picture_copies

    return of_sound(rows, lambda some, part: picture_copies(rows.seen.thumbnails.take(some), part, seed=seed))


def of_sound(
    rows: AuditRows, search: Callable[[Int64[np.ndarray, " m"], Int16[np.ndarray, " m"]], Sequence[Copies]]
) -> list[Copies]:
    """Copies among the rows with readable inputs, in the numbering of all rows."""
    sound = np.flatnonzero(rows.sound)
    return [among(each, sound, len(rows)) for each in search(sound, rows.part[sound])]


def among(copies: Copies, some: Int64[np.ndarray, " m"], count: int) -> Copies:
    """Copies among some of `count` rows, in the numbering of all; others have none."""

    def placed(values: np.ndarray, empty: float | bool) -> np.ndarray:
        whole = np.full(count, empty, values.dtype)
        whole[some] = values
        return whole

    def numbered(values: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " n"]:
        return placed(np.where(values >= 0, some[np.maximum(values, 0)], -1), -1)

    if len(some) == count:
        return copies
    return replace(
        copies,
        group=numbered(copies.group),
        stays=placed(copies.stays, empty=True),
        partner=numbered(copies.partner),
        similarity=placed(copies.similarity, np.nan),
        across=numbered(copies.across),
        across_similarity=placed(copies.across_similarity, np.nan),
        spread=placed(copies.spread, np.nan),
        between=some[copies.between],
    )


def numbers_of(features: pl.DataFrame) -> Float32[np.ndarray, "n d"]:
    """Columns as numbers, NaN for missing ones; a text column becomes a 0/1 column for each of its commonest values."""
    found: list[np.ndarray] = []
    for column in features.get_columns():
        if column.dtype != pl.String:
            found.append(column.cast(pl.Float32).fill_null(np.nan).to_numpy())
            continue
        missing: Bool[np.ndarray, " n"] = column.is_null().to_numpy()
        for value in column.drop_nulls().value_counts(sort=True).to_series().head(MOST_VALUES):
            found.append(np.where(missing, np.nan, (column == value).fill_null(False).to_numpy()))
    return np.stack(found, axis=1).astype(np.float32)
