"""Scores of the first epochs alone, which are ready before training ends."""

from secateur.scorers.contract import Observer, Scores, TrainingBatch, rows_text


class FirstEpochs(Observer):
    """Ignores presentations after the first `epochs`, unless it is None; `presentations` counts those within.

    Name it before the observer that it limits in a class's list of parents.
    """

    epochs: int | None = None

    def observe(self, batch: TrainingBatch) -> None:
        if self.epochs is None or int(self.epoch) < self.epochs:
            super().observe(batch)

    def scores(self) -> Scores:
        unseen = (self.presentations == 0).nonzero().flatten().cpu().numpy()
        if self.epochs is not None and len(unseen):
            raise ValueError(
                f"score {self.card.name!r}: the first {self.epochs} epochs never presented {rows_text(unseen)}"
            )
        return super().scores()
