"""A data set before there is a study of it: which files it is made of, and what each of their columns holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import polars as pl

from secateur.pipelines.data.source_kinds.files import SourceError

BUNDLED = ("digits", "diabetes")
"""Data that need no file."""
LIMIT = 200_000
"""Rows that are looked at."""
READERS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
TRAINING, TESTING = ("train", "training"), ("test", "testing", "validation", "valid", "val", "dev", "eval")
SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?$")

Holds = Literal["image", "path", "text", "integer", "number", "boolean", "list", "numbers", "other", "nothing"]
"""`list`: lists of names or whole numbers; `numbers`: lists of real numbers."""


@dataclass(frozen=True)
class Place:
    """Where a data set is, in the words of a study's source; `others` are files left aside."""

    kind: Literal["csv", "jsonl", "parquet", "imagefolder", "disk", "digits", "diabetes"]
    train: str = ""
    test: str | None = None
    first: Path = Path()
    """The file or folder of training rows that is looked at."""
    path: str | None = None
    separator: str = ","
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """What a column holds, of the rows that were looked at.

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
    """The distinct values in order, where there are at most a thousand; of lists, of what they hold."""
    items: Literal["", "text", "integer"] = ""
    """What lists hold."""


@dataclass(frozen=True)
class Profile:
    """A place and what its columns hold."""

    place: Place
    columns: dict[str, Column] = field(default_factory=dict)
    rows: int = 0


def find_data(data: str, test: str | None = None, separator: str | None = None) -> Place:
    """The place that a path, or the name of bundled data, stands for; raises SourceError with the remedy."""
    if data in BUNDLED and not Path(data).exists():
        return Place(data)  # type: ignore[arg-type]
    path = Path(data).expanduser()
    if not path.exists():
        near = get_close_matches(path.name, [entry.name for entry in path.parent.glob("*")], n=1)
        hint = f"; did you mean {str(path.parent / near[0])!r}?" if near else ""
        raise SourceError(f"there is no file or folder {data!r}{hint or '; digits and diabetes need no file'}")
    if "${" in str(path):
        raise SourceError(f"{data}: '${{' in a path stands for an environment variable in a study; rename it")
    place = of_folder(path) if path.is_dir() else of_files([path], path.parent)
    if test is not None and not Path(test).expanduser().exists():
        raise SourceError(f"--test: there is no file or folder {test!r}")
    changes: dict[str, Any] = {} if test is None else {"test": str(Path(test).expanduser())}
    changes |= {} if separator is None else {"separator": separator}
    return Place(**{**vars(place), **changes})


def of_folder(folder: Path) -> Place:
    """What a folder is: saved by `datasets`, pictures by class, or files of one kind."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in folder.iterdir() if (entry / "state.json").is_file())
        train = first_of(splits, TRAINING) or (splits[0] if splits else "train")
        rest = [name for name in splits if name != train]
        test = first_of(rest, TESTING)
        others = tuple(name for name in rest if name != test)
        return Place("disk", train, test, folder / train, path=str(folder), others=others)
    if (folder / "state.json").is_file():
        return Place("disk", str(folder), first=folder)
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.suffix.lower() in READERS)
    if files:
        return of_files(files, folder)
    return of_pictures(folder)


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
    raise SourceError(
        f"{folder}: no data is seen here; a data set is a CSV, JSON lines or Parquet file (or a folder of them), a "
        f"folder with a folder of pictures per class, or what save_to_disk of the datasets library wrote"
    )


def pictures_in(folder: Path) -> list[Path]:
    """Pictures directly in a folder."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in ImageFolder.EXTENSIONS)


def of_files(files: Sequence[Path], folder: Path) -> Place:
    """Tables: the training file or shards of it, the test file beside it, and what is left aside."""
    suffix = files[0].suffix.lower()
    if suffix not in READERS:
        known, ending = ", ".join(READERS), suffix or "without an ending"
        raise SourceError(f"{files[0]}: a file {ending} is not read; convert it to one of {known}")
    stems: dict[str, list[Path]] = {}
    given = list(files)
    beside = sorted(folder.glob(f"*{files[0].suffix}"))
    for file in (file for file in (beside if len(given) == 1 else given) if file.suffix.lower() == suffix):
        stems.setdefault(SHARD.sub("", file.stem) or file.stem, []).append(file)
    if len(given) == 1 and not is_split(given[0].stem, TRAINING):
        mine, rest = given[0].stem, {}
        stems = {mine: given}
    else:
        mine = first_of([SHARD.sub("", given[0].stem)] if len(given) == 1 else list(stems), TRAINING) or ""
        rest = {stem: parts for stem, parts in stems.items() if stem != mine} if mine else {}
    test = partner_of(mine, list(rest))
    parts = stems[mine] if mine else [file for several in stems.values() for file in several]
    separator = separator_of(parts[0]) if READERS[suffix] == "csv" else ","
    return Place(
        READERS[suffix],  # type: ignore[arg-type]
        train=pattern_of(parts, folder),
        test=None if test is None else pattern_of(rest[test], folder),
        first=parts[0],
        separator=separator,
        others=tuple(part.name for stem, several in rest.items() if stem != test for part in several),
    )


def pattern_of(files: Sequence[Path], folder: Path) -> str:
    """One file's path, or the glob that finds several."""
    if len(files) == 1:
        return str(files[0])
    shared = SHARD.sub("", files[0].stem)
    if all(SHARD.sub("", file.stem) == shared for file in files):
        return str(folder / f"{shared}*{files[0].suffix}")
    return str(folder / f"*{files[0].suffix}")


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


def separator_of(path: Path) -> str:
    """The character between the fields of the header, the most frequent of the usual ones."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        header = lines.readline()
    return max(",;\t|", key=lambda mark: (header.count(mark), mark == ","))


def profile(place: Place) -> Profile:
    """Look at the columns; raises SourceError where the file cannot be read."""
    if place.kind in ("imagefolder", *BUNDLED):
        return Profile(place)
    try:
        table, names, pictures = read_head(place)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{place.first}: {' '.join(str(error).split())}") from error
    if not table.height:
        raise SourceError(f"{place.first}: no rows")
    columns = {column.name: described(column, names.get(column.name, ())) for column in table}
    columns |= {name: Column(name, "image", table.height) for name in pictures}
    return Profile(place, columns, table.height)


def read_head(place: Place) -> tuple[pl.DataFrame, dict[str, tuple[str, ...]], list[str]]:
    """The first rows without pictures, class names by column, and the columns of pictures."""
    import datasets

    if place.kind in ("csv", "jsonl"):
        if place.kind == "csv":
            table = pl.read_csv(place.first, separator=place.separator, n_rows=LIMIT, infer_schema_length=None)
        else:
            table = pl.read_ndjson(place.first, n_rows=LIMIT, infer_schema_length=None)
        return table, {}, []
    if place.kind == "parquet":
        import pyarrow.parquet

        features = datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(place.first))
    else:
        rows = datasets.load_from_disk(str(place.first))
        features = rows.features
    pictures = [name for name, feature in features.items() if is_picture(feature)]
    names = {
        name: tuple(feature.names) for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)
    }
    plain = [name for name in features if name not in pictures]
    if place.kind == "parquet":
        lazy = pl.scan_parquet(place.first)
        table = lazy.select(plain or pl.len().alias("")).head(LIMIT).collect()
        if not plain:
            table = pl.DataFrame({"": range(int(table.item()))})
    else:
        head = rows.select(range(min(len(rows), LIMIT))).select_columns(plain).with_format("arrow")
        table = pl.DataFrame(pl.from_arrow(head[:]))
    return table, names, pictures


def is_picture(feature: Any) -> bool:
    """Whether a column holds encoded pictures."""
    import datasets

    kind = str(getattr(feature, "dtype", ""))
    cell = isinstance(feature, dict) and {"bytes", "path"} <= set(feature)
    return isinstance(feature, datasets.Image) or cell or kind in ("binary", "large_binary")


def described(column: pl.Series, names: tuple[str, ...]) -> Column:
    """What a column holds."""
    kind, rows, missing = column.dtype, len(column), column.null_count()
    there = column.drop_nulls()
    if not len(there):
        return Column(column.name, "nothing", rows, missing=missing)
    if isinstance(kind, pl.List | pl.Array):
        return described_lists(column, there, missing)
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.String)):
        return Column(column.name, "other", rows, missing=missing)
    distinct = there.n_unique()
    values = tuple(there.unique().sort().to_list()) if distinct <= 1000 else ()
    facts: dict[str, Any] = {"distinct": distinct, "missing": missing, "names": names, "values": values}
    if kind == pl.Boolean:
        return Column(column.name, "boolean", rows, **facts)
    if kind == pl.String:
        words = float(there.str.split(" ").list.len().cast(pl.Float64).mean() or 0)  # type: ignore[arg-type]
        pictures = there.head(100).str.contains(r"(?i)\.(png|jpe?g|bmp|gif|webp|tiff?)$").all()
        return Column(column.name, "path" if pictures else "text", rows, words=words, **facts)
    steps = there.head(1000).cast(pl.Float64).diff().drop_nulls()
    low, high = float(there.min()), float(there.max())  # type: ignore[arg-type]
    counts_up = distinct == rows and kind.is_integer() and bool((steps == 1).all())
    holds: Holds = "integer" if kind.is_integer() else "number"
    return Column(column.name, holds, rows, low=low, high=high, counts_up=counts_up, **facts)


def described_lists(column: pl.Series, there: pl.Series, missing: int) -> Column:
    """What a column of lists holds."""
    values = there.explode().drop_nulls()
    if values.dtype.is_float():
        return Column(column.name, "numbers", len(column), missing=missing)
    items = "text" if values.dtype == pl.String else "integer" if values.dtype.is_integer() else None
    if items is None:
        return Column(column.name, "other", len(column), missing=missing)
    distinct = values.unique().sort()
    known = tuple(distinct.to_list()) if len(distinct) <= 1000 else ()
    return Column(column.name, "list", len(column), len(distinct), missing, values=known, items=items)  # type: ignore[arg-type]
