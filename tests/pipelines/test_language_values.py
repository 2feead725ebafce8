"""`secateur heads` and `secateur prompts`: logits that are not finite, and tokenizers that end every text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.scorers.contract import NotFinite
from secateur.scorers.networks.retrieval_heads import NeedlePrompt, Task, place_needle, retrieve, specials_behind
from secateur.trainers.experiments.prompt_pruning import PromptPruning
from secateur.trainers.models.causal_model import CausalModel, load_causal
from secateur.trainers.pruning.prompt_tokens import Evaluator, Examples, prompt_tokens

Change = Callable[[CausalModel], Any]


def template(text: str) -> processors.PostProcessor:
    return processors.TemplateProcessing(single=text, special_tokens=[("<s>", 64), ("</s>", 65)])


def saved(model: CausalModel, folder: Path) -> Path:
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def asked(copying_model: Path, tmp_path: Path) -> Callable[..., dict[str, list[object]]]:
    """Arguments of both commands for the model that copies, changed."""
    prompt, examples, haystack = (tmp_path / name for name in ("prompt.txt", "examples.jsonl", "haystack.txt"))
    prompt.write_text("s1 s60 s2 s9 s61 s3 s8 s60 s4 s61 {query}\n")
    label_of = {"s1": "s60", "s2": "s61", "s3": "s60", "s4": "s61"}
    lines = [{"query": key, "label": label} for key, label in label_of.items()] * 40
    examples.write_text("\n".join(json.dumps(line) for line in lines))
    haystack.write_text("\n".join(f"s{n} s{n + 1} s{n + 2}" for n in range(10, 60, 3)))
    needle = ["--needle", "s1 s2 s3 s4 s5", "--question", "s1", "--length", 24, "--depths", 2, "--new-tokens", 5]

    def arguments(name: str, change: Change) -> dict[str, list[object]]:
        causal = load_causal(str(copying_model))
        change(causal)
        folder = saved(causal, tmp_path / name)
        labels = ["--label", "s60", "--label", "s61", "--passes", 1100, "--method", "attribution"]
        return {
            "prompts": ["prompts", folder, prompt, "--examples", examples, *labels],
            "heads": ["heads", folder, "--haystack", haystack, *needle],
        }

    return arguments


def answer(arguments: list[object]) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in told.items() if name != "model"}


def refusal(arguments: list[object]) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(done.exception, NotFinite), done.output
    return str(done.exception)


def processor_of(processor: processors.PostProcessor) -> Change:
    return lambda causal: setattr(causal.tokenizer.backend_tokenizer, "post_processor", processor)


ENDED = {
    "end": ("<s> $A", template("<s> $A </s>")),
    "end alone": ("$A", template("$A </s>")),
    "two ends": ("<s> $A", template("<s> $A </s> </s>")),
    "as BERT": ("<s> $A", processors.BertProcessing(("</s>", 65), ("<s>", 64))),
    "as RoBERTa": ("<s> $A", processors.RobertaProcessing(("</s>", 65), ("<s>", 64), trim_offsets=False)),
    "in sequence": ("<s> $A", processors.Sequence([template("<s> $A </s>")])),
}


def test_what_a_tokenizer_adds_behind_a_text_is_not_read(asked: Callable[..., Any]) -> None:
    plain, ended = (asked(f"{len(text)}", processor_of(template(text))) for text in ("<s> $A", "<s> $A </s>"))
    assert answer(ended["heads"]) == answer(plain["heads"])
    seen = []
    for _, folder, prompt, _, examples, *_ in (plain["prompts"], ended["prompts"]):
        made = PromptPruning(
            model=str(folder), template=prompt.read_text(), verbalisers=["s60", "s61"], examples=str(examples)
        )
        made.prepare(0, folder, lambda done, of: None)
        seen.append(made.run("full", 1.0, 0, folder, lambda done, of: None).outcome.metrics)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ENDED)
def test_prompts_are_tokens_as_if_nothing_were_added_behind(name: str, copying_model: Path) -> None:
    front, ended = ENDED[name]
    seen, logits = [], []
    for processor in (template(front), ended):
        causal = load_causal(str(copying_model))
        processor_of(processor)(causal)
        task = Task("s10 s11. s12 s13. " * 20, "s1 s2 s3", "s1")
        placed = place_needle(causal.tokenizer, task, length=20, depth=0.5)
        seen.append((placed.tokens.tolist(), placed.start, placed.stop))
        evaluator = Evaluator(causal, prompt_tokens(causal.tokenizer, "s1 s60 s2 s61 {query}"), ["s60", "s61"])
        logits.append(evaluator.label_logits(["s1 s60 s2 s61 s1", "s1 s60 s2 s61 s5 s2", "s9"]).tolist())
    assert seen[0] == seen[1]
    assert logits[0] == logits[1]


def test_an_end_that_the_text_itself_spells_stays(copying_model: Path) -> None:
    tokenizer = load_causal(str(copying_model)).tokenizer
    assert specials_behind(tokenizer, "s1 </s>") == 0
    tokenizer.backend_tokenizer.post_processor = template("<s> $A </s>")
    assert specials_behind(tokenizer, "s1 </s>") == 1
    causal = CausalModel(load_causal(str(copying_model)).model, tokenizer)
    evaluator = Evaluator(causal, prompt_tokens(tokenizer, "s1 {query}"), ["s60", "s61"])
    plain = Evaluator(load_causal(str(copying_model)), evaluator.prompt, ["s60", "s61"])
    assert evaluator.label_logits(["s1 s60 </s>"]).tolist() == plain.label_logits(["s1 s60 </s>"]).tolist()
    assert evaluator.label_logits([""]).tolist() == plain.label_logits([""]).tolist()  # <s> alone


def poison(causal: CausalModel) -> None:
    """Half of the head's rows, labels among them."""
    causal.model.lm_head.weight.data[33:] = float("nan")


def overflow(causal: CausalModel) -> None:
    """Finite weights whose products are above what float16 holds."""
    causal.model.lm_head.weight.data *= 60_000
    causal.model.transformer.ln_f.weight.data *= 1_000
    causal.model.half()


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (poison, "so are its weights (first lm_head.weight): its training diverged; train it again with a lower"),
        (overflow, "its weights are float16, which ends at 65,504: save the model in float32 or bfloat16"),
    ],
)
def test_logits_that_are_no_numbers_are_no_answer(change: Change, remedy: str, asked: Callable[..., Any]) -> None:
    for command, arguments in asked("broken", change).items():
        said = refusal(arguments)
        assert "the logits behind the prompts of the model GPT2LMHeadModel" in said, command
        assert str(arguments[1]) in said, command
        assert "are NaN or infinite at row" in said, command
        assert remedy in said, command
        assert command == "heads" or said.startswith("full: "), command


def test_the_same_weights_in_float32_are_an_answer(asked: Callable[..., Any]) -> None:
    arguments = asked("wide", lambda causal: (overflow(causal), causal.model.float()))
    assert answer(arguments["heads"])["recall"] > 0.9


def test_as_many_rows_are_named_as_are_broken(copying_model: Path) -> None:
    causal = load_causal(str(copying_model))
    causal.model.transformer.wte.weight.data[9] = float("nan")  # s9 alone
    evaluator = Evaluator(causal, prompt_tokens(causal.tokenizer, "s1 s60 s2 s61 {query}"), ["s60", "s61"])
    examples = Examples(tuple({"query": query} for query in ("s1", "s9 s1", "s2", "s9 s2")), np.array([0, 0, 1, 1]))
    whole = np.ones((1, 4), dtype=np.bool_)
    for measure in (evaluator.accuracy, evaluator.margin):
        with pytest.raises(NotFinite, match="at rows 1, 3, 2 of 4: so are its weights"):
            measure(whole, examples)
    good = Examples(examples.fields[::2], examples.labels[::2])
    assert evaluator.accuracy(whole, good).tolist() == [1.0]
    prompts = [NeedlePrompt(np.array([64, 1, 2, last, 1]), 1, 3) for last in (3, 9, 3)]
    assert [run.written[0] for run in retrieve(causal.model, prompts[::2], new_tokens=1)] == [2, 2]
    with pytest.raises(NotFinite, match="at row 1, 1 of 3"):
        retrieve(causal.model, prompts, new_tokens=1)


def test_a_vocabulary_that_is_masked_in_part_is_an_answer(copying_model: Path) -> None:
    """Minus infinity is the usual logit of a token that cannot come; the written token is another."""
    causal = load_causal(str(copying_model))
    masked = torch.zeros(66)
    masked[40:] = -torch.inf
    causal.model.lm_head.bias = torch.nn.Parameter(masked)
    run = retrieve(causal.model, [NeedlePrompt(np.array([64, 1, 2, 3, 1]), 1, 3)], new_tokens=1)[0]
    assert run.written.tolist() == [2]
