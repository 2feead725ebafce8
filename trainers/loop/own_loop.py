"""In-training selectors in an existing loop: ids in the batch, and per-sample losses.

Plain torch, accelerate, Lightning and torchdata need `WithIds` alone. For the transformers Trainer there is a mixin:

    class PrunedTrainer(SampledTraining, Trainer): ...

    trainer = PrunedTrainer(model, arguments, train_dataset=WithIds(data))
    trainer.sampler = InfoBatch(len(data), epochs)

The arguments need `remove_unused_columns=False`. The same mixin over TRL's SFTTrainer needs neither this nor `WithIds`:
the mixin numbers the rows before TRL tokenises them. It patches nothing, and everything is picklable.
"""

import json
import math
import os
from collections.abc import Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float32, Int64
from torch.nn import functional
from torch.utils.data import Dataset

from secateur.selectors.samplers.contract import EpochSampler
from secateur.trainers.loop.sampled_sft import ID, TAUGHT, RowsWithIds, Weighed, refuse_renumbered, trl_trainer
from secateur.trainers.loop.trainer_arguments import epochs_for, planned, refuse, step_samples, updates_of

CHECKPOINT = "checkpoint-"
"""Prefix of the checkpoint folders of transformers, before the step number."""
IGNORED = -100
"""The label that torch and transformers ignore in losses."""


class WithIds(Dataset[Any]):
    """A map-style data set that adds row numbers to its samples.

    A mapping gets the additional key `sample_id`; anything else becomes the pair `(id, sample)`. The default collation
    makes an int64 tensor of the ids. Raises KeyError if a sample has that key already.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        """One sample with its id."""
        return self._marked(row, self.data[row])

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """A batch of samples, by the underlying data set's `__getitems__` if it has one."""
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
    logits: Float[torch.Tensor, "*shape"],
    labels: Int64[torch.Tensor, "*labels"],
    *,
    shift: bool = True,
    label_smoothing: float = 0.0,
) -> Float32[torch.Tensor, " b"]:
    """Cross-entropy per sample, float32 `[b]`, with its gradient.

    `logits` are `[b, classes]` for `labels` `[b]`, or `[b, tokens, vocabulary]` for labels `[b, tokens]`. A causal
    language model predicts token t at t-1; with `shift=False` the model predicts it at t, as in masked language
    modelling, translation and token classification. Labels of -100 do not count; a sample's loss is the mean over its
    tokens (0 if none counts). `label_smoothing` is the share of the target spread over all classes. Raises ValueError
    for other shapes, and for labels of a floating dtype.
    """
    if labels.is_floating_point():
        raise ValueError(f"no cross-entropy for labels of {labels.dtype}: override sample_losses with the task's loss")
    entropy = partial(functional.cross_entropy, reduction="none", label_smoothing=label_smoothing, ignore_index=IGNORED)
    if logits.ndim == 2 and labels.ndim == 1:
        return entropy(logits.float(), labels)
    if logits.ndim == 3 and labels.shape == logits.shape[:2]:
        if shift:
            logits, labels = logits[:, :-1], labels[:, 1:]
        losses = entropy(logits.float().transpose(1, 2), labels)
        return losses.sum(dim=1) / (labels != IGNORED).sum(dim=1).clamp(min=1)
    raise ValueError(
        f"no per-sample loss for logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: expected [b, classes] "
        "and [b], or [b, tokens, vocabulary] and [b, tokens]"
    )


class SampledTraining(RowsWithIds):
    """Mixin before `transformers.Trainer` or TRL's `SFTTrainer` that trains by `self.sampler` and passes it every loss.

    The sampler draws the training batches and weights their losses. Each checkpoint holds its state, and
    `resume_from_checkpoint` resumes at the same sample. Evaluation is unchanged. If all weights are 1, training equals
    the Trainer's own on the same batches: label smoothing, accumulation, the mean over tokens of all processes. The
    sampler gets losses without smoothing.

    Epochs may differ in length. `max_steps` is exact. With `num_train_epochs` the learning rate schedule has the steps
    of `sampler.plan`, which are too many if epochs turn out shorter: if the schedule must reach its end, set
    `max_steps`, or use a sampler with a budget.

    At the end of an epoch the mixin computes the losses of left-out rows that the sampler needs (`forward_only`).

    Each `train()` without a checkpoint resets the sampler as well. Raises ValueError at the start of training for
    arguments that do not work with a sampler.
    """

    HOOKS: ClassVar = (
        "get_train_dataloader", "set_initial_training_values", "_get_train_sampler", "_init_training_state",
        "_run_epoch", "_save_rng_state", "compute_loss",
    )  # fmt: skip
    sampler: EpochSampler
    _start: tuple[EpochSampler | None, dict[str, Any]] = (None, {})
    _began, _updates = 0, 1
    """Global step at which the epoch began, and its optimiser steps."""
    _agrees = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        missing = [name for name in SampledTraining.HOOKS if not hasattr(super(SampledTraining, cls), name)]
        if missing:
            raise TypeError(f"{cls.__name__}: put SampledTraining before a transformers Trainer; none has {missing}")
        cls._trl = trl_trainer(cls)
        if cls._trl and not any(base.__name__ == TAUGHT for base in cls.__mro__):
            raise TypeError(
                f"{cls.__name__}: TRL's {cls._trl} learns from pairs, groups or generated texts and has no loss of a "
                f"single row; of TRL's trainers SampledTraining goes with {TAUGHT}"
            )

    def get_train_dataloader(self) -> Any:
        """The Trainer's own, over the sampler; raises ValueError for incompatible arguments."""
        trainer: Any = self
        for each in trainer.callback_handler.callbacks:
            if isinstance(getattr(each, "sampler", None), EpochSampler):
                self.sampler, each.trainer = getattr(self, "sampler", None) or each.sampler, self
        if getattr(self, "sampler", None) is None:
            raise ValueError("set trainer.sampler before trainer.train(): there is nothing to draw epochs with")
        refuse(self, own_losses=self._own("sample_losses") and not self._own("training_losses"))
        if self._trl and ID in trainer.train_dataset.column_names:
            refuse_renumbered(trainer.train_dataset[ID])
        beneath: Any = super()
        return self._with_ids(beneath.get_train_dataloader)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self.sampler

    def _own(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(SampledTraining, method)

    def sample_losses(self, outputs: Any, labels: torch.Tensor) -> Float32[torch.Tensor, " b"]:
        """Losses per sample, `[b]`; override it for models with other outputs or losses."""
        return sample_losses(_logits(outputs), labels, shift=self._shifts)

    def training_losses(self, outputs: Any, labels: torch.Tensor) -> Float32[torch.Tensor, " b"] | None:
        """Losses per sample to train on, `[b]`, if they differ from the sampler's: those with label smoothing."""
        smoother: Any = getattr(self, "label_smoother", None)
        if smoother is None:
            return None
        return sample_losses(_logits(outputs), labels, shift=self._shifts, label_smoothing=smoother.epsilon)

    @property
    def _shifts(self) -> bool:
        """Whether the model predicts a label one token earlier: by the Trainer's rule for its model, else True."""
        trainer: Any = self
        return getattr(trainer.model, "loss_type", None) is None or bool(trainer._loss_shifts_labels)

    def compute_loss(
        self, model: Any, inputs: MutableMapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """In training, the weighted mean of per-sample losses, which it passes to the sampler."""
        ids = inputs.pop(ID, None)
        if not model.training:
            beneath: Any = super()
            return beneath.compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.get("labels")
        if ids is None or labels is None:
            missing, remedy = (
                (ID, "pass train_dataset=WithIds(data), or rows that hold their number as that column")
                if ids is None
                else ("labels", "call the column of targets so")
            )
            raise ValueError(f"a training batch has {', '.join(map(str, inputs))} and no {missing!r}: {remedy}")
        if self._trl:
            beneath = super()
            return beneath.compute_loss(Weighed(self, model, ids), inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs)
        losses = self.sample_losses(outputs, labels)
        self.sampler.observe(ids, losses)
        counted = labels[:, 1:] if labels.ndim == 2 and self._shifts else labels
        items = (counted != IGNORED).reshape(len(losses), -1).sum(dim=1)
        if not self._agrees and not self._own("sample_losses") and items.any():
            self._compare(outputs, (losses.detach() * items).sum() / items.sum())
        trained = self.training_losses(outputs, labels)
        weights = self.sampler.weights(ids)
        loss = self._mean(weights * (losses if trained is None else trained) * items, items, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _mean(self, losses: torch.Tensor, items: torch.Tensor, all_items: Any) -> torch.Tensor:
        """The sum over the items of this batch, or of the whole step if the Trainer has counted them."""
        trainer: Any = self
        self.loss_is_scaled_for_ga = all_items is not None  # Else the Trainer divides by accumulation steps.
        if all_items is None:
            return losses.sum() / items.sum().clamp(min=1)
        whole = torch.as_tensor(all_items, device=losses.device).flatten()[0]
        average, devices = trainer.args.average_tokens_across_devices, trainer.args.n_gpu
        if devices > 1:  # One process holds the outputs of all devices.
            return losses.sum() / (whole if average else whole * devices)
        return losses.sum() / whole * (trainer.accelerator.num_processes // trainer.get_tp_size() if average else 1)

    def _compare(self, outputs: Any, mean: torch.Tensor) -> None:
        """Raise ValueError if the model's own loss of the first batch is not the mean of its samples' losses."""
        self._agrees = True
        own = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if own is None or own.ndim:
            return
        near = 1e-3 if own.dtype == torch.float32 else 2e-2
        if not math.isclose(own.item(), mean.item(), rel_tol=near, abs_tol=near):
            raise ValueError(
                f"the model's own loss of the first batch is {own.item():.6g}, and the mean of its samples' "
                f"cross-entropies {mean.item():.6g}: it trains on something else (weights of classes, a term beside, "
                "another task); override sample_losses(outputs, labels) to give that per sample"
            )

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        """Numbers of epochs and steps: the Trainer's own count assumes that all epochs are as long as the first."""
        of, state = self._start
        if of is self.sampler:
            self.sampler.load_state_dict(state)  # Another attempt: a smaller batch, or train() called again.
        else:
            self._start = self.sampler, self.sampler.state_dict(consumed=0)
        self._some_batches(dataloader)
        beneath: Any = super()
        epochs, updates, examples, seen, total, steps, limit = beneath.set_initial_training_values(args, dataloader)
        if args.max_steps > 0:
            epochs = epochs_for(self, limit)
        else:
            plan = planned(self)
            limit = sum(math.ceil(share * updates_of(self, samples)) for samples, share in plan)
            seen = sum(math.ceil(share * samples) for samples, share in plan)
        return epochs, updates, examples, seen, total, steps, limit

    def _some_batches(self, loader: Any) -> int:
        """Number of batches of the epoch; raises ValueError for none."""
        batches = len(loader)
        if not batches:
            raise ValueError(
                f"epoch {self.sampler.epoch} has {len(self.sampler)} samples, and dataloader_drop_last=True leaves no "
                "whole batch of them: set it to False, take smaller batches or keep more"
            )
        return batches

    def _run_epoch(self, **given: Any) -> None:
        """Run one epoch with its actual length."""
        trainer: Any = self
        epoch, arguments = given["epoch"], trainer.args
        if epoch > self.sampler.epoch and len(self.sampler.forward_only):
            self._forward_only(given["model"])
        self.sampler.set_epoch(epoch)
        batches, together = self._some_batches(given["train_dataloader"]), arguments.gradient_accumulation_steps
        resumed = given["resume_from_checkpoint"] is not None and epoch == given["epochs_trained"]
        done = given["steps_trained_in_current_epoch"] // together if resumed else 0
        self._began, self._updates = trainer.state.global_step - done, math.ceil(batches / together)
        share = arguments.num_train_epochs - epoch
        if arguments.max_steps <= 0 and share <= 1:  # Only now the length of the last epoch is known.
            trainer.state.max_steps = self._began + math.ceil(share * self._updates)
        beneath: Any = super()
        beneath._run_epoch(**{**given, "steps_in_epoch": batches, "num_update_steps_per_epoch": self._updates})

    def _save_rng_state(self, output_dir: str) -> None:
        trainer: Any = self
        beneath: Any = super()
        beneath._save_rng_state(output_dir)
        updates = trainer.state.global_step - self._began
        whole = updates >= self._updates or trainer.control.should_epoch_stop
        state = {
            "sampler": self.sampler.state_dict(consumed=0),
            "epoch": self.sampler.epoch + whole,
            "samples": 0 if whole else updates * trainer.args.gradient_accumulation_steps * step_samples(trainer),
            "processes": trainer.args.world_size,
        }
        path = self._state_file(output_dir)
        unfinished = path.with_suffix(".partial")
        torch.save(state, unfinished)
        os.replace(unfinished, path)

    def _init_training_state(
        self,
        max_steps: Any,
        num_update_steps_per_epoch: Any,
        num_train_epochs: Any,
        resume_from_checkpoint: Any,
        trial: Any,
    ) -> tuple[int, int]:
        trainer: Any = self
        saved = None if resume_from_checkpoint is None else self._saved(resume_from_checkpoint)
        beneath: Any = super()
        at: tuple[int, int] = beneath._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if saved is None:
            return at
        self.sampler.load_state_dict(saved["sampler"])
        batches = 0 if trainer.args.ignore_data_skip else saved["samples"] // step_samples(trainer)
        return saved["epoch"], batches

    def _saved(self, checkpoint: str) -> dict[str, Any]:
        """The state in a checkpoint; raises ValueError if it is missing, or of other processes or batches."""
        trainer: Any = self
        path = self._state_file(checkpoint)
        if not path.exists():
            raise ValueError(
                f"{checkpoint} cannot be resumed: it has no {path.name}, so it was saved with save_only_model=True, "
                "without SampledTraining, or by fewer processes; train from its weights, without resume_from_checkpoint"
            )
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        processes = saved.get("processes")
        if processes != trainer.args.world_size:
            raise ValueError(
                f"{checkpoint} was saved by {processes or 'an earlier version in an unknown number of'} processes, "
                f"here are {trainer.args.world_size}: resume with as many, and the same version"
            )
        step = trainer.args.gradient_accumulation_steps * step_samples(trainer)
        if saved["samples"] % step:
            raise ValueError(
                f"{checkpoint} was saved after {saved['samples']} samples of epoch {saved['epoch']}, which are no "
                f"whole number of steps of {step}: resume with its per_device_train_batch_size and "
                "gradient_accumulation_steps"
            )
        return saved

    def _state_file(self, folder: str) -> Path:
        arguments: Any = self.args  # type: ignore[attr-defined]
        return Path(folder) / f"sampler_{arguments.process_index}.pt"


def last_checkpoint(folder: str | Path) -> str | None:
    """The last complete checkpoint of a Trainer under `SampledTraining` in its output folder, or None.

    transformers' own `get_last_checkpoint` also returns a folder that a kill left half-written, which cannot be
    resumed. A complete folder has the Trainer's state, which the Trainer writes last, and the sampler states of all
    processes.
    """
    steps = {path: path.name.removeprefix(CHECKPOINT) for path in Path(folder).glob(f"{CHECKPOINT}*")}
    named = sorted((int(count), path) for path, count in steps.items() if count.isdecimal())
    return next((str(path) for _, path in reversed(named) if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    first = checkpoint / "sampler_0.pt"
    if not first.exists():  # Saved without the sampler's state; `_saved` raises an error with the reason.
        return True
    processes = torch.load(first, weights_only=True).get("processes", 1)
    return all((checkpoint / f"sampler_{index}.pt").exists() for index in range(processes))


def _logits(outputs: Any) -> torch.Tensor:
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
    return logits
