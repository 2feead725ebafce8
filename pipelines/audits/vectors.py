"""Vectors of an audit's rows, for near copies besides those by words, looks and columns: the user's or an encoder's.

Rows of parts without vectors are compared by the other measures alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Shaped

from secateur.pipelines.audits.contract import BLOCK, AuditRows, Made, Vectors, refuse
from secateur.pipelines.audits.seen import scaled
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.studies.named_inputs import contents_of

if TYPE_CHECKING:
    from secateur.trainers.passes.embeddings import EmbeddingSettings

LARGEST = np.float64(1e15)
"""Largest absolute value in a vector, so that the sum of squares stays within float32."""
LEAST_WIDTH = 2
"""Least number of dimensions of a vector with a direction."""


def brought(arrays: Mapping[int, Shaped[np.ndarray, "m d"]], said: Mapping[int, str], name: str) -> Vectors:
    """The user's vectors by the numbers of parts, one for each row of the part; `said` names each part's vectors in
    messages. Raises SourceError where the parts' vectors do not match each other."""
    widths = {number: array.shape[1] for number, array in arrays.items()}
    first = next(iter(widths))
    for number, width in widths.items():
        if width != widths[first]:
            raise SourceError(
                f"embeddings: {said[number]} has {width} numbers a vector, and {said[first]} has {widths[first]}: make "
                "all by one model"
            )
    if widths[first] < LEAST_WIDTH:
        raise SourceError(
            f"embeddings: {said[first]} has {widths[first]} numbers a vector: {LEAST_WIDTH} at least have a direction"
        )

    def make(rows: AuditRows, asked: Int64[np.ndarray, " q"]) -> Made:
        part = rows.part[asked]
        values = np.zeros((len(asked), widths[first]), np.float32)
        for number, array in arrays.items():
            mine, large = np.flatnonzero(part == number), list[Int64[np.ndarray, " _"]]()
            for start in range(0, len(mine), BLOCK):
                some = mine[start : start + BLOCK]
                held = array[asked[some] - rows.starts[number]]
                large.append(some[((abs(held) > LARGEST) & np.isfinite(held)).any(axis=1)])
                with np.errstate(over="ignore"):  # infinities are refused below
                    values[some] = held
            if len(wrong := np.concatenate([np.zeros(0, np.int64), *large])):
                refuse(f"vectors of {said[number]}", rows, asked[wrong], len(mine), f"too large, beyond {LARGEST:g},")
        return values, np.isin(part, list(arrays))

    counts = {number: (len(array), said[number]) for number, array in arrays.items()}
    return Vectors(name, digest_of(own=name), make, counts)


def of_encoder(settings: EmbeddingSettings, kind: str) -> Vectors:
    """Vectors of a pretrained model, loaded at once, for texts or pictures by `kind`.

    Raises ValueError for a model that cannot be loaded, and SourceError for rows of a table, which no encoder reads.
    """
    if kind == "features":
        raise SourceError(
            f"embeddings: {settings.encoder} reads texts or pictures, and the data are columns: name a column of "
            "vectors, or files of them, or leave it out"
        )
    from secateur.trainers.passes.embeddings import loaded_encoder, picture_reader, text_reader
    from secateur.trainers.processes import device_of_choice

    device = device_of_choice()
    encoder = loaded_encoder(settings, device)
    read = (text_reader if kind == "text" else picture_reader)(settings, encoder, device)

    def make(rows: AuditRows, asked: Int64[np.ndarray, " q"]) -> Made:
        parts = []
        for some in np.split(asked, range(BLOCK, len(asked), BLOCK)):
            content: Sequence[Any] = rows.texts_at(some).to_list() if kind == "text" else pictures_of(rows, some)
            parts.append(read(content).astype(np.float32))
        return np.concatenate(parts), np.ones(len(asked), np.bool_)

    settled = settings.model_dump(exclude={"block", "batch_size"})
    made_of = digest_of(settings=settled, contents=contents_of(settings))
    return Vectors(f"encoder {settings.encoder}", made_of, make)


def pictures_of(rows: AuditRows, some: Int64[np.ndarray, " q"]) -> list[Shaped[np.ndarray, "_ _ 3"]]:
    """Pictures in colour, uint8, of their own sizes; deep ones scaled by the range of their own values."""
    from secateur.trainers.modalities.decoding import DEEP, decode_image

    found = []
    for cell in rows.held(some):
        picture = decode_image(cell)
        assert picture is not None  # the row is sound
        shown = scaled(picture) if picture.mode in DEEP else picture
        found.append(np.asarray(shown.convert("RGB")))
    return found
