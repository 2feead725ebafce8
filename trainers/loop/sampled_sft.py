"""Support for a sampler in TRL's SFTTrainer: ids through its preparation and collation, and losses per row.

TRL tokenises rows itself, may drop some, and never builds the logits of a batch: its model gives a log-probability for
each token. The rest of its training is unchanged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from secateur.scorers.contract import rows_text
from secateur.selectors.samplers.contract import EpochSampler

ID = "sample_id"
"""The key of a sample's id, if samples are mappings."""
TAUGHT = "SFTTrainer"
"""The only trainer of TRL with losses of single rows."""


def trl_trainer(kind: type) -> str:
    """Name of the TRL trainer among a class's bases, empty if there is none."""
    return next((base.__name__ for base in kind.__mro__ if base.__module__.startswith("trl.")), "")


@dataclass(frozen=True)
class KeepsIds:
    """A collator that removes ids from samples, calls another collator, and adds the ids to its batch.

    Most collators of transformers and TRL drop unknown keys, or fail at them.
    """

    collator: Callable[[list[Any]], Any]

    def __call__(self, samples: list[Any]) -> Any:
        if not isinstance(samples[0], Mapping) or ID not in samples[0]:
            return self.collator(samples)
        ids = torch.tensor([int(sample[ID]) for sample in samples], dtype=torch.int64)
        batch = self.collator([{name: value for name, value in one.items() if name != ID} for one in samples])
        batch[ID] = ids
        return batch


def numbered(dataset: Any) -> Any:
    """A `datasets.Dataset` with row numbers in the column `sample_id`; one with that column is returned unchanged.

    Raises ValueError for a data set of no known length.
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError("the train_dataset is a stream: a sampler needs a data set whose rows it can name")
    return dataset if ID in dataset.column_names else dataset.add_column(ID, list(range(len(dataset))))


def refuse_dropped(prepared: Any, rows: int, max_length: int | None) -> None:
    """Raise ValueError if the preparation dropped some of `rows` rows, with their row numbers in the user's data."""
    missing = np.setdiff1d(np.arange(rows), np.asarray(prepared[ID], dtype=np.int64))
    if len(missing):
        raise ValueError(
            f"TRL drops {rows_text(missing)} of the train_dataset: cut at max_length={max_length}, no token is "
            "left to learn. A sampler could not show them: raise max_length, or remove them before"
        )


def refuse_renumbered(ids: Sequence[int]) -> None:
    """Raise ValueError if a row of the prepared data is not at the place that its id names."""
    wrong = next((place for place, row in enumerate(ids) if row != place), None)
    if wrong is not None:
        raise ValueError(
            f"row {wrong} of the prepared train_dataset has the {ID} {ids[wrong]}: ids are rows from 0 in their order, "
            f"so rows must not be shuffled or filtered behind their numbering; leave the column {ID!r} out"
        )


def row_losses(log_probs: Float[torch.Tensor, "b tokens"], learned: torch.Tensor) -> Float32[torch.Tensor, " b"]:
    """Mean negative log-likelihood of each row's learned tokens, float32 `[b]`; 0 for a row without any."""
    return -log_probs.float().sum(dim=1) / learned.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class Weighed:
    """Wraps the model in TRL's `compute_loss`: passes each row's loss to the sampler, and applies its weights."""

    trainer: Any
    model: Any
    ids: Int64[torch.Tensor, " b"]

    def __call__(self, **inputs: Any) -> Any:
        """The model's outputs, with weighted log-probabilities if it returns these."""
        outputs, sampler = self.model(**inputs), self.trainer.sampler
        log_probs = getattr(outputs, "log_probs", None)
        if log_probs is None:
            return outputs
        sampler.observe(self.ids, row_losses(log_probs.detach(), outputs.label_mask))
        weights = sampler.weights(self.ids)[:, None]
        if self.trainer.args.loss_type == "dft":  # DFT also multiplies by the probability: weight only the gradient.
            outputs.log_probs = log_probs.detach() + weights * (log_probs - log_probs.detach())
        else:
            outputs.log_probs = weights * log_probs
        return outputs


class RowsWithIds:
    """The part of `SampledTraining` that handles rows: numbers them, collates them with their ids, and computes losses
    without gradients.
    """

    sampler: EpochSampler
    _trl = ""
    """Name of the underlying TRL trainer, empty if there is none."""

    def sample_losses(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """See `SampledTraining`."""
        raise NotImplementedError

    def _with_ids(self, made: Callable[[], Any]) -> Any:
        """Call `made` under a collator that keeps ids; restores the Trainer's collator."""
        trainer: Any = self
        plain, trainer.data_collator = trainer.data_collator, KeepsIds(trainer.data_collator)
        try:
            return made()
        finally:
            trainer.data_collator = plain

    def _prepare_dataset(self, dataset: Any, *given: Any, **named: Any) -> Any:
        """TRL's preparation, which tokenises rows; training rows get their numbers before."""
        beneath: Any = super()
        if (named.get("dataset_name") or given[-1]) != "train":
            return beneath._prepare_dataset(dataset, *given, **named)
        arguments = given[1] if len(given) > 1 else named["args"]
        for wrong, remedy in of_sft(arguments):
            if wrong:
                raise ValueError(remedy)
        prepared = beneath._prepare_dataset(numbered(dataset), *given, **named)
        refuse_dropped(prepared, len(dataset), arguments.max_length)
        return prepared

    def _set_signature_columns_if_needed(self) -> None:
        beneath: Any = super()
        beneath._set_signature_columns_if_needed()
        trainer: Any = self
        if self._trl and ID not in trainer._signature_columns:
            trainer._signature_columns.append(ID)

    def _forward_only(self, model: Any) -> None:
        """Pass the losses of the epoch's left-out rows to the sampler: without gradients, in evaluation mode."""
        trainer: Any = self
        rows = self.sampler.forward_only.tolist()
        size = trainer._train_batch_size
        with torch.random.fork_rng(devices=[]), torch.no_grad(), trainer.compute_loss_context_manager():
            loader = self._with_ids(
                lambda: trainer._get_dataloader(trainer.train_dataset, "Training", size, sampler_fn=lambda _: rows)
            )
            model.eval()
            for inputs in loader:
                given = trainer._prepare_inputs(inputs)
                ids, labels = given.pop(ID), given["labels"]
                outputs = model(**given, **({"fused_lm_head": True, "use_cache": False} if self._trl else {}))
                losses = (
                    row_losses(outputs.log_probs, outputs.label_mask)
                    if self._trl
                    else self.sample_losses(outputs, labels)
                )
                self.sampler.observe(ids, losses)
            model.train()


def of_sft(given: Any) -> list[tuple[bool, str]]:
    """Incompatible settings in TRL's arguments, as pairs of a condition and its error message."""
    return [
        (
            given.packing or given.padding_free,
            f"{'packing' if given.packing else 'padding_free'}=True puts several rows into one sequence, and none has "
            "a loss of its own: leave it out",
        ),
        (
            given.shuffle_dataset,
            "shuffle_dataset=True orders the rows, which the sampler does: leave it out",
        ),
        (
            bool(given.label_smoothing_factor),
            f"label_smoothing_factor={given.label_smoothing_factor} takes TRL another forward pass and no losses per "
            "row: set it to 0",
        ),
    ]
