"""Content of a home that no study names any more: results of removed selections, budgets, seeds and scores, and caches.

Only files that secateur wrote are ever listed: values by their records, and folders that it alone makes. Files without
a record stay.
"""

import json
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from secateur.pipelines.storage.ledger import Ledger
from secateur.pipelines.storage.records import FOLDER, Record, records_of
from secateur.pipelines.storage.store import Store, remove_empty
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.signals import BESIDE
from secateur.pipelines.studies.study import CONTENTS

CACHE, PREPARED, CURVES = ".cache", "prepare-", "tensorboard"
"""Folders beside the studies (shards of rows, and preparations), and beside the store (curves of trainings)."""
TUNING, SCORES, SNAPSHOTS, LAUNCHED = ".tuning", ".score_store", ".snapshots", ".launched"
OF_STUDIES = (
    *(FOLDER, TUNING, SCORES, SNAPSHOTS, LAUNCHED),
    *(".evaluations", ".proxy_runs", ".embeddings", ".label_free_embeddings", ".teacher_logits", ".ray_scoring"),
)
"""Folders in a study's folder that only secateur makes."""
LEDGERS = ("results", "graph")


@dataclass(frozen=True)
class Named:
    """The names in the current version of a study."""

    study: str
    values: Mapping[tuple[str, ...], Collection[Trial | None]]
    """Assets, and the trials that each has; None stands for none."""
    selections: Collection[str]
    """Keys of selections at their budgets."""
    runs: Collection[str]
    """Names of the folders of trainings."""
    scores: Collection[str] | None = None
    """Folders of the score cache that the study reads; None if unknown."""
    rows: Sequence[Path] | None = None
    """Folders of shards from the last read of its rows; None if unknown."""

    @property
    def seeds(self) -> set[int]:
        """Seeds of all trials."""
        return {trial.seed for trials in self.values.values() for trial in trials if trial}

    def holds(self, names: tuple[str, ...], trial: Trial | None) -> bool:
        """Whether a value is one of its assets, a part of one, or stands beside one."""
        if names[1] == TUNING:
            return names[2] in self.selections
        owner = BESIDE.get(names[1])
        alike = [names, (names[0], owner, *names[2:])] if owner else [names]
        return names[1].startswith(".") or any(
            trial in trials
            for key, trials in self.values.items()
            for each in alike
            if all(one == other for one, other in zip(key, each, strict=False))
        )


@dataclass(frozen=True)
class Leftover:
    """A value, or a folder, that no study names."""

    study: str
    """The study; empty for leftovers of none."""
    what: str
    """A selection, a seed, an asset or a kind of folder, for people."""
    paths: tuple[Path, ...]
    bytes: int
    """Bytes that its removal frees."""
    value: Record | None = None


def leftovers_of(root: Path, named: Named) -> Iterator[Leftover]:
    """Values and folders below the root of a store for a study that the study does not name."""
    study = root / named.study
    for record in records_of(root, named.study):
        if not named.holds(record.names, record.trial):
            yield of_record(record, root, named)
    trainings = [("unfinished training", path, path.name.rpartition("-")[0]) for path in inner(study, SNAPSHOTS)]
    trainings += [("unfinished training", path, path.name) for path in inner(study, LAUNCHED)]
    trainings += [("TensorBoard curves", path, path.name) for path in inner(root.parent / CURVES, named.study)]
    for what, path, run in trainings:
        if run not in named.runs:
            yield of_folder(named.study, f"{what} of {run}", path)
    for path in inner(study, SCORES):
        if named.scores is not None and path.name not in named.scores:
            yield of_folder(named.study, f"scores of checkpoints that are gone, {path.name}", path)


def leftovers_of_none(root: Path, studies: Collection[str], rows: Collection[Path] | None) -> Iterator[Leftover]:
    """Entries in the cache of a store for studies that do not exist, and rows that no study reads; `rows` are the
    folders that they read, None if one is unknown.
    """
    for path in inner(root, CACHE):
        study = path.name.removeprefix(PREPARED)
        if path.name.startswith(PREPARED) and study not in studies and not (root / study).is_dir():
            yield of_folder(study, "unfinished preparation", path)
    for path in sorted((root / CACHE / CONTENTS).glob("[!.]*")):
        if path.name not in studies and not (root / path.name).is_dir():
            yield Leftover(path.name, "digests of the files that it named", (path,), bytes_at([path]))
    if rows is None:
        return
    there = set()
    for path in inner(root / CACHE, "rows"):
        # Shards that a study still has are further names of these files: removing these would free nothing.
        if path not in rows and not any(each.stat().st_nlink > 1 for each in path.rglob("*") if each.is_file()):
            yield of_folder("", "rows that no study reads", path)
        else:
            there.add(path.name)
    for path in sorted((root / CACHE / "rows").glob("[!.]*.json")):
        if scan_of(path) not in there:
            yield Leftover("", "the record of rows that are gone", (path,), bytes_at([path]))


def scan_of(record: Path) -> str:
    """The folder of the scan of a record, see `data.earlier`; empty for a damaged one."""
    try:
        return str(json.loads(record.read_text())["folder"])
    except (ValueError, KeyError, TypeError):
        return ""


def gone_studies(root: Path, studies: Collection[str]) -> Iterator[Leftover]:
    """All files that secateur wrote for studies other than these."""
    for study in sorted(root.glob("[!.]*")):
        if study.name in studies or not (study / FOLDER).is_dir():
            continue
        for record in records_of(root, study.name):
            yield Leftover(study.name, "its results", files_of(record, root), bytes_at(files_of(record, root)), record)
        for path in (*(study / name for name in OF_STUDIES), root.parent / CURVES / study.name):
            if path.is_dir():
                yield of_folder(study.name, "its results", path)
        digests = root / CACHE / CONTENTS / study.name
        if digests.is_file():
            yield Leftover(study.name, "its results", (digests,), bytes_at([digests]))


def strangers(root: Path, study: str) -> list[Path]:
    """Files in the folder of a study without a record of secateur."""
    known = {path for record in records_of(root, study) for path in files_of(record, root)}
    files = (path for path in sorted((root / study).rglob("*")) if path.is_file() and path not in known)
    return [path for path in files if not path.relative_to(root / study).parts[0].startswith(".")]


def inner(folder: Path, name: str) -> list[Path]:
    """Folders in a folder of a folder, except hidden ones."""
    return [path for path in sorted((folder / name).glob("[!.]*")) if path.is_dir()]


def files_of(record: Record, root: Path) -> tuple[Path, ...]:
    """Paths of the files of a value."""
    return tuple(root / record.names[0] / name for name in record.files)


def of_record(record: Record, root: Path, named: Named) -> Leftover:
    """A value that a study does not name, with a description of what was removed from the study."""
    trial, files = record.trial, files_of(record, root)
    what = "/".join(record.names[1:])
    if trial and trial.selection and trial.selection not in named.selections:
        what = f"selection {trial.selection}"
    elif trial and trial.seed not in named.seeds:
        what = f"seed {trial.seed}"
    return Leftover(named.study, what, files, bytes_at(files), record)


def of_folder(study: str, what: str, path: Path) -> Leftover:
    """A folder as a leftover."""
    return Leftover(study, what, (path,), bytes_at(path.rglob("*")))


def bytes_at(paths: Iterable[Path]) -> int:
    """Bytes that removing some files frees; a file with a further name elsewhere frees none."""
    total = 0
    for path in paths:
        with suppress(OSError):  # another process may remove it meanwhile
            known = path.lstat()
            total += known.st_size if stat.S_ISREG(known.st_mode) and known.st_nlink == 1 else 0
    return total


def remove(leftover: Leftover, root: Path) -> None:
    """Remove a leftover, with its entries in ledgers."""
    record = leftover.value
    if record is None:
        for path in leftover.paths:
            if path.exists():  # removing the last value of a study removes its ledger
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            remove_empty(path.parent, root.parent)
        return
    store = Store(root)
    store.remove(record.names, record.trial)
    for name in LEDGERS:
        ledger = Ledger(store, name)
        ledger.forget(record.names, record.trial)
        remove_empty(ledger.place(record.names, record.trial).parent, root)
    remove_empty(store.place(record.names, record.trial).parent, root)
