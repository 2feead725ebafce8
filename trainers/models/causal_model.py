"""Causal language models of transformers, by name or folder, with their tokenizers."""

from functools import cache
from typing import Any, NamedTuple

import xxhash

from secateur.trainers.models.transformer import load_pretrained
from secateur.trainers.processes import device_of_choice

OTHER_TOKENS = (
    "token ids of one would mean other words to the other; name models of one family, or train on the words themselves"
)


class CausalModel(NamedTuple):
    """A model in evaluation mode on the device of choice, and its tokenizer."""

    model: Any
    tokenizer: Any


def load_causal(name: str, revision: str | None = None) -> CausalModel:
    """Load a model in its saved dtype, and its tokenizer; never runs code from the repository.

    Raises ValueError with the remedy if either cannot be loaded, or if the tokenizer has more tokens than the model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, name, revision)
    model = load_pretrained(AutoModelForCausalLM, name, revision, dtype="auto").to(device_of_choice()).eval()
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise ValueError(
            f"{name!r}: the tokenizer has {len(tokenizer)} tokens and the model {known}: they do not belong"
        )
    return CausalModel(model, tokenizer)


def vocabulary_of(tokenizer: Any) -> str:
    """XXH3-128 of a tokenizer's tokens and their ids, without tokens added to its vocabulary: tokenizers with equal
    digests have the same token for an id."""
    known = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    text = "\n".join(f"{number} {token!r}" for token, number in sorted(known.items()))
    return xxhash.xxh3_128_hexdigest(text.encode())


@cache
def vocabulary_at(name: str, revision: str | None) -> str | None:
    """`vocabulary_of` the tokenizer of pretrained weights; None if they have none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = load_pretrained(AutoTokenizer, name, revision)
    except ValueError:
        return None
    return vocabulary_of(tokenizer) if getattr(tokenizer, "backend_tokenizer", None) is not None else None


def refuse_other_tokens(name: str, revision: str | None, known: str) -> None:
    """Raise ValueError if the `vocabulary_of` the tokenizer of pretrained weights is not `known`; without a tokenizer
    there is no check."""
    if vocabulary_at(name, revision) not in (None, known):
        raise ValueError(f"{name!r} has another tokenizer than encoding.tokenizer: {OTHER_TOKENS}")
