"""Parts of an image folder's splits: pictures in the folders of their classes, or metadata files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import pa, pl, types
from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import PICTURES, SourceFile, Types, cells_at


@dataclass(frozen=True)
class ClassFolders(SourceFile):
    """Pictures below a folder, each of the class that its own folder names.

    `classes` are those of all splits and number the labels; without them the labels are texts.
    """

    name: str
    paths: tuple[Path, ...]
    classes: tuple[str, ...]

    columns = ("image", "label")

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        return {"label": self.classes} if self.classes else {}

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        kinds = {"image": types.PICTURE, "label": types.INTEGER if self.classes else types.TEXT}
        return {name: kinds[name] for name in names}

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        numbers = {name: number for number, name in enumerate(self.classes)}
        for first in range(start, len(self.paths), PICTURES):
            paths = self.paths[first : first + PICTURES]
            folders = [path.parent.name for path in paths]
            labels = pa.array([numbers[name] for name in folders] if numbers else folders, wanted.get("label"))
            cells = cells_at(pa.chunked_array([list(map(str, paths))], types.TEXT), Path("/"))
            yield pa.table({name: cells if name == "image" else labels for name in wanted})

    def picture_paths(self, name: str, base: Path) -> Iterator[pl.Series]:
        """None: the revision of their folders is made of them."""
        return iter(())


@dataclass(frozen=True)
class Metadata(SourceFile):
    """A metadata file beside pictures: columns that end in `file_name` hold paths of pictures from its folder."""

    file: CsvFile | JsonlFile | ParquetFile

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.file.name

    @property
    def joined(self) -> Callable[[pa.DataType, pa.DataType], pa.DataType | None]:  # type: ignore[override]
        return self.file.joined

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        return self.file.label_names

    @cached_property
    def _stored(self) -> dict[str, str]:
        """The file's own names of columns, by their names for the study."""
        return {shown_column(name): name for name in self.file.columns}

    @property
    def columns(self) -> Sequence[str]:
        if "image" not in self._stored:
            raise SourceError(f"{self.name}: no column file_name, which names the picture of each row")
        return list(self._stored)

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        stored = {name: self._stored[name] for name in names}
        paths = [own for name, own in stored.items() if name != own]
        held = self.file.types(list(stored.values()), [*paths, *(stored[name] for name in texts if name in stored)])
        for own in paths:
            if held[own] != types.TEXT:
                raise SourceError(f"{self.name}: column {own!r} holds {types.shown_type(held[own])}, not paths")
        return {name: types.PICTURE if own in paths else held[own] for name, own in stored.items()}

    def stored_types(self) -> dict[str, pa.DataType]:
        return {shown_column(name): kind for name, kind in self.file.stored_types().items()} | self.types(["image"])

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        stored = {name: self._stored[name] for name in wanted}
        held = {own: types.TEXT if own != name else wanted[name] for name, own in stored.items()}
        row = start
        for table in self.file.batches(held, start):
            table = table.select(list(stored.values())).rename_columns(list(stored))
            for place, (name, own) in enumerate(stored.items()):
                if own != name:
                    self._refuse_outside(own, types.series_of(table[name]), row)
                    table = table.set_column(place, name, cells_at(table[name], self.file.path.parent))
            yield table
            row += table.num_rows

    def picture_paths(self, name: str, base: Path) -> Iterator[pl.Series]:
        """None: the revision of their folders is made of them."""
        return iter(())

    def _refuse_outside(self, column: str, paths: pl.Series, first: int) -> None:
        """Raise SourceError for a path that leads out of the folder of the file."""
        outside = paths.str.contains(r"^/|^[A-Za-z]+://|(^|/)\.\.(/|$)").fill_null(False).arg_true()
        if len(outside):
            raise SourceError(
                f"{self.name} row {first + outside[0]}: column {column!r} is {paths[outside[0]]!r}, which does not lie "
                "below the folder of this file"
            )


def shown_column(name: str) -> str:
    """The study's name for a column of a metadata file, the same as in the `datasets` library."""
    return name.removesuffix("file_name").removesuffix("_") or "image" if name.endswith("file_name") else name


def metadata_file(path: Path, columns: Columns) -> CsvFile | JsonlFile | ParquetFile:
    """A metadata file with the reader of its kind."""
    if path.suffix == ".csv":
        return CsvFile(path, labels=columns.labels)
    return JsonlFile(path) if path.suffix == ".jsonl" else ParquetFile(path)
