"""How rows become arrays, by modality. Whatever is learned from data is learned from the training rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from secateur.trainers.contract import Recipe, kind_read_by
from secateur.trainers.modalities.images import Decode, ImageEncoder, ImageTask, decode_cell
from secateur.trainers.modalities.tables import TableEncoder, TableTask
from secateur.trainers.modalities.texts import TextTask, TfidfEncoder, TokenEncoder
from secateur.trainers.models.registry import factory_of

if TYPE_CHECKING:
    import datasets

Modality = Literal["image", "text", "features"]
Task = ImageTask | TextTask | TableTask

TASKS: Mapping[Modality, type[Task]] = {"image": ImageTask, "text": TextTask, "features": TableTask}
"""Settings of a study's `task` by what its columns hold."""

ENCODINGS = {"text": {"tokens": "tokens", "numbers": "tfidf"}, "features": {"codes": "codes", "numbers": "one_hot"}}
"""Encoding by the kind of input that models read."""


@runtime_checkable
class Encoder(Protocol):
    """What training rows taught of encoding rows."""

    @property
    def model_settings(self) -> dict[str, Any]:
        """What networks must know of the arrays, JSON-able; `Data.model_settings`."""

    def encode(self, rows: "datasets.Dataset") -> Shaped[np.ndarray, "n ..."]:
        """Rows of any split as an array; raises ValueError that names column and row of what cannot be one."""

    def facts(self, rows: "datasets.Dataset") -> dict[str, Any]:
        """What a reader should know of the encoding of these rows, such as the share of texts that are cut."""

    def save(self, folder: Path) -> None:
        """Write what `load_encoder` reads."""


@dataclass(frozen=True)
class Encoded:
    """Both splits as arrays, what networks must know of them, and the encoder for rows to come."""

    inputs: Shaped[np.ndarray, "n ..."]
    test_inputs: Shaped[np.ndarray, "m ..."]
    model_settings: dict[str, Any]
    facts: dict[str, Any]
    encoder: Encoder


def task_of(modality: Modality, given: Mapping[str, Any], recipes: Sequence[Recipe]) -> Task:
    """A study's task with what it leaves out filled in from its models.

    The encoding is the one that the models read, the tokenizer the one of pretrained weights. Raises ValueError
    where the models disagree, where the encoding is not one that they read, and for augmentation of what is no image.
    """
    task = TASKS[modality](**given)
    if isinstance(task, ImageTask):
        return task
    if any(recipe.augmentation for recipe in recipes):
        raise ValueError(f"augmentation is for images, the columns hold {modality}: leave it out")
    known = ENCODINGS[modality]
    kinds = {recipe.model: kind_read_by(factory_of(recipe.model)) for recipe in recipes}
    wanted = {model: kind for model, kind in kinds.items() if kind is not None}
    for model, kind in wanted.items():
        fits = {name for name, encoding in known.items() if task.encoding in (None, encoding)}
        if kind not in fits:
            raise ValueError(
                f"model {model!r} reads {kind}, but a {'text' if modality == 'text' else 'table'} is encoded as "
                f"{' or '.join(sorted(fits))} here (task.encoding: {task.encoding or ' or '.join(known.values())})"
            )
    if len(set(wanted.values())) > 1:
        told = " and ".join(f"{model!r} reads {kind}" for model, kind in wanted.items())
        raise ValueError(f"proxy and training share one encoding, but model {told}: use models that read the same")
    encoding = task.encoding or known[next(iter(wanted.values()), "numbers")]
    if not isinstance(task, TextTask):
        return task.model_copy(update={"encoding": encoding})
    named = [recipe for recipe in recipes if recipe.model_settings.get("pretrained")]
    names = {recipe.model_settings["pretrained"] for recipe in named}
    if task.tokenizer is None and len(names) > 1:
        raise ValueError(f"proxy and training name different weights ({', '.join(sorted(names))}): set task.tokenizer")
    if task.tokenizer is None and named:
        settings = named[0].model_settings
        task = task.model_copy(update={"tokenizer": settings["pretrained"], "revision": settings.get("revision")})
    return task.model_copy(update={"encoding": encoding})


def fit_encoder(
    task: Task, rows: "datasets.Dataset", columns: Sequence[str], *, decode: Decode = decode_cell
) -> Encoder:
    """Learn from the training rows how columns become an array."""
    if isinstance(task, ImageTask):
        return ImageEncoder.fit(rows, columns[0], task, decode)
    if isinstance(task, TableTask):
        return TableEncoder.fit(rows, columns, task)
    if task.encoding == "tokens":
        return TokenEncoder.fit(rows, columns[0], task)
    return TfidfEncoder.fit(rows, columns[0], task)


def encode(
    task: Task,
    train: "datasets.Dataset",
    test: "datasets.Dataset",
    columns: Sequence[str],
    *,
    decode: Decode = decode_cell,
) -> Encoded:
    """Both splits by an encoder that saw the training rows alone.

    Images are uint8 `[n, height, width, channels]`, token ids int32 `[n, length]`, the rest float32 `[n, columns]`.
    """
    encoder = fit_encoder(task, train, columns, decode=decode)
    facts = encoder.facts(train) | {f"test {name}": value for name, value in encoder.facts(test).items()}
    return Encoded(encoder.encode(train), encoder.encode(test), encoder.model_settings, facts, encoder)


def load_encoder(folder: Path, *, decode: Decode = decode_cell) -> Encoder:
    """Read back the encoder that `Encoder.save` wrote into a folder."""
    written = json.loads((folder / "task.json").read_text())["encoder"]
    if written == "image":
        return ImageEncoder.load(folder, decode)
    kinds: dict[str, Any] = {"table": TableEncoder, "tokens": TokenEncoder, "tfidf": TfidfEncoder}
    found: Encoder = kinds[written].load(folder)
    return found
