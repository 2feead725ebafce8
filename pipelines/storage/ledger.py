"""Record the inputs of every result, so that existing results are not computed again.

A ledger keeps one small file per result, `<study>/.ledger/<ledger>/<asset>[/<selection>/<seed>].json`: the digest of
the result's inputs, and that of its files from the store's records. `Ledger.once` is the one check for an existing
result of the same inputs. As each result has a file of its own, trials that end at the same moment do not write to the
same file, and an entry is written only after its result: a run that is killed leaves whole results with entries and no
others.
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
from pydantic import BaseModel

from secateur.pipelines.files.contents import content_at
from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.storage.records import FOLDER, Fault
from secateur.pipelines.storage.store import Key, Store, names_of
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.samples import Study
from secateur.trainers.processes import device_of_choice
from secateur.trainers.sparse_rows import SparseRows


@dataclass(frozen=True)
class Entry:
    """Digests of a result's inputs and of its files at the time of the note."""

    made_of: str
    """A `digest_of` all inputs."""
    content: str
    """Digest of the content of its files, and of those beside it."""


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
        """The result of these inputs, loaded from the store; if it is missing, `work` writes it to the store first.

        `made_of` is a `digest_of` all inputs of the result; `beside` names the other values that the work writes,
        without which the result is incomplete. Where one of the trials `alike` has a folder of the same inputs, that is
        copied instead. The entry is removed before the work and written after it, so that a result of other inputs, or
        an unfinished one, never counts as this one.
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
                self.store.remove(below)
                shutil.rmtree(path, ignore_errors=True)
                self.forget(below)

    def holds(self, key: Key, trial: Trial | None, made_of: str, *, beside: Sequence[Key] = ()) -> bool:
        """Whether a result of these inputs exists, complete, unchanged, and for the current samples.

        A copy of a store holds the same results as the store.
        """
        return self.matches(key, trial, made_of, beside=beside) and not self.faults(key, trial, beside=beside)

    def matches(self, key: Key, trial: Trial | None, made_of: str, *, beside: Sequence[Key] = ()) -> bool:
        """`holds`, by the records of the files alone, without the look at the files in `faults`."""
        entry = self.entry(key, trial)
        if entry is None or entry.made_of != made_of or self.store.outdated(key, trial):
            return False
        return entry == self.entry_now(key, trial, made_of, beside)

    def faults(self, key: Key, trial: Trial | None, *, beside: Sequence[Key] = ()) -> list[Fault]:
        """Files of a result, and of the values beside it, that were changed after secateur wrote them."""
        return [fault for each in (key, *beside) for fault in self.store.faults(each, trial)]

    def note(self, key: Key, trial: Trial | None, made_of: str, *, beside: Sequence[Key] = ()) -> None:
        """Write the entry of these inputs for the result in the store; removes it where there is no result."""
        entry, place = self.entry_now(key, trial, made_of, beside), self.place(key, trial)
        if entry is None:
            place.unlink(missing_ok=True)
        else:
            write_bytes(place, json.dumps(asdict(entry), indent=1).encode(), overwrite=True)

    def forget(self, key: Key, trial: Trial | None = None) -> None:
        """Drop the entry of a trial, or all of an asset: the next request makes its results again."""
        place = self.place(key, trial)
        place.unlink(missing_ok=True)
        if trial is None:
            shutil.rmtree(place.with_suffix(""), ignore_errors=True)

    def entry(self, key: Key, trial: Trial | None = None) -> Entry | None:
        """The entry of a result; None where it is missing or unreadable: then the result is made again."""
        try:
            content = json.loads(self.place(key, trial).read_text())
            return Entry(content["made_of"], content["content"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def entry_now(self, key: Key, trial: Trial | None, made_of: str, beside: Sequence[Key] = ()) -> Entry | None:
        """The entry for a result as it is now, with the values beside it; None for a missing result."""
        contents = [self.store.content(each, trial) for each in (key, *beside)]
        return None if contents[0] is None else Entry(made_of, digest_of(contents=contents))

    def place(self, key: Key, trial: Trial | None = None) -> Path:
        """The path of a result's entry."""
        study, *names = names_of(key)
        place = self.store.place((study, FOLDER, self.name, *names), trial)
        return place.with_name(f"{place.name}.json")


def digest_of(**parts: Any) -> str:
    """SHA-256 of the inputs of a result, 64 hexadecimal digits: JSON-able parts, arrays, and paths.

    An array counts by type, shape and content, a path by the content of its file or folder (without hidden files), not
    by its name. Raises FileNotFoundError for a path that does not exist.
    """
    content = {name: digestible(part) for name, part in parts.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digestible(part: Any) -> Any:
    """A part of a digest as JSON-able data."""
    if isinstance(part, np.ndarray):
        return f"{part.dtype} {part.shape} {hashlib.sha256(np.ascontiguousarray(part).data).hexdigest()}"
    if isinstance(part, SparseRows):
        return [digestible(np.asarray(array)) for array in (part.starts, part.columns, part.values)]
    return content_at(part) if isinstance(part, Path) else part


def data_parts(study: Study, source: Mapping[str, Any], *settings: BaseModel) -> dict[str, Any]:
    """Inputs of the arrays of a study's data, and further inputs of every training: versions, and files and code that
    the task and the settings name.
    """
    described = (study.source, study.columns, study.data, study.resolved_encoding if study.columns else None)
    return {
        "revision": source["revision"],
        "samples": source["samples"],
        "model_settings": source.get("model_settings", {}),
        "data": [part.model_dump(mode="json") for part in described if part],
        "task": source["task"],
        "named": [contents_of(each) for each in (study.task, *settings)],
        **machine_parts(),
    }


def machine_parts() -> dict[str, Any]:
    """Versions and kind of device that affect the bits of a training."""
    return {"versions": versions(), "device": device_of_choice().type}


@cache
def versions() -> dict[str, str]:
    """Versions that affect the bits of a training; looking one up reads the package's files."""
    return {name: metadata.version(name) for name in ("secateur", "torch", "numpy")}
