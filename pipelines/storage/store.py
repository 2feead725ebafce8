"""Files that assets pass to each other: memory-mapped arrays, Parquet tables, JSON, folders; never pickles.

Every asset has one place below the root, `<study>/<asset>[/<selection>/<seed>]`, and every write is a rename. Every
value has a record of its files and of the samples that it was made for (`records.py`), which is checked on reading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np

from secateur.pipelines.data.fingerprints import FINGERPRINT
from secateur.pipelines.data.lazy import pl
from secateur.pipelines.files.partial_names import hidden_sibling
from secateur.pipelines.files.whole_files import new_file, new_folder, write_bytes
from secateur.pipelines.storage.records import (
    Fault,
    StoredError,
    place_of,
    read_record,
    record_of,
    record_place,
    records_below,
    write_record,
)
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.signals import BESIDE, samples_behind
from secateur.trainers.sparse_rows import ENDING, open_inputs

EXTENSIONS = (".npy", ".npz", ".parquet", ".json", "")
# numpy parses an array's header with `ast`, whose recursion count Python 3.11 shares between threads: two concurrent
# parsers may end with a SystemError (CPython issue 106905).
HEADERS = Lock()


@runtime_checkable
class Named(Protocol):
    """Dagster's key of an asset, for paths of files: this folder does not import dagster."""

    @property
    def path(self) -> Sequence[str]:
        """Names from the study down."""


Key = Named | tuple[str, ...]
"""Names from the study down to the asset: `("blobs", "scores", "aum")`, or Dagster's key of the same."""


def names_of(key: Key) -> tuple[str, ...]:
    """Names of a key from the study down."""
    if type(key) is tuple:  # most are, and the test of a protocol takes as long as reading its file
        return key
    return tuple(key.path) if isinstance(key, Named) else key


@dataclass(frozen=True)
class Store:
    """Values on disk under one root."""

    root: Path

    def place(self, key: Key, trial: Trial | None = None) -> Path:
        """The path of an asset's value, without its extension."""
        return place_of(self.root, names_of(key), trial)

    def find(self, key: Key, trial: Trial | None = None) -> Path | None:
        """The existing file or folder."""
        place = self.place(key, trial)
        candidates = (place.with_name(place.name + extension) for extension in EXTENSIONS)
        return next((path for path in candidates if path.exists()), None)

    def save(self, key: Key, value: Any, trial: Trial | None = None) -> Path:
        """Write an array, a table or JSON-able data, whole or not at all; a path of a finished file is moved."""
        with self.recorded(key, trial) as place:
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
            for other in {*EXTENSIONS[:-1]} - {path.suffix}:  # an earlier value of another kind
                place.with_name(place.name + other).unlink(missing_ok=True)
        return path

    @contextmanager
    def folder(self, key: Key, trial: Trial | None = None) -> Iterator[Path]:
        """An empty folder to fill; it takes its place only if the block ends without an error."""
        with self.recorded(key, trial) as place, new_folder(place, overwrite=True) as partial:
            yield partial

    @contextmanager
    def recorded(self, key: Key, trial: Trial | None = None) -> Iterator[Path]:
        """The path of a value, for its writer; when the block ends its files are recorded.

        A writer that is killed leaves a value without a record; one that fails leaves the earlier record.
        """
        names = names_of(key)
        record = record_place(self.root, names, trial)
        aside = hidden_sibling(record)  # a leftover if this process is killed
        if record.exists():
            record.replace(aside)
        try:
            yield self.place(key, trial)
        except BaseException:
            if aside.exists():
                aside.replace(record)
            raise
        try:
            if path := self.find(key, trial):
                behind = {name: self.fingerprint(names[0], name, path, names[1]) for name in samples_behind(names[1])}
                known = {name: text for name, text in behind.items() if text}
                write_record(record_of(self.root, names, trial, path, known), self.root)
        finally:
            aside.unlink(missing_ok=True)  # without its own record the new value is made again

    def fingerprint(self, study: str, samples: str, written: Path | None = None, asset: str = "") -> str:
        """Fingerprint of the samples that a study holds now under a name, from their record; empty without one.

        For an `asset` of that name, just `written`, it comes from the file's own metadata.
        """
        if written is not None and asset == samples:
            return pl.read_parquet_metadata(written).get(FINGERPRINT, "")
        record = read_record(self.root, study, record_place(self.root, (study, samples), None))
        return record.samples.get(samples, "") if record else ""

    def content(self, key: Key, trial: Trial | None = None) -> str | None:
        """Digest of a value's files, from their record, equal for equal content; None without a record."""
        records = list(records_below(self.root, names_of(key), trial))
        if not records or self.find(key, trial) is None:
            return None
        files = [[name, file.digest] for record in records for name, file in record.files.items()]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def faults(self, key: Key, trial: Trial | None = None) -> list[Fault]:
        """Files of a value that were changed after writing; files with other times are compared by content."""
        found = []
        for record in records_below(self.root, names_of(key), trial):
            faults, now = record.check(self.root)
            found += faults
            if not faults and now != record:
                with suppress(OSError):  # a read-only store
                    write_record(now, self.root)
        return found

    def outdated(self, key: Key, trial: Trial | None = None) -> str:
        """The asset of samples that changed since a value was made for them; empty if none did."""
        names = names_of(key)
        records = list(records_below(self.root, names, trial))
        for samples in samples_behind(names[1]):
            now = self.fingerprint(names[0], samples)
            if now and not (records and all(record.samples.get(samples) == now for record in records)):
                return samples
        return ""

    def holds(self, key: Key, trial: Trial | None = None) -> bool:
        """Whether `load` returns a value without an error."""
        return bool(self.find(key, trial)) and not self.outdated(key, trial) and not self.faults(key, trial)

    def load(self, key: Key, trial: Trial | None = None, *, of_any_samples: bool = False) -> Any:
        """Read a value: arrays memory-mapped, sparse ones as `SparseRows`, tables lazy, JSON parsed, folders as paths.

        Raises FileNotFoundError for a missing value, and StoredError for one that was changed after writing, or that
        was made for other samples than the study holds now, unless it may be `of_any_samples`.
        """
        path, names = self.find(key, trial), names_of(key)
        name = "/".join(names) + (f" [{trial}]" if trial else "")
        if path is None:
            raise FileNotFoundError(f"{name} is not below {self.root}: materialise it first")
        remedy = f"materialise {self.made_with(names)}, or let `secateur run {names[0]}` make all that is not fresh"
        if faults := self.faults(key, trial):
            raise StoredError(f"{name}: {faults[0]} since secateur wrote it: {remedy}")
        if not of_any_samples and (samples := self.outdated(key, trial)):
            raise StoredError(
                f"{name} is older than {names[0]}/{samples}, which holds other rows than it was made for, or the same "
                f"in another order: {remedy}"
            )
        if path.suffix in (".npy", ENDING):
            with HEADERS:
                return open_inputs(path)
        if path.suffix == ".parquet":
            return pl.scan_parquet(path)
        return json.loads(path.read_text()) if path.suffix == ".json" else path

    def made_with(self, key: Key) -> str:
        """The asset whose step writes a value, by its path: its own, or the one beside it."""
        study, name, *below = names_of(key)
        owner = BESIDE.get(name, name)
        return "/".join((study, owner if self.find((study, owner)) else name, *below))

    def remove(self, key: Key, trial: Trial | None = None) -> None:
        """Remove the files of a value and their record, and folders that become empty."""
        study = self.root / names_of(key)[0]
        for record in records_below(self.root, names_of(key), trial):
            place = record_place(self.root, record.names, record.trial)
            for path in (*(study / name for name in record.files), place):
                path.unlink(missing_ok=True)
                remove_empty(path.parent, study)
            remove_empty(place_of(self.root, record.names, record.trial), study)


def remove_empty(folder: Path, above: Path) -> None:
    """Remove an empty folder, and the folders around it that become empty, below another."""
    while folder != above and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
