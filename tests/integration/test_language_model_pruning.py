"""Heads, prompts and deltas of a real language model (`make language-model`), compared with loops over the library.

Its weights were dequantised from 4 bits, so no number here is that of the published model.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language_model import UNSET, folder, there
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.scorers.networks.retrieval_heads import Task, place_needle, retrieve
from secateur.trainers.models.causal_model import CausalModel, load_causal
from secateur.trainers.pruning.prompt_generation import Generation
from secateur.trainers.pruning.prompt_tokens import Evaluator, prompt_tokens

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not there(), reason=f"no language model in {folder()}: {UNSET}"),
]

NEEDLE, QUESTION = "The gate of the old garden opens at nine.", "When does the gate of the old garden open?"
HAYSTACK = Path(__file__).parents[2] / "LICENSE"


@pytest.fixture(scope="module")
def causal() -> CausalModel:
    return load_causal(str(folder()))


def answer(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_retrieval_scores_are_those_of_one_forward_pass_per_token(causal: CausalModel) -> None:
    task = Task(HAYSTACK.read_text(), NEEDLE, QUESTION)
    prompt = place_needle(causal.tokenizer, task, length=120, depth=0.5)
    assert len(prompt.tokens) == 120
    [run] = retrieve(causal.model, [prompt], new_tokens=12)
    before = causal.model.config._attn_implementation
    causal.model.set_attn_implementation("eager")
    ids, found = prompt.tokens.tolist(), np.zeros((*run.copied.shape, len(prompt.needle)), dtype=bool)
    for token in run.written:
        with torch.no_grad():
            out = causal.model(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
        assert int(out.logits[0, -1].argmax()) == token
        for layer, attention in enumerate(out.attentions):
            for head, place in enumerate(attention[0, :, -1].argmax(dim=-1).tolist()):
                if prompt.start <= place < prompt.stop and ids[place] == token:
                    found[layer, head, place - prompt.start] = True
        ids.append(int(token))
    causal.model.set_attn_implementation(before)
    np.testing.assert_allclose(run.copied, found.mean(axis=-1), atol=1e-6)
    assert run.copied.max() > 0.1


def test_few_heads_copy_and_draws_of_others_are_counted(tmp_path: Path) -> None:
    options = ["--needle", NEEDLE, "--question", QUESTION, "--length", 200, "--depths", 3, "--new-tokens", 14]
    masks = ["--mask", 15, "--draws", 2, "--how", "uniform", "--decoding-only", "-o", tmp_path / "heads.json"]
    told = answer("heads", folder(), "--haystack", HAYSTACK, *options, *masks)
    assert told["heads"] == 270
    assert told["recall"] > 0.5
    assert 0 < told["share_above_threshold"] < 0.1
    rows = {one["arm"]: one for one in told["masked"]}
    assert list(rows) == ["none", "retrieval", "random", "earlier", "later"]
    assert all(0 <= value <= 1 for one in rows.values() for value in one["draws"])
    assert [rows[arm]["p_value"] for arm in ("random", "earlier", "later")] == [
        (1 + rows[arm]["as_low"]) / 3 for arm in ("random", "earlier", "later")
    ]


def test_labels_of_several_tokens_and_answers_are_those_of_the_library(causal: CausalModel) -> None:
    prompt = prompt_tokens(causal.tokenizer, "Review: a fine film Mood: good Review: {text} Mood:")
    words = [" very good", " unspeakably dull", " fine"]
    texts = ["Review: what a bore Mood:", "Review: I laughed all the way through it Mood:"]
    found = Evaluator(causal, prompt, words).label_logits(texts)
    for row, text in enumerate(texts):
        for column, word in enumerate(words):
            before, ids = (causal.tokenizer(each)["input_ids"] for each in (text, word))
            labels = torch.tensor([[-100] * len(before) + ids])
            with torch.no_grad():
                loss = causal.model(input_ids=torch.tensor([before + ids]), labels=labels).loss
            assert found[row, column] == pytest.approx(-float(loss) * len(ids), abs=1e-3)
    written = Generation(causal, prompt, ["x"], new_tokens=6, stop="").written(texts)
    for text, said in zip(texts, written, strict=True):
        ids = torch.tensor([causal.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            out = causal.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        assert said == causal.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_half_of_a_delta_divided_by_half_stays_near_the_fine_tuned_model(causal: CausalModel, tmp_path: Path) -> None:
    tuned = load_causal(str(folder()))
    ids = torch.tensor([tuned.tokenizer("The gate of the old garden opens at nine, and closes at dusk.")["input_ids"]])
    optimiser = torch.optim.AdamW(tuned.model.parameters(), lr=1e-4, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        tuned.model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    tuned.model.save_pretrained(tmp_path / "tuned")
    tuned.tokenizer.save_pretrained(tmp_path / "tuned")
    told = answer("deltas", folder(), tmp_path / "tuned", "--keep", 0.5, "-o", tmp_path / "pruned")
    assert told["kept"] == pytest.approx(told["of"] / 2, rel=1e-3)
    pruned = load_causal(str(tmp_path / "pruned"))
    with torch.no_grad():
        before, after, left = (each.model(input_ids=ids).logits for each in (causal, tuned, pruned))
    assert float((left - after).norm()) < 0.5 * float((before - after).norm())
