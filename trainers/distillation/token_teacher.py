"""A teacher of completions: its logits at every completion token, from a cache or by a forward pass for each batch.

A cache holds, for each completion token, the `k` highest logits in float16, their tokens, and one number for all the
others (see `models/taught_tokens.py`): 4k + 2 bytes with a vocabulary of up to 65,536 tokens, 6k + 2 with a larger one.
That is 130 bytes for a token at k = 32 and a small vocabulary; each sample takes 8 bytes more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from secateur.scorers.contract import TrainingBatch, finite_outputs
from secateur.scorers.lazy import nn, torch
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data
from secateur.trainers.distillation.cached_logits import TeacherLogits, halved
from secateur.trainers.distillation.teacher import RESIDENT, Teacher
from secateur.trainers.models.taught_tokens import Lesson
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.sft import TAUGHT, TOKENS
from secateur.trainers.tasks.token_roles import token_counts

TOP_K = 32
"""Default number of logits kept for each completion token."""
STARTS = "starts.npy"


class WrongLogits(ValueError):
    """Cached logits of other data."""


@dataclass(frozen=True)
class TokenLogits:
    """Cached logits of all completion tokens in sample order: `tokens` has a row for each, and those of sample i begin
    at `starts[i]`, int64 `[n + 1]`."""

    tokens: TeacherLogits
    starts: Int64[np.ndarray, " n1"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of `tokens`, by name."""
        return self.tokens.arrays

    def check_temperature(self, temperature: float) -> None:
        """Raise ValueError if the cache has another temperature."""
        self.tokens.check_temperature(temperature)

    @classmethod
    def load(cls, folder: Path) -> TokenLogits:
        """Read the files of `cached_logits.write` and the array of `starts_of`; logits are memory-mapped."""
        return cls(TeacherLogits.load(folder), np.load(folder / STARTS))


def teacher_for(
    data: Data,
    settings: Any,
    *,
    model: nn.Module | None = None,
    cached: Path | None = None,
    augmentation: Augmentation | None = None,
) -> Teacher | TokenTeacher:
    """The teacher for students on these data, by the settings of a `Distillation`, from its model, its cached logits
    in a folder, or both; raises WrongLogits for logits of another number of samples, and ValueError as `Teacher`."""
    by_token = data.task.taught_by_token
    logits = None if cached is None else (TokenLogits if by_token else TeacherLogits).load(cached)
    if logits is not None and len(logits) != len(data):
        raise WrongLogits(f"teacher_logits holds {len(logits)} samples, the data {len(data)}")
    if isinstance(logits, TeacherLogits) or not by_token:
        return Teacher(model, cached=logits, augmentation=augmentation)  # type: ignore[arg-type]
    return TokenTeacher(model, cached=logits, top_k=settings.top_k, temperature=settings.temperature)


def starts_of(data: Data) -> Int64[np.ndarray, " n1"]:
    """Start of each sample's completion tokens among those of all samples; the last entry is their number."""
    return np.concatenate([[0], np.cumsum(token_counts(data.inputs))]).astype(np.int64)


class TokenTeacher:
    """The teacher's token logits for a student of completions, read from a cache by ids or computed by the model.

    The model runs in evaluation mode, without gradients, on the device of the batch, and is no part of the student.
    Both ways give the same numbers up to the rounding of float16.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        cached: TokenLogits | None = None,
        top_k: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        if model is None and cached is None:
            raise ValueError("give the teacher's model, or its cached logits")
        self.model, self.cached, self.top_k, self.temperature = model, cached, top_k, temperature
        size = sum(array.nbytes for array in cached.arrays.values()) if cached is not None else 0
        self._resident, self._tables = size <= RESIDENT, dict[str, torch.Tensor]()

    def lesson(self, ids: torch.Tensor, inputs: torch.Tensor) -> Lesson:
        """The teacher's logits for a batch, on its device: a further argument of the network beside the inputs."""
        if self.cached is None:
            assert self.model is not None
            self.model.to(inputs.device).eval()
            return said_of(self.model, inputs, self.top_k, self.temperature)
        starts = self.cached.starts
        rows = ids.cpu().numpy()
        counts = starts[rows + 1] - starts[rows]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._read(self.cached.tokens, np.repeat(starts[rows], counts) + within, inputs.device)

    def _read(self, tokens: TeacherLogits, places: Int64[np.ndarray, " t"], device: torch.device) -> Lesson:
        if self._resident and (not self._tables or self._tables["values"].device != device):
            self._tables = {name: tensor_of(array).to(device) for name, array in tokens.arrays.items()}
        if self._resident:
            at = torch.from_numpy(places).to(device)
            found = {name: table[at] for name, table in self._tables.items()}
        else:
            found = {name: tensor_of(array[places]).to(device) for name, array in tokens.arrays.items()}
        indices = found["indices"].long()
        if tokens.arrays["indices"].dtype == np.uint16:
            indices = indices & 0xFFFF
        assert tokens.temperature is not None
        return Lesson(found["values"], indices, found["rest"], tokens.temperature, tokens.width)

    def distance(
        self, batch: TrainingBatch, inputs: torch.Tensor, task: Task, *, temperature: float
    ) -> Float[torch.Tensor, " b"]:
        """Mean distance to the teacher over each sample's completion tokens; the network computed the sum."""
        return batch.outputs[:, TAUGHT] / batch.outputs[:, TOKENS]


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """The array as a tensor; uint16, by which torch cannot index, becomes the same bits as int16."""
    plain = np.array(array)  # torch warns of read-only arrays, such as memory maps
    return torch.from_numpy(plain.view(np.int16) if plain.dtype == np.uint16 else plain)


def said_of(model: Any, inputs: torch.Tensor, top_k: int | None, temperature: float) -> Lesson:
    """A model's highest logits at the completion tokens of a batch."""
    vocabulary = int(model.learned["vocabulary"])
    k = min(TOP_K if top_k is None else top_k, vocabulary - 1)
    lesson: Lesson = model[1].highest(inputs, k, temperature, vocabulary)
    return lesson


def tokens_in_blocks(
    teacher: nn.Module,
    data: Data,
    *,
    device: torch.device,
    top_k: int | None = None,
    temperature: float = 1.0,
    block: int = 4096,
    batch_size: int = 512,
    start: int = 0,
    fingerprint: str = "",
    progress: Any = None,
) -> Iterator[TeacherLogits]:
    """As `logits_in_blocks`, for completion tokens: cached logits of the samples from `start` on, a part for each block
    of samples. Raises ValueError that names the samples of NaN or infinite logits."""
    teacher.to(device).eval()
    for begin in range(start, len(data), block):
        rows, parts = np.arange(begin, min(begin + block, len(data))), list[TeacherLogits]()
        for batch in np.split(rows, range(batch_size, len(rows), batch_size)):
            inputs = data.take(batch).network_inputs(device)
            lesson = said_of(teacher, inputs, top_k, temperature)
            owners = torch.from_numpy(np.repeat(np.arange(len(batch)), token_counts(inputs.cpu().numpy())))
            sums = torch.zeros(len(batch)).index_add(0, owners, (lesson.values.sum(1) + lesson.rest).cpu())
            finite_outputs(sums, "the teacher's logits", first_row=int(batch[0]))
            narrow = np.uint16 if lesson.vocabulary <= 1 << 16 else np.int32
            indices = lesson.indices.cpu().numpy().astype(narrow)
            values, rest = halved(lesson.values), halved(lesson.rest)
            parts.append(TeacherLogits(values, lesson.vocabulary, indices, rest, temperature, teacher=fingerprint))
        joined: Mapping[str, Any] = {
            name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays
        }
        yield replace(parts[0], **joined)
        if progress:
            progress(int(rows[-1]) + 1, len(data))


def cache_tokens(teacher: nn.Module, data: Data, **how: Any) -> TokenLogits:
    """Cached logits of all completion tokens, in memory; `how` as `tokens_in_blocks`."""
    device = how.pop("device", None) or next(teacher.parameters()).device
    parts = list(tokens_in_blocks(teacher, data, device=device, **how))
    joined: Any = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    return TokenLogits(replace(parts[0], **joined), starts_of(data))
