"""A sampler as a callback of a Trainer, which also logs the rows that epochs leave out.

The mixin `SampledTraining` does the training; a callback alone could neither order the rows nor weight their losses.
"""

from typing import Any

from transformers import TrainerCallback  # noqa: TID253 - nothing of ours imports this module but who has a Trainer

from secateur.selectors.samplers.contract import EpochSampler


class SamplerCallback(TrainerCallback):
    """Sets the sampler of a Trainer under `SampledTraining`, and logs each epoch at its end.

    `callbacks=[SamplerCallback(InfoBatch(n, epochs))]` replaces `trainer.sampler = …`. It logs to `trainer_state.json`
    and every tracker: `sampler_rows`, the rows that the epoch trained on in all processes; `sampler_backward_saved`,
    the other rows of the data set; `sampler_forward_only`, the number of these with a forward pass. Raises ValueError
    when training begins without the mixin.
    """

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self.trainer: Any = None
        """The Trainer with this sampler; the mixin sets it."""

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
