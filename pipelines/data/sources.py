"""Where a study's data comes from: a source as YAML names it, and the two data sets that it loads as.

The readers are those of the `datasets` library. Ours is what comes before and after: files are found, whole and of
one shape before anything long starts, what is wrong is said with file, column and row, and labels are integers.
An image column is loaded undecoded (`datasets.Image(decode=False)`, cells of `{"bytes", "path"}`), so one broken
picture does not take its data set down: `samples.decode_image` gives None for it and the data check names its row.

Tables are prepared as Arrow under `cache`, in a folder named after the digest of the files, and memory-mapped; the
`datasets` library writes there by rename. The folder may be deleted whenever nothing runs. Local sources never use
the network. Hub data sets live in the usual Hugging Face cache and load offline once they are there.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from secateur.pipelines.data.columns import Columns as Columns
from secateur.pipelines.data.identity import feature_text, labels_of
from secateur.pipelines.data.readers import SourceError as SourceError
from secateur.pipelines.data.readers import Splits, check_names, read
from secateur.pipelines.data.settings import Digits
from secateur.pipelines.data.settings import Source as Source
from secateur.scorers.contract import rows_text
from secateur.selectors.draws.ranks import random_keys

if TYPE_CHECKING:
    import datasets

DIGITS_TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Loaded:
    """A data set in memory maps; row i of `train` is the same sample everywhere in a run.

    `revision` is the hub's commit, or a digest of the content of the local files.
    """

    train: "datasets.Dataset"
    test: "datasets.Dataset"
    label_names: tuple[str, ...]
    revision: str


def load(source: Source, columns: Columns, base: Path, cache: Path | None = None) -> Loaded:
    """Load a source; `base` is what its relative paths start from.

    `cache` takes prepared tables, `$SECATEUR_CACHE` or `~/.cache/secateur` if it is None. Rows keep the order of the
    files (sorted by name within a glob), the test split drawn by `test_fraction` and a `limit` included.
    Raises SourceError for everything that bad data can be.
    """
    cache = Path(cache or os.environ.get("SECATEUR_CACHE") or Path.home() / ".cache" / "secateur")
    with own_manners():
        splits, revision = read(source, columns, Path(os.path.abspath(base)), cache / "sources")
        for name, rows in splits.items():
            _check_columns(rows, columns, f"{source.kind} source, {name} split")
        _check_alike(splits, columns)
        splits = {name: number_labels(rows, columns, source.label_names, name) for name, rows in splits.items()}
        names = _class_names(splits, columns, source.label_names)
        splits = {name: open_images(rows, columns, Path(os.path.abspath(base))) for name, rows in splits.items()}
        fraction = DIGITS_TEST_FRACTION if isinstance(source, Digits) else source.test_fraction
        if fraction is not None:
            splits = _split(splits["train"], columns, fraction, source.split_seed)
        if source.limit is not None:
            splits = {name: _draw(rows, columns, source.limit, source.split_seed) for name, rows in splits.items()}
    return Loaded(splits["train"], splits["test"], names, revision)


def _check_columns(rows: "datasets.Dataset", columns: Columns, where: str) -> None:
    """The columns are there and hold what they are said to hold, in at least one row."""
    import datasets

    check_names(rows.column_names, columns, where)
    if not len(rows):
        raise SourceError(f"{where}: no rows")
    for name in columns.inputs:
        feature = rows.features[name]
        kind = _kind(feature)
        binary = feature_text(feature) in ("binary", "large_binary")
        cell = isinstance(feature, dict) and {"bytes", "path"} <= set(feature)
        if columns.image is not None and not (isinstance(feature, datasets.Image) or binary or cell or kind == "text"):
            raise SourceError(f"{where}: image column {name!r} holds {feature_text(feature)}, not pictures or paths")
        if columns.text is not None and kind != "text":
            raise SourceError(f"{where}: text column {name!r} holds {feature_text(feature)}, not strings")
        if columns.features is not None and kind is None:
            raise SourceError(
                f"{where}: feature column {name!r} holds {feature_text(feature)}; "
                "features are numbers, booleans and strings"
            )


def _kind(feature: Any) -> Literal["number", "boolean", "text", "nothing"] | None:
    name = feature_text(feature)
    if getattr(feature, "_type", "") not in ("Value", "ClassLabel"):
        return None
    if name.endswith("string") or name == "string_view":
        return "text"
    if name in ("bool", "null"):
        return "boolean" if name == "bool" else "nothing"
    return "number" if re.fullmatch(r"u?int\d+|float\d+", name) else None


def _check_alike(splits: Splits, columns: Columns) -> None:
    """A feature is of one kind in train and test; 1 and 1.0 are of one kind."""
    for name in columns.features or []:
        kinds = {split: _kind(rows.features[name]) for split, rows in splits.items()}
        if len(set(kinds.values()) - {"nothing"}) > 1:
            told = ", ".join(f"{kind} in {split}" for split, kind in kinds.items())
            raise SourceError(f"feature column {name!r} is {told}: make it one type in both")


def number_labels(
    rows: "datasets.Dataset", columns: Columns, names: list[str] | None, split: str
) -> "datasets.Dataset":
    """A label column of strings as a ClassLabel, numbered by the places of the strings among `source.label_names`."""
    import datasets

    feature = rows.features[columns.label]
    if _kind(feature) != "text":
        return rows
    words = rows.select_columns([columns.label]).with_format("arrow")[:][columns.label].to_pylist()
    if names is None:
        some = ", ".join(sorted(map(repr, set(words[:1000]) - {None}))[:5])
        raise SourceError(
            f"label column {columns.label!r} holds strings ({some}, …): list all classes in source.label_names, "
            f"in the order of their numbers"
        )
    places = {name: place for place, name in enumerate(names)}
    unknown = [row for row, word in enumerate(words) if word not in places]
    if unknown:
        where = rows_text(np.array(unknown))
        raise SourceError(
            f"{split} split: label column {columns.label!r} is {words[unknown[0]]!r} at {where}, which is not in "
            f"source.label_names ({', '.join(names)})"
        )
    numbers = np.array([places[word] for word in words], np.int64)
    return rows.remove_columns(columns.label).add_column(
        columns.label, numbers, feature=datasets.ClassLabel(names=list(names))
    )


def open_images(rows: "datasets.Dataset", columns: Columns, base: Path) -> "datasets.Dataset":
    """The image column as undecoded cells; paths in a column of strings start from `base`."""
    import datasets

    if columns.image is None:
        return rows
    cells = datasets.Image(decode=False)
    if _kind(rows.features[columns.image]) != "text":
        return rows.cast_column(columns.image, cells)
    paths = rows.select_columns([columns.image]).with_format("arrow")[:][columns.image].to_pylist()
    opened = [{"bytes": None, "path": str(base / path) if path else None} for path in paths]
    return rows.remove_columns(columns.image).add_column(columns.image, opened, feature=cells)


def _class_names(splits: Splits, columns: Columns, given: list[str] | None) -> tuple[str, ...]:
    """Names of the classes 0 … C-1; every label is one of them."""
    labels = {}
    for split, rows in splits.items():
        try:
            labels[split] = labels_of(rows, columns)
        except ValueError as error:
            raise SourceError(f"{split} split: {error}") from error
    stored = {split: getattr(rows.features[columns.label], "names", None) for split, rows in splits.items()}
    declared = [names for names in stored.values() if names]
    if any(names != declared[0] for names in declared):
        raise SourceError(f"label column {columns.label!r} has other classes in train than in test: {stored}")
    if given and declared and len(given) != len(declared[0]):
        raise SourceError(f"source.label_names has {len(given)} names, the ClassLabel has {len(declared[0])} classes")
    names = given or (declared[0] if declared else None)
    present = np.unique(np.concatenate(list(labels.values())))
    if names is not None:
        if present[-1] >= len(names):
            raise SourceError(f"label column {columns.label!r} holds {present[-1]}, there are {len(names)} label names")
        return tuple(names)
    if present[-1] != len(present) - 1:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise SourceError(
            f"label column {columns.label!r} holds {len(present)} classes up to {present[-1]} but no {gap}: "
            f"number them 0 … {len(present) - 1}, or name all classes in source.label_names"
        )
    return tuple(str(name) for name in present)


def stratified_rows(labels: np.ndarray, count: int, seed: int, leave: int = 0) -> np.ndarray:
    """Rows of a draw that keeps the classes' shares, int64 `[count]` ascending.

    Largest remainders get the places that whole shares leave; at least `leave` rows of each class are not drawn
    (which may make the draw smaller). Which rows: the smallest `random_keys` of `(seed, row)`.
    """
    _, members, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    ceiling = np.maximum(sizes - leave, 0)
    quotas = np.minimum(sizes * count // len(labels), ceiling)
    for place in np.argsort(-(sizes * count % len(labels)), kind="stable").tolist():
        if quotas.sum() < count and quotas[place] < ceiling[place]:
            quotas[place] += 1
    order = np.lexsort((random_keys(len(labels), seed), members))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < quotas[members[order]]])


def _split(rows: "datasets.Dataset", columns: Columns, fraction: float, seed: int) -> Splits:
    count = int(np.floor(len(rows) * fraction + 0.5))
    test = stratified_rows(labels_of(rows, columns), count, seed, leave=1) if count else np.empty(0, np.int64)
    if not len(test):
        raise SourceError(f"source.test_fraction: {fraction} of {len(rows)} rows leaves the test split empty")
    train = np.setdiff1d(np.arange(len(rows)), test)
    return {
        "train": rows.select(train, keep_in_memory=True),
        "test": rows.select(test, keep_in_memory=True),
    }


def _draw(rows: "datasets.Dataset", columns: Columns, limit: int, seed: int) -> "datasets.Dataset":
    if len(rows) <= limit:
        return rows
    return rows.select(stratified_rows(labels_of(rows, columns), limit, seed), keep_in_memory=True)


@contextmanager
def own_manners() -> Iterator[None]:
    """`datasets` without progress bars, without logging what is raised, without a call home to count loads."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    if not bars:
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
