"""Data that trainers learn from and the config that they follow."""

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
"""Kinds of inputs: numbers throughout; token ids; token ids with the role of each; numbers with codes of categories in
some of the columns."""

UNKNOWN = 0
"""Code of a category that training did not have: its embedding is zero and stays so."""

Factory = TypeVar("Factory", bound="Callable[..., nn.Module]")


def reads(kind: InputKind) -> Callable[[Factory], Factory]:
    """Declare the kind of inputs that the networks of a factory take; a factory that says nothing takes any."""

    def declare(factory: Factory) -> Factory:
        factory.reads = kind  # type: ignore[attr-defined]
        return factory

    return declare


def kind_read_by(factory: Callable[..., nn.Module]) -> InputKind | None:
    """What `reads` declared, None where it did not."""
    return getattr(factory, "reads", None)


@dataclass(frozen=True, init=False)
class Data:
    """Samples in a fixed order; row i is the same sample everywhere.

    `inputs` `[n, …]` may be memory-mapped: uint8 `[n, height, width, channels]` for images, int32 `[n, length]` for
    token ids and `[n, 2, length]` for ids with their roles (`tasks/token_roles.py`), float32 `[n, columns]` for the
    rest, or `SparseRows` of such, which networks get dense, batch by batch. `targets` are int64 `[n]`, 0 … classes-1,
    of classification, float64 `[n, k]` of regression, bool `[n, labels]` of several labels. `task` is the learning
    problem, of which a number is short for classification into so many classes; one that has not seen targets is fitted
    to these, so give test samples the `task` of the training samples. `model_settings` is what the encoding tells
    networks of the inputs, as JSON-able values: `kind` (numbers, tokens, sequences or codes; numbers if absent) and
    whatever a model's factory asks for by a parameter of that name (`vocabulary`, `padding_id`, `categories`). Raises
    ValueError for what is no array.

    A task of the user's own has `Rows` as inputs and no targets beside them but strata, int64 `[n]`, see `Data.of` and
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
        """The samples of a task of the user's own; none is read yet."""
        samples = task.samples(split)
        return cls(Rows(samples, task.collate), task.strata_of(split, len(samples)), task)

    def take(self, rows: Shaped[np.ndarray, " m"]) -> Data:
        """The same data at a keep mask or at row numbers."""
        some = self.inputs.take(rows) if isinstance(self.inputs, SparseRows) else self.inputs[rows]
        return replace(self, inputs=some, targets=self.targets[rows])

    def network_inputs(self, device: torch.device | None = None) -> Any:
        """The inputs of all these samples as a network is called with them, on the device."""
        if isinstance(self.inputs, Rows):
            batch = self.inputs.batch()
            return batch if device is None else moved(batch, device)
        inputs = torch.from_numpy(np.asarray(self.inputs))
        return inputs if device is None else inputs.to(device)

    def blocks(self, size: int = 4096, *, rows: Int64[np.ndarray, " m"] | None = None) -> Iterator[Data]:
        """The data, or these rows of it, in blocks, for passes that must not hold it all."""
        for start in range(0, len(self) if rows is None else len(rows), size):
            yield self.take(
                np.arange(start, min(start + size, len(self))) if rows is None else rows[start : start + size]
            )


def moved(batch: Any, device: torch.device) -> Any:
    """A batch of tensors, however nested, on a device, without waiting for it where its memory is pinned."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    from accelerate.utils import send_to_device

    return send_to_device(batch, device, non_blocking=True)


class GradientBatch(TrainingBatch):
    """A `TrainingBatch` whose outputs `[b, width]` and losses `[b]`, float32, carry their gradients."""

    detached = False


Objective = Callable[[TrainingBatch, "torch.Tensor"], "torch.Tensor"]
"""Loss of a step: (a `GradientBatch`, its inputs `[b, …]` as the network got them) to one loss per sample, float
`[b]`, with gradient. `batch.losses` are the task's plain ones. One with an attribute `lesson`, (ids, inputs) to what
the network gets beside its inputs, finds a column more in `batch.outputs`: `distillation/token_teacher.py`."""

Progress = Callable[[int, int], None]
"""Gets (done, in all): steps, samples, rows or tensors, as the function that calls it says."""

AfterStep = Callable[["nn.Module", int, int], None]
"""Told (model, steps done, steps in all) after each optimiser step, in every process; it may change the weights. In all
is an estimate where a sampler decides how long epochs are. Its attribute `made_of`, a mapping, tells it from others in
snapshots; it keeps no state of its own between steps, for snapshots do not save any."""


PACKED = (
    "packing: several samples in one sequence would share a loss, which could be credited to none of them, and each "
    "would read those before it; leave it out, and write length_buckets: 16 under training so that less is padded"
)


class TrainingConfig(Settings):
    """How a model is trained; the length is given in epochs or in optimiser steps."""

    model_config = ConfigDict(frozen=True)

    model: Annotated[str, CODE, Field(description="a name of trainers/models.py, or module:factory")] = "mlp"
    model_settings: Annotated[dict[str, Any], PATHS] = Field(
        default_factory=dict, description="keyword arguments of the model"
    )
    epochs: Annotated[
        int | None, Field(ge=0, le=10**6, description="passes over the kept samples; of a proxy 0: as it comes")
    ] = None
    steps: Annotated[
        int | None, Field(ge=1, le=10**9, description="optimiser steps, whatever the number of samples")
    ] = None
    batch_size: Annotated[int, Field(ge=1, le=10**7, description="samples per optimiser step")] = 64
    optimiser: Annotated[Literal["adamw", "sgd"], Field(description="the optimiser")] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1000, description="peak of the schedule")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1000, description="pull of the weights towards zero")] = 1e-4
    pull: Annotated[
        float,
        Field(ge=0, le=10**6, description="of the weights towards those that training starts with, by adamw: AdamR"),
    ] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="of sgd, Nesterov's above 0")] = 0.9
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
        Field(description="of adamw: memory of the mean and of the square"),
    ] = (0.9, 0.999)
    schedule: Annotated[
        Literal["cosine", "constant", "step"],
        Field(description="of the rate after the warmup; step: a tenth from half of the run on, a hundredth from 3/4"),
    ] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the run over which the rate rises")] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="share of the target given to all classes")] = 0.0
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Field(description="of the network's passes; weights, losses and scores stay float32"),
    ] = "float32"
    accumulate: Annotated[int, Field(ge=1, description="parts that each batch is computed in, one by one")] = 1
    length_buckets: Annotated[
        int,
        Field(
            ge=0,
            le=10**6,
            description="of task sft: batches whose samples are put in the order of their lengths before they are cut, "
            "so that less is padded; 0: none",
        ),
    ] = 0
    channels_last: Annotated[bool, Field(description="lay out weights of networks for images as convolutions like")] = (
        False
    )
    compile: Annotated[bool, Field(description="torch.compile the network: minutes that long runs earn back")] = False
    augmentation: Annotated[Augmentation | None, Field(description="how training images are varied")] = None
    loading: Annotated[
        Literal["auto", "memory", "workers"],
        Field(description="inputs put on the device once, or read by workers; auto: by whether they fit"),
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
        """The common length of runs by this config: epochs or optimiser steps."""
        return "steps" if self.steps is not None else "epochs"

    def total_steps(self, samples: int) -> int:
        """Optimiser steps of a run over this many samples."""
        return self.steps if self.steps is not None else (self.epochs or 0) * -(-samples // self.batch_size)
