"""A record of every written value in the store: one small file for each, `<study>/.ledger/files/…/<asset>.json`.

A record holds size, time and digest of each file of the value, so that later changes are found. It also holds the
fingerprints of the samples that the value was made for, so that rows are never read beside those of other samples.
Copies have other times: their files are then compared by their digests, once.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import xxhash

from secateur.pipelines.files.partial_names import claimed
from secateur.pipelines.files.unwritable import disk_errors
from secateur.pipelines.files.whole_files import inside
from secateur.pipelines.studies.grid import Trial

FOLDER = ".ledger"
"""Folder beside the assets of a study: ledgers, and the records of files."""
FILES = "files"
"""Folder of the records, in that folder."""

How = Literal["changed", "missing", "added"]


class StoredError(ValueError):
    """A value that must not be read; the text gives the reason, and the asset to materialise."""


@dataclass(frozen=True)
class Fault:
    """A file that was changed after writing; an `added` one lies in a value's folder without belonging to it."""

    path: Path
    how: How

    def __str__(self) -> str:
        return f"{self.path} {'is missing' if self.how == 'missing' else f'was {self.how}'}"


@dataclass(frozen=True)
class Written:
    """A file at the time of writing: bytes, time in ns, and xxh3-128 of the content, 32 hexadecimal digits."""

    size: int
    time: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> "Written":
        """The file as it is now, read whole."""
        now = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
        return cls(now.st_size, now.st_mtime_ns, digest)


@dataclass(frozen=True)
class Record:
    """The files of one value by their paths below the study's folder, and the samples that it was made for.

    `samples` are fingerprints by the asset that holds the samples: `samples`, `test_samples`, both or none.
    """

    names: tuple[str, ...]
    """Names from the study down; the record lies in the study's folder."""
    trial: Trial | None
    files: Mapping[str, Written]
    samples: Mapping[str, str]

    @property
    def title(self) -> str:
        """The value's name for messages."""
        return "/".join(self.names) + (f" [{self.trial}]" if self.trial else "")

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files.values())

    def check(self, root: Path, *, whole: bool = False) -> tuple[list[Fault], "Record"]:
        """Files that were changed after writing, and the record with the present times of the others.

        A file of its recorded size and time counts as unchanged, unless `whole`: then all are read.
        """
        study, faults, files = root / self.names[0], list[Fault](), dict(self.files)
        for name, written in self.files.items():
            path = study / name
            try:
                now = path.stat()
            except OSError:
                faults.append(Fault(path, "missing"))
                continue
            if now.st_size != written.size:
                faults.append(Fault(path, "changed"))
            elif whole or now.st_mtime_ns != written.time:
                files[name] = Written.of(path)
                if files[name].digest != written.digest:
                    faults.append(Fault(path, "changed"))
        faults += [Fault(path, "added") for path in self.others(study)]
        return faults, replace(self, files=files)

    def others(self, study: Path) -> Iterator[Path]:
        """Files in the value's folder, if it is one, that do not belong to it, except hidden ones of other tools."""
        place = place_of(study.parent, self.names, self.trial)
        for path in sorted(place.rglob("*")) if place.is_dir() else ():
            inner = path.relative_to(place).parts
            own = path.is_dir() or str(path.relative_to(study)) in self.files
            if not own and not any(part.startswith(".") for part in inner):
                yield path

    def text(self) -> str:
        """The record as JSON; `parsed` reads it back."""
        trial = [self.trial.selection, self.trial.seed] if self.trial else None
        files = {name: [file.size, file.time, file.digest] for name, file in self.files.items()}
        content = {"names": self.names[1:], "trial": trial, "samples": dict(self.samples), "files": files}
        return json.dumps(content, indent=1)


def place_of(root: Path, names: tuple[str, ...], trial: Trial | None) -> Path:
    """The path of a value below the root of a store, without its extension."""
    return root.joinpath(*names, *([trial.selection, str(trial.seed)] if trial else []))


def record_place(root: Path, names: tuple[str, ...], trial: Trial | None) -> Path:
    """The path of a value's record."""
    study, *below = names
    place = place_of(root, (study, FOLDER, FILES, *below), trial)
    return place.with_name(f"{place.name}.json")


def record_of(
    root: Path, names: tuple[str, ...], trial: Trial | None, path: Path, samples: Mapping[str, str]
) -> Record:
    """The record of a value at `path`, a file or a folder."""
    study = root / names[0]
    parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return Record(names, trial, {str(part.relative_to(study)): Written.of(part) for part in parts}, dict(samples))


def write_record(record: Record, root: Path) -> None:
    """Write a record whole or not at all. A loss of power may lose it: its value is then made again."""
    place = record_place(root, record.names, record.trial)
    with disk_errors(place), claimed(place, folder=False) as partial:
        partial.write_text(record.text())
        os.replace(partial, place)


def read_record(root: Path, study: str, place: Path) -> Record | None:
    """The record in a file; None for a missing one, or one of a value outside the study."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        record = parsed(study, place.read_text())
        return record if record_place(root, record.names, record.trial) == place else None
    return None


@lru_cache(maxsize=2048)  # a step requests the records of its inputs again and again
def parsed(study: str, text: str) -> Record:
    """A record from JSON; raises a built-in error for other texts."""
    content = json.loads(text)
    trial = Trial(*content["trial"]) if content["trial"] else None
    files = {str(inside(Path(), name)): Written(*file) for name, file in content["files"].items()}
    return Record((study, *content["names"]), trial, files, dict(content["samples"]))


def records_below(root: Path, names: tuple[str, ...], trial: Trial | None = None) -> Iterator[Record]:
    """The record of a value, or else those of all values below its name."""
    place = record_place(root, names, trial)
    if trial is not None or place.exists():
        record = read_record(root, names[0], place)
        yield from [record] if record else []
        return
    for below in sorted(place.with_suffix("").rglob("[!.]*.json")):
        record = read_record(root, names[0], below)
        if record:
            yield record


def records_of(root: Path, study: str) -> Iterator[Record]:
    """Every record of a study."""
    for place in sorted((root / study / FOLDER / FILES).rglob("[!.]*.json")):
        record = read_record(root, study, place)
        if record:
            yield record
