"""What the files of a study were made of, so that a command of the shell makes again only what has changed.

Beside a study's assets stands a ledger: for each asset (and trial) a digest of what decides its content (the settings
that it reads, versions, the revision of the data, the very files of its parents) and the state of the file that was
made. Where either differs, be it because the study was edited, the data changed or the UI made a parent anew, the
asset is stale. What the ledger does not know is stale.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from secateur.pipelines.storage.fingerprints import library_versions
from secateur.pipelines.storage.store import Store
from secateur.pipelines.storage.whole_files import write_bytes
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.study import AnyStudy


@dataclass
class Ledger:
    """The record of one study below a store's root; `revision` is that of the data as they are now."""

    store: Store
    study: AnyStudy
    graph: Any
    revision: str
    known: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.known = json.loads(self.path.read_text())
        except (OSError, ValueError):  # absent or cut short: everything is stale, which is always safe
            self.known = {}

    @property
    def path(self) -> Path:
        """Where the ledger stands."""
        return self.store.root / self.study.name / ".made_of.json"

    def is_fresh(self, key: dg.AssetKey, trial: Trial | None = None) -> bool:
        """Whether the file is the recorded one and was made of what there is now."""
        return bool(self.known.get(name_of(key, trial)) == self.entry(key, trial))

    def record(self, keys: Iterable[dg.AssetKey], trials: Iterable[Trial | None] = (None,)) -> None:
        """Note files as made of what there is now."""
        listed = list(trials)
        self.known |= {name_of(key, trial): self.entry(key, trial) for key in keys for trial in listed}
        write_bytes(self.path, json.dumps(self.known, indent=1).encode(), overwrite=True)

    def entry(self, key: dg.AssetKey, trial: Trial | None) -> dict[str, Any]:
        """Digest of what decides the content, and the state of the file."""
        parents = []
        for parent in sorted(self.graph.get(key).parent_keys):
            parents += [[name_of(parent, of), self.state(parent, of)] for of in self.read_of(parent, trial)]
        made_of = [self.study.decides(key.path[1], trial), library_versions()["secateur"], self.revision, parents]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()
        return {"made_of": digest, "state": self.state(key, trial)}

    def read_of(self, parent: dg.AssetKey, trial: Trial | None) -> Sequence[Trial | None]:
        """Trials of a parent that a trial, or an asset that has none, is made of; None for a parent without any."""
        node = self.graph.get(parent)
        if not node.is_partitioned:
            return [None]
        if not isinstance(node.partitions_def, dg.MultiPartitionsDefinition):
            return [Trial("", seed) for seed in ([trial.seed] if trial else range(self.study.seeds))]
        return [trial] if trial else list(self.study.trials)

    def state(self, key: dg.AssetKey, trial: Trial | None) -> list[int | str] | None:
        """Time and size of a file or folder, which is renamed into place whole; what small JSON says; None for none."""
        path = self.store.find(key, trial)
        if path is None:
            return None
        if path.suffix == ".json":
            return [hashlib.sha256(path.read_bytes()).hexdigest()]
        status = path.stat()
        return [status.st_mtime_ns, 0 if path.is_dir() else status.st_size]


def name_of(key: dg.AssetKey, trial: Trial | None) -> str:
    """An asset, or one trial of it, in the ledger."""
    return "/".join(key.path) + (f" [{trial}]" if trial else "")
