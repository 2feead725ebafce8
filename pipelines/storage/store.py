"""Files that assets hand each other: memory-mapped arrays, Parquet tables, JSON, folders; never pickles.

Every asset has one place below the root, `<study>/<asset>[/<selection>/<seed>]`, and every write is a rename.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.storage.whole_files import new_file, new_folder, write_bytes
from secateur.pipelines.studies.grid import Trial

EXTENSIONS = (".npy", ".parquet", ".json", "")


@dataclass(frozen=True)
class Store:
    """Values on disk under one root."""

    root: Path

    def place(self, key: dg.AssetKey, trial: Trial | None = None) -> Path:
        """Where an asset's value lives, less its extension."""
        return self.root.joinpath(*key.path, *([trial.selection, str(trial.seed)] if trial else []))

    def find(self, key: dg.AssetKey, trial: Trial | None = None) -> Path | None:
        """The file or folder that is there."""
        place = self.place(key, trial)
        candidates = (place.with_name(place.name + extension) for extension in EXTENSIONS)
        return next((path for path in candidates if path.exists()), None)

    def save(self, key: dg.AssetKey, value: Any, trial: Trial | None = None) -> Path:
        """Write an array, a table or JSON-able data, whole or not at all."""
        place = self.place(key, trial)
        if isinstance(value, np.ndarray):
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
    def folder(self, key: dg.AssetKey, trial: Trial | None = None) -> Iterator[Path]:
        """An empty folder to fill; it takes its place only when the block ends without an error."""
        with new_folder(self.place(key, trial), overwrite=True) as partial:
            yield partial

    def load(self, key: dg.AssetKey, trial: Trial | None = None) -> Any:
        """Read back: arrays memory-mapped, tables lazy, JSON parsed, folders as their path."""
        path = self.find(key, trial)
        if path is None:
            raise FileNotFoundError(
                f"{'/'.join(key.path)}{f' [{trial}]' if trial else ''} is not below {self.root}: materialise it first"
            )
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".parquet":
            return pl.scan_parquet(path)
        return json.loads(path.read_text()) if path.suffix == ".json" else path
