"""A sampler as a callback of a Trainer: for who hands over callbacks, and to see in the logs what epochs leave out.

The mixin `SampledTraining` does the training; a callback alone could neither order the rows nor weight their losses.
"""

from typing import Any

from transformers import TrainerCallback  # noqa: TID253 - nothing of ours imports this module but who has a Trainer

from secateur.selectors.samplers.contract import EpochSampler


class SamplerCallback(TrainerCallback):
    """Give a Trainer under `SampledTraining` its sampler, and log each epoch at its end.

    `callbacks=[SamplerCallback(InfoBatch(n, epochs))]` takes the place of `trainer.sampler = …`. Logged, and with it in
    `trainer_state.json` and in every tracker: `sampler_rows`, rows that the epoch trained on in all processes;
    `sampler_backward_saved`, rows of the data set that it did not; `sampler_forward_only`, how many of those are
    forwarded all the same. Raises ValueError when training begins without the mixin.
    """

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self.trainer: Any = None
        """The one that follows the sampler, which says so itself."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """See the class."""
        if self.trainer is None or self.trainer.sampler is not self.sampler:
            raise ValueError(
                "the Trainer does not follow the sampler of its SamplerCallback: make it of a class with the mixin, "
                "class PrunedTrainer(SampledTraining, Trainer), and set no other trainer.sampler"
            )

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """See the class."""
        rows = len(self.sampler)
        self.trainer.log({
            "sampler_rows": rows,
            "sampler_backward_saved": self.sampler.samples - rows,
            "sampler_forward_only": len(self.sampler.forward_only),
        })  # fmt: skip
