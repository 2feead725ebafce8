"""Where a study's data comes from: a source as YAML names it, and the two data sets that it loads as.

The readers are those of the `datasets` library. Ours is what comes before and after: files are found, whole and of
one shape before anything long starts, what is wrong is said with file, column and row, and targets are what
the study's task reads.
An image column is loaded undecoded (`datasets.Image(decode=False)`, cells of `{"bytes", "path"}`), so one broken
picture does not take its data set down: `samples.decode_image` gives None for it and the data check names its row.

Tables are prepared as Arrow under `cache`, in a folder named after the digest of the files, and memory-mapped; the
`datasets` library writes there by rename. The folder may be deleted whenever nothing runs. Local sources never use
the network. Hub data sets live in the usual Hugging Face cache and load offline once they are there.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from secateur.pipelines.data.classes import feature_text, kind_of
from secateur.pipelines.data.columns import Columns as Columns
from secateur.pipelines.data.source_kinds.contract import Splits, check_names
from secateur.pipelines.data.source_kinds.files import SourceError as SourceError
from secateur.pipelines.data.source_kinds.registry import Source as Source
from secateur.pipelines.data.targets import read_targets, without_targets
from secateur.selectors.draws.ranks import random_keys

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Loaded:
    """A data set in memory maps; row i of `train` is the same sample everywhere in a run.

    `targets` and `test_targets` are int64 `[n]` of classes, float64 `[n, k]` of numbers or bool `[n, labels]` of sets
    of labels, `label_names` names the classes, numbers or labels. `revision` is the hub's commit, or a digest of the
    content of the local files. `unlabelled` counts the rows of each split that were dropped for want of a label.
    """

    train: "datasets.Dataset"
    test: "datasets.Dataset"
    targets: Shaped[np.ndarray, "n ..."]
    test_targets: Shaped[np.ndarray, "m ..."]
    label_names: tuple[str, ...]
    revision: str
    unlabelled: Mapping[str, int]


def load(source: Source, columns: Columns, base: Path, cache: Path | None = None) -> Loaded:
    """Load a source; `base` is what its relative paths start from.

    `cache` takes prepared tables, `$SECATEUR_CACHE` or `~/.cache/secateur` if it is None. Rows keep the order of the
    files (sorted by name within a glob), the test split drawn by `test_fraction` and a `limit` included.
    Raises SourceError for everything that bad data can be.
    """
    cache = Path(cache or os.environ.get("SECATEUR_CACHE") or Path.home() / ".cache" / "secateur")
    dropped = {}
    with own_manners():
        splits, revision = source.read(columns, Path(os.path.abspath(base)), cache / "sources")
        for name, rows in splits.items():
            _check_columns(rows, columns, f"{source.kind} source, {name} split")
        _check_alike(splits, columns)
        if source.unlabelled == "drop":
            absent = {name: without_targets(rows, columns) for name, rows in splits.items()}
            splits = {name: _without(rows, absent[name], name) for name, rows in splits.items()}
            dropped = {name: len(rows) for name, rows in absent.items()}
        splits, targets, names = read_targets(splits, columns, source.label_names)
        splits = {name: open_images(rows, columns, Path(os.path.abspath(base))) for name, rows in splits.items()}
        if source.held_out is not None:
            splits, targets = _split(splits["train"], targets["train"], source.held_out, source.split_seed)
        if source.limit is not None:
            for name, rows in splits.items():
                if len(rows) > source.limit:
                    drawn = drawn_rows(targets[name], source.limit, source.split_seed)
                    splits[name] = rows.select(drawn, keep_in_memory=True)
                    targets[name] = targets[name][drawn]
    return Loaded(splits["train"], splits["test"], targets["train"], targets["test"], names, revision, dropped)


def _without(rows: "datasets.Dataset", absent: np.ndarray, split: str) -> "datasets.Dataset":
    if len(absent) == len(rows):
        raise SourceError(f"{split} split: no row has a label")
    return rows.select(np.setdiff1d(np.arange(len(rows)), absent), keep_in_memory=True) if len(absent) else rows


def _check_columns(rows: "datasets.Dataset", columns: Columns, where: str) -> None:
    """The columns are there and hold what they are said to hold, in at least one row."""
    import datasets

    check_names(rows.column_names, columns, where)
    if not len(rows):
        raise SourceError(f"{where}: no rows")
    for name in columns.inputs:
        feature = rows.features[name]
        kind = kind_of(feature)
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


def _check_alike(splits: Splits, columns: Columns) -> None:
    """A feature is of one kind in train and test; 1 and 1.0 are of one kind."""
    for name in columns.features or []:
        kinds = {split: kind_of(rows.features[name]) for split, rows in splits.items()}
        if len(set(kinds.values()) - {"nothing"}) > 1:
            told = ", ".join(f"{kind} in {split}" for split, kind in kinds.items())
            raise SourceError(f"feature column {name!r} is {told}: make it one type in both")


def open_images(rows: "datasets.Dataset", columns: Columns, base: Path) -> "datasets.Dataset":
    """The image column as undecoded cells; paths in a column of strings start from `base`."""
    import datasets

    if columns.image is None:
        return rows
    cells = datasets.Image(decode=False)
    if kind_of(rows.features[columns.image]) != "text":
        return rows.cast_column(columns.image, cells)
    paths = rows.select_columns([columns.image]).with_format("arrow")[:][columns.image].to_pylist()
    opened = [{"bytes": None, "path": str(base / path) if path else None} for path in paths]
    return rows.remove_columns(columns.image).add_column(columns.image, opened, feature=cells)


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


def drawn_rows(targets: Shaped[np.ndarray, "n ..."], count: int, seed: int, leave: int = 0) -> np.ndarray:
    """Rows of a draw that keeps the strata of the targets, int64 `[count]` ascending; see `stratified_rows`.

    Strata are classes, bins of numbers, or, of sets of labels, what iterative stratification makes of them.
    """
    if targets.dtype == np.bool_:
        from secateur.selectors.draws.iterative_stratification import draw_by_labels

        return np.flatnonzero(draw_by_labels(targets, count, seed=seed))
    if targets.dtype == np.float64:
        from secateur.trainers.tasks.regression import Regression

        return stratified_rows(Regression().fitted(targets).strata(targets), count, seed)
    return stratified_rows(targets, count, seed, leave)


def _split(
    rows: "datasets.Dataset", targets: Shaped[np.ndarray, "n ..."], fraction: float, seed: int
) -> tuple[Splits, dict[str, Shaped[np.ndarray, "n ..."]]]:
    count = int(np.floor(len(rows) * fraction + 0.5))
    test = drawn_rows(targets, count, seed, leave=1) if count else np.empty(0, np.int64)
    if not len(test):
        raise SourceError(f"source.test_fraction: {fraction} of {len(rows)} rows leaves the test split empty")
    parts = {"train": np.setdiff1d(np.arange(len(rows)), test), "test": test}
    splits = {name: rows.select(part, keep_in_memory=True) for name, part in parts.items()}
    return splits, {name: targets[part] for name, part in parts.items()}


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
