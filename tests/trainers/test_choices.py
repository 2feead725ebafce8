"""Metrics of completions beyond perplexity: greedy decoding, and the likeliest of a few answers."""

from typing import Any

import datasets
import numpy as np
import pytest
import torch
from sft_rows import CONFIG, encoded

from secateur.trainers.contract import Data
from secateur.trainers.judging.evaluation import evaluate, judged
from secateur.trainers.loop.train import train
from secateur.trainers.tasks.choices import choices_in
from secateur.trainers.tasks.sft import Sft
from secateur.trainers.tasks.token_roles import PADDING, ROLE, SCORED

ANSWERS = ("yes", "no way", "perhaps tomorrow")


@pytest.fixture(scope="module")
def made() -> tuple[Data, Any, Any]:
    """36 rows with three answers and 12 with many, their tokenizer, and a partly trained model."""
    asked = [f"{'may' if row % 3 else 'must'} I {row % 7}?" for row in range(48)]
    told = [ANSWERS[row % 3] if row < 36 else f"number {row}" for row in range(48)]
    data, encoder = encoded(datasets.Dataset.from_dict({"prompt": asked, "answer": told}))
    domains = np.array([0] * 36 + [1] * 12)
    data = Data(data.inputs, domains, Sft(2, ["few", "many"]), data.model_settings)
    config = CONFIG.model_copy(update={"steps": 60, "learning_rate": 1e-2, "batch_size": 16})
    return data, encoder.tokenizer, train(data, config, seed=0, device=torch.device("cpu")).model


def causal_of(model: Any) -> Any:
    """The same model as a model of transformers."""
    from transformers import AutoModelForCausalLM

    causal = AutoModelForCausalLM.from_config(model[1].body.config)
    causal.model.load_state_dict(model[1].body.state_dict())
    return causal.eval()


def prompt_of(row: np.ndarray) -> tuple[list[int], list[int]]:
    """Ids before a sample's completion, and the completion's ids."""
    ids, roles = row[0], row[1] & ROLE
    return ids[(roles != SCORED) & (roles != PADDING)].tolist(), ids[roles == SCORED].tolist()


def test_exact_match_is_that_of_greedy_generation(made: tuple[Data, Any, Any]) -> None:
    data, tokenizer, model = made
    causal, right = causal_of(model), []
    for row in data.inputs:
        before, wanted = prompt_of(row)
        written = causal.generate(
            torch.tensor([before]),
            attention_mask=torch.ones(1, len(before), dtype=torch.long),
            max_new_tokens=len(wanted),
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        right.append(written[0, len(before) :].tolist() == wanted)
    found, exact = evaluate(model, data), np.array(right)
    assert 0 < exact.mean() < 1
    assert found["exact_match"] == pytest.approx(exact.mean())
    assert found["exact_match_few"] == pytest.approx(exact[:36].mean())
    assert found["exact_match_many"] == pytest.approx(exact[36:].mean())


def test_choice_accuracy_is_that_of_a_loop_over_answers(made: tuple[Data, Any, Any]) -> None:
    data, tokenizer, model = made
    causal, right = causal_of(model), []
    answers = [prompt_of(data.inputs[row])[1] for row in range(3)]
    assert [tokenizer.decode(each[:-1]) for each in answers] == list(ANSWERS)
    for row in data.inputs[:36]:
        before, own = prompt_of(row)
        worth = []
        for answer in answers:
            with torch.no_grad():
                logits = causal(input_ids=torch.tensor([before + answer])).logits[0].double()
            each = logits.log_softmax(1)[len(before) - 1 : -1]
            worth.append(float(each[range(len(answer)), answer].sum()))
        right.append(answers[int(np.argmax(worth))] == own)
    assert 0 < np.mean(right) < 1
    assert judged(model, data).metrics["choice_accuracy"] == pytest.approx(np.mean(right))


def test_domains_of_many_answers_of_few_rows_and_of_cut_rows_are_no_choices(made: tuple[Data, Any, Any]) -> None:
    data = made[0]
    (found,) = choices_in(data.inputs, data.targets)
    assert found.rows.tolist() == list(range(36))
    assert len(found.answers) == 3
    assert not choices_in(data.inputs[:12], data.targets[:12]), "four rows of each answer are too few"
    assert not choices_in(data.inputs[36:], data.targets[36:])
    alike = np.repeat(data.inputs[:1], 30, axis=0)
    assert not choices_in(alike, np.zeros(30, np.int64)), "one answer is no choice"
    task: Any = data.task
    assert "no domain has from 2 to 10" in task.undefined_of(data.inputs[36:], data.targets[36:])["choice_accuracy"]
    assert not task.undefined_of(data.inputs, data.targets)
