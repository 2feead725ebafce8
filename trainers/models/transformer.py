"""A transformer classifier of token ids: small and from scratch, or one of the transformers library by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import reads


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and warnings of the transformers library."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def meant_as_folder(name: str) -> bool:
    """Whether a name that is no existing path looks like a folder: the hub has no such names, or its first part is a
    folder here."""
    first, _, rest = name.partition("/")
    unlike = name.startswith((".", "~", os.sep)) or "/" in rest
    return not os.path.exists(name) and (unlike or (bool(rest) and os.path.isdir(first)))


def load_pretrained(kind: Any, name: str, revision: str | None, **options: Any) -> Any:
    """`kind.from_pretrained` of a hub name or a folder, relative to the working folder; raises ValueError with the
    remedy if it fails.

    Never runs code from a model's repository. Does not ask the hub for names that look like folders, which would take
    minutes without a network; it still finds downloaded models.
    """
    folder = meant_as_folder(name)
    options |= {"local_files_only": True} if folder else {}
    try:
        with quiet_transformers():
            return kind.from_pretrained(name, revision=revision, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        if folder:
            reason = f"there is no such folder (relative paths of models start at the working folder, {Path.cwd()})"
        raise ValueError(
            f"{name!r} cannot be loaded as {kind.__name__}: {reason}. Name a folder that holds it, a model of the "
            "Hugging Face hub (reachable, or downloaded before), or leave it out to work without a network"
        ) from error


@reads("tokens")
def transformer(
    shape: tuple[int, ...],
    classes: int,
    *,
    vocabulary: int | None = None,
    padding_id: int = 0,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    dropout: float = 0.1,
    pretrained: str | None = None,
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A transformer encoder (Devlin et al. 2019, BERT) under a classifier of the mean over real tokens.

    By default `layers` x `width` with random weights. `pretrained` names weights, on the hub or in a folder; `config`
    is a configuration of the transformers library with its `model_type`, for random weights. Raises ValueError if the
    encoder has fewer positions or tokens than the inputs.
    """
    from transformers import AutoConfig, AutoModel

    if len(shape) != 1:
        raise ValueError(f"model 'transformer' wants token ids, the inputs have shape {shape}")
    if pretrained is not None:
        encoder = load_pretrained(AutoModel, pretrained, revision, dtype=torch.float32)
    else:
        chosen = config or small_bert(vocabulary, shape[0], padding_id, layers, width, heads, dropout)
        encoder = AutoModel.from_config(AutoConfig.for_model(**chosen))  # type: ignore[no-untyped-call]
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # The classifier reads the mean, so the pooler would get no gradient.
    positions = getattr(encoder.config, "max_position_embeddings", shape[0])
    if positions < shape[0]:
        raise ValueError(f"the encoder has {positions} positions: set encoding.max_length to at most {positions}")
    known = encoder.get_input_embeddings().num_embeddings
    if vocabulary is not None and vocabulary > known:
        raise ValueError(
            f"the tokenizer has {vocabulary} tokens and the encoder {known}: encoding.tokenizer must be its own"
        )
    from secateur.trainers.models.networks import TokenClassifier

    return TokenClassifier(encoder, classes, padding_id, dropout)


def small_bert(
    vocabulary: int | None, length: int, padding_id: int, layers: int, width: int, heads: int, dropout: float
) -> dict[str, Any]:
    """Configuration of a BERT for inputs of `length` tokens, with feed-forward layers four times as wide."""
    if vocabulary is None:
        raise ValueError("model 'transformer' needs the vocabulary's size, which the token encoding of a text gives")
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": length,
        "type_vocab_size": 1,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "pad_token_id": padding_id,
    }
