"""The training data and the training config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from jaxtyping import Int64, Shaped
from pydantic import ConfigDict, Field, model_validator

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.given import refuse_no_array
from secateur.scorers.lazy import nn, torch
from secateur.scorers.settings import CODE, PATHS, Settings
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.sparse_rows import SparseRows
from secateur.trainers.tasks.classification import as_task
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import OwnTask, Rows, Split

InputKind = Literal["numbers", "tokens", "sequences", "codes"]
"""Kinds of inputs: numbers; token ids; token ids with the role of each; numbers with category codes in some columns."""

UNKNOWN = 0
"""Code of a category that is not in the training samples: its embedding is zero and stays zero."""

Factory = TypeVar("Factory", bound="Callable[..., nn.Module]")


def reads(kind: InputKind) -> Callable[[Factory], Factory]:
    """Declare the kind of inputs that the networks of a factory take; a factory without it takes any."""

    def declare(factory: Factory) -> Factory:
        factory.reads = kind  # type: ignore[attr-defined]
        return factory

    return declare


def kind_read_by(factory: Callable[..., nn.Module]) -> InputKind | None:
    """The kind that `reads` declared, None without a declaration."""
    return getattr(factory, "reads", None)


@dataclass(frozen=True, init=False)
class Data:
    """Samples in a fixed order; row i is the same sample everywhere.

    `inputs` `[n, …]` may be memory-mapped: uint8 `[n, height, width, channels]` for images, int32 `[n, length]` for
    token ids and `[n, 2, length]` for ids with their roles (`tasks/token_roles.py`), float32 `[n, columns]` for the
    rest. `SparseRows` hold the last kind sparsely, and networks get dense batches of them. `targets` are int64 `[n]`,
    0 … classes-1, for classification, float64 `[n, k]` for regression, bool `[n, labels]` for several labels. `task` is
    the learning problem; a number means classification into so many classes. A task without a fitted state is fitted
    to these targets, so give test samples the `task` of the training samples. `model_settings` are JSON-able facts of
    the encoding: `kind` (an `InputKind`; numbers if absent) and the arguments that a model's factory takes under the
    same name (`vocabulary`, `padding_id`, `categories`). Raises ValueError if inputs or targets are no array.

    A user's own task has `Rows` as inputs, and strata, int64 `[n]`, in place of targets: see `Data.of` and
    `trainers/tasks/own.py`.
    """

    inputs: Any
    targets: Shaped[np.ndarray, "n ..."]
    task: Task
    model_settings: Mapping[str, Any]

    def __init__(
        self,
        inputs: Shaped[np.ndarray, "n ..."] | Rows | SparseRows,
        targets: Shaped[np.ndarray, "n ..."],
        task: Task | int,
        model_settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(inputs, Rows | SparseRows):
            refuse_no_array("Data", "inputs", inputs, columns=True)
        refuse_no_array("Data", "targets", targets)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "task", as_task(task).fitted(targets))
        object.__setattr__(self, "model_settings", model_settings or {})

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def of(cls, task: OwnTask, split: Split) -> Data:
        """The samples of a user's own task; reads none of them yet."""
        samples = task.samples(split)
        return cls(Rows(samples, task.collate), task.strata_of(split, len(samples)), task)

    def take(self, rows: Shaped[np.ndarray, " m"]) -> Data:
        """The samples of a keep mask or of row numbers, as data of the same task."""
        some = self.inputs.take(rows) if isinstance(self.inputs, SparseRows) else self.inputs[rows]
        return replace(self, inputs=some, targets=self.targets[rows])

    def network_inputs(self, device: torch.device | None = None) -> Any:
        """The argument of a network's call for all these samples, on the device."""
        if isinstance(self.inputs, Rows):
            batch = self.inputs.batch()
            return batch if device is None else moved(batch, device)
        inputs = torch.from_numpy(np.asarray(self.inputs))
        return inputs if device is None else inputs.to(device)

    def blocks(self, size: int = 4096, *, rows: Int64[np.ndarray, " m"] | None = None) -> Iterator[Data]:
        """The data, or these rows of it, in blocks of `size`, for passes that hold one block at a time."""
        for start in range(0, len(self) if rows is None else len(rows), size):
            yield self.take(
                np.arange(start, min(start + size, len(self))) if rows is None else rows[start : start + size]
            )


def moved(batch: Any, device: torch.device) -> Any:
    """Copy a batch of tensors, however nested, to a device; copies from pinned memory do not synchronise."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    from accelerate.utils import send_to_device

    return send_to_device(batch, device, non_blocking=True)


class GradientBatch(TrainingBatch):
    """A `TrainingBatch` whose outputs `[b, width]` and losses `[b]`, float32, carry their gradients."""

    detached = False


Objective = Callable[[TrainingBatch, "torch.Tensor"], "torch.Tensor"]
"""Loss of a step: (a `GradientBatch`, the network's inputs `[b, …]`) to one loss per sample, float `[b]`, with
gradient. `batch.losses` are the task's plain losses. An objective may have an attribute `lesson`, (ids, inputs) to a
further argument of the network; `batch.outputs` then has one more column: `distillation/token_teacher.py`."""

Progress = Callable[[int, int], None]
"""Called with (done, total); the caller's docstring names the unit: steps, samples, rows or tensors."""

AfterStep = Callable[["nn.Module", int, int], None]
"""Called with (model, steps done, total steps) after each optimiser step, in every process; it may change the weights.
The total is an estimate if a sampler sets the length of epochs. Its attribute `made_of`, a mapping, identifies it in
snapshots. It must keep no state between steps, because snapshots save none."""


PACKED = (
    "packing: several samples in one sequence would share a loss, which could be credited to none of them, and each "
    "would read those before it; leave it out, and write length_buckets: 16 under training so that less is padded"
)


class TrainingConfig(Settings):
    """The settings of a training run; either epochs or optimiser steps set its length."""

    model_config = ConfigDict(frozen=True)

    model: Annotated[str, CODE, Field(description="a name of trainers/models.py, or module:factory")] = "mlp"
    model_settings: Annotated[dict[str, Any], PATHS] = Field(
        default_factory=dict, description="keyword arguments of the model"
    )
    epochs: Annotated[
        int | None, Field(ge=0, le=10**6, description="passes over the kept samples; 0: a proxy stays untrained")
    ] = None
    steps: Annotated[int | None, Field(ge=1, le=10**9, description="optimiser steps, for any number of samples")] = None
    batch_size: Annotated[int, Field(ge=1, le=10**7, description="samples per optimiser step")] = 64
    optimiser: Annotated[Literal["adamw", "sgd"], Field(description="the optimiser")] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1000, description="peak of the schedule")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1000, description="pull of the weights towards zero")] = 1e-4
    pull: Annotated[
        float,
        Field(ge=0, le=10**6, description="AdamR: decay of the weights towards their initial values; adamw only"),
    ] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="of sgd, Nesterov's above 0")] = 0.9
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
        Field(description="of adamw: decay rates of the mean and of the mean square of gradients"),
    ] = (0.9, 0.999)
    schedule: Annotated[
        Literal["cosine", "constant", "step"],
        Field(description="learning rate after the warmup; step: a tenth from half of the run, a hundredth from 3/4"),
    ] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the run over which the rate rises")] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="share of the target given to all classes")] = 0.0
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Field(description="of the network's passes; weights, losses and scores stay float32"),
    ] = "float32"
    accumulate: Annotated[int, Field(ge=1, description="micro-batches per batch, computed one by one")] = 1
    length_buckets: Annotated[
        int,
        Field(
            ge=0,
            le=10**6,
            description="of task sft: number of batches whose samples are sorted together by length, which saves "
            "padding; 0: no sorting",
        ),
    ] = 0
    channels_last: Annotated[bool, Field(description="channels-last memory layout of networks for images")] = False
    compile: Annotated[bool, Field(description="torch.compile the network; its minutes pay off in long runs")] = False
    augmentation: Annotated[Augmentation | None, Field(description="random augmentation of training images")] = None
    loading: Annotated[
        Literal["auto", "memory", "workers"],
        Field(description="copy inputs to the device once, or read them by workers; auto: memory if they fit"),
    ] = "auto"
    workers: Annotated[int, Field(ge=1, le=1024, description="processes that read inputs which do not fit")] = 4

    @model_validator(mode="before")
    @classmethod
    def _packs_nothing(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "packing" in given:
            raise ValueError(PACKED)
        return given

    @model_validator(mode="after")
    def _one_length(self) -> TrainingConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the length of the run as either epochs or steps")
        if self.pull and (self.optimiser != "adamw" or self.precision == "float16"):
            raise ValueError("pull is AdamR's, of adamw in float32 or bfloat16: leave it out, or change these")
        if self.accumulate > self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} cannot be computed in {self.accumulate} parts")
        return self

    @property
    def length(self) -> Literal["epochs", "steps"]:
        """The unit in which the config gives the length of a run."""
        return "steps" if self.steps is not None else "epochs"

    def total_steps(self, samples: int) -> int:
        """Optimiser steps of a run over this many samples."""
        return self.steps if self.steps is not None else (self.epochs or 0) * -(-samples // self.batch_size)
