"""Classes of the networks that the factories in this folder build: a class needs torch when it is declared, a factory
when it is called, so the project reads studies without torch.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from secateur.trainers.contract import UNKNOWN, Data
from secateur.trainers.models.pooling import mean_of_real, pooled
from secateur.trainers.sparse_rows import SparseRows
from secateur.trainers.tasks.contract import Task

FITTED_AT_ONCE = 1 << 27
"""Bytes of float64 of a block of samples that are measured; memory holds up to four times as much."""


class Standardise(nn.Module):
    """Standardises raw inputs to float32 with mean 0 and standard deviation 1 per channel or column; images become
    channels first.

    Columns in `exempt` (category codes) keep their values; with 0 channels (token ids) inputs do not change.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int, exempt: Sequence[int] = ()) -> None:
        super().__init__()
        self.exempt = list(exempt)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def fit(self, data: Data, rows: np.ndarray | None = None) -> None:
        """Measure the data, or these rows, by blocks in float64; a constant channel gets a deviation of 1.

        Merges blocks as Chan, Golub & LeVeque (1979) do, with the first sample as origin: the mean of squares minus the
        square of the mean would lose small deviations beside a large mean, and find some in constant channels.
        """
        if not len(self.mean):
            return
        if isinstance(data.inputs, SparseRows):
            mean, variance = map(torch.from_numpy, data.inputs.moments(rows))
            self._set(mean, variance.sqrt())
            return
        origin = torch.as_tensor(next(data.blocks(1, rows=rows)).inputs).double().flatten(0, -2)[0]
        count, mean, squares = 0, torch.zeros_like(origin), torch.zeros_like(origin)
        of_row = 8 * math.prod(data.inputs.shape[1:])
        for block in data.blocks(max(1, min(4096, FITTED_AT_ONCE // of_row)), rows=rows):
            values = torch.as_tensor(block.inputs).double().flatten(0, -2) - origin
            here = values.mean(0)
            share = len(values) / (count + len(values))
            squares += (values - here).square().sum(0) + (here - mean).square() * count * share
            count, mean = count + len(values), mean + (here - mean) * share
        self._set(origin + mean, (squares / count).sqrt())

    def _set(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        self.mean.copy_(mean)
        self.std.copy_(torch.where(deviation > 0, deviation, 1.0))
        self.mean[self.exempt], self.std[self.exempt] = 0.0, 1.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not len(self.mean):
            return inputs
        values = (inputs.float() - self.mean) / self.std
        return values.movedim(-1, 1) if values.ndim == 4 else values


class Model(nn.Sequential):
    """`Standardise`, then a network; holds its task, the `model_settings` of its inputs, and the name of the network in
    a study."""

    def __init__(
        self, standardise: Standardise, network: nn.Module, task: Task, learned: Mapping[str, Any], built_by: str
    ) -> None:
        super().__init__(standardise, network)
        self.task, self.learned, self.built_by = task, dict(learned), built_by

    def forward(self, inputs: torch.Tensor, lesson: Any = None) -> torch.Tensor:
        """Outputs `[b, width]`; with a teacher's `lesson`, which `TokenLosses` takes, one more column. Raises
        ValueError if the network, which may be a user's own, returns another shape."""
        told = () if lesson is None else (lesson,)
        outputs: Any = self[1](self[0](inputs), *told)
        expected = (len(inputs), self.task.width + len(told))
        if not isinstance(outputs, torch.Tensor) or outputs.shape != expected:
            shaped = isinstance(outputs, torch.Tensor)
            gave = f"a tensor of shape {list(outputs.shape)}" if shaped else f"a {type(outputs).__name__}"
            raise ValueError(
                f"model {self.built_by!r} gave {gave} for {expected[0]} samples; it must give a tensor of "
                f"shape {list(expected)}, a row per sample with the outputs of the task {self.task.name}"
            )
        return outputs

    @property
    def standardise(self) -> Standardise:
        """The first layer."""
        first = self[0]
        assert isinstance(first, Standardise)
        return first


class ImageClassifier(nn.Module):
    """Encoder, one vector per image, linear classifier: float `[b, channels, height, width]` -> logits `[b, classes]`.

    The vector is the encoder's pooled output, or its class token. `size` resizes images first (bilinear with
    antialiasing); `copies` is the number of repeats of a grey channel.
    """

    rebuild_settings: dict[str, Any]

    def __init__(
        self,
        encoder: nn.Module,
        shape: tuple[int, ...],
        classes: int,
        *,
        dropout: float = 0.0,
        size: tuple[int, int] | None = None,
        copies: int = 1,
    ) -> None:
        super().__init__()
        self.encoder, self.size, self.copies = encoder, size, copies
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self._width(shape), classes)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """The classifier's inputs, `[b, d]`."""
        if self.size is not None:
            inputs = functional.interpolate(inputs, self.size, mode="bilinear", antialias=True)
        if self.copies > 1:
            inputs = inputs.expand(-1, self.copies, -1, -1)
        return pooled(self.encoder(pixel_values=inputs)).flatten(1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.features(inputs)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _width(self, shape: tuple[int, ...]) -> int:
        """Length of the vector, from one black image; raises the encoder's error for an unsuitable shape."""
        height, width, channels = shape
        self.encoder.eval()
        found = self.features(torch.zeros(1, channels, height, width)).shape[1]
        self.encoder.train()
        return found


def embedding_width(size: int, most: int) -> int:
    """Width of the embedding of a column with this many codes: 1.6 times its 0.56th power, the rule of fastai."""
    return max(1, min(most, round(1.6 * math.pow(size, 0.56))))


class TabularNetwork(nn.Module):
    """Fully connected layers with ReLU over numbers and embedded codes, float32 `[b, columns]` -> `[b, classes]`."""

    numbers: torch.Tensor

    def __init__(self, categories: Sequence[int], classes: int, hidden: Sequence[int], width: int, drop: float) -> None:
        super().__init__()
        self.codes = [column for column, size in enumerate(categories) if size]
        numbers = [column for column, size in enumerate(categories) if not size]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64), persistent=False)
        sizes = [categories[column] for column in self.codes]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, embedding_width(size, width), padding_idx=UNKNOWN) for size in sizes
        )
        widths = [len(numbers) + sum(embedding_width(size, width) for size in sizes), *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(drop)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        embedded = [table(inputs[:, column].long()) for column, table in zip(self.codes, self.embeddings, strict=True)]
        return self.layers(torch.cat([inputs[:, self.numbers], *embedded], dim=1))  # type: ignore[no-any-return]


class TokenClassifier(nn.Module):
    """Encoder, mean over real tokens, linear classifier: ids int `[b, length]` -> logits `[b, classes]`.

    The attention and the mean mask ids equal to `padding_id`; a row of only such ids has the zero vector.
    """

    def __init__(self, encoder: nn.Module, classes: int, padding_id: int, dropout: float) -> None:
        super().__init__()
        self.padding_id = padding_id
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, classes)  # type: ignore[union-attr, arg-type]

    @property
    def rebuild_settings(self) -> dict[str, Any]:
        """Settings of `transformer` that rebuild the same network without pretrained files."""
        config = json.loads(self.encoder.config.to_json_string())  # type: ignore[union-attr, operator]
        return {"config": config, "dropout": self.dropout.p}

    def get_input_embeddings(self) -> nn.Module:
        """The embedding layer of token ids, under the name that the transformers library uses."""
        return self.encoder.get_input_embeddings()  # type: ignore[operator, no-any-return]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        ids, real = inputs.long(), inputs != self.padding_id
        if ids.device.type == "cpu":
            # Drop padding that all rows share; on a GPU its length would need a synchronisation.
            longest = int(real.any(dim=0).nonzero().max()) + 1 if real.any() else 1
            ids, real = ids[:, :longest], real[:, :longest]
        hidden = self.encoder(input_ids=ids, attention_mask=real.long()).last_hidden_state
        return self.classifier(self.dropout(mean_of_real(hidden, real)))  # type: ignore[no-any-return]
