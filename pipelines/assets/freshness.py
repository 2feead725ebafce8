"""Which assets of a study are fresh, so that a command of the shell makes again only what has changed.

An asset (or a trial of it) follows from the settings that it reads, versions, the revision of the data and the very
files of its parents. The ledger `graph` holds what each file followed from when it was made; where that differs from
what there is now, or the file is another than the one that was noted, be it because the study was edited, the data
changed or the UI made an asset anew, the asset is stale. What the ledger does not know is stale.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from secateur.pipelines.storage.ledger import Ledger, digest_of, library_versions, state_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study

IDLE = {"description", "recurring"}
"""Keys of a study that decide nothing about what is made; a key that no list here names is taken to decide."""
AFTER_SCORES = IDLE | {"selections", "keep", "seeds", "training", "validation", "distillation"}
SCORING = {"source", "samples", "test_samples", "inputs", "test_inputs", "encoder", "proxy", "embeddings"}
SCORING |= {"neighbour_indices", "neighbour_distances", "scores"}
CHOICE = {"subset", "manifest"}
"""Assets of which a trial depends on its own selection alone; the tuning of it is a parent."""


class Freshness:
    """What the assets of one study follow from; `revision` is that of the data as they are now."""

    def __init__(self, store: Store, study: Study, graph: Any, revision: str) -> None:
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
            partitioned = self.graph.get(parent).is_partitioned
            trials = [None] if not partitioned else [trial] if trial else list(self.study.trials)
            states = [state_of(self.store.find(parent, of)) for of in trials]
            parents.append(["/".join(parent.path), [str(of) for of in trials], states])
        return digest_of(settings=self.settings(key, trial), revision=self.revision, parents=parents)

    def settings(self, key: dg.AssetKey, trial: Trial | None) -> list[Any]:
        """What the study says of this asset, and the versions of what makes it."""
        name, study = key.path[1], self.study
        if name in SCORING or name in CHOICE:
            left_out = AFTER_SCORES
        else:
            left_out = IDLE | ({"selections", "keep", "seeds", "validation"} if trial else set())
        said = study.model_dump(mode="json", exclude=left_out)
        said["encoding"] = study.resolved_encoding.model_dump(mode="json")
        selection = study.selections.get(trial.plain.name) if trial else None
        versions = {other: score.declared.card.version for other, score in study.scores.items()}
        chosen = [selection.model_dump(mode="json"), getattr(selection.declared, "version", "")] if selection else []
        return [said, versions, chosen, library_versions()["secateur"]]
