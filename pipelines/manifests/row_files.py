"""Write a manifest's kept rows of a file of rows, or of a folder that `datasets` saved, in the same format.

Fields, lines and columns are those of the file: records of CSV and JSON lines are copied byte for byte, and Parquet
keeps its schema and its metadata.
"""

import codecs
import gzip
import io
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.profile import find_data
from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.imagefolder import Imagefolder
from secateur.pipelines.data.source_kinds.json_arrays import lines_of
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.data.source_kinds.tables import bounded
from secateur.pipelines.data.sources import own_manners, parts_of
from secateur.pipelines.data.types import series_of
from secateur.pipelines.files.whole_files import new_file, new_folder
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.given import Blocks
from secateur.pipelines.manifests.origin import Origin
from secateur.pipelines.manifests.payload import refuse_suffix

FORMATS: Final = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""Formats of output files, by ending."""
READ: Final = {**FORMATS, ".json": "jsonl"}
"""Formats of input files; kept rows of a JSON array are written as JSON lines."""
PACKED: Final = (".gz", ".bz2", ".zst")
BLOCK = 1 << 22
"""Bytes of a text file per read."""
GROUP = 1 << 26
"""Bytes of a row group."""


class KeptRows(Protocol):
    """The interface of a manifest of rows to this module: see `Rows`."""

    @property
    def origin(self) -> Origin: ...

    @property
    def order(self) -> np.ndarray | None: ...

    def columns_read(self, hash_rows: Mapping[str, Any] | None = None) -> Columns: ...

    @property
    def count(self) -> int: ...

    def of_file(self, file: int) -> "KeptRows": ...

    def located_in(self, rows: SourceFile, columns: Columns, folders: Sequence[Path]) -> tuple[np.ndarray, int]: ...

    def apply(self, target: Any, output: Path | None, *, hash_rows: Any = None) -> Any: ...


def write_kept(rows: KeptRows, target: Path, output: Path | None, hash_rows: Any) -> Path:
    """Write the kept part of a Parquet, CSV or JSON file, of a folder of pictures or of one that `datasets` saved.

    In a folder with a test split beside the training rows, only the training rows are pruned and written.

    For a manifest of several files, the one with the target's name counts. Records of an epoch follow its order, some
    of them twice; in a folder of pictures each appears once. Raises ManifestError for other files.
    """
    if output is None:
        raise ManifestError("name the file to write as output")
    if callable(hash_rows):
        raise ManifestError("hash_rows as a function is for data in hand: load the file and apply to that")
    columns = rows.columns_read(hash_rows)
    target = training_part(target)
    with own_manners():
        if target.is_dir() and not holds_dataset(target):
            write_pictures(rows, target, output, columns)
            return output
        if target.is_dir():
            kept = rows.apply(opened(target), None, hash_rows=hash_rows)
            with new_folder(output) as partial:
                kept.save_to_disk(partial)
            return output
        file = file_of(target, columns, rows.origin)
        refuse_suffix(
            output.with_suffix("") if output.suffix == ".gz" else output,
            *(suffix for suffix, kind in FORMATS.items() if kind == READ[ending_of(target)]),
        )
        mine = of_name(rows, target)
        located, count = mine.located_in(file, columns, [*target.absolute().parents, Path.cwd()])
    keep = np.zeros(count, np.bool_)
    keep[located] = True
    with new_file(output) as partial:
        places = None if mine.order is None else np.searchsorted(np.flatnonzero(keep), located[mine.order])
        if isinstance(file, ParquetFile):
            copy_row_groups(file.path, partial, keep)
            if places is not None:
                reorder_rows(partial, places)
        else:
            charset = file.charset if isinstance(file, CsvFile) else "utf-8"
            with packed(partial, output.suffix) as sink:
                write = encoder(charset, sink)
                if places is None:
                    copy_records(texts_in(target, charset), keep, isinstance(file, CsvFile), write)
                else:
                    write(records_in_order(texts_in(target, charset), keep, places, isinstance(file, CsvFile)))
    return output


def training_part(target: Path) -> Path:
    """The folder or file of the training rows in a folder, as audits and studies find it; any other path unchanged."""
    if not target.is_dir() or holds_dataset(target):
        return target
    try:
        place = find_data(str(target))
    except SourceError:
        return target  # the reader refuses it with its own reason
    train = Path(place.train)
    return train if train.is_file() or place.kind == "imagefolder" else target


def opened(target: Path) -> Any:
    """Load a folder that `datasets` saved."""
    import datasets

    try:
        return datasets.load_from_disk(str(target))
    except (FileNotFoundError, ValueError, OSError) as error:
        raise ManifestError(f"{target} is no folder that `datasets` saved: {error}") from error


def holds_dataset(folder: Path) -> bool:
    """Whether `datasets` saved a folder."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def write_pictures(rows: KeptRows, target: Path, output: Path, columns: Columns) -> None:
    """Copy the kept pictures of a folder to the same places below the output, with their records in metadata files."""
    folder = target.absolute()
    if columns.image is None:
        raise ManifestError(
            f"{target} is a folder that `datasets` did not save, and its rows are no pictures; of a folder of several "
            "files apply it to each"
        )
    image = columns.image
    source = Imagefolder.model_validate({"kind": "imagefolder", "train": str(folder), "test_fraction": 0.5})
    with TemporaryDirectory() as cache:
        parts = parts_of("train", source.read(columns, folder, Path(cache))[0]["train"])

        def tables(names: Sequence[str]) -> Iterator[pa.Table]:
            for part in parts:
                yield from part.batches(part.types(list(names)))

        whole = parts[0] if len(parts) == 1 else Blocks("the data", parts[0].columns, tables)
        located = rows.located_in(whole, columns, [folder])[0]
        cells = pa.chunked_array([chunk for table in tables([image]) for chunk in table[image].chunks], types.PICTURE)
        paths = series_of(cells).struct.field("path").gather(np.sort(located))
        kept = {os.path.relpath(path, folder) for path in paths}
    with new_folder(output) as partial:
        for name in sorted(kept):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, partial / name)
        for name in ("metadata.csv", "metadata.jsonl", "metadata.parquet"):
            for path in sorted(folder.rglob(name)):
                copy_metadata(path, partial / path.relative_to(folder), {folder / each for each in kept})


def copy_metadata(path: Path, output: Path, pictures: Collection[Path]) -> None:
    """Copy the records of a metadata file that name one of some pictures, from the file's own folder."""
    file: SourceFile = {".csv": CsvFile, ".jsonl": JsonlFile, ".parquet": ParquetFile}[path.suffix](path)
    names = [name for name in file.columns if name == "file_name" or name.endswith("_file_name")]
    keep = np.concatenate(
        [
            np.array([(path.parent / text) in pictures for text in table[names[0]].to_pylist()], np.bool_)
            for table in file.batches(dict.fromkeys(names, types.TEXT))
        ]
    )
    if not keep.any():
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file, ParquetFile):
        copy_row_groups(path, output, keep)
        return
    with output.open("wb") as sink:
        copy_records(texts_in(path, "utf-8"), keep, isinstance(file, CsvFile), sink.write)


def file_of(target: Path, columns: Columns, origin: Origin) -> CsvFile | JsonlFile | ParquetFile:
    """The file as a study reads it; raises ManifestError for an unsupported format."""
    if not target.is_file():
        raise ManifestError(f"there is no file or folder {target}")
    ending = ending_of(target)
    kind = READ.get(ending)
    if kind is None:
        raise ManifestError(f"rows are read from {', '.join(READ)} files and folders that `datasets` saved")
    if kind == "csv":
        separator = "\t" if ending == ".tsv" else origin.separator
        return CsvFile(target, separator, origin.charset, columns.features, columns.labels, columns.missing)
    return ParquetFile(target) if kind == "parquet" else JsonlFile(target)


def ending_of(path: Path) -> str:
    """The ending of a file's name for its format, before the ending for its compression."""
    return next((suffix for suffix in reversed(path.suffixes) if suffix not in PACKED), "")


def of_name(rows: KeptRows, target: Path) -> KeptRows:
    """The kept rows of the file with a name, for a manifest of several; all rows where no file has that name."""
    names = [file.name for file in rows.origin.files]
    path = os.path.abspath(target)
    same = [place for place, name in enumerate(names) if path == name or path.endswith(f"/{name}")]
    same = same or [place for place, name in enumerate(names) if Path(name).name == target.name]
    return rows.of_file(same[0]) if len(names) > 1 and len(same) == 1 else rows


def counts_in(rows: KeptRows, target: Path) -> tuple[int, int] | None:
    """Kept rows of the file with a name, and all its rows, for a manifest of several; None where no file has it."""
    mine = of_name(rows, target)
    if mine is rows or target.is_dir():
        return None
    return mine.count, mine.origin.files[0].rows


def copy_row_groups(source: Path, output: Path, keep: np.ndarray) -> None:
    """Copy rows of a Parquet file by batches, with the schema, the metadata and the compression of the file."""
    with pq.ParquetFile(source) as file:
        packing = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "ZSTD"
        with pq.ParquetWriter(
            output, file.schema_arrow, compression=packing.lower().replace("uncompressed", "none")
        ) as to:
            start, waiting = 0, list[pa.RecordBatch]()
            for batch in file.iter_batches(1 << 14):
                waiting.append(batch.filter(pa.array(keep[start : start + batch.num_rows])))
                start += batch.num_rows
                if sum(part.nbytes for part in waiting) >= GROUP:
                    to.write_table(pa.Table.from_batches(waiting, file.schema_arrow))
                    waiting = []
            to.write_table(pa.Table.from_batches(waiting, file.schema_arrow))


def reorder_rows(path: Path, places: np.ndarray) -> None:
    """Reorder the rows of a Parquet file, in memory, with its schema and compression."""
    with pq.ParquetFile(path) as file:
        rows, groups = file.read(), file.metadata
        packing = groups.row_group(0).column(0).compression if groups.num_row_groups else "ZSTD"
    pq.write_table(rows.take(pa.array(places)), path, compression=packing.lower().replace("uncompressed", "none"))


def records_in_order(blocks: Iterator[bytes], keep: np.ndarray, places: np.ndarray, is_csv: bool) -> bytes:
    """The header of a CSV, then kept records by their places among these, byte for byte; holds all in memory.

    If the file's last record has no line feed, it gets the one of the record before it.
    """
    parts: list[bytes] = []
    copy_records(blocks, keep, is_csv, parts.append)
    data = b"".join(parts)
    ends = record_ends(data, is_csv)
    if data and (not len(ends) or ends[-1] < len(data)):
        data += b"\r\n" if len(ends) and data[: ends[-1]].endswith(b"\r\n") else b"\n"
        ends = record_ends(data, is_csv)
    records = [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    head = 1 if is_csv else 0
    return b"".join([*records[:head], *(records[head + place] for place in places.tolist())])


def copy_records(blocks: Iterator[bytes], keep: np.ndarray, is_csv: bool, write: Callable[[bytes], Any]) -> None:
    """Copy lines of JSON, or a CSV's header and records, byte for byte; empty lines are not records.

    A line feed within quotes ends no record of a CSV. Raises ManifestError where the number of records differs from the
    number of the file's rows.
    """
    row, rest = -1 if is_csv else 0, b""
    for block in blocks:
        done, rest = whole_records(rest + block, is_csv)
        row = copy_block(done, keep, row, is_csv, write)
    row = copy_block(rest, keep, row, is_csv, write)
    if row != len(keep):
        raise ManifestError(
            f"{row} records end outside of quotes, and the file has {len(keep)} rows: a quote within a field is not "
            "doubled, so that no program is sure where its record ends"
        )


def record_ends(data: bytes, is_csv: bool) -> np.ndarray:
    """Places behind each line feed that ends a record."""
    letters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    if is_csv:
        # Only the parity of the number of quotes counts, so it may wrap.
        ends = ends[np.cumsum(letters == ord('"'), dtype=np.uint8)[ends] % 2 == 0]
    return np.asarray(ends + 1)


def whole_records(data: bytes, is_csv: bool) -> tuple[bytes, bytes]:
    """The complete records at the start of some bytes, and the rest."""
    ends = record_ends(data, is_csv)
    cut = int(ends[-1]) if len(ends) else 0
    return data[:cut], data[cut:]


def copy_block(data: bytes, keep: np.ndarray, row: int, is_csv: bool, write: Callable[[bytes], Any]) -> int:
    """Copy the kept ones of complete records, the first of which is `row`; returns the row behind them."""
    ends = record_ends(data, is_csv)
    if data and (not len(ends) or ends[-1] < len(data)):
        ends = np.append(ends, len(data))
    if not len(ends):
        return row
    starts = np.concatenate([[0], ends[:-1]])
    letters = np.frombuffer(data, np.uint8)
    # A line of spaces is a record in CSV, and none in JSON lines.
    filled = np.add.reduceat((letters != 10) & (letters != 13) if is_csv else letters > 32, starts, dtype=np.int64) > 0
    numbers = row + np.cumsum(filled) - 1
    last = int(numbers[-1]) + 1
    known = np.minimum(np.maximum(numbers, 0), max(len(keep) - 1, 0))
    chosen = filled & ((numbers < 0) | ((numbers < len(keep)) & (keep[known] if len(keep) else False)))
    write(letters[np.repeat(chosen, ends - starts)].tobytes())
    return last


def texts_in(path: Path, charset: str) -> Iterator[bytes]:
    """The bytes of a file, decompressed, the objects of a JSON array as lines; a `wide` encoding becomes UTF-8."""
    with bounded(path) as stream:
        if wide(charset):
            text = io.TextIOWrapper(io.BytesIO(stream.read()), charset, newline="")
            yield text.read().encode()
            return
        yield from lines_of(path, stream, BLOCK)


def wide(charset: str) -> bool:
    """Whether an encoding's line feed has more than one byte."""
    return len("\n".encode(charset)) > 1


def encoder(charset: str, sink: Any) -> Callable[[bytes], Any]:
    """A function that writes UTF-8 bytes in the file's own encoding."""
    if not wide(charset):
        return lambda data: sink.write(data)
    encode = codecs.getincrementalencoder(charset)()
    return lambda data: sink.write(encode.encode(data.decode()))


@contextmanager
def packed(path: Path, suffix: str) -> Iterator[Any]:
    """Open a file for writing, compressed where the output's name ends in .gz, without a time stamp."""
    with path.open("wb") as file:
        if suffix != ".gz":
            yield file
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as inner:
            yield inner
