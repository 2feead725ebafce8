"""Causal language models of transformers, by name or folder, with their tokenizers."""

from typing import Any, NamedTuple

from secateur.trainers.models.transformer import load_pretrained
from secateur.trainers.processes import device_of_choice


class CausalModel(NamedTuple):
    """A model in evaluation mode on the device of choice, and its tokenizer."""

    model: Any
    tokenizer: Any


def load_causal(name: str, revision: str | None = None) -> CausalModel:
    """Load a model and its tokenizer, in the number type that it was saved in; code that comes with it is never run.

    Raises ValueError that says what to do where either cannot be loaded, or the model knows fewer tokens.
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
