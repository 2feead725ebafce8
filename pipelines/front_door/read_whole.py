"""Read all of a caller's data as training rows of a study, with guessed columns, task and policies."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import pa, pq
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.profile import Place, find_data, types_of
from secateur.pipelines.data.scan import FILE, ROW
from secateur.pipelines.data.source_kinds.files import SourceError, at_hand
from secateur.pipelines.data.source_kinds.parts import SourceFile, settled_types
from secateur.pipelines.data.sources import Loaded, load, own_manners
from secateur.pipelines.front_door.held import in_hand
from secateur.pipelines.studies.draft import Draft, Wish, draft_columns, source_of
from secateur.pipelines.studies.draft_target import SFT
from secateur.pipelines.studies.draft_training import settle
from secateur.pipelines.studies.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

LENIENT = DataPolicy(bad_rows="drop", unlabelled="drop")
OPTION = re.compile(r"--([a-z_]+)(?: (COLUMN|classification|regression|multi_label)\b)?")
"""An option of the shell in a message."""
WRITTEN = "data_in_hand.parquet"
"""File name, in the temporary folder, for data in memory."""


@dataclass(frozen=True)
class Whole:
    """All rows of the caller's data, and the part of a study that describes their reading."""

    loaded: Loaded
    content: Mapping[str, Any]
    """`source`, `columns`, `task`, `encoding`, `data` and `proxy` of a study."""
    scores: Mapping[str, Mapping[str, Any] | None]
    """Scores of a first study, with their settings."""
    base: Path
    """The folder of the source's relative paths."""

    @property
    def rows(self) -> np.ndarray:
        """Row in the caller's data of each row that is read, int64 `[n]` ascending, counted over all files."""
        read = self.loaded.rows["train"]
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        return np.asarray(starts[read.column(FILE).to_numpy()] + read.column(ROW).to_numpy())

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each file, int64."""
        return np.bincount(self.loaded.scanned["train"].column(FILE).to_numpy(), minlength=len(self.loaded.files))

    @property
    def paths(self) -> pl.Series | None:
        """Path of each picture, for a folder of pictures."""
        if self.loaded.pictures is None:
            return None
        name, folder = self.loaded.pictures[0], os.path.abspath(self.base / self.content["source"]["train"])
        return self.loaded.rows["train"].column(name).struct.field("path").str.strip_prefix(f"{folder}/")

    def left_out(self) -> str:
        """The number of rows that cannot be scored, with the reasons; empty if there are none."""
        told = []
        for left in self.loaded.dropped:
            reasons = ", ".join(dict.fromkeys(left.reasons[:100]))
            told.append(f"{left.found.count:,} of {int(self.sizes.sum()):,} rows get no score: {reasons}")
        return "; ".join(told)


def read_whole(data: Any, wish: Wish, folder: Path) -> Whole:
    """Read data in memory, or at a path, in the forms of `select`; files are written below `folder` where necessary.

    Raises SourceError for data that no study can read.
    """
    place = place_of(data, wish, folder)
    draft = draft_columns(place, wish)
    if draft.goal.task == SFT:
        raise SourceError(
            "these are prompts and completions, or conversations, which a study scores (secateur init); for scores of "
            "a class name its column with label="
        )
    source = source_of(draft, folder)
    loaded = load_whole(draft, source, folder)
    settled = settle(draft, loaded)
    content = {
        "source": source,
        "columns": draft.columns,
        "task": draft.goal.task,
        "encoding": draft.encoding,
        "data": {left.policy: "drop" for left in loaded.dropped},
        "proxy": settled["proxy"],
    }
    others = {"regression": ["dynamic_uncertainty"]}.get(draft.goal.task, ["forgetting", "aum"])
    return Whole(loaded, content, {"loss": None, **dict.fromkeys(others), "el2n": {"epochs": settled["el2n"]}}, folder)


def load_whole(draft: Draft, source: Mapping[str, Any], folder: Path) -> Loaded:
    """Every row as a training row, except those that no study can use."""
    from pydantic import TypeAdapter

    from secateur.pipelines.data.sources import Source

    columns = Columns(**draft.columns).holding(Problem(kind=draft.goal.task).target).reading(draft.encoding)
    read = TypeAdapter(Source).validate_python(dict(source))
    return load(read, columns, folder, folder / "cache", LENIENT, whole=True)


def place_of(data: Any, wish: Wish, folder: Path) -> Place:
    """The place of the data; data in memory are first written below `folder`."""
    if not isinstance(data, str | Path):
        return find_data(str(written(data, wish, folder / WRITTEN)))
    path = at_hand(data)
    place = find_data(str(path))
    if path.is_file():  # without its neighbours
        return replace(place, train=str(path), test=None, first=path, others=())
    return replace(place, test=None)


def written(data: Any, wish: Wish, path: Path) -> Path:
    """Write data in memory as a Parquet file: columns that a study can read, and others that the caller names."""
    import datasets

    named = [name for name in (*wish.labels, wish.text, wish.image, *wish.features) if name is not None]
    if isinstance(data, datasets.Dataset) and len(data):
        with own_manners():
            data.to_parquet(path)
        return path
    columns = None
    if wish.labels and (wish.text or wish.image or wish.features):
        label = list(wish.labels) if len(wish.labels) > 1 else wish.labels[0]
        inputs = {"text": wish.text, "image": wish.image, "features": list(wish.features) or None}
        columns = Columns.model_validate(inputs | {"label": label})
    hand = in_hand(data, columns)
    rows = hand.rows
    if not hand.count:
        raise SourceError("the data have no rows: there is nothing to score")
    if not rows.columns:
        raise SourceError("name what items hold: label=, and text=, image= or features=")
    write(rows, [name for name in named if name in rows.columns], path)
    return path


def write(rows: SourceFile, named: list[str], path: Path) -> None:
    """Write columns of data in memory as a Parquet file, in batches."""
    kinds = {name: kind for name, kind in types_of([rows], rows.columns).items() if kind is not None}
    kinds |= settled_types([rows], named, ())
    # A column without any value has no type of its own, but a file needs one.
    stored = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in kinds.items()}
    schema = pa.schema(list(stored.items()))
    with pq.ParquetWriter(path, schema) as file:
        for table in rows.batches(kinds):
            file.write_table(table.cast(schema))


@contextmanager
def in_words_of_a_call(folder: Path) -> Iterator[None]:
    """Errors of the block with arguments of a call for options of the shell, and the data for the temporary file."""
    try:
        yield
    except SourceError as error:
        text = OPTION.sub(lambda found: f"{found[1]}={repr(found[2]) if found[2] else '…'}", str(error))
        raise SourceError(text.replace(str(folder / WRITTEN), "the data").replace(WRITTEN, "the data")) from error
