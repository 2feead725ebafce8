"""The pruned search space as a manifest: of the choices at each position, those that are left."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash

from secateur.pipelines.manifests.manifest import Manifest, fingerprint
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard
from secateur.pipelines.studies.architectures import Search
from secateur.scorers.architectures.encoding import Alive, ArchitectureSpace
from secateur.scorers.contract import Card

PAPER = "Luo et al. 2020, Accuracy Prediction with Non-neural Model for Neural Architecture Search, arXiv 2007.04785"
CONTRIBUTION = Card(
    name="contribution",
    version="1",
    high_means="easier",
    view="boosted trees fitted to the evaluated architectures that did not fail",
    paper=PAPER,
    summary="Mean SHAP value of a choice over the evaluated architectures that use it.",
)


def write_pruned_space(
    search: Search, space: ArchitectureSpace, alive: Alive, means: np.ndarray, folder: Path
) -> Manifest:
    """The choices left, in the form of a subset's manifest; read back by `Manifest.load(folder).keep()`."""
    hashes = [xxhash.xxh3_128_hexdigest(feature.encode()) for feature in space.features]
    rows = np.arange(len(hashes), dtype=np.int64)
    units = pl.DataFrame({"row": rows, "content_hash": hashes, "label": space.group})
    settings: dict[str, Any] = {"search": search.search.model_dump(mode="json"), "kept": space.kept(alive)}
    provenance = Provenance(
        dataset=f"{search.name}: choices of the search space",
        revision=fingerprint(units["content_hash"]),
        selection="pruned_search_space",
        selector=f"gbdt_s3_{search.search.pruning.order}_order",
        selector_version="1",
        settings=settings,
        keep=int(alive.sum()),
        budget=int(alive.sum()),
        seed=0,
        scores=(ScoreCard.of(CONTRIBUTION).model_copy(update={"high_means": "raises the predicted accuracy"}),),
    )
    return Manifest.write(
        folder,
        units,
        alive,
        provenance,
        scores={CONTRIBUTION.name: means.astype(np.float32)},
        label_names=[position.name for position in space.positions],
        unit="choice",
        overwrite=True,
    )
