"""Pruned prompts: text and lengths, logits against one call per text, and whole searches on a copying model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.contract import experiments
from secateur.trainers.experiments.prompt_examples import read_answers, read_examples, symbol_task
from secateur.trainers.experiments.prompt_pruning import PromptPruning, kept_tokens, pruned_prompt
from secateur.trainers.models.causal_model import CausalModel, load_causal
from secateur.trainers.models.induction_model import symbol_tokenizer
from secateur.trainers.pruning.prompt_generation import JUDGES, Generation
from secateur.trainers.pruning.prompt_tokens import Evaluator, Examples, prompt_tokens, verbaliser_ids

TEMPLATE = "Review: a fine film\nMood: great\n\nReview: {text}\nMood:"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges for the words of the template."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    model.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    model.train_from_iterator([TEMPLATE * 20, " great terrible awful good" * 50], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=model, padding_side="left")


TOKENIZER = byte_tokenizer()
PROMPT = prompt_tokens(TOKENIZER, TEMPLATE)


def causal(kind: str) -> CausalModel:
    size = len(TOKENIZER)
    configs: dict[str, Any] = {
        "gpt2": GPT2Config(vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=128, initializer_range=0.5),
        "llama": LlamaConfig(
            vocab_size=size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.5,
            max_position_embeddings=128,
        ),
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return CausalModel(AutoModelForCausalLM.from_config(configs[kind]).eval(), TOKENIZER)


def untold(done: int, of: int) -> None:
    """Progress without output."""


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), share=st.floats(0, 1))
def test_a_pruned_template_holds_the_kept_tokens_in_order_and_its_placeholders(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(len(PROMPT.ids)) < share
    first = len(PROMPT.pieces[0].ids)
    kept = [token for token, stays in zip(PROMPT.ids, mask, strict=True) if stays]
    before, after = PROMPT.text(mask).split("{text}")
    assert before == TOKENIZER.decode(kept[: mask[:first].sum()]) + " "  # the blank stays beside its placeholder
    assert after == TOKENIZER.decode(kept[mask[:first].sum() :])
    assert PROMPT.length(mask) == len(TOKENIZER(before + after)["input_ids"])
    assert PROMPT.text(np.ones(len(mask), bool)) == TEMPLATE


def test_tokens_of_protected_texts_are_known_and_nothing_else() -> None:
    prompt = prompt_tokens(TOKENIZER, TEMPLATE, ["Mood:", "fine"])
    for number, (token, protected) in enumerate(zip(prompt.ids, prompt.protected, strict=True)):
        text = TOKENIZER.decode([token]).strip()
        assert protected == any(text and text in one for one in ("Mood:", "fine")) or text in "aeo:", (number, text)
    silent = np.ones(len(prompt.ids), bool) & prompt.protected
    assert prompt.text(silent).count("Mood:") == 2
    assert "fine" in prompt.text(silent)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_probabilities_are_those_of_one_call_per_text(kind: str) -> None:
    model = causal(kind)
    evaluator = Evaluator(model, PROMPT, [" great", " terrible", " good"], batch=7)
    generator = np.random.default_rng(0)
    masks = generator.random((5, len(PROMPT.ids))) < 0.6
    texts = ["a film", "the worst of all films, and long", "fine"]
    examples = Examples(tuple({"text": text} for text in texts), np.array([0, 1, 2]))
    found = evaluator.probabilities(masks, examples)
    ids = [TOKENIZER(word)["input_ids"][0] for word in (" great", " terrible", " good")]
    for number, mask in enumerate(masks):
        for place, text in enumerate(texts):
            tokens = torch.tensor([TOKENIZER(PROMPT.text(mask).replace("{text}", text))["input_ids"]])
            with torch.no_grad():
                expected = torch.softmax(model.model(input_ids=tokens).logits[0, -1, ids].double(), dim=0)
            np.testing.assert_allclose(found[number, place], expected, atol=1e-5)
    assert evaluator.passes == 15
    labels = examples.labels
    gaps = found[:, range(3), labels] - np.stack(
        [np.delete(found[:, at], label, axis=1).max(axis=1) for at, label in enumerate(labels)], axis=1
    )
    expected_margin = [np.mean([200 * gap if gap > 0 else 180 * gap for gap in row]) for row in gaps]
    np.testing.assert_allclose(evaluator.margin(masks, examples), expected_margin, atol=1e-3)
    np.testing.assert_array_equal(evaluator.accuracy(masks, examples), (gaps > 0).mean(axis=1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([" great", ""], "verbaliser '' has tokens \\[\\]"),
        ([" great", " great"], "two or more, of different tokens"),
        ([" great"], "two or more, of different tokens"),
        ([" great", " terrible", " great film"], "verbaliser ' great' begin those of ' great film'"),
    ],
)
def test_verbalisers_must_be_different_known_tokens(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verbaliser_ids(TOKENIZER, words)
    with pytest.raises(ValueError, match="all must be known"):
        verbaliser_ids(symbol_tokenizer(), ["s1", "never"])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("per_token", [False, True])
def test_labels_of_several_tokens_are_as_likely_as_one_call_per_label_says(kind: str, per_token: bool) -> None:
    model = causal(kind)
    words = [" great", " terrible", " incomprehensible", " awful film", *([" great film"] if per_token else [])]
    evaluator = Evaluator(model, PROMPT, words, batch=5, per_token=per_token)
    texts = ["a film", "the worst of all films, and long", "fine"]
    found = evaluator.label_logits(texts)
    for row, text in enumerate(texts):
        before = TOKENIZER(text)["input_ids"]
        for column, word in enumerate(words):
            ids = TOKENIZER(word)["input_ids"]
            with torch.no_grad():
                logs = model.model(input_ids=torch.tensor([before + ids])).logits[0].double().log_softmax(dim=-1)
            each = [float(logs[len(before) - 1 + place, token]) for place, token in enumerate(ids)]
            expected = np.mean(each) if per_token else np.sum(each)
            assert found[row, column] == pytest.approx(expected, abs=1e-4), (text, word)
    assert max(len(TOKENIZER(word)["input_ids"]) for word in words) > 2
    assert evaluator.passes == 3
    one, several = (Evaluator(model, PROMPT, [" great", " terrible", *more]) for more in ([], [" awful film"]))
    examples = Examples(tuple({"text": text} for text in texts), np.zeros(3, np.int64))
    mask = np.ones((1, len(PROMPT.ids)), bool)
    first, second = one.probabilities(mask, examples)[0], several.probabilities(mask, examples)[0, :, :2]
    np.testing.assert_allclose(first, second / second.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_is_written_is_what_the_model_writes_one_token_after_the_other(kind: str) -> None:
    model = causal(kind)
    texts = ["a film", "the worst of all films, and long", "fine", "a great film"]

    def literal(text: str, count: int, stop: str, end: int = -1) -> str:
        ids = TOKENIZER(text)["input_ids"]
        first = len(ids)
        for _ in range(count):
            with torch.no_grad():
                token = int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == end:
                break
            ids = [*ids, token]
            if stop and stop in TOKENIZER.decode(ids[first:]):
                break
        said = str(TOKENIZER.decode(ids[first:], skip_special_tokens=True))
        return said.partition(stop)[0] if stop else said

    plain = [literal(text, 8, "") for text in texts]
    stop = plain[0][1]  # A text within one of the answers.
    for ending in ("", stop):
        writer = Generation(model, PROMPT, ["a", "b"], new_tokens=8, stop=ending, batch=3)
        assert writer.written(texts) == [literal(text, 8, ending) for text in texts]
        assert writer.passes == 4
    writer = Generation(model, PROMPT, [*plain, "else"], new_tokens=8, stop="")
    writer.prompt = prompt_tokens(TOKENIZER, "a {text}")
    whole, nothing = np.ones((1, 1), bool), np.zeros((1, 1), bool)
    examples = Examples(tuple({"text": text} for text in ("film", "nothing like it")), np.array([0, 4]))
    assert writer.accuracy(np.concatenate([whole, nothing]), examples)[0] == 0.5
    end = int(model.model(input_ids=torch.tensor([TOKENIZER(texts[1])["input_ids"]])).logits[0, -1].argmax())
    model.model.generation_config.eos_token_id = end  # Some answers end at once, others later.
    assert writer.written(texts) == [literal(text, 8, "", end) for text in texts]
    with pytest.raises(ValueError, match="8 to come, the model 128 positions"):
        writer.written(["word " * 200])


def test_answers_are_judged() -> None:
    told = {
        ("exact", " 12 apples\n", "12 apples"): 1.0,
        ("exact", "12 Apples", "12 apples"): 0.0,
        ("contains", "it is 12 apples, I think", "12 apples"): 1.0,
        ("contains", "12", "12 apples"): 0.0,
        ("number", "3 and 4 make 7, so 1,007.50", "= 1007.5"): 1.0,
        ("number", "none", "7"): 0.0,
        ("words", "a cat sat", "the cat sat down"): 0.5,
    }
    for (judge, written, answer), expected in told.items():
        assert JUDGES[judge](written, answer) == expected, (judge, written)  # type: ignore[index]
    with pytest.raises(ValueError, match="the answer 'seven' cannot be judged by 'number'"):
        Generation(causal("gpt2"), PROMPT, ["7", "seven"], "number")


@pytest.mark.parametrize(
    ("template", "protect", "message"),
    [
        ("no placeholder", [], "must have placeholders"),
        ("{a} and {a}", [], "each once"),
        ("{a} {b}", [], "nothing but placeholders"),
        ("one {a}", ["two"], "'two' is to be protected and is not in the template"),
    ],
)
def test_templates_that_cannot_be_pruned_say_why(template: str, protect: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_tokens(TOKENIZER, template, protect)


def test_a_prompt_that_is_too_long_or_empty_is_refused() -> None:
    evaluator = Evaluator(causal("gpt2"), PROMPT, [" great", " good"])
    with pytest.raises(ValueError, match="the model 128 positions"):
        evaluator.label_logits(["word " * 200])
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        evaluator.label_logits(["word", ""])


class OnCopier(PromptPruning):
    """The experiment on a model with handmade weights, without training."""

    copier: Path

    def train(self, seed: int, folder: Path, progress: Progress) -> None:
        shutil.copytree(self.copier, folder)


@pytest.fixture
def experiment(copying_model: Path, tmp_path: Path) -> PromptPruning:
    OnCopier.copier = copying_model
    made = OnCopier(passes=700, rerank_examples=20, fitness_examples=12, elites=5, population=8, offspring=10)
    (tmp_path / "prepared").mkdir()
    made.prepare(2, tmp_path / "prepared", untold)
    return made


def test_noise_hurts_a_model_that_copies_and_searches_take_it_out(experiment: PromptPruning, tmp_path: Path) -> None:
    assert experiments()["prompt_pruning"] is PromptPruning
    prepared = tmp_path / "prepared"
    full = experiment.run("full", 1.0, 2, prepared, untold)
    assert full.outcome.metrics["without_noise"] > 0.99
    assert full.outcome.metrics["accuracy"] < 0.8
    assert full.kept is None
    outcomes = {("full", 1.0, 2): full}
    keep = 0.8
    for arm in PromptPruning.arms:
        one = outcomes[arm, keep, 2] = experiment.run(arm, keep, 2, prepared, untold)
        assert one.outcome.metrics["passes"] <= 700, arm
        assert one.outcome.metrics["passes"] > 450, arm
        assert one.kept is not None
        assert one.kept.count <= resolve_keep(keep, one.kept.of)
        assert one.kept.count == round(one.outcome.metrics["share_kept"] * one.kept.of)
    again = experiment.run("gga", keep, 2, prepared, untold)
    assert again.outcome.metrics == outcomes["gga", keep, 2].outcome.metrics
    assert (
        max(outcomes[arm, keep, 2].outcome.metrics["accuracy"] for arm in ("gga", "ssga", "random"))
        > full.outcome.metrics["accuracy"]
    )
    pictures = experiment.pictures({key: one.outcome for key, one in outcomes.items()})
    without = experiment.pictures({key: one.outcome for key, one in outcomes.items() if key[0] != "full"})
    assert [content[:5] for drawn in (pictures, without) for content in drawn.values()] == [b"<?xml"] * 2
    assert pictures != without


def test_splits_share_nothing_and_the_handful_is_balanced(experiment: PromptPruning, tmp_path: Path) -> None:
    task = json.loads((tmp_path / "prepared" / "task.json").read_text())
    for number, one in enumerate(task["examples"]):
        one["fields"]["number"] = str(number)
    parts = experiment.splits(task, 5)
    numbers = [[fields["number"] for fields in part.fields] for part in parts]
    assert sorted(number for part in numbers for number in part) == sorted(map(str, range(len(task["examples"]))))
    assert [len(part) for part in parts][:2] == [12, 20]
    assert np.bincount(parts.fitness.labels).tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="leave none to test"):
        experiment.splits({"examples": task["examples"][:32]}, 5)


def test_the_symbol_task_is_solved_by_its_pairs() -> None:
    task = symbol_task(10, 40, 7)
    tokens = task["template"].split()[:-1]
    pairs = [token for token, stays in zip(tokens, task["oracle"], strict=True) if stays]
    label_of = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert len(label_of) == 6
    for one in task["examples"]:
        key = one["fields"]["query"].split()[-1]
        assert label_of[key] == task["verbalisers"][one["label"]]
    noise = {token for token, stays in zip(tokens, task["oracle"], strict=True) if not stays}
    assert not noise & {*label_of, *label_of.values()}


def test_a_prompt_of_the_users_is_pruned_and_its_manifest_loads_back(copying_model: Path, tmp_path: Path) -> None:
    examples = tmp_path / "examples.jsonl"
    label_of = {"s1": "s60", "s2": "s61", "s3": "s60", "s4": "s61"}
    lines = [{"query": key, "label": label} for key, label in label_of.items()] * 12
    examples.write_text("\n".join(json.dumps(line) for line in lines))
    made = PromptPruning(
        model=str(copying_model),
        template="s1 s60 s2 s9 s61 s3 s8 s60 s4 s61 {query}",
        verbalisers=["s60", "s61"],
        examples=str(examples),
        passes=500,
        fitness_examples=8,
        rerank_examples=16,
        elites=4,
        population=8,
        offspring=10,
        reward="margin",
    )
    (tmp_path / "prepared").mkdir()
    made.prepare(0, tmp_path / "prepared", untold)
    result = made.run("random", 0.8, 0, tmp_path / "prepared", untold)
    assert result.kept is not None
    tokenizer = load_causal(str(copying_model)).tokenizer
    prompt = prompt_tokens(tokenizer, made.template or "")
    assert pruned_prompt(prompt, result.kept) == result.outcome.facts["prompt"]
    other = prompt_tokens(tokenizer, "s1 s60 s2 s9 s61 s3 s8 s60 s4 s62 {query}")
    with pytest.raises(ValueError, match="of another template"):
        pruned_prompt(other, result.kept)
    assert kept_tokens(other, np.ones(10, bool)).made_for != result.kept.made_for


def test_examples_and_settings_that_cannot_be_read_say_where(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    for content, message in {
        '{"text": "a", "label": "good"}\nnonsense': "line 2: not JSON",
        '{"text": "a", "label": "other"}': "line 1: wants texts",
        '{"label": "good"}': r"line 1: .* has none for \['text'\]",
        "[1]": "line 1: wants texts",
    }.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_examples(path, [" good", " bad"], ["text"])
    with pytest.raises(ValueError, match="no such file"):
        read_examples(tmp_path / "none", [" good"], [])
    path.write_text('{"text": "a", "answer": 7}\n{"text": "b", "answer": "x"}\n{"text": "c", "answer": "7"}')
    assert read_answers(path, ["text"])[1] == ["7", "x"]
    assert [one["label"] for one in read_answers(path, ["text"])[0]] == [0, 1, 0]
    path.write_text('{"text": "a", "label": "x"}')
    with pytest.raises(ValueError, match="line 1: wants texts for the placeholders and an `answer`"):
        read_answers(path, ["text"])
    with pytest.raises(ValueError, match="no verbalisers, per_token or margin"):
        PromptPruning(model="x", template="{a}", examples="e", generate=3, reward="margin")
    with pytest.raises(ValueError, match="go together"):
        PromptPruning(model="x")
    with pytest.raises(ValueError, match="do not reach"):
        PromptPruning(passes=10)
