"""Reading what a source names: files are found, whole and of one shape before anything long starts.

The readers are those of the `datasets` library; a failure of theirs comes out as one sentence with the file and the
place. Tables are prepared as Arrow under `cache`, in a folder named after the digest of the files, which the library
writes by rename; a killed run leaves a `.incomplete` folder there that the next one overwrites.
"""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
import xxhash

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.settings import Bundled, Csv, Disk, Hub, ImageFolder, Jsonl, Parquet, Source

if TYPE_CHECKING:
    import datasets

VARIABLE = r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"

Splits = dict[str, "datasets.Dataset"]


class SourceError(ValueError):
    """Data that cannot be used as they are; the message says what, where and what to do."""


def read(source: Source, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
    """Data sets by split ("train", and "test" unless it is to be drawn), and their revision."""
    match source:
        case Bundled():
            return _read_digits() if source.kind == "digits" else _read_diabetes()
        case Hub():
            return _read_hub(source)
        case ImageFolder():
            return _read_imagefolder(source, base, cache)
        case Disk():
            return _read_disk(source, base)
        case _:
            return _read_files(source, columns, base, cache)


def watch_stamp(source: Source, base: Path) -> str:
    """Changes when a source does, and is cheap: a digest of names, sizes and times of files, or the hub's commit.

    Raises SourceError where files are missing or the hub cannot be asked.
    """
    match source:
        case Bundled():
            return source.kind
        case Hub():
            return _commit_of(source, f"hub data set {source.name!r}")
        case ImageFolder():
            folders = [_folder(name, base, key) for key, name in _splits_of(source)]
            files = [path for folder in folders for path in _files_in(folder)]
        case Disk():
            named = [("path", source.path)] if source.path is not None else _splits_of(source)
            files = [path for key, name in named for path in _files_in(_folder(name, base, key))]
        case _:
            files = [path for split, patterns in _splits_of(source) for path in _find(patterns, base, split)]
    states = [(path, path.stat()) for path in files]
    told = "\n".join(f"{path}\t{state.st_size}\t{state.st_mtime_ns}" for path, state in states)
    return str(xxhash.xxh3_128_hexdigest(told.encode()))


def _splits_of(source: Any) -> list[tuple[str, Any]]:
    """(key, what it names) of the splits that a source has."""
    return [(key, named) for key in ("train", "test") if (named := getattr(source, key)) is not None]


def _read_digits() -> tuple[Splits, str]:
    import datasets
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    # 0 … 16 spread over 0 … 255: one to one, and visible as a picture.
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[str(name) for name in found.target_names])
    )
    data = {"image": [Image.fromarray(picture) for picture in pixels], "label": found.target.tolist()}
    revision = xxhash.xxh3_128_hexdigest(pixels.tobytes() + found.target.astype("<i8").tobytes())
    return {"train": datasets.Dataset.from_dict(data, features=features)}, revision


def _read_diabetes() -> tuple[Splits, str]:
    import datasets
    from sklearn.datasets import load_diabetes

    table = load_diabetes(scaled=False)
    columns = dict(zip(table.feature_names, table.data.T, strict=True)) | {"progression": table.target}
    revision = xxhash.xxh3_128_hexdigest(table.data.astype("<f8").tobytes() + table.target.astype("<f8").tobytes())
    return {"train": datasets.Dataset.from_dict({name: list(values) for name, values in columns.items()})}, revision


def _read_hub(source: Hub) -> tuple[Splits, str]:
    import datasets

    where = f"hub data set {source.name!r}"
    if Path(source.name).is_dir():
        raise SourceError(f"{where}: a folder of this name is in the working directory and would be read in its place")
    commit = _commit_of(source, where)
    with _said(f"{where} at {commit}"):
        return {
            name: datasets.load_dataset(source.name, source.config, revision=commit, split=split)
            for name, split in (("train", source.train), ("test", source.test))
            if split is not None
        }, commit


def _commit_of(source: Hub, where: str) -> str:
    """The 40 digits of the commit that the revision stands for now."""
    from huggingface_hub import HfApi

    commit = source.revision or ""
    if re.fullmatch("[0-9a-f]{40}", commit):
        return commit
    wish = f"revision {source.revision or 'main'!r}"
    remedy = "offline, pin source.revision to the 40 digits of a commit that is in the Hugging Face cache"
    with _said(f"{where}: cannot resolve {wish} to a commit ({remedy})"):
        return HfApi().dataset_info(source.name, revision=source.revision, timeout=30).sha or ""


def _read_files(source: Parquet | Csv | Jsonl, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
    import datasets

    files = {"train": _find(source.train, base, "train")}
    if source.test is not None:
        files["test"] = _find(source.test, base, "test")
    both = [path for path in files["train"] if path in files.get("test", [])]
    if both:
        raise SourceError(f"source.test: {both[0]} is named by source.train as well")
    reader, settings = {"parquet": "parquet", "csv": "csv", "jsonl": "json"}[source.kind], {}
    if isinstance(source, Csv):
        for path in (path for paths in files.values() for path in paths):
            _check_csv(path, source.separator)
        settings = _csv_settings(source, columns)
    if isinstance(source, Parquet):
        _check_parquet(files, columns)
        checked = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        settings = {"fragment_scan_options": checked}
    revision = _digest([(split, path) for split, paths in files.items() for path in paths])
    splits = {}
    for split, paths in files.items():
        if isinstance(source, Jsonl) and not any(_has_rows(path) for path in paths):
            raise SourceError(f"source.{split}: no rows in {_names(paths)}")
        with _said(f"source.{split} ({_names(paths)})", partial(_culprit, source.kind, paths)):
            splits[split] = datasets.load_dataset(
                reader,
                data_files={"train": [glob.escape(str(path)) for path in paths]},
                split="train",
                cache_dir=str(cache / revision),
                **settings,
            )
    return splits, revision


def _csv_settings(source: Csv, columns: Columns) -> dict[str, Any]:
    settings: dict[str, Any] = {"sep": source.separator}
    if columns.features is None:
        # "NA", "None" and "null" are words, and "007" is not a number, where a column is text or a path.
        settings |= {"keep_default_na": False, "na_values": [""], "converters": {columns.inputs[0]: str}}
    return settings


def _check_csv(path: Path, separator: str) -> None:
    """Every record has as many fields as the header: pandas would fill up short ones without a word."""
    try:
        reader = pyarrow.csv.open_csv(
            path,
            # A record has to fit in a block.
            read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=True, use_threads=False, block_size=1 << 25),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()}),
        )
        records = sum(batch.num_rows for batch in reader)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: {error} (row 1 is the header); quote fields that hold {separator!r}") from error
    if records < 2:
        raise SourceError(f"{path}: no rows below the header")


def _has_rows(path: Path) -> bool:
    with path.open("rb") as lines:
        return any(line.strip() for line in lines)


def _check_parquet(files: dict[str, list[Path]], columns: Columns) -> None:
    """Every file opens, has the columns, and says the same of them: `datasets` takes the first file's word for all."""
    import datasets

    first: tuple[Path, Any] | None = None
    for split, paths in files.items():
        count = 0
        for path in paths:
            try:
                described = pyarrow.parquet.ParquetFile(path)
            except (pa.ArrowInvalid, OSError) as error:
                raise SourceError(f"{path} is not a readable Parquet file: {error}") from error
            count += described.metadata.num_rows
            features = datasets.Features.from_arrow_schema(described.schema_arrow)
            check_names(list(features), columns, str(path))
            labels = {name: features[name] for name in columns.labels}
            first = first or (path, labels)
            for name, label in labels.items():
                if isinstance(label, datasets.ClassLabel) and label != first[1][name]:
                    raise SourceError(f"label column {name!r} has other classes in {path} than in {first[0]}")
            described.close()
        if not count:
            raise SourceError(f"source.{split}: no rows in {_names(paths)}")


def _culprit(kind: str, paths: Sequence[Path]) -> str:
    """Which file and place a reader stumbled over, found after the fact; empty where this finds nothing."""
    for path in paths:
        try:
            if kind == "parquet":
                for _ in pyarrow.parquet.ParquetFile(path, page_checksum_verification=True).iter_batches():
                    pass
            elif kind == "jsonl":
                with path.open("rb") as lines:
                    for number, line in enumerate(lines, start=1):
                        if line.strip() and not isinstance(json.loads(line), dict):
                            return f"{path} line {number}: not a JSON object"
        except json.JSONDecodeError as error:
            return f"{path} line {number}: {error.msg} at character {error.pos}"
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            return f"{path}: {error}"
    return ""


def _read_imagefolder(source: ImageFolder, base: Path, cache: Path) -> tuple[Splits, str]:
    import datasets
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as Reader

    folders = {"train": _folder(source.train, base, "train")}
    if source.test is not None:
        folders["test"] = _folder(source.test, base, "test")
    listed = []
    for split, folder in folders.items():
        inside = _files_in(folder)
        pictures = [path for path in inside if path.suffix.lower() in Reader.EXTENSIONS]
        if not pictures:
            raise SourceError(f"source.{split}: no pictures in {folder}")
        labelled = {path.name for path in inside} & set(Reader.METADATA_FILENAMES)
        astray = [path for path in pictures if len(path.relative_to(folder).parts) != 2]
        if astray and not labelled:
            raise SourceError(f"source.{split}: {astray[0]} is not in {folder}/CLASS/, its class cannot be told")
        listed += [(f"{split}/{path.relative_to(folder)}", path) for path in inside]
    revision = _digest(listed)
    with _said("source"):
        found = datasets.load_dataset(
            "imagefolder",
            # A pattern of our own: the reader would take a class folder called "test" for a split.
            data_files={split: [f"{glob.escape(str(folder))}/**"] for split, folder in folders.items()},
            drop_labels=False,
            cache_dir=str(cache / revision),
        )
    return dict(found), revision


def _read_disk(source: Disk, base: Path) -> tuple[Splits, str]:
    import datasets

    wanted = {"train": source.train} | ({"test": source.test} if source.test is not None else {})
    if source.path is None:
        folders = {split: _folder(name, base, split) for split, name in wanted.items()}
        with _said("source"):
            found = {split: datasets.load_from_disk(str(folder)) for split, folder in folders.items()}
        if several := [split for split, rows in found.items() if isinstance(rows, datasets.DatasetDict)]:
            raise SourceError(f"source.{several[0]}: {folders[several[0]]} holds several splits, name it source.path")
    else:
        folders = {"": _folder(source.path, base, "path")}
        with _said("source.path"):
            saved = datasets.load_from_disk(str(folders[""]))
        if not isinstance(saved, datasets.DatasetDict):
            raise SourceError(f"source.path: {folders['']} holds one split, name it source.train")
        for split, name in wanted.items():
            if name not in saved:
                raise SourceError(f"source.{split}: no split {name!r} in {folders['']}, there are {', '.join(saved)}")
        found = {split: saved[name] for split, name in wanted.items()}
    listed = [(f"{s}/{path.relative_to(top)}", path) for s, top in folders.items() for path in _files_in(top)]
    return found, _digest(listed)


def _find(patterns: Sequence[str], base: Path, split: str) -> list[Path]:
    """Files that paths and globs name, in the given order, sorted within a glob."""
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = _located(pattern, base, split)
        if path.is_file():
            files[path] = None
            continue
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
        if path.is_dir():
            raise SourceError(f"source.{split}: {path} is a folder, name the files in it ({path}/*)")
        if not matches:
            raise SourceError(f"source.{split}: no file matches {str(path)!r}")
        files |= dict.fromkeys(matches)
    return list(files)


def _folder(name: str, base: Path, key: str) -> Path:
    path = _located(name, base, key)
    if not path.is_dir():
        raise SourceError(f"source.{key}: there is no folder {path}")
    return path


def _files_in(folder: Path) -> list[Path]:
    """Files below a folder in the order of their names, less hidden ones, as the readers see them."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _located(text: str, base: Path, key: str) -> Path:
    """A path with environment variables filled in, relative ones from `base`."""

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        # As in a shell, `:-` stands in for an empty variable too.
        found = os.environ.get(name) or default if default is not None else os.environ.get(name)
        if found is None:
            raise SourceError(f"source.{key}: {text!r} needs the environment variable {name}, which is not set")
        return found

    return Path(os.path.abspath(base / Path(re.sub(VARIABLE, value, text)).expanduser()))


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    """32 hexadecimal digits of the names' hash, sizes and contents of files, in their order."""
    total = xxhash.xxh3_128()
    for name, path in files:
        content = xxhash.xxh3_128()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
        total.update(xxhash.xxh3_128_digest(name.encode()) + path.stat().st_size.to_bytes(8, "little"))
        total.update(content.digest())
    return str(total.hexdigest())


def check_names(there: Sequence[str], columns: Columns, where: str) -> None:
    """SourceError where a column is not there, with the ones that are and the nearest name."""
    for name in (*columns.inputs, *columns.labels):
        if name not in there:
            near = get_close_matches(name, there, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise SourceError(f"{where}: there is no column {name!r}{hint} Columns: {', '.join(map(repr, there))}")


def _names(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


@contextmanager
def _said(what: str, place: Callable[[], str] = str) -> Iterator[None]:
    """Failures of the readers, whatever their class, as a SourceError that begins with `what`."""
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except Exception as error:
        cause = error.__cause__ if type(error) is DatasetGenerationError and error.__cause__ else error
        told = place() or f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        raise SourceError(f"{what}: {told}") from error
