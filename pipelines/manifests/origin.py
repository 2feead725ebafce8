"""Origin of the rows of a manifest: files, types of columns, names of labels, policies of reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field, JsonValue, StringConstraints

from secateur.pipelines.data.lazy import pa, pl, types
from secateur.pipelines.manifests.provenance import Count, FrozenModel

SourceName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$", max_length=4096)]

WORDS: Final = ("nothing", "boolean", "integer", "number", "text", "picture")
"""A manifest's words for the types of columns, the constants of `data/types.py`; a list is `list of` one of these."""
CONVERSATION: Final = "conversation"
"""Its word for a column of lists of turns, which `data/conversations.py` reads as texts."""


class FileRows(FrozenModel):
    """A file of the source, or a split of a data set, by its name in the study, and its number of rows."""

    name: SourceName
    rows: Count


class Origin(FrozenModel):
    """The files of kept rows, and the settings needed to find the rows in the data again.

    `files` are those of training rows; the column `file` of the table counts them from 0. `types` are the types of
    columns on reading, `separator` and `charset` those of CSV files. `label_names` names the classes, numbers or labels
    of the study. `policies` are the study's `data`; `dropped` counts the training rows that each left out.
    """

    files: tuple[FileRows, ...] = ()
    types: dict[str, str] = Field(default_factory=dict)
    separator: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    charset: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=100)] = "utf-8"
    label_names: tuple[str, ...] = ()
    policies: dict[str, JsonValue] = Field(default_factory=dict)
    dropped: dict[str, Count] = Field(default_factory=dict)

    @property
    def starts(self) -> np.ndarray:
        """Start of each file if all are read one after another, int64 `[files + 1]`."""
        return np.concatenate([[0], np.cumsum([file.rows for file in self.files])]).astype(np.int64)

    def positions(self, table: pl.DataFrame) -> np.ndarray:
        """Rows of a table of kept rows if all files are read one after another, int64 `[kept]`."""
        return np.asarray(self.starts[table["file"].to_numpy()] + table["file_row"].to_numpy())

    def shown(self, file: int, row: int) -> str:
        """A row for a message: its file, and the row in it from 0."""
        return f"row {row} of {self.files[file].name}"

    @property
    def kinds(self) -> dict[str, pa.DataType]:
        """Types of columns; raises ValueError for a word that is no type."""
        return {name: kind_of(word) for name, word in self.types.items()}


def word_of(kind: pa.DataType) -> str:
    """A manifest's word for a type of `data/types.py`."""
    if types.is_list(kind):
        return f"list of {word_of(kind.value_type)}"
    return next(word for word in WORDS if plain_kind(word) == kind)


def kind_of(word: str) -> pa.DataType:
    """The type for a manifest's word; raises ValueError for an unknown word."""
    if word == CONVERSATION:
        return plain_kind("text")
    inner = inner_word(word)
    return plain_kind(inner) if inner == word else pa.large_list(plain_kind(inner))


def inner_word(word: str) -> str:
    """The word without `list of`; raises ValueError for a word outside `WORDS`."""
    inner = word.removeprefix("list of ")
    if inner not in WORDS:
        raise ValueError(f"it names a type {word!r}, which is none of {', '.join(WORDS)}")
    return inner


def plain_kind(word: str) -> pa.DataType:
    """The type for one of `WORDS`."""
    kind: pa.DataType = getattr(types, word.upper())
    return kind


def check_places(placed: Mapping[str, np.ndarray], origin: Origin) -> None:
    """Raise ValueError unless kept rows lie within the files, in their order, each once.

    `placed` has the columns `file` and `file_row` of the table, if it has them.
    """
    if ("file" in placed) != bool(origin.files):
        raise ValueError("its table and its list of files do not go together")
    for word in origin.types.values():
        kind_of(word)
    if not origin.files:
        return
    files, rows = placed["file"], placed["file_row"]
    if ((files < 0) | (files >= len(origin.files))).any():
        raise ValueError(f"its rows lie in files that are not 0 … {len(origin.files) - 1}")
    sizes = np.array([file.rows for file in origin.files])
    ordered = (files[1:] > files[:-1]) | ((files[1:] == files[:-1]) & (rows[1:] > rows[:-1]))
    if ((rows < 0) | (rows >= sizes[files])).any() or not ordered.all():
        raise ValueError("its rows do not lie within their files, ascending and each once")


def places(table: pl.DataFrame, origin: Origin) -> pl.DataFrame:
    """File, row in it, and `path` of a picture where there are any, of each kept row; without files the row alone."""
    if not origin.files:
        return table.select("row")
    names = pl.Series([file.name for file in origin.files])
    located: dict[str, Any] = {"file": names.gather(table["file"]), "row": table["file_row"]}
    return pl.DataFrame(located | ({"path": table["path"]} if "path" in table.columns else {}))
