"""Mean probability of the label over the start of training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean, chances_of, mean_of_parts
from secateur.scorers.observers.early_epochs import FirstEpochs


@observer(
    high_means="easier",
    reads=(("target_probabilities", "token_accuracy"),),
    paper="Cho et al. 2025, DUAL (arXiv 2502.06905), section 3; Swayamdipta et al. 2020, Dataset Cartography, "
    "section 2, call it confidence",
)
class MeanProbability(FirstEpochs, PresentationMean):
    """Probability of the label, averaged over a sample's presentations in the first epochs. Range [0, 1].

    For several labels it is the mean over labels of the probability that each has its given value; for completions it
    is the share of tokens that have the highest logit (our derivation).
    The default counts the epochs that `dual` counts, for DUAL's beta sampling; None counts the whole run.
    """

    def __init__(
        self,
        samples: int,
        device: torch.device,
        *,
        epochs: Annotated[int | None, Field(ge=1, description="epochs from the start that count, None for all")] = 30,
    ) -> None:
        super().__init__(samples, device)
        self.epochs = epochs

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return mean_of_parts(chances_of(batch))
