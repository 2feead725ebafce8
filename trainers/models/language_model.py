"""A causal language model that puts out what its samples cost: small and from scratch, or of transformers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import reads
from secateur.trainers.models.transformer import load_pretrained


@reads("sequences")
def language_model(
    shape: tuple[int, ...],
    outputs: int,
    *,
    vocabulary: int | None = None,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    pretrained: str | None = None,
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A causal language model over token ids and their roles, int32 `[b, 2, length]` -> float32 `[b, 3]` (task `sft`).

    By default a Llama (Touvron et al. 2023) of `layers` x `width` with random weights. `pretrained` names weights, on
    the hub or in a folder; `config` is a configuration of the transformers library with its `model_type`, and random
    weights. Raises ValueError where the model has fewer positions or fewer tokens than the inputs, or does more than a
    matrix product between its last hidden states and its logits.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from secateur.trainers.models.token_losses import TokenLosses

    if len(shape) != 2 or shape[0] != 2:
        raise ValueError(f"model 'language_model' wants token ids and roles, the inputs have shape {shape}")
    if pretrained is not None:
        causal = load_pretrained(AutoModelForCausalLM, pretrained, revision, dtype=torch.float32)
    else:
        chosen = config or small_llama(vocabulary, shape[1], layers, width, heads)
        causal = AutoModelForCausalLM.from_config(AutoConfig.for_model(**chosen))  # type: ignore[no-untyped-call]
    positions = getattr(causal.config, "max_position_embeddings", None) or shape[1]
    # The completion alone may have a start token that the sample has not.
    if positions < shape[1] + 1:
        raise ValueError(f"the model has {positions} positions: set encoding.max_length to less than that")
    known = causal.get_input_embeddings().num_embeddings
    if vocabulary is not None and vocabulary > known:
        raise ValueError(f"the tokenizer has {vocabulary} tokens and the model {known}: they do not belong together")
    return TokenLosses(causal)


def small_llama(vocabulary: int | None, length: int, layers: int, width: int, heads: int) -> dict[str, Any]:
    """Configuration of a Llama for inputs of `length` tokens, its feed-forward layers four times as wide."""
    if vocabulary is None:
        raise ValueError("model 'language_model' needs the vocabulary's size, which the encoding of task sft gives")
    return {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": 4 * width,
        "max_position_embeddings": length + 1,
        "tie_word_embeddings": True,
        "use_cache": False,
    }
