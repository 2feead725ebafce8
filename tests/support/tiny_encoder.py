"""An encoder of texts with random weights and a tokenizer of some words, as a folder that transformers loads."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from secateur.trainers.modalities.texts import train_tokenizer


def saved(folder: Path, words: Sequence[str]) -> str:
    """The folder, in which both are written: vectors of 16 numbers."""
    tokenizer = train_tokenizer([words], vocabulary=200)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(folder)
    return str(folder)
