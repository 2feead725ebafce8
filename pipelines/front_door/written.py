"""Write kept rows of data as a file: byte for byte in the data's own format, converted in another."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.files.whole_files import new_file, refuse_target
from secateur.pipelines.front_door.held import Held, rows_of
from secateur.pipelines.manifests.row_files import (
    FORMATS,
    copy_records,
    copy_row_groups,
    encoder,
    ending_of,
    packed,
    texts_in,
)

KINDS = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet", "indices": ".npy", "text": ".txt"}
"""Output formats, with the endings of their files."""


OWN: Mapping[type[SourceFile], str] = {ParquetFile: "parquet", CsvFile: "csv", JsonlFile: "jsonl"}
"""Output formats that keep the rows of a file unchanged."""


def format_of(path: Path) -> str | None:
    """The format for a file's ending; None for an unknown ending."""
    return FORMATS.get(ending_of(path)) or {".npy": "indices", ".txt": "text"}.get(path.suffix)


def kind_of(path: Path, said: str | None) -> str:
    """The format to write: the given one, or that of the file's ending; raises ValueError with the list of formats."""
    kind = said or format_of(path)
    if kind not in KINDS:
        raise ValueError(
            f"--to: {said or path.suffix or 'a folder'} cannot be written here; there are: {', '.join(KINDS)}"
        )
    return kind


def refuse_ending(path: Path, kind: str) -> None:
    """Raise ValueError for a file whose ending belongs to another format."""
    if (ending := format_of(path)) not in (None, kind):
        named = path.name[: path.name.rindex(ending_of(path) or path.suffix)] + KINDS[kind]
        raise ValueError(f"--to {kind}: -o {path.name} is of {ending}; leave --to out, or write -o {named}")


def refuse_output(data: Held, path: Path, *others: str | None, overwrite: bool) -> None:
    """Raise ValueError for a file that exists, that cannot be written, or that is read: of the data or `others`."""
    refuse_target(path, overwrite=overwrite)
    if any(path.resolve() == Path(file.name).resolve() for file in data.files):
        raise ValueError(f"{path} is the data itself, which nothing here changes: name another file")
    if any(path.resolve() == Path(other).resolve() for other in others if other):
        raise ValueError(f"{path} is read here, and nothing here changes it: name another file")


def write_rows(data: Held, rows: np.ndarray, path: Path, kind: str, *, overwrite: bool) -> None:
    """Write some rows, int64 ascending, whole or not at all: `indices` are an int64 `.npy`, `text` a row per line."""
    [first, *others] = data.files
    alone = not others and isinstance(first, ParquetFile | CsvFile | JsonlFile)
    with new_file(path, overwrite=overwrite) as partial:
        if kind == "indices":
            with partial.open("wb") as file:
                np.save(file, rows, allow_pickle=False)
        elif kind == "text":
            partial.write_text("".join(f"{row}\n" for row in rows.tolist()))
        elif alone and OWN[type(first)] == kind and separator_of(path) == separator_of(Path(first.name)):
            copy(first, rows, partial, path.suffix)
        else:
            converted(data.take(rows), partial, kind, path)


def separator_of(path: Path) -> str:
    """The field separator of a CSV with that name."""
    return "\t" if ending_of(path) == ".tsv" else ","


def copy(file: SourceFile, rows: np.ndarray, partial: Path, suffix: str) -> None:
    """Copy rows of a file unchanged."""
    if isinstance(file, ParquetFile):
        keep = np.zeros(file.footer[1], np.bool_)
        keep[rows] = True
        copy_row_groups(file.path, partial, keep)
        return
    keep = np.zeros(rows_of(file), np.bool_)
    keep[rows] = True
    assert isinstance(file, CsvFile | JsonlFile)
    charset = file.charset if isinstance(file, CsvFile) else "utf-8"
    with packed(partial, suffix) as sink:
        copy_records(texts_in(file.path, charset), keep, isinstance(file, CsvFile), encoder(charset, sink))


def converted(rows: pl.DataFrame, partial: Path, kind: str, path: Path) -> None:
    """Write rows in another format than their own, for a file that will be at `path`."""
    if kind == "parquet":
        rows.write_parquet(partial)
        return
    nested = [name for name, held in rows.schema.items() if held.is_nested()]
    if kind == "csv" and nested:
        raise ValueError(f"a CSV holds no lists, and column {nested[0]!r} does: write parquet or jsonl")
    with packed(partial, path.suffix) as sink:
        sink.write((rows.write_csv(separator=separator_of(path)) if kind == "csv" else rows.write_ndjson()).encode())
