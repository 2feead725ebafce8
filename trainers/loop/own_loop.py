"""What lets an in-training selector into an existing loop: ids that travel in the batch, and per-sample losses.

Plain torch, accelerate, Lightning and torchdata need `WithIds` alone. For the transformers Trainer there is a mixin:

    class PrunedTrainer(SampledTraining, Trainer): ...

    trainer = PrunedTrainer(model, arguments, train_dataset=WithIds(data))
    trainer.sampler = InfoBatch(len(data), epochs)

The arguments need `remove_unused_columns=False`. Nothing is patched, nothing is delegated, everything is picklable.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float32, Int64
from torch.nn import functional
from torch.utils.data import Dataset

from secateur.selectors.samplers.contract import EpochSampler

ID = "sample_id"
"""The key under which the id of a sample travels, where samples are mappings."""


class WithIds(Dataset[Any]):
    """A map-style data set whose samples say which row they are.

    A mapping gets the key `sample_id` besides its own; anything else becomes the pair `(id, sample)`. The default
    collation makes an int64 tensor of the ids. Raises KeyError where a sample has such a key already.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        """One sample with its id."""
        return self._marked(row, self.data[row])

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """A batch at once, as the data set underneath fetches batches if it does."""
        fetch = getattr(self.data, "__getitems__", None)
        samples = fetch(rows) if fetch is not None else [self.data[row] for row in rows]
        return [self._marked(row, sample) for row, sample in zip(rows, samples, strict=True)]

    def _marked(self, row: int, sample: Any) -> Any:
        if not isinstance(sample, Mapping):
            return row, sample
        if ID in sample:
            raise KeyError(f"a sample has the key {ID!r} already, which WithIds is to set: rename that column")
        return {**sample, ID: row}


def sample_losses(
    logits: Float[torch.Tensor, "*shape"], labels: Int64[torch.Tensor, "*labels"]
) -> Float32[torch.Tensor, " b"]:
    """Cross-entropy per sample, float32 `[b]`, with its gradient.

    Logits `[b, classes]` go with labels `[b]`. Logits `[b, tokens, vocabulary]` go with labels `[b, tokens]` of a
    causal language model: token t is predicted at t-1, labels of -100 do not count, a sample's loss is the mean over
    its tokens (0 if none counts). Raises ValueError for other shapes.
    """
    if logits.ndim == 2 and labels.ndim == 1:
        return functional.cross_entropy(logits.float(), labels, reduction="none")
    if logits.ndim == 3 and labels.shape == logits.shape[:2]:
        following = labels[:, 1:]
        losses = functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), following, reduction="none", ignore_index=-100
        )
        return losses.sum(dim=1) / (following != -100).sum(dim=1).clamp(min=1)
    raise ValueError(
        f"no per-sample loss for logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: expected [b, classes] "
        "and [b], or [b, tokens, vocabulary] and [b, tokens]"
    )


class SampledTraining:
    """Mixin before `transformers.Trainer`: training follows `self.sampler`, which is told every loss.

    Training batches are the sampler's, losses are weighted by it, and its state is in each checkpoint, from which
    `resume_from_checkpoint` goes on at the same sample (the Trainer alone counts as if all epochs were as long as the
    first). Evaluation is untouched.

    An epoch shorter than the first one ends when its batches do. A longer one the Trainer would cut off, so training
    does not begin with a sampler that plans one. The Trainer's own learning rates follow steps and expect every epoch
    to be as long as the first: where they must come to their end, take a sampler with a budget and without annealing.
    """

    HOOKS: ClassVar = ("_get_train_sampler", "_init_training_state", "_save_rng_state", "compute_loss")
    sampler: EpochSampler
    _counted = (0, 0)
    """(epoch, its batches trained on in this process)."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        missing = [name for name in SampledTraining.HOOKS if not hasattr(super(SampledTraining, cls), name)]
        if missing:
            raise TypeError(f"{cls.__name__}: put SampledTraining before a transformers Trainer; none has {missing}")

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        arguments: Any = self.args  # type: ignore[attr-defined]
        if getattr(self, "sampler", None) is None:
            raise ValueError("set trainer.sampler before trainer.train(): there is nothing to draw epochs with")
        if arguments.remove_unused_columns:
            raise ValueError(f"remove_unused_columns=True would take {ID!r} out of the batches: set it to False")
        plan = self.sampler.plan(max(1, math.ceil(arguments.num_train_epochs)))
        longest = max(epoch.samples for epoch in plan)
        if longest > len(self.sampler):
            raise ValueError(
                f"an epoch may have {longest} samples and the first has {len(self.sampler)}: the Trainer cuts all "
                "epochs to the length of the first; begin with the largest subset"
            )
        return self.sampler

    def sample_losses(self, outputs: Any, labels: torch.Tensor) -> Float32[torch.Tensor, " b"]:
        """Losses per sample, `[b]`; override it for models whose logits `sample_losses` does not know."""
        return sample_losses(outputs["logits"] if isinstance(outputs, Mapping) else outputs[0], labels)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """In training, the weighted mean of per-sample losses, which the sampler is told."""
        ids = inputs.pop(ID, None)
        if not model.training or ids is None:
            beneath: Any = super()
            return beneath.compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self.loss_is_scaled_for_ga = False  # a mean over this batch: the Trainer divides by accumulation steps
        labels = inputs["labels"]
        outputs = model(**inputs)
        losses = self.sample_losses(outputs, labels)
        self.sampler.observe(ids, losses)
        epoch, batches = self._counted
        self._counted = (self.sampler.epoch, batches + 1 if epoch == self.sampler.epoch else 1)
        loss = (self.sampler.weights(ids) * losses).mean()
        return (loss, outputs) if return_outputs else loss

    def _save_rng_state(self, output_dir: str) -> None:
        beneath: Any = super()
        beneath._save_rng_state(output_dir)
        epoch, batches = self._counted
        if batches >= len(self.callback_handler.train_dataloader):  # type: ignore[attr-defined]
            epoch, batches = epoch + 1, 0
        path = self._state_file(output_dir)
        partial = path.with_suffix(".partial")
        torch.save({"sampler": self.sampler.state_dict(consumed=0), "epoch": epoch, "batches": batches}, partial)
        os.replace(partial, path)

    def _init_training_state(
        self,
        max_steps: Any,
        num_update_steps_per_epoch: Any,
        num_train_epochs: Any,
        resume_from_checkpoint: Any,
        trial: Any,
    ) -> tuple[int, int]:
        beneath: Any = super()
        at: tuple[int, int] = beneath._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None:
            return at
        saved = torch.load(self._state_file(resume_from_checkpoint), weights_only=True)
        self.sampler.load_state_dict(saved["sampler"])
        arguments: Any = self.args  # type: ignore[attr-defined]
        self._counted = (saved["epoch"], 0 if arguments.ignore_data_skip else saved["batches"])
        return self._counted

    def _state_file(self, folder: str) -> Path:
        arguments: Any = self.args  # type: ignore[attr-defined]
        return Path(folder) / f"sampler_{arguments.process_index}.pt"
