"""A causal language model with random weights and a tokenizer trained here: what TRL and others take, without a hub."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from secateur.trainers.modalities.sequences import trained

WORDS = ("red", "green", "blue", "stone", "river", "song", "moon", "nine")


def pairs(rows: int) -> list[dict[str, str]]:
    """Prompts and completions of different lengths, each with the number of its row in words."""
    found = []
    for row in range(rows):
        words = [WORDS[(row * step + step) % len(WORDS)] for step in range(1, 3 + row % 5)]
        found.append({"prompt": f"say {row} {words[0]}:\n", "completion": " ".join(words)})
    return found


def tokenizer() -> Any:
    """A byte-level tokenizer with ChatML as its template."""
    texts = [text for row in pairs(40) for text in row.values()]
    return trained(iter(texts), 300)


def model(words: Any, seed: int = 0, **changes: Any) -> Any:
    """A Llama of one layer for a tokenizer's vocabulary, with weights large enough to have opinions."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, attention_dropout=0.0, **changes,
    )  # fmt: skip
    made = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(5.0)
    return made


def saved(folder: Path) -> str:
    """A folder with both, which `from_pretrained` loads."""
    words = tokenizer()
    model(words).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)
