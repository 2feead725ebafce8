"""Encoding of rows as arrays, by modality. Encoders are fitted to the training rows alone."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from secateur.trainers.contract import TrainingConfig, kind_read_by
from secateur.trainers.modalities.images import ImageEncoder, ImageEncoding
from secateur.trainers.modalities.rows import Batches, Stored, batches_of
from secateur.trainers.modalities.sequences import SequenceEncoder, SequenceEncoding
from secateur.trainers.modalities.tables import TableEncoder, TableEncoding
from secateur.trainers.modalities.texts import TextEncoding, TokenEncoder
from secateur.trainers.modalities.tfidf import TfidfEncoder
from secateur.trainers.models.causal_model import refuse_other_tokens, vocabulary_at
from secateur.trainers.models.registry import factory_of
from secateur.trainers.sparse_rows import Inputs, SparseRows

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

Modality = Literal["image", "text", "features", "sequence"]
Encoding = ImageEncoding | TextEncoding | TableEncoding | SequenceEncoding

ENCODINGS: Mapping[Modality, type[Encoding]] = {
    "image": ImageEncoding,
    "text": TextEncoding,
    "features": TableEncoding,
    "sequence": SequenceEncoding,
}
"""Settings classes of a study's `encoding`, by the modality of its columns or task."""

BLOCK = 1 << 25
"""Bytes of a block of encoded rows."""

KIND_READ_AS = {
    "text": {"tokens": "tokens", "numbers": "tfidf"},
    "features": {"codes": "codes", "numbers": "one_hot"},
    "sequence": {"sequences": "sequences"},
}
"""Encoding by the kind of input that models read."""
IN_WORDS = {"text": "a text", "features": "a table", "sequence": "a sample of fine-tuning"}


@runtime_checkable
class Encoder(Protocol):
    """An encoder of rows, fitted to training rows."""

    @property
    def model_settings(self) -> dict[str, Any]:
        """Facts about the arrays for networks, JSON-able; `Data.model_settings`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that it reads."""

    @property
    def spared(self) -> tuple[str, ...]:
        """Optional columns that save it work."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an encoded row."""

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Dtype of the array."""

    @property
    def sparse(self) -> bool:
        """Whether batches are `SparseRows`."""

    def encode_batch(self, table: "pa.Table", first: int = 0) -> Inputs:
        """Rows from `first` on as an array; raises ValueError that names column and row of an unusable cell."""

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Inputs | None = None) -> dict[str, Any]:
        """Facts for readers about the encoding of these rows, such as the share of texts that are cut; `inputs` are the
        encoded rows, if available."""

    def save(self, folder: Path) -> None:
        """Write the fitted state in readable form: `encoding.json` and the files that it needs."""


@dataclass(frozen=True)
class Encoded:
    """Both splits as arrays, facts about them for networks and readers, and the encoder for further rows."""

    inputs: Inputs
    test_inputs: Inputs
    model_settings: dict[str, Any]
    facts: dict[str, Any]
    encoder: Encoder


def encoding_of(modality: Modality, given: Mapping[str, Any], configs: Sequence[TrainingConfig]) -> Encoding:
    """A study's encoding with missing settings filled in from its models.

    The kind is that of the models' inputs, the tokenizer that of pretrained weights. Raises ValueError if the models
    disagree, for a kind that they do not read, and for augmentation of other inputs than images.
    """
    encoding = ENCODINGS[modality](**given)
    if isinstance(encoding, ImageEncoding):
        return encoding
    if any(config.augmentation for config in configs):
        raise ValueError(f"augmentation is for images, the columns hold {modality}: leave it out")
    kind = read_kind(modality, getattr(encoding, "kind", None), configs)
    if isinstance(encoding, TableEncoding):
        return encoding.model_copy(update={"kind": kind})
    encoding = with_tokenizer(encoding, configs)
    return encoding.model_copy(update={"kind": kind}) if isinstance(encoding, TextEncoding) else encoding


def read_kind(modality: Modality, asked: str | None, configs: Sequence[TrainingConfig]) -> str:
    """The encoding that the models read; raises ValueError if they disagree, or read another one than `asked`."""
    known = KIND_READ_AS[modality]
    kinds = {config.model: kind_read_by(factory_of(config.model)) for config in configs}
    wanted = {model: kind for model, kind in kinds.items() if kind is not None}
    for model, kind in wanted.items():
        fits = {name for name, kind in known.items() if asked in (None, kind)}
        if kind not in fits:
            raise ValueError(
                f"model {model!r} reads {kind}, but {IN_WORDS[modality]} is encoded as "
                f"{' or '.join(sorted(fits))} here (encoding.kind: {asked or ' or '.join(known.values())})"
            )
    if len(set(wanted.values())) > 1:
        told = " and ".join(f"{model!r} reads {kind}" for model, kind in wanted.items())
        raise ValueError(f"proxy and training share one encoding, but model {told}: use models that read the same")
    return asked or known[next(iter(wanted.values()), next(reversed(known)))]


def with_tokenizer(
    encoding: TextEncoding | SequenceEncoding, configs: Sequence[TrainingConfig]
) -> TextEncoding | SequenceEncoding:
    """The encoding, if it names no tokenizer, with that of pretrained weights; raises ValueError for several."""
    named = [config for config in configs if config.model_settings.get("pretrained")]
    names = {config.model_settings["pretrained"] for config in named}
    if encoding.tokenizer is not None or not named:
        return encoding
    if len({os.path.realpath(name) if os.path.isdir(name) else name for name in names}) > 1:
        raise ValueError(
            f"proxy and training name different weights ({', '.join(sorted(names))}): set encoding.tokenizer"
        )
    settings = named[0].model_settings
    return encoding.model_copy(update={"tokenizer": settings["pretrained"], "revision": settings.get("revision")})


def refuse_other_tokenizers(encoding: Encoding, configs: Sequence[TrainingConfig]) -> None:
    """Raise ValueError if pretrained language models have other tokens than the tokenizer of the encoding."""
    if not isinstance(encoding, SequenceEncoding) or encoding.tokenizer is None:
        return
    known = vocabulary_at(encoding.tokenizer, encoding.revision)
    for settings in (config.model_settings for config in configs):
        if known is not None and settings.get("pretrained") not in (None, encoding.tokenizer):
            refuse_other_tokens(settings["pretrained"], settings.get("revision"), known)


def fit_encoder(encoding: Encoding, rows: "Batches | datasets.Dataset", columns: Sequence[str]) -> Encoder:
    """Fit the encoder of an encoding to the training rows."""
    if isinstance(encoding, ImageEncoding):
        return ImageEncoder.fit(rows, columns[0], encoding)
    if isinstance(encoding, TableEncoding):
        return TableEncoder.fit(rows, columns, encoding)
    if isinstance(encoding, SequenceEncoding):
        return SequenceEncoder.fit(rows, columns, encoding)
    if encoding.kind == "tokens":
        return TokenEncoder.fit(rows, columns[0], encoding)
    return TfidfEncoder.fit(rows, columns[0], encoding)


def encode(
    encoding: Encoding,
    train: "Batches | datasets.Dataset",
    test: "Batches | datasets.Dataset",
    columns: Sequence[str],
) -> Encoded:
    """Encode both splits by an encoder fitted to the training rows alone.

    Images are uint8 `[n, height, width, channels]`, token ids int32 `[n, length]`, with roles `[n, 2, length]`, the
    rest float32 `[n, columns]`; TF-IDF is sparse.
    """
    encoder = fit_encoder(encoding, train, columns)
    inputs, test_inputs = encoded_rows(encoder, train), encoded_rows(encoder, test)
    facts = facts_of(encoder, "train", train) | facts_of(encoder, "test", test)
    return Encoded(inputs, test_inputs, encoder.model_settings, facts, encoder)


def facts_of(
    encoder: Encoder,
    split: Literal["train", "test"],
    rows: "Batches | datasets.Dataset",
    inputs: Inputs | None = None,
) -> dict[str, Any]:
    """Facts for readers about the encoding of a split; names of the test split's facts begin with "test "."""
    return {f"{'test ' * (split == 'test')}{name}": value for name, value in encoder.facts(rows, inputs).items()}


def encoded_rows(encoder: Encoder, rows: "Batches | datasets.Dataset") -> Inputs:
    """Rows as one array in memory, or as `SparseRows`."""
    if encoder.sparse:
        parts = (block for _, block in blocks_of(encoder, rows))
        return SparseRows.joined((part for part in parts if isinstance(part, SparseRows)), encoder.shape[0])
    whole = np.empty((len(rows), *encoder.shape), encoder.dtype)
    for start, block in blocks_of(encoder, rows):
        whole[start : start + len(block)] = np.asarray(block)
    return whole


def blocks_of(encoder: Encoder, rows: "Batches | datasets.Dataset", start: int = 0) -> Iterator[tuple[int, Inputs]]:
    """Consecutive rows as arrays of at most 32 MiB, each with its first row number, counted from `start`; holds one in
    memory at a time. Sparse rows come in the batches in which they are read.
    """
    size = 1 << 30 if encoder.sparse else max(1, BLOCK // (math.prod(encoder.shape) * encoder.dtype.itemsize or 1))
    held = rows.schema.names if isinstance(rows, Stored) else ()
    for table in batches_of(rows, [*encoder.names, *(name for name in encoder.spared if name in held)]):
        for first in range(0, table.num_rows, size):
            part = table.slice(first, size)
            yield start, encoder.encode_batch(part, start)
            start += part.num_rows
