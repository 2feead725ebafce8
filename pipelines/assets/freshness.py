"""Which assets of a study are fresh, so that a shell command remakes only the others.

An asset (or a trial of it) depends on its settings, versions, the contents of the data, files, folders and code that
the settings name, and the contents of its parents. The ledger `graph` records all of these when an asset is made. An
asset is stale if the record differs from the current state, or its file from the recorded one: after an edit of the
study, a change of the data or of a file, or a new materialisation in the UI. An asset without a record is stale.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from secateur.pipelines.storage.ledger import Ledger, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.storage.versions import library_versions
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.signals import BESIDE, COST, EPOCH_MANIFEST
from secateur.pipelines.studies.study import AnyStudy

MANIFESTS = ("manifest", EPOCH_MANIFEST)


class Freshness:
    """Freshness of one study's assets; `contents` are the current digests of all its inputs.

    `told` receives a sentence for each changed output file, whose asset is therefore stale.
    """

    def __init__(
        self,
        store: Store,
        study: AnyStudy,
        graph: Any,
        contents: Mapping[str, str],
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.store, self.study, self.graph, self.contents = store, study, graph, contents
        self.ledger, self.told, self.known = Ledger(store, "graph"), told, set[str]()

    def is_fresh(self, key: dg.AssetKey, trial: Trial | None = None) -> bool:
        """Whether an asset's files, and further outputs, are unchanged and match the current inputs."""
        if trial and key.path[1] in MANIFESTS and self.study.why_no_manifest(trial, key.path[1]):
            return True
        beside = self.beside(key)
        faults = self.ledger.faults(key, trial, beside=beside) if self.ledger.entry(key, trial) else []
        for fault in faults:
            if (text := str(fault)) not in self.known:
                self.known.add(text)
                self.told(f"{text} since secateur wrote it: {'/'.join(key.path)} is made again")
        return not faults and self.ledger.matches(key, trial, self.made_of(key, trial), beside=beside)

    def note(self, keys: Iterable[dg.AssetKey], trials: Iterable[Trial | None] = (None,)) -> None:
        """Record the files as made from the current inputs."""
        listed = list(trials)
        for key in keys:
            for trial in listed:
                self.ledger.note(key, trial, self.made_of(key, trial), beside=self.beside(key))

    def beside(self, key: dg.AssetKey) -> list[tuple[str, ...]]:
        """Further outputs of an asset's step."""
        study, asset, *below = key.path
        names = [name for name, owner in BESIDE.items() if owner == asset]
        return [(study, name, *below) for name in names if not self.graph.has(dg.AssetKey([study, name]))]

    def made_of(self, key: dg.AssetKey, trial: Trial | None) -> str:
        """Digest of everything that determines the content of an asset, or of a trial of it."""
        parents = []
        for parent in sorted(self.graph.get(key).parent_keys):
            if parent.path[0] == self.study.name and not self.study.needs(trial, parent.path[1:]):
                continue
            read = [parent, *(names for names in self.beside(parent) if not names[1].endswith(COST))]
            trials = self.trials_of(parent, trial)
            contents = [[self.store.content(each, of) for each in read] for of in trials]
            parents.append(["/".join(parent.path), [str(of) for of in trials], contents])
        return digest_of(
            settings=self.study.decides(key.path[1], trial),
            secateur=library_versions()["secateur"],
            contents={
                name: each for name, each in self.contents.items() if self.study.follows(key.path[1:], trial, name)
            },
            parents=parents,
        )

    def trials_of(self, parent: dg.AssetKey, trial: Trial | None) -> Sequence[Trial | None]:
        """Trials of a parent that a trial, or an asset without trials, reads; None for a parent without trials."""
        node = self.graph.get(parent)
        if not node.is_partitioned:
            return [None]
        if not isinstance(node.partitions_def, dg.MultiPartitionsDefinition):
            return [Trial("", seed) for seed in ([trial.seed] if trial else range(self.study.seeds))]
        return [trial] if trial else list(self.study.trials)
