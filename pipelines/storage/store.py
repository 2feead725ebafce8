"""Files that assets hand each other: memory-mapped arrays, Parquet tables, JSON, folders; never pickles.

Every asset has one place below the root, `<study>/<asset>[/<selection>/<seed>]`, and every write is a rename.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from secateur.pipelines.files.whole_files import new_file, new_folder, write_bytes
from secateur.pipelines.studies.grid import Trial

EXTENSIONS = (".npy", ".parquet", ".json", "")


@runtime_checkable
class Named(Protocol):
    """Dagster's key of an asset, as far as files go: this room does not import dagster."""

    @property
    def path(self) -> Sequence[str]:
        """Names from the study down."""


Key = Named | tuple[str, ...]
"""Names from the study down to the asset: `("blobs", "scores", "aum")`, or Dagster's key of the same."""


def names_of(key: Key) -> tuple[str, ...]:
    """Names of a key from the study down."""
    return tuple(key.path) if isinstance(key, Named) else key


@dataclass(frozen=True)
class Store:
    """Values on disk under one root."""

    root: Path

    def place(self, key: Key, trial: Trial | None = None) -> Path:
        """Where an asset's value lives, less its extension."""
        return self.root.joinpath(*names_of(key), *([trial.selection, str(trial.seed)] if trial else []))

    def find(self, key: Key, trial: Trial | None = None) -> Path | None:
        """The file or folder that is there."""
        place = self.place(key, trial)
        candidates = (place.with_name(place.name + extension) for extension in EXTENSIONS)
        return next((path for path in candidates if path.exists()), None)

    def save(self, key: Key, value: Any, trial: Trial | None = None) -> Path:
        """Write an array, a table or JSON-able data, whole or not at all; a file that is written already is moved."""
        place = self.place(key, trial)
        if isinstance(value, Path):
            path = place.with_name(place.name + value.suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            value.replace(path)
        elif isinstance(value, np.ndarray):
            path = place.with_name(f"{place.name}.npy")
            with new_file(path, overwrite=True) as partial, partial.open("wb") as file:
                np.save(file, value, allow_pickle=False)
        elif isinstance(value, pl.DataFrame):
            path = place.with_name(f"{place.name}.parquet")
            with new_file(path, overwrite=True) as partial:
                value.write_parquet(partial)
        else:
            path = place.with_name(f"{place.name}.json")
            write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode(), overwrite=True)
        return path

    @contextmanager
    def folder(self, key: Key, trial: Trial | None = None) -> Iterator[Path]:
        """An empty folder to fill; it takes its place only when the block ends without an error."""
        with new_folder(self.place(key, trial), overwrite=True) as partial:
            yield partial

    def load(self, key: Key, trial: Trial | None = None) -> Any:
        """Read back: arrays memory-mapped, tables lazy, JSON parsed, folders as their path."""
        path = self.find(key, trial)
        if path is None:
            name = "/".join(names_of(key)) + (f" [{trial}]" if trial else "")
            raise FileNotFoundError(f"{name} is not below {self.root}: materialise it first")
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".parquet":
            return pl.scan_parquet(path)
        return json.loads(path.read_text()) if path.suffix == ".json" else path
