"""Outputs of a teacher for every sample, written once: float16, all outputs or the highest few logits.

The cache stores logits of exclusive classes relative to the highest of their row, which leaves the softmax unchanged:
float16 then rounds by at most 2^-11 of the distance from the top, finest where the probability is largest. It stores
outputs of other tasks unshifted: float16 rounds standardised predictions and logits of labels by at most 2^-11 of
their size.

With `top_k`, each sample keeps its highest logits, and one logit for all other classes: if each of them had it, their
total mass at the cache's temperature would be the true one. The kept probabilities and the mass of the rest are thus
the teacher's; only the distribution within the rest is lost. Renormalising over the kept classes would teach the
student that all others are impossible. The mass depends on the temperature, so such a cache serves one temperature.

Cached logits belong to the stored samples, not to an augmented view (Beyer et al. 2022, "Knowledge distillation: a good
teacher is patient and consistent", section 3.1: teacher and student see the same view).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Float16, Integer, Shaped

from secateur.scorers.contract import finite_outputs
from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Data
from secateur.trainers.tasks.class_order import task_of_model

LOWEST = float(np.finfo(np.float16).min)
"""Logits further below the top than float16 reaches: their probability is 0 in float32 up to temperatures of 600."""


@dataclass(frozen=True)
class TeacherLogits:
    """Logits of a teacher for rows in data-set order; arrays may be memory-mapped.

    `values` float16 `[n, k]` are relative to the highest of their row where classes exclude each other. Without
    `indices` they are all `width` outputs in order. With `indices`, int16 or int32 `[n, k]`, they belong to these
    classes, highest first, and `rest` float16 `[n]` is the logit of every other class at `temperature`. `teacher` is
    the checkpoint's fingerprint, `task` the state of the task that it learned, with the names of its classes; None if
    the checkpoint has none. `augmentation` is the policy that varied the samples, None for stored samples.
    """

    values: Float16[np.ndarray, "n k"]
    width: int
    indices: Integer[np.ndarray, "n k"] | None = None
    rest: Float16[np.ndarray, " n"] | None = None
    temperature: float | None = None
    teacher: str = ""
    task: dict[str, Any] | None = None
    augmentation: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The present ones of the three arrays, by name."""
        found = {"values": self.values, "indices": self.indices, "rest": self.rest}
        return {name: array for name, array in found.items() if array is not None}

    def take(self, rows: Shaped[np.ndarray, " m"]) -> TeacherLogits:
        """The logits of some rows, in that order."""
        return replace(self, **{name: array[rows] for name, array in self.arrays.items()})

    def check_temperature(self, temperature: float) -> None:
        """Raise ValueError if this is a top-k cache of another temperature."""
        if self.temperature not in (None, temperature):
            raise ValueError(
                f"the highest {self.values.shape[1]} teacher logits were cached for temperature {self.temperature:g}, "
                f"they cannot serve {temperature:g}: cache them again, or all classes (top_k left out)"
            )

    def save(self, folder: Path) -> None:
        """Write one `.npy` per array and `teacher_logits.json` into an existing folder."""
        write(folder, [self], len(self))

    @classmethod
    def load(cls, folder: Path) -> TeacherLogits:
        """Read the files of `save` or `write`, arrays memory-mapped."""
        told = json.loads((folder / "teacher_logits.json").read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in told.pop("arrays")}
        return cls(**arrays, **told)


def write(folder: Path, parts: Iterable[TeacherLogits], count: int) -> None:
    """Write consecutive parts, `count` rows in total, into an existing folder; holds one part in memory at a time.

    Raises ValueError for another number of rows.
    """
    whole: dict[str, BinaryIO] = {}
    start, last = 0, None
    # No memory maps: on a full disk the system kills a process that writes to one.
    with ExitStack() as files:
        for part in parts:
            for name, array in part.arrays.items():
                if name not in whole:
                    whole[name] = files.enter_context((folder / f"{name}.npy").open("wb"))
                    head = {"descr": array.dtype.str, "fortran_order": False, "shape": (count, *array.shape[1:])}
                    np.lib.format.write_array_header_1_0(whole[name], head)
                whole[name].write(np.ascontiguousarray(array).data)
            start, last = start + len(part), part
    if last is None or start != count:
        raise ValueError(f"teacher logits of {start} rows, there are {count}")
    told = {name: value for name, value in vars(last).items() if name not in last.arrays}
    told = {name: value for name, value in told.items() if name not in ("indices", "rest")} | {"arrays": list(whole)}
    (folder / "teacher_logits.json").write_text(json.dumps(told, indent=2) + "\n")


def compress(
    logits: Float[torch.Tensor, "n width"],
    *,
    top_k: int | None = None,
    temperature: float = 1.0,
    first_row: int = 0,
    exclusive: bool = True,
) -> TeacherLogits:
    """Cache all outputs, or the highest `top_k` and a rest if `top_k` is below the number of classes.

    Of equal logits at the cut the class with the lower number stays. `exclusive`: the outputs are logits of classes
    that exclude each other. Raises ValueError for `top_k` without it, and for NaN or infinite outputs, with their row
    numbers counted from `first_row`.
    """
    finite_outputs(logits, "the teacher's logits", first_row=first_row)
    classes = logits.shape[1]
    if not exclusive:
        if top_k is not None:
            raise ValueError("top_k caches the most probable classes; this task has no classes that exclude each other")
        return TeacherLogits(halved(logits), classes)
    relative = logits.double() - logits.double().amax(dim=1, keepdim=True)
    if top_k is None or top_k >= classes:
        return TeacherLogits(halved(relative), classes)
    ordered, order = relative.sort(dim=1, descending=True, stable=True)
    # (classes - k) · exp(rest / temperature) is the mass of the rest.
    mass = (ordered[:, top_k:] / temperature).logsumexp(dim=1)
    rest = temperature * (mass - np.log(classes - top_k))
    narrow = np.int16 if classes <= 1 << 15 else np.int32
    return TeacherLogits(
        halved(ordered[:, :top_k]),
        classes,
        indices=order[:, :top_k].cpu().numpy().astype(narrow),
        rest=halved(rest),
        temperature=temperature,
    )


def halved(values: torch.Tensor) -> Float16[np.ndarray, ...]:
    """Values in float16, clamped to its range."""
    return values.clamp(min=LOWEST, max=-LOWEST).half().cpu().numpy()


def expanded(parts: dict[str, torch.Tensor], width: int) -> Float[torch.Tensor, "b width"]:
    """All outputs, float32, from a batch's part of each array, on their device."""
    values = parts["values"].float()
    if "indices" not in parts:
        return values
    full = parts["rest"].float().unsqueeze(1).repeat(1, width)
    return full.scatter_(1, parts["indices"].long(), values)


def logits_in_blocks(
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
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[TeacherLogits]:
    """Cached logits of the stored samples from row `start` on, in evaluation mode: one part per `block` rows.

    Moves the model to the device and puts it into evaluation mode; `fingerprint` is its checkpoint's. Blocks begin at
    multiples of `block`, so a pass resumed at a later one gives the same parts. Raises ValueError as `compress`, with
    row numbers of the data.
    """
    if start % block:
        raise ValueError(f"start {start} is not at the beginning of a block of {block} rows")
    teacher.to(device).eval()
    learned = task_of_model(teacher, data.task)
    for begin in range(start, len(data), block):
        rows = np.arange(begin, min(begin + block, len(data)))
        found = []
        with torch.no_grad():
            for batch in np.split(rows, range(batch_size, len(rows), batch_size)):
                found.append(logits_in(teacher(data.take(batch).network_inputs(device))))
        part = compress(
            torch.cat(found), top_k=top_k, temperature=temperature, first_row=begin, exclusive=data.task.exclusive
        )
        yield replace(part, teacher=fingerprint, task=None if learned is None else learned.state())
        if progress:
            progress(int(rows[-1]) + 1, len(data))


def logits_in(given: Any) -> torch.Tensor:
    """Logits in float32 from a model's output: a tensor, or an output of transformers with `logits`."""
    logits: torch.Tensor = getattr(given, "logits", given)
    return logits.float()


def cache_logits(
    teacher: nn.Module,
    data: Data,
    *,
    device: torch.device | None = None,
    top_k: int | None = None,
    temperature: float = 1.0,
) -> TeacherLogits:
    """Cached logits of all rows, in memory."""
    device = device or next(teacher.parameters()).device
    parts = list(logits_in_blocks(teacher, data, device=device, top_k=top_k, temperature=temperature))
    joined: dict[str, Any] = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    return replace(parts[0], **joined)
