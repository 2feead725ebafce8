"""Profile of a data set without a study: its files, and the contents of each column."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from secateur.pipelines.data.lazy import pa, pl, types
from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.files import SourceError, find
from secateur.pipelines.data.source_kinds.hub import Hub
from secateur.pipelines.data.source_kinds.json_arrays import ENDINGS
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, settled_types

BUNDLED = ("digits", "diabetes")
"""Data that need no file."""
NO_FILE = "; digits and diabetes need no file, and `init` takes owner/name of a data set on the hub"
LIMIT = 200_000
"""Most rows that a profile reads."""
PLAIN = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
READERS = {**PLAIN, **{f"{ending}.gz": kind for ending, kind in PLAIN.items()}, ".parquet": "parquet"}
MISSING = ("?", "NA", "N/A", "n/a", "nan", "NaN", "None", "null", "NULL", "-", "missing")
"""Marks that usually stand for a missing value."""
TRAINING, TESTING = ("train", "training"), ("test", "testing", "validation", "valid", "val", "dev", "eval")
LOOKED_AT = 10_000
"""Most files below a folder that a message considers."""
SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?$")

Holds = Literal["image", "path", "text", "integer", "number", "boolean", "list", "numbers", "other", "nothing"]
"""`list`: lists of names or whole numbers; `numbers`: lists of real numbers."""


@dataclass(frozen=True)
class Place:
    """Location of a data set, in the words of a study's source; `others` are files or splits left aside."""

    kind: Literal["csv", "jsonl", "parquet", "imagefolder", "disk", "hub", "digits", "diabetes"]
    train: str = ""
    test: str | None = None
    first: Path = Path()
    """The file or folder of training rows that a profile reads."""
    path: str | None = None
    """The folder of a DatasetDict, whose splits `train` and `test` name, or owner/name on the hub."""
    separator: str = ","
    charset: str = "utf-8"
    others: tuple[str, ...] = ()
    config: str | None = None
    revision: str | None = None
    """Configuration and commit of a data set on the hub."""


@dataclass(frozen=True)
class Column:
    """Contents of a column in the rows of a profile.

    `distinct` and `missing` count values, `low` and `high` are the extremes of a column of numbers, `words` the mean
    number of words of a column of strings, `names` class names where the file knows them, `examples` some values.
    """

    name: str
    holds: Holds
    rows: int
    distinct: int = 0
    missing: int = 0
    low: float | None = None
    high: float | None = None
    words: float = 0.0
    counts_up: bool = False
    names: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    """The distinct values in order, where there are at most a thousand; for lists, of their items."""
    items: Literal["", "text", "integer"] = ""
    """Type of the items of lists."""
    whole: bool = False
    """Whether every number is a whole one, also where the file holds it as 1.0."""
    marks: tuple[str, ...] = ()
    """Marks of missing values in a column of a CSV whose other values are numbers or booleans."""
    strays: bool = False
    """Whether nearly all texts of the column are numbers or booleans."""
    unmarked: Column | None = None
    """The column with its marks read as missing values, where it has any."""


@dataclass(frozen=True)
class Profile:
    """A place and the contents of its columns."""

    place: Place
    columns: dict[str, Column] = field(default_factory=dict)
    rows: int = 0
    head: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(), compare=False)
    """The rows of the profile, without pictures."""


def find_data(data: str, test: str | None = None, separator: str | None = None, charset: str | None = None) -> Place:
    """The place of a path, or of bundled data by name; raises SourceError with the remedy."""
    if data in BUNDLED and not Path(data).exists():
        return Place(data)  # type: ignore[arg-type]
    path = Path(data).expanduser()
    if not path.exists():
        near = get_close_matches(path.name, [entry.name for entry in path.parent.glob("*")], n=1)
        hint = f"; did you mean {str(path.parent / near[0])!r}?" if near else ""
        raise SourceError(f"there is no file or folder {data!r}{hint or NO_FILE}")
    if "${" in str(path):
        raise SourceError(f"{data}: '${{' in a path stands for an environment variable in a study; rename it")
    place = of_folder(path) if path.is_dir() else of_files([path], path.parent)
    if test is not None and not Path(test).expanduser().exists():
        raise SourceError(f"--test: there is no file or folder {test!r}")
    changes: dict[str, Any] = {} if test is None else {"test": str(Path(test).expanduser())}
    changes |= {} if separator is None else {"separator": separator}
    changes |= {} if charset is None else {"charset": charset}
    return Place(**{**vars(place), **changes})


def of_folder(folder: Path) -> Place:
    """The place of a folder: saved by `datasets`, pictures by class, or files of one kind."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in folder.iterdir() if (entry / "state.json").is_file())
        train = first_of(splits, TRAINING) or (splits[0] if splits else "train")
        rest = [name for name in splits if name != train]
        test = first_of(rest, TESTING)
        others = tuple(name for name in rest if name != test)
        return Place("disk", train, test, folder / train, path=str(folder), others=others)
    if (folder / "state.json").is_file():
        return Place("disk", str(folder), first=folder)
    known = sorted(entry for entry in folder.iterdir() if entry.is_file() and ending_of(entry) in READERS)
    # Settings and lists of classes end in .json too: only its name makes such a file data, and only without others.
    files = [file for file in known if ending_of(file) not in ENDINGS]
    arrays = [file for file in known if file not in files and is_split(stem_of(file), (*TRAINING, *TESTING))]
    if files and all(entry.stem == "metadata" for entry in files):
        entries = (folder, *(entry for entry in folder.iterdir() if entry.is_dir()))
        if any(pictures_in(entry) for entry in entries):
            return Place("imagefolder", str(folder), first=folder)
    if files:
        return of_files(files, folder)
    try:
        return of_pictures(folder)
    except SourceError:
        if arrays:
            return of_files(arrays, folder)
        raise


def of_pictures(folder: Path) -> Place:
    """A folder of class folders, or of such folders by split; raises SourceError for any other."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    names = [entry.name for entry in inside]
    train = first_of(names, TRAINING)
    if train and any(pictures_in(entry) for entry in (folder / train).iterdir() if entry.is_dir()):
        rest = [name for name in names if name != train]
        test = first_of(rest, TESTING)
        others = tuple(name for name in rest if name != test)
        return Place("imagefolder", str(folder / train), test and str(folder / test), folder / train, others=others)
    if any(pictures_in(entry) for entry in inside):
        return Place("imagefolder", str(folder), first=folder)
    below = (path for path in islice(folder.rglob("*"), LOOKED_AT) if ending_of(path) not in ENDINGS)
    if deeper := next((path for path in below if ending_of(path) in READERS), None):
        raise SourceError(f"{folder}: files of data lie in folders below it, such as {deeper}: name a folder of files")
    raise SourceError(
        f"{folder}: no data is seen here; a data set is a CSV, JSON or Parquet file (or a folder of them), a "
        f"folder with a folder of pictures per class, or a folder of save_to_disk of the datasets library"
    )


def pictures_in(folder: Path) -> list[Path]:
    """Pictures directly in a folder."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in ImageFolder.EXTENSIONS)


def of_files(files: Sequence[Path], folder: Path) -> Place:
    """The place of tables: the training file or its shards, the test file beside it, and files left aside."""
    ending = ending_of(files[0])
    if ending not in READERS:
        known, shown = ", ".join(READERS), ending or "without an ending"
        raise SourceError(f"{files[0]}: a file {shown} is not read; convert it to one of {known}")
    stems: dict[str, list[Path]] = {}
    given = list(files)
    beside = sorted(folder.glob(f"*{files[0].suffix}"))
    for file in (file for file in (beside if len(given) == 1 else given) if ending_of(file) == ending):
        stems.setdefault(SHARD.sub("", stem_of(file)) or stem_of(file), []).append(file)
    if len(given) == 1 and not is_split(stem_of(given[0]), TRAINING):
        mine, rest = stem_of(given[0]), {}
        stems = {mine: given}
    else:
        mine = first_of([SHARD.sub("", stem_of(given[0]))] if len(given) == 1 else list(stems), TRAINING) or ""
        rest = {stem: parts for stem, parts in stems.items() if stem != mine} if mine else {}
    test = partner_of(mine, list(rest))
    parts = stems[mine] if mine else [file for several in stems.values() for file in several]
    separator = separator_of(parts[0]) if READERS[ending] == "csv" else ","
    return Place(
        READERS[ending],  # type: ignore[arg-type]
        train=pattern_of(parts, folder),
        test=None if test is None else pattern_of(rest[test], folder),
        first=parts[0],
        separator=separator,
        others=tuple(part.name for stem, several in rest.items() if stem != test for part in several),
    )


def ending_of(path: Path) -> str:
    """The last suffix of a file, or the last two where the last is .gz, in lower case."""
    return "".join(path.suffixes[-2 if path.suffix.lower() == ".gz" else -1 :]).lower()


def stem_of(path: Path) -> str:
    """A file's name without its ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def pattern_of(files: Sequence[Path], folder: Path) -> str:
    """One file's path, or the glob that finds several."""
    if len(files) == 1:
        return str(files[0])
    shared, ending = SHARD.sub("", stem_of(files[0])), files[0].name[len(stem_of(files[0])) :]
    if all(SHARD.sub("", stem_of(file)) == shared for file in files):
        return str(folder / f"{shared}*{ending}")
    return str(folder / f"*{ending}")


def first_of(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the names that is one of the wanted words, in the order of the words; whole names before parts."""
    exact = next((name for word in wanted for name in names if name.lower() == word), None)
    return exact or next((name for word in wanted for name in names if is_split(name, [word])), None)


def partner_of(train: str, names: Sequence[str]) -> str | None:
    """The name that differs from the training files' by its last word: `test` of `train`, `a_dev` of `a_train`."""
    prefix = re.sub(rf"({'|'.join(TRAINING)})$", "", train.lower())
    return next((name for word in TESTING for name in names if name.lower() == prefix + word), None)


def is_split(stem: str, words: Sequence[str]) -> bool:
    """Whether a name is one of the words, or ends with one (`mnist-train`)."""
    return any(re.search(rf"(^|[-_. ]){word}$", stem.lower()) for word in words)


def separator_of(path: Path, charset: str = "utf-8-sig") -> str:
    """The character between the fields of the header, the most frequent of the usual ones."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding=charset, errors="replace") as lines:
        header = lines.readline(1 << 20)
    return max(",;\t|", key=lambda mark: (header.count(mark), mark == ","))


def profile(place: Place) -> Profile:
    """Profile the columns, in the types of the reader; raises SourceError where a file is unreadable."""
    if place.kind in ("imagefolder", *BUNDLED):
        return Profile(place)
    files, tests = files_at(place)
    kinds = types_of([*files, *tests], files[0].columns)
    plain = {name: kind for name, kind in kinds.items() if name and kind not in (None, types.PICTURE)}
    head = head_of(files, plain)
    columns = {}
    for name, kind in kinds.items():
        if not name:  # row numbers, as pandas writes them
            continue
        if kind is None or kind == types.PICTURE:
            columns[name] = Column(name, "other" if kind is None else "image", head.height)
        else:
            columns[name] = described(head[name], files[0].label_names.get(name, ()))
    if place.kind == "csv":
        columns |= with_marks([*files, *tests], columns, head)
    return Profile(place, columns, head.height, head)


def files_at(place: Place) -> tuple[list[SourceFile], list[SourceFile]]:
    """Files of training rows, and of test rows if there are any."""
    if place.kind == "disk":
        import datasets

        return [DatasetSplit(str(place.first), datasets.load_from_disk(str(place.first)))], []
    splits = {"train": place.train} | ({"test": place.test} if place.test else {})
    if place.kind == "hub":
        source = Hub.model_validate({"kind": "hub", "name": place.path, "config": place.config})
        rows = [DatasetSplit(name, source.rows(name, str(place.revision))) for name in splits.values()]
        return list(rows[:1]), list(rows[1:])
    found = {
        split: [file_at(place, path) for path in find([text], Path.cwd(), split)] for split, text in splits.items()
    }
    return found["train"], found.get("test", [])


def file_at(place: Place, path: Path) -> SourceFile:
    """A file with the reader of its kind."""
    if place.kind == "csv":
        return CsvFile(path, place.separator, place.charset)
    return JsonlFile(path) if place.kind == "jsonl" else ParquetFile(path)


def types_of(files: Sequence[SourceFile], names: Sequence[str]) -> dict[str, pa.DataType | None]:
    """One type per column over all files; None for a column that no study can read."""
    shared = [name for name in names if all(name in file.columns for file in files)]
    try:
        return dict(settled_types(files, shared, ()))
    except SourceError:
        if isinstance(files[0], CsvFile):  # texts have a common type: the file is unreadable
            raise
    kinds: dict[str, pa.DataType | None] = {}
    for name in shared:
        try:
            kinds[name] = settled_types(files, [name], ())[name]
        except SourceError:
            kinds[name] = None
    return kinds


def head_of(files: Sequence[SourceFile], kinds: Mapping[str, pa.DataType]) -> pl.DataFrame:
    """The first `LIMIT` rows; none for a data set of nothing but pictures."""
    parts: list[pa.Table] = []
    rows = 0
    for table in (table for file in files for table in file.batches(kinds)) if kinds else ():
        parts.append(table.slice(0, LIMIT - rows))
        rows += parts[-1].num_rows
        if rows >= LIMIT:
            break
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(parts))) if parts else pl.DataFrame()


def with_marks(files: Sequence[SourceFile], columns: Mapping[str, Column], head: pl.DataFrame) -> dict[str, Column]:
    """Columns of texts that are numbers or booleans but for marks of missing values, with the marks of all rows."""
    names = tuple(name for name, column in columns.items() if column.holds in ("text", "path"))
    if not names:
        return {}
    cleaned = [replace(file, features=names, missing=MISSING) for file in files if isinstance(file, CsvFile)]
    kinds = {name: kind for name, kind in settled_types(cleaned, names, ()).items() if kind != types.TEXT}
    marks: dict[str, set[str]] = {name: set() for name in kinds}
    for file in files if kinds else ():
        for table in file.batches(dict.fromkeys(kinds, types.TEXT)):
            for name in kinds:
                texts = types.series_of(table[name]).str.strip_chars()
                marks[name] |= set(texts.filter(texts.is_in(MISSING)).unique())
    found = {}
    for name, kind in kinds.items():
        values = types.from_texts(types.without_missing(head[name], MISSING), kind)
        unmarked = described(values, ())
        found[name] = replace(columns[name], marks=tuple(sorted(marks[name])), unmarked=unmarked)
    return found


def described(column: pl.Series, names: tuple[str, ...]) -> Column:
    """Profile of a column; NaN is a missing value."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    kind, rows, missing = column.dtype, len(column), column.null_count()
    there = column.drop_nulls()
    if not len(there):
        return Column(column.name, "nothing", rows, missing=missing)
    if isinstance(kind, pl.List | pl.Array):
        return described_lists(column, there, missing)
    distinct = there.n_unique()
    values = tuple(there.unique().sort().to_list()) if distinct <= 1000 else ()
    facts: dict[str, Any] = {"distinct": distinct, "missing": missing, "names": names, "values": values}
    if kind == pl.Boolean:
        return Column(column.name, "boolean", rows, **facts)
    if kind == pl.String:
        words = float(there.str.split(" ").list.len().cast(pl.Float64).mean() or 0)  # type: ignore[arg-type]
        pictures = there.head(100).str.contains(r"(?i)\.(png|jpe?g|bmp|gif|webp|tiff?)$").all()
        strays = types.meant(np.bincount(types.looks_of(there), minlength=5)) is not None
        return Column(column.name, "path" if pictures else "text", rows, words=words, strays=strays, **facts)
    if not kind.is_numeric():
        return Column(column.name, "other", rows, missing=missing)
    steps = there.head(1000).cast(pl.Float64).diff().drop_nulls()
    low, high = float(there.min()), float(there.max())  # type: ignore[arg-type]
    counts_up = distinct == rows and kind.is_integer() and bool((steps == 1).all())
    holds: Holds = "integer" if kind.is_integer() else "number"
    whole = kind.is_integer() or bool((there == there.round()).all())
    return Column(column.name, holds, rows, low=low, high=high, counts_up=counts_up, whole=whole, **facts)


def described_lists(column: pl.Series, there: pl.Series, missing: int) -> Column:
    """Profile of a column of lists."""
    values = there.explode().drop_nulls()
    if values.dtype.is_float():
        return Column(column.name, "numbers", len(column), missing=missing)
    items = "text" if values.dtype == pl.String else "integer" if values.dtype.is_integer() else None
    if items is None:
        return Column(column.name, "other", len(column), missing=missing)
    distinct = values.unique().sort()
    known = tuple(distinct.to_list()) if len(distinct) <= 1000 else ()
    return Column(column.name, "list", len(column), len(distinct), missing, values=known, items=items)  # type: ignore[arg-type]
