"""Retrieval scores against a loop over steps, layers and heads without a cache; places of needles in real tokens."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM as Causal
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config

from secateur.scorers.networks.retrieval_heads import (
    NeedlePrompt,
    Retrieval,
    Task,
    place_needle,
    retrieval_heads,
    retrieve,
    retrieve_masked,
    words_recalled,
)
from secateur.trainers.pruning.masked_heads import masked_heads

VOCABULARY = 6
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "initializer_range": 0.9,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def model_of(kind: str, seed: int = 0) -> Any:
    """A random model, loud enough for its heads to attend to different places."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "gpt2":
            config = GPT2Config(
                vocab_size=VOCABULARY, n_embd=24, n_layer=2, n_head=6, n_positions=64, eos_token_id=None
            )
            config.initializer_range = 0.9
            return GPT2LMHeadModel(config).eval()
        config = {
            "llama": lambda: LlamaConfig(**SHAPE),
            "qwen2": lambda: Qwen2Config(**SHAPE),
            "mistral": lambda: MistralConfig(**SHAPE, sliding_window=7),
        }[kind]()
        return Causal.from_config(config).eval()


def literal(
    model: Any, prompt: NeedlePrompt, new_tokens: int, ends: list[int]
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The score as it is written down: the whole sequence anew at every step, each head for itself."""
    model.set_attn_implementation("eager")
    tokens, written = prompt.tokens.tolist(), []
    copied: dict[tuple[int, int], list[int]] = {}
    for _ in range(new_tokens):
        with torch.no_grad():
            out = model(input_ids=torch.tensor([tokens]), output_attentions=True, use_cache=False)
        token = int(out.logits[0, -1].argmax())
        if token in ends:
            break
        for layer, attention in enumerate(out.attentions):
            for head in range(attention.shape[1]):
                place = int(attention[0, head, -1].argmax())
                if prompt.start <= place < prompt.stop and prompt.tokens[place] == token:
                    copied.setdefault((layer, head), []).append(place)
        tokens.append(token)
        written.append(token)
    scores, steps = np.zeros((2, len(out.attentions), out.attentions[0].shape[1]), np.float32)
    for (layer, head), places in copied.items():
        scores[layer, head] = len(set(places)) / (prompt.stop - prompt.start)
        steps[layer, head] = len(places) / (prompt.stop - prompt.start)
    return written, scores, steps


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
@pytest.mark.parametrize("ends", [[], [3]], ids=["to the end", "stops early"])
def test_scores_are_those_of_a_loop_over_steps_and_heads(kind: str, ends: list[int]) -> None:
    model, generator = model_of(kind), np.random.default_rng(1)
    model.generation_config.eos_token_id = ends or None
    prompts = [
        NeedlePrompt(generator.integers(0, VOCABULARY, length), start, stop)
        for length, start, stop in [(12, 2, 9), (20, 3, 18), (12, 1, 12), (20, 10, 14), (5, 0, 1)]
    ]
    results = retrieve(model, prompts, new_tokens=6, batch=2)
    assert model.config._attn_implementation != "eager"
    heard = 0
    for prompt, result in zip(prompts, results, strict=True):
        written, scores, steps = literal(model, prompt, 6, ends)
        assert result.prompt is prompt
        assert result.written.tolist() == written
        np.testing.assert_array_equal(result.copied, scores)
        np.testing.assert_array_equal(result.steps, steps)
        heard += np.count_nonzero(scores)
    assert heard > (0 if ends else 7)


def test_a_token_that_is_copied_twice_counts_once() -> None:
    model = model_of("llama")
    prompt = NeedlePrompt(np.array([1, 2, 3, 1, 2, 3, 1, 2]), 0, 8)
    (result,) = retrieve(model, [prompt], new_tokens=40)
    assert len(result.written) == 40
    assert 0 < result.copied.max() <= 1
    assert (result.steps > result.copied).any()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_prompts_that_are_read_once_are_answered_as_if_each_masking_had_read_them(kind: str) -> None:
    """Beside one whole forward pass per token, in which only positions behind the prompt are masked."""
    model, generator = model_of(kind), np.random.default_rng(3)
    prompts = [NeedlePrompt(generator.integers(0, VOCABULARY, 12), 2, 9) for _ in range(3)]
    keeps = [generator.random((2, 6)) < 0.5 for _ in range(3)]
    maskings = [partial(masked_heads, model, keep, decoding_only=True) for keep in keeps]
    once = list(retrieve_masked(model, prompts, [nullcontext, *maskings], new_tokens=6, read_once=True))
    for masking, answers in zip([nullcontext, *maskings], once, strict=True):
        with masking():
            alone = retrieve(model, prompts, new_tokens=6)
        assert [run.written.tolist() for run in answers] == [run.written.tolist() for run in alone]
        for one, other in zip(answers, alone, strict=True):
            np.testing.assert_array_equal(one.copied, other.copied)
    assert len({str([run.written.tolist() for run in answers]) for answers in once}) > 1
    whole = [partial(masked_heads, model, keep) for keep in keeps]
    for masking, answers in zip(whole, retrieve_masked(model, prompts, whole, new_tokens=6), strict=True):
        with masking():
            for run, prompt in zip(answers, prompts, strict=True):
                assert run.written.tolist() == literal(model, prompt, 6, [])[0]


def test_a_model_that_ends_at_once_copied_nothing() -> None:
    model = model_of("llama")
    model.generation_config.eos_token_id = list(range(VOCABULARY))
    (result,) = retrieve(model, [NeedlePrompt(np.arange(6), 1, 3)])
    assert not result.written.size
    assert not result.copied.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.train(), "training mode"),
        (lambda model: torch.nn.Linear(2, 2), "not a model of transformers"),
    ],
)
def test_models_that_cannot_be_scored_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieve(change(model_of("llama")), [NeedlePrompt(np.arange(6), 1, 3)])


def test_prompts_that_the_model_cannot_read_are_refused() -> None:
    model = model_of("llama")
    with pytest.raises(ValueError, match="do not fit the model's 64 positions"):
        retrieve(model, [NeedlePrompt(np.zeros(60, np.int64), 1, 3)], new_tokens=5)
    with pytest.raises(ValueError, match="token 6 is unknown to the model, which has 6"):
        retrieve(model, [NeedlePrompt(np.arange(7), 1, 3)], new_tokens=5)
    for start, stop in [(3, 3), (4, 9), (-1, 2)]:
        with pytest.raises(ValueError, match="is not inside a prompt"):
            NeedlePrompt(np.arange(6), start, stop)


def test_only_runs_that_succeeded_count() -> None:
    prompt = NeedlePrompt(np.arange(6), 1, 3)
    each = [np.full((1, 2), value, np.float32) for value in (0.25, 0.75, 1.0)]
    runs = [Retrieval(prompt, np.arange(2), value, 2 * value) for value in each]
    np.testing.assert_allclose(retrieval_heads(runs, np.array([0.9, 0.6, 0.5])), [[0.5, 0.5]])
    np.testing.assert_allclose(retrieval_heads(runs, np.array([0.9, 0.6, 0.5]), count="steps"), [[1.0, 1.0]])
    with pytest.raises(ValueError, match=r"in none of 3 runs \(best recall 0.50"):
        retrieval_heads(runs, np.array([0.0, 0.5, 0.2]))


@pytest.mark.parametrize(
    ("written", "needle", "recall"),
    [
        ("The cat sat.", "the cat sat", 1.0),
        ("cat cat cat", "a cat, a dog", 0.25),
        ("nothing", "a cat", 0.0),
        ("a dog and a cat", "a cat a mouse a dog", 4 / 6),
    ],
)
def test_recall_of_words(written: str, needle: str, recall: float) -> None:
    assert words_recalled(written, needle) == pytest.approx(recall)


WORDS = ["river", "stone", "cloud", "lamp", "garden", "winter", "song", "bread", "letter", "window"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges, so that a needle's tokens depend on the blank before it."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    model.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    from tokenizers.trainers import BpeTrainer

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False)
    model.train_from_iterator([" ".join(WORDS), "Question: what? Answer:", ". ".join(WORDS)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>")


TOKENIZER = byte_tokenizer()


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=60, max_size=70),
    length=st.integers(80, 130),
    depth=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_the_needle_is_where_it_is_said_to_be(lengths: list[int], length: int, depth: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    haystack = " ".join(" ".join(generator.choice(WORDS, size)).capitalize() + "." for size in lengths)
    needle = "The key lies under the blue été stone."
    prompt = place_needle(TOKENIZER, Task(haystack, needle, "Where is the key?"), length=length, depth=depth)
    assert TOKENIZER.decode(prompt.needle.tolist()).strip() == needle
    whole = TOKENIZER.decode(prompt.tokens.tolist())
    assert whole.endswith("\n\nQuestion: Where is the key?\nAnswer:")
    before, after = whole.split(needle)
    context_before = before.strip()
    assert not context_before or context_before.endswith(".") or depth == 1
    assert haystack.startswith(context_before)
    rest = after.split("\n\nQuestion")[0].strip()
    assert haystack[len(context_before) :].strip().startswith(rest)
    assert abs(len(prompt.tokens) - length) <= 1  # blanks around the needle merge in other ways
    read = len(context_before) + len(rest)
    assert len(context_before) <= depth * read + 2


def test_a_chat_template_goes_around_the_prompt() -> None:
    tokenizer = byte_tokenizer()
    task = Task("The river. The stone. " * 20, "A lamp is lit.", "What is lit?")
    with pytest.raises(ValueError, match="no chat template"):
        place_needle(tokenizer, task, length=60, depth=0.5, chat=True)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}[assistant]"
    prompt = place_needle(tokenizer, task, length=60, depth=0.5, chat=True)
    assert tokenizer.decode(prompt.tokens.tolist()).endswith("What is lit?[assistant]")
    assert tokenizer.decode(prompt.needle.tolist()).strip() == task.needle


@pytest.mark.parametrize(
    ("task", "length", "depth", "message"),
    [
        (Task("One. Two. Three. " * 9, "Two.", "?"), 60, 0.5, "holds it already"),
        (Task("One. Two. " * 9, " ", "?"), 60, 0.5, "needle is empty"),
        (Task("One. Two.", "Four.", "?"), 60, 0.5, "the haystack has .* give a longer text"),
        (Task("One. Two. " * 40, "Four.", "?"), 3, 0.5, "3 tokens are too few"),
        (Task("One. Two. " * 40, "Four.", "?"), 60, 1.5, "not within 0 … 1"),
        (Task("One. Two. " * 40, "Four.", "Four. Where?"), 60, 0.5, "once, word for word"),
    ],
)
def test_prompts_that_cannot_be_made_say_why(task: Task, length: int, depth: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place_needle(TOKENIZER, task, length=length, depth=depth)
