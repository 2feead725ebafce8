"""Write the pruned search space of a search as a manifest: the remaining choices at each position."""

from pathlib import Path

import numpy as np

from secateur.pipelines.manifests.choices import Choices
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard
from secateur.pipelines.studies.architectures import Search
from secateur.scorers.architectures.encoding import Alive, ArchitectureSpace

PAPER = "Luo et al. 2020, Accuracy Prediction with Non-neural Model for Neural Architecture Search, arXiv 2007.04785"
CONTRIBUTION = ScoreCard(
    name="contribution",
    version="1",
    high_means="raises the predicted accuracy",
    view="boosted trees fitted to the evaluated architectures that did not fail",
    paper=PAPER,
    summary="Mean SHAP value of a choice over the evaluated architectures that use it.",
    scorer="contribution",
)


def write_pruned_space(
    search: Search, space: ArchitectureSpace, alive: Alive, means: np.ndarray, folder: Path
) -> Manifest:
    """Write the remaining choices, with the mean contribution of each choice, `[features]`."""
    choices = Choices.of(space, alive, means)
    provenance = Provenance(
        dataset=f"{search.name}: choices of the search space",
        revision=choices.made_for,
        selection="pruned_search_space",
        selector=f"gbdt_s3_{search.search.pruning.order}_order",
        selector_version="1",
        settings={"search": search.search.model_dump(mode="json")},
        keep=choices.count,
        budget=choices.count,
        seed=0,
        scores=(CONTRIBUTION,),
    )
    return Manifest.write(folder, choices, provenance, overwrite=True)
