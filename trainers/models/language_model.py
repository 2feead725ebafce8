"""A causal language model with the losses of its samples as outputs: small and from scratch, or of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import reads
from secateur.trainers.models.adapters import Lora, adapt
from secateur.trainers.models.causal_model import refuse_other_tokens
from secateur.trainers.models.identity import digest_of
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
    lora: Mapping[str, Any] | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    gradient_checkpointing: bool = False,
    weights: str | None = None,
    tokenizer: str | None = None,
) -> nn.Module:
    """A causal language model over token ids and their roles, int32 `[b, 2, length]` -> float32 `[b, 3]` (task `sft`).

    By default a Llama (Touvron et al. 2023) of `layers` x `width` with random weights. `pretrained` names weights, on
    the hub or in a folder; `config` is a configuration of the transformers library with its `model_type`, for random
    weights. `lora` (see `Lora`; an empty mapping takes its defaults) trains adapters beside frozen pretrained weights,
    which may have dtype bfloat16 (`dtype`). `gradient_checkpointing` computes each layer again in the backward pass
    instead of storing its activations. `weights` is the `digest_of` the pretrained weights below stored adapters,
    `tokenizer` the `vocabulary_of` the tokenizer that made the ids.

    Raises ValueError as `refuse_settings`, if the model has fewer positions or tokens than the inputs, another
    tokenizer, or other weights than `weights`, and if it computes logits from the last hidden states by more than a
    matrix product.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from secateur.trainers.models.token_losses import TokenLosses

    if len(shape) != 2 or shape[0] != 2:
        raise ValueError(f"model 'language_model' wants token ids and roles, the inputs have shape {shape}")
    refuse_settings({"pretrained": pretrained, "lora": lora, "dtype": dtype})
    if pretrained is not None:
        if tokenizer is not None:
            refuse_other_tokens(pretrained, revision, tokenizer)
        causal = load_pretrained(AutoModelForCausalLM, pretrained, revision, dtype=getattr(torch, dtype))
    else:
        chosen = config or small_llama(vocabulary, shape[1], layers, width, heads)
        causal = AutoModelForCausalLM.from_config(AutoConfig.for_model(**chosen))  # type: ignore[no-untyped-call]
    refuse_too_small(causal, shape[1], vocabulary)
    adapters: dict[str, Any] = {}
    if lora is not None and pretrained is not None:
        place, own = Path(pretrained), digest_of(causal.state_dict(), contents=True)
        if weights not in (None, own):
            raise ValueError(f"the weights of {pretrained!r} are not those that the adapters were trained beside")
        named = str(place.resolve()) if place.is_dir() else pretrained
        asked = Lora.of(lora)
        adapters["adapters"] = adapt(causal, asked, named)
        told = {"pretrained": named, "revision": revision, "dtype": dtype, "lora": asked.model_dump(mode="json")}
        adapters["reread"] = told | {"weights": own}
    if gradient_checkpointing:
        causal.activation_checkpointing_enable({"use_reentrant": False})
    return TokenLosses(causal, **adapters)


def refuse_too_small(causal: Any, length: int, vocabulary: int | None) -> None:
    """Raise ValueError if a model has too few positions for samples of `length` tokens, or too few tokens."""
    positions = getattr(causal.config, "max_position_embeddings", None) or length + 1
    # A completion without its prompt may have an additional start token.
    if positions < length + 1:
        raise ValueError(f"the model has {positions} positions: set encoding.max_length to at most {positions - 1}")
    known = causal.get_input_embeddings().num_embeddings
    if vocabulary is not None and vocabulary > known:
        raise ValueError(f"the tokenizer has {vocabulary} tokens and the model {known}: they do not belong together")


def refuse_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings of `language_model` that do not go together, and for unusable adapter settings."""
    if settings.get("dtype", "float32") not in ("float32", "bfloat16"):
        raise ValueError(f"model_settings.dtype: float32 or bfloat16, not {settings['dtype']!r}")
    if settings.get("lora") is None:
        if settings.get("dtype", "float32") != "float32":
            raise ValueError(
                "model_settings.dtype: weights that are trained stay float32, for steps smaller than bfloat16 tells "
                "apart would be lost; write training: {precision: bfloat16}, or add lora"
            )
        return
    Lora.of(settings["lora"])
    if settings.get("pretrained") is None:
        raise ValueError("model_settings.lora: adapters are trained beside pretrained weights: name them, pretrained")


language_model.check = refuse_settings  # type: ignore[attr-defined]


def small_llama(vocabulary: int | None, length: int, layers: int, width: int, heads: int) -> dict[str, Any]:
    """Configuration of a Llama for inputs of `length` tokens, with feed-forward layers four times as wide."""
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
