"""A small causal transformer that learns to copy, for studies of heads and prompts without a download.

It reads random symbols, then a piece of them again, and learns to continue that piece. Networks that can do so have
induction heads (Olsson et al. 2022, "In-context learning and induction heads", arXiv 2209.11895). Training on long
contexts from the start does not converge in minutes, so contexts grow during training. Each step draws its length:
with the longest length at each step, the network learns to copy in contexts of that length alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from secateur.scorers.lazy import torch
from secateur.trainers.models.transformer import quiet_transformers
from secateur.trainers.processes import private_randomness

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SYMBOLS = 64
BEGIN, END = SYMBOLS, SYMBOLS + 1
IGNORED = -100
"""Label of tokens that the loss of transformers ignores."""


@dataclass(frozen=True)
class Curriculum:
    """Largest length of contexts: `shortest` symbols at first, rising to `longest` after `share` of the steps."""

    shortest: int = 8
    longest: int = 32
    share: float = 0.6

    def reached(self, step: int, steps: int) -> int:
        """Largest number of symbols of a step's contexts."""
        reached = min(1.0, step / max(1.0, self.share * steps))
        return self.shortest + round(reached * (self.longest - self.shortest))


def copies(
    count: int, length: int, piece: int, generator: np.random.Generator
) -> tuple[Int64[np.ndarray, "count tokens"], Int64[np.ndarray, " count"]]:
    """Sequences `BEGIN, length random symbols, a piece of them again`, and the place of the piece's first occurrence.

    int64 `[count, 1 + length + piece]`, and int64 `[count]`: the index in the sequence, 1 or more.
    """
    symbols = generator.integers(0, SYMBOLS, (count, length))
    starts = generator.integers(0, length - piece + 1, count)
    again = np.take_along_axis(symbols, starts[:, None] + np.arange(piece), axis=1)
    begin = np.full((count, 1), BEGIN)
    return np.concatenate([begin, symbols, again], axis=1), starts + 1


class Copying:
    """Batches to copy, of about `tokens` tokens each; a batch depends on seed and step alone."""

    def __init__(self, *, seed: int, steps: int, tokens: int, curriculum: Curriculum) -> None:
        self.seed, self.steps, self.tokens, self.curriculum = seed, steps, tokens, curriculum

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for step in range(self.steps):
            generator = np.random.default_rng([self.seed, step])
            length = int(generator.integers(self.curriculum.shortest, self.curriculum.reached(step, self.steps) + 1))
            count = max(1, self.tokens // (1 + length + length // 2))
            tokens, _ = copies(count, length, length // 2, generator)
            labels = tokens.copy()
            labels[:, : 2 + length] = IGNORED  # The first symbol of the piece is not predictable.
            yield {"input_ids": torch.from_numpy(tokens), "labels": torch.from_numpy(labels)}


def tiny_llama(*, seed: int, layers: int = 3, width: int = 128, heads: int = 8) -> LlamaForCausalLM:
    """A Llama for the symbols of this module, with random weights that depend on `seed` alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=SYMBOLS + 2,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=END,
        tie_word_embeddings=False,
        # With three times this value the network copies from places behind the symbol, which head scores do not count.
        initializer_range=0.02,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    with private_randomness(seed, torch.device("cpu")):
        return LlamaForCausalLM(config)


def symbol_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of symbols as words `s0` … `s63` between blanks; texts begin with `<s>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*(f"s{number}" for number in range(SYMBOLS)), "<s>", "</s>"]
    model = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="</s>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    model.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])  # type: ignore[assignment]
    kind: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = kind(
        tokenizer_object=model, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="</s>"
    )
    return tokenizer


def train_induction_model(
    folder: Path,
    *,
    seed: int,
    layers: int = 3,
    width: int = 128,
    heads: int = 8,
    steps: int = 600,
    tokens: int = 4096,
    learning_rate: float = 1e-3,
    curriculum: Curriculum | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train a tiny Llama to copy and save it with its tokenizer in transformers' format; CPU, float32.

    `seed` decides weights and data, `tokens` is the approximate size of a step; restores the global generators.
    """
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Batches(Copying, torch.utils.data.IterableDataset[Any]):
        """The batches as a data set for the Trainer."""

    class Told(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if progress and state.global_step % 20 == 0:
                progress(state.global_step, steps)

    model = tiny_llama(seed=seed, layers=layers, width=width, heads=heads)
    data = Batches(seed=seed, steps=steps, tokens=tokens, curriculum=curriculum or Curriculum())
    with TemporaryDirectory() as scratch, quiet_transformers(), generators_kept():
        arguments = TrainingArguments(
            output_dir=scratch,
            use_cpu=True,
            max_steps=steps,
            per_device_train_batch_size=1,  # a row of the data set is a batch
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=math.ceil(0.05 * steps),
            weight_decay=0.01,
            adam_beta2=0.98,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(
            model=model, args=arguments, train_dataset=data, data_collator=lambda rows: rows[0], callbacks=[Told()]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.train(False).save_pretrained(folder)
        symbol_tokenizer().save_pretrained(folder)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore all global generators at the end, because the Trainer seeds them."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
