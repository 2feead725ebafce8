"""Vectors of an audit's rows, by which near copies are found beside words, looks and columns: of a user or an encoder.

Of parts that nobody has vectors of, rows are compared by the other measures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.studies.named_inputs import contents_of

if TYPE_CHECKING:
    from secateur.pipelines.audits.contract import AuditRows
    from secateur.trainers.passes.embeddings import EmbeddingSettings

SHOWN = 5
"""Rows that a message names."""
BLOCK = 1024
"""Rows that an encoder is asked for at once."""
LEAST_WIDTH = 2
"""Numbers of a vector that has a direction."""
Made = tuple[Float32[np.ndarray, "q d"], Bool[np.ndarray, " q"]]
"""Vectors of rows, and which of these have one."""


@dataclass(frozen=True)
class Vectors:
    """One vector for each row, read or made when somebody first asks."""

    name: str
    """Where they come from, for people."""
    made_of: str
    """Equal of what makes equal vectors, as far as that is known without the vectors."""
    make: Callable[[AuditRows, Int64[np.ndarray, " q"]], Made] = field(repr=False)
    counts: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """Of vectors that are there already, how many there are of each part, and how a message calls them; nothing where
    a network makes them."""
    kept: dict[str, Made] = field(default_factory=dict, repr=False, compare=False)

    def of(self, rows: AuditRows, asked: Int64[np.ndarray, " q"]) -> Made:
        """Of some rows whose input can be read; raises SourceError that counts and names rows for what is no number,
        and for zeros throughout, which have no direction."""
        if not len(asked):
            return np.empty((0, 0), np.float32), np.empty(0, np.bool_)
        values, given = self.make(rows, asked)
        blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
        finite = np.concatenate([np.isfinite(block).all(axis=1) for block in blocks])
        somewhere = np.concatenate([block.any(axis=1) for block in blocks])
        for fine, fault in ((finite, "NaN or infinite"), (somewhere, "zero throughout, which no cosine is of,")):
            if len(wrong := np.flatnonzero(given & ~fine)):
                refuse(self.name, rows, asked[wrong], int(given.sum()), fault)
        return values, given

    @property
    def held(self) -> bool:
        """Whether they are there already, and no network is asked for them."""
        return bool(self.counts)

    def check(self, rows: AuditRows) -> None:
        """Raise SourceError for vectors that do not go with the rows, as far as they are there already."""
        for number, (count, said) in self.counts.items():
            if count != (size := len(rows.splits[number])):
                raise SourceError(
                    f"embeddings: {said} has {count:,} rows, and {rows.names[number]} has {size:,}: give one vector "
                    "for each row, in the order of the rows"
                )
        if self.held:
            self.of_sound(rows)

    def of_sound(self, rows: AuditRows) -> Made:
        """Of all rows whose input can be read, in their order; kept for whoever asks again."""
        if "sound" not in self.kept:
            self.kept["sound"] = self.of(rows, np.flatnonzero(rows.sound))
        return self.kept["sound"]


def refuse(name: str, rows: AuditRows, wrong: Int64[np.ndarray, " k"], of: int, fault: str) -> None:
    """Raise SourceError that counts rows and names the first."""
    places = rows.at(wrong[:SHOWN])
    named = ", ".join(f"row {one['row']} of {one['file']}" for one in places.iter_rows(named=True))
    more = ", …" if len(wrong) > SHOWN else ""
    raise SourceError(
        f"embeddings: {name} are {fault} for {len(wrong):,} of {of:,} rows ({named}{more}): make these vectors "
        "again, or leave the rows out of the data"
    )


def brought(arrays: Mapping[int, Shaped[np.ndarray, "m d"]], said: Mapping[int, str], name: str) -> Vectors:
    """Vectors of the user's by the numbers of parts, one for each row of the part; `said` is how a message calls those
    of each part. Raises SourceError where they do not go with each other."""
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
            mine = np.flatnonzero(part == number)
            values[mine] = array[asked[mine] - rows.starts[number]]
        return values, np.isin(part, list(arrays))

    counts = {number: (len(array), said[number]) for number, array in arrays.items()}
    return Vectors(name, digest_of(own=name), make, counts)


def of_encoder(settings: EmbeddingSettings, kind: str) -> Vectors:
    """Vectors of a pretrained model, loaded at once, of texts or pictures as `kind` says.

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
    """Pictures in colour, uint8, of their own sizes; deep ones in the range of their own values."""
    from secateur.pipelines.audits.seen import scaled
    from secateur.trainers.modalities.decoding import DEEP, decode_image

    found = []
    for cell in rows.held(some):
        picture = decode_image(cell)
        assert picture is not None  # it is sound
        shown = scaled(picture) if picture.mode in DEEP else picture
        found.append(np.asarray(shown.convert("RGB")))
    return found
