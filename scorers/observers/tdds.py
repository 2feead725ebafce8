"""TDDS: how a sample's whole prediction moves late in training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.early_epochs import FirstEpochs
from secateur.scorers.observers.windows import Window


@observer(
    high_means="harder",
    reads=("probabilities",),
    paper="Zhang et al. 2024, Spanning Training Progress (arXiv 2311.13613), section 3",
)
class Tdds(FirstEpochs):
    """Variation, within a sliding window, of the size of prediction changes; later windows weigh exponentially more.

    The change between two presentations is the sum over classes of |p' (log p' - log p)|. A window of `window`
    presentations has `window - 1` changes; its value is their Euclidean distance from their mean. The score starts
    at 0 and with each full window becomes `decay * value + (1 - decay) * score`: with 0.9 the last windows decide.
    A sample whose presentations fill no window has score 0.

    Keeps the log-probabilities of each sample's latest presentation: samples x classes float32, beside
    samples x (window - 1). For a thousand classes that is 4 GB per million samples.
    """

    fills_windows: ClassVar[bool] = True

    def __init__(
        self,
        samples: int,
        device: torch.device,
        *,
        window: Window = 10,
        decay: Annotated[float, Field(gt=0, le=1, description="weight of the latest window")] = 0.9,
        epochs: Annotated[int | None, Field(ge=1, description="epochs from the start that count, None for all")] = None,
    ) -> None:
        super().__init__(samples, device)
        self.window, self.decay, self.epochs = window, decay, epochs
        # The first batch shows the number of classes.
        self.latest = torch.zeros(samples, 0, dtype=torch.float32, device=device)
        self.changes = torch.zeros(samples, window - 1, dtype=torch.float32, device=device)
        self.average = torch.zeros(samples, dtype=torch.float64, device=device)

    def update(self, batch: TrainingBatch) -> None:
        if not self.latest.shape[1]:
            self.latest = self.latest.new_zeros(len(self.latest), batch.outputs.shape[1])
        ids, before = batch.ids, self.presentations[batch.ids]
        now = batch.outputs.log_softmax(dim=1)
        change = (batch.probabilities * (now - self.latest[ids])).abs().sum(dim=1)
        self.latest[ids] = now
        # The first presentation has nothing to be compared with: its slot is overwritten before a window is full.
        self.changes[ids, (before - 1) % (self.window - 1)] = change
        recent = self.changes[ids].double()
        value = (recent - recent.mean(dim=1, keepdim=True)).norm(dim=1)
        average = self.average[ids]
        full = before + 1 >= self.window
        self.average[ids] = torch.where(full, average.lerp(value, self.decay), average)

    def reduce(self) -> torch.Tensor:
        return self.average
