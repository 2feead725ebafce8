"""Mean training loss."""

import torch

from secateur.scorers.averages import PresentationMean
from secateur.scorers.contract import Observation, observer


@observer(high_means="harder", paper="cross-entropy, averaged over the run")
class Loss(PresentationMean):
    """Cross-entropy of the label, averaged over all presentations of a sample."""

    def value(self, batch: Observation) -> torch.Tensor:
        return batch.losses
