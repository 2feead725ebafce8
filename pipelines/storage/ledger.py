"""What every result was made of, so that nothing is worked through again that is there already.

A ledger keeps one small file per result, `<study>/.ledger/<ledger>/<asset>[/<selection>/<seed>].json`: the digest of
what the result was made of, and the state of its file. `Ledger.once` is the one check for an existing result of the
same inputs. Because results have files of their own, trials that end at the same moment do not touch each other's, and
an entry is there only once its result is: a run that is killed leaves whole results with entries and no others.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from secateur.pipelines.files.whole_files import sha256_of, write_bytes
from secateur.pipelines.storage.store import Key, Store, names_of
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.trainers.processes import device_of_choice

FOLDER = ".ledger"
"""Beside the assets of a study."""


@dataclass(frozen=True)
class Entry:
    """What a result was made of, and how it stood when it was noted."""

    made_of: str
    """A `digest_of` all inputs."""
    content: str
    """Digest of the names and sizes of its files, and of what small JSON says."""
    time: int
    """Of its writing, in ns; 0 for JSON, which is the same where it says the same."""


@dataclass(frozen=True)
class Ledger:
    """Entries of the results in a store; ledgers of different names describe the same results differently."""

    store: Store
    name: str = "results"

    def once(
        self,
        key: Key,
        trial: Trial | None,
        made_of: str,
        work: Callable[[], object],
        *,
        beside: Sequence[Key] = (),
        alike: Iterable[Trial] = (),
    ) -> Any:
        """The result of these inputs as the store loads it; where it is not there, `work` writes it to the store first.

        `made_of` is a `digest_of` everything that the result follows from, `beside` names what the work may write
        besides, without which the result is not whole. Where one of the trials `alike` has a folder of the same inputs,
        that is copied instead. The entry goes before the work and comes back after it, so that no result of other
        inputs, and none that is half done, is taken for this one.
        """
        if not self.holds(key, trial, made_of, beside=beside):
            self.place(key, trial).unlink(missing_ok=True)
            twin = next((other for other in alike if self.holds(key, other, made_of)), None)
            if twin:
                with self.store.folder(key, trial) as folder:
                    shutil.copytree(self.store.place(key, twin), folder, dirs_exist_ok=True)
            else:
                work()
            self.note(key, trial, made_of, beside=beside)
        return self.store.load(key, trial)

    def drop_others(self, key: Key, made_of: Mapping[str, str]) -> None:
        """Remove the folders below a key that are not results of these inputs, by name."""
        for path in sorted(self.store.place(key).glob("[!.]*")):
            below = (*names_of(key), path.name)
            if not self.holds(below, None, made_of.get(path.name, "")):
                shutil.rmtree(path)
                self.forget(below)

    def holds(self, key: Key, trial: Trial | None, made_of: str, *, beside: Sequence[Key] = ()) -> bool:
        """Whether a result of these inputs is there, whole; a copy of a store holds what the store held."""
        entry = self.entry(key, trial)
        if entry is None or entry.made_of != made_of:
            return False
        now = self.entry_now(key, trial, made_of, beside)
        return now is not None and now.content == entry.content

    def is_unchanged(self, key: Key, trial: Trial | None, made_of: str) -> bool:
        """Whether the very file that was noted is there, and was made of these inputs; written anew it is another."""
        entry = self.entry(key, trial)
        return entry is not None and entry == self.entry_now(key, trial, made_of)

    def note(self, key: Key, trial: Trial | None, made_of: str, *, beside: Sequence[Key] = ()) -> None:
        """Note the result that is in the store as made of these inputs; of what is not there no entry is kept."""
        entry, place = self.entry_now(key, trial, made_of, beside), self.place(key, trial)
        if entry is None:
            place.unlink(missing_ok=True)
        else:
            write_bytes(place, json.dumps(asdict(entry), indent=1).encode(), overwrite=True)

    def forget(self, key: Key, trial: Trial | None = None) -> None:
        """Drop the entry of a trial, or all of an asset: its results are made again when next asked for."""
        place = self.place(key, trial)
        place.unlink(missing_ok=True)
        if trial is None:
            shutil.rmtree(place.with_suffix(""), ignore_errors=True)

    def entry(self, key: Key, trial: Trial | None = None) -> Entry | None:
        """What is noted of a result; None where nothing is, or nothing that can be read: then it is made again."""
        try:
            return Entry(**json.loads(self.place(key, trial).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def entry_now(self, key: Key, trial: Trial | None, made_of: str, beside: Sequence[Key] = ()) -> Entry | None:
        """The entry of a result as it stands, with what stands beside it; None where the result is not there."""
        state = state_of(self.store.find(key, trial), *(self.store.find(other, trial) for other in beside))
        return state and Entry(made_of, *state)

    def place(self, key: Key, trial: Trial | None = None) -> Path:
        """Where the entry of a result stands."""
        study, *names = names_of(key)
        place = self.store.place((study, FOLDER, self.name, *names), trial)
        return place.with_name(f"{place.name}.json")


def state_of(path: Path | None, *beside: Path | None) -> tuple[str, int] | None:
    """Content, with that of others beside it, and time of a file or folder as in an entry; None where it is not there.

    Files of arrays and weights count by name and size alone: they are large, and whoever writes them anew says so.
    """
    if path is None:
        return None
    listings = [each and listing(each) for each in (path, *beside)]
    return digest_of(files=listings), 0 if path.suffix == ".json" else path.stat().st_mtime_ns


def listing(path: Path) -> list[list[Any]]:
    """Names and sizes of the files there, and digests of those that are JSON."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [
        [str(file.relative_to(path)), file.stat().st_size, sha256_of(file) if file.suffix == ".json" else ""]
        for file in files
    ]


def digest_of(**parts: Any) -> str:
    """SHA-256 of what a result follows from, 64 hexadecimal digits: JSON-able parts, arrays, and paths.

    An array counts by type, shape and content, a path by what the file or the folder there holds, not by its name.
    Raises FileNotFoundError for a path at which there is nothing.
    """
    content = {name: digestible(part) for name, part in parts.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digestible(part: Any) -> Any:
    """A part of a digest as JSON-able data."""
    if isinstance(part, np.ndarray):
        return f"{part.dtype} {part.shape} {hashlib.sha256(np.ascontiguousarray(part).data).hexdigest()}"
    if isinstance(part, Path) and part.is_dir():
        files = sorted(file for file in part.rglob("*") if file.is_file())
        return [[str(file.relative_to(part)), sha256_of(file)] for file in files]
    return sha256_of(part) if isinstance(part, Path) else part


def data_parts(study: Study, source: Mapping[str, Any]) -> dict[str, Any]:
    """What the arrays of a study's data were made of, and what else every training depends on."""
    described = (study.source, study.columns, study.data, study.resolved_encoding if study.columns else None)
    return {
        "revision": source["revision"],
        "samples": source["samples"],
        "model_settings": source.get("model_settings", {}),
        "data": [part.model_dump(mode="json") for part in described if part],
        "task": source["task"],
        **machine_parts(),
    }


def machine_parts() -> dict[str, Any]:
    """Versions and kind of device that decide on the bits of a training."""
    return {"versions": versions(), "device": device_of_choice().type}


@cache
def versions() -> dict[str, str]:
    """Versions that decide on the bits of a training; looking one up reads the package's files."""
    return {name: metadata.version(name) for name in ("secateur", "torch", "numpy")}


LIBRARIES = ("accelerate", "datasets", "faiss-cpu", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "torch")


@cache
def library_versions() -> dict[str, str]:
    """Versions of secateur and of the installed libraries whose numbers enter a selection; not to be changed."""
    installed = {"secateur": metadata.version("secateur")}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
