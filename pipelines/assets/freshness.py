"""Which assets of a study are fresh, so that a command of the shell makes again only what has changed.

An asset (or a trial of it) follows from the settings that it reads, versions, the revision of the data and the very
files of its parents. The ledger `graph` holds what each file followed from when it was made; where that differs from
what there is now, or the file is another than the one that was noted, be it because the study was edited, the data
changed or the UI made an asset anew, the asset is stale. What the ledger does not know is stale.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from secateur.pipelines.storage.ledger import Ledger, digest_of, library_versions, state_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.study import AnyStudy


class Freshness:
    """What the assets of one study follow from; `revision` is that of the data as they are now."""

    def __init__(self, store: Store, study: AnyStudy, graph: Any, revision: str) -> None:
        self.store, self.study, self.graph, self.revision = store, study, graph, revision
        self.ledger = Ledger(store, "graph")

    def is_fresh(self, key: dg.AssetKey, trial: Trial | None = None) -> bool:
        """Whether the file is the one that was noted and follows from what there is now."""
        return self.ledger.is_unchanged(key, trial, self.made_of(key, trial))

    def note(self, keys: Iterable[dg.AssetKey], trials: Iterable[Trial | None] = (None,)) -> None:
        """Note files as made of what there is now."""
        listed = list(trials)
        for key in keys:
            for trial in listed:
                self.ledger.note(key, trial, self.made_of(key, trial))

    def made_of(self, key: dg.AssetKey, trial: Trial | None) -> str:
        """Digest of what decides the content of an asset, or of a trial of it."""
        parents = []
        for parent in sorted(self.graph.get(key).parent_keys):
            trials = self.trials_of(parent, trial)
            states = [state_of(self.store.find(parent, of)) for of in trials]
            parents.append(["/".join(parent.path), [str(of) for of in trials], states])
        return digest_of(
            settings=self.study.decides(key.path[1], trial),
            secateur=library_versions()["secateur"],
            revision=self.revision,
            parents=parents,
        )

    def trials_of(self, parent: dg.AssetKey, trial: Trial | None) -> Sequence[Trial | None]:
        """Trials of a parent that a trial, or an asset without trials, is made of; None for a parent without any."""
        node = self.graph.get(parent)
        if not node.is_partitioned:
            return [None]
        if not isinstance(node.partitions_def, dg.MultiPartitionsDefinition):
            return [Trial("", seed) for seed in ([trial.seed] if trial else range(self.study.seeds))]
        return [trial] if trial else list(self.study.trials)
