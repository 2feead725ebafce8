"""`secateur heads` and `secateur prompts` on a saved folder of a model, like a user's own."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from shell_here import secateur_here
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.scorers.networks.retrieval_heads import retrieve, words_recalled
from secateur.selectors.masks.without_highest_heads import without_top
from secateur.selectors.masks.without_other_heads import without_other_heads
from secateur.trainers.experiments.head_pruning import HeadPruning, recalls_of
from secateur.trainers.models.causal_model import load_causal
from secateur.trainers.pruning.masked_heads import masked_heads


def answer(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def refused(message: str, *arguments: object) -> None:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)


@pytest.fixture
def haystack(tmp_path: Path) -> Path:
    path = tmp_path / "haystack.txt"
    path.write_text("\n".join(f"s{n} s{n + 1} s{n + 2}" for n in range(10, 60, 3)))
    return path


def test_heads_are_scored_masked_and_written(copying_model: Path, haystack: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "heads.json"
    options = ["--needle", "s1 s2 s3 s4 s5", "--question", "s1", "--length", 24, "--depths", 3, "--new-tokens", 5]
    kept = tmp_path / "kept"
    told = answer(
        "heads", copying_model, "--haystack", haystack, *options, "--mask", 1, "-o", target, "--manifest", kept
    )
    assert [(one["layer"], one["head"]) for one in told["retrieval_heads"]] == [(1, 2)]
    assert np.array(told["scores"]).shape == (3, 4)
    recall = {one["arm"]: one["recall"] for one in told["masked"]}
    assert list(recall) == ["none", "retrieval", "random", "earlier", "later"]
    assert recall["none"] > 0.9
    assert recall["retrieval"] < 0.3
    assert recall["later"] == recall["none"]
    assert json.loads(target.read_text()) == told
    assert target.with_suffix(".svg").read_bytes().startswith(b"<?xml")
    assert not list(tmp_path.rglob("*.partial"))
    # The manifest agrees, and gives a model that computes the same as the masked one.
    assert answer("verify", kept)["count"] == 11
    assert answer("apply", kept, copying_model, "-o", tmp_path / "without")["unit"] == "head"
    whole, without = load_causal(str(copying_model)), load_causal(str(tmp_path / "without"))
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (2, 20)))
    keep = np.ones((3, 4), dtype=np.bool_)
    keep[1, 2] = False
    with torch.no_grad(), masked_heads(whole.model, keep):
        masked = whole.model(tokens).logits
    with torch.no_grad():
        torch.testing.assert_close(without.model(tokens).logits, masked)
        assert not torch.allclose(whole.model(tokens).logits, masked, atol=1e-3)
    assert without.tokenizer("s1 s2")["input_ids"] == whole.tokenizer("s1 s2")["input_ids"]
    refused(r"other weights than this one", "apply", kept, tmp_path / "without", "-o", tmp_path / "again")
    refused("exists already", "apply", kept, copying_model, "-o", tmp_path / "without")


def test_heads_are_masked_by_sizes_needles_and_draws_beside_one_masking_after_the_other(
    copying_model: Path, haystack: Path, tmp_path: Path
) -> None:
    """Every recall of the answer, compared with a model that is masked by hand and gets one prompt at a time."""
    needles = {"s1 s2 s3 s4 s5": "s1", "s5 s4 s3 s2 s1": "s5"}
    options = [word for pair in needles.items() for word in ("--needle", pair[0], "--question", pair[1])]
    options += ["--length", 24, "--depths", 2, "--new-tokens", 5, "--how", "uniform", "--decoding-only"]
    options += ["--mask", 1, "--mask", 6, "--draws", 3, "--count", "steps"]
    told = answer("heads", copying_model, "--haystack", haystack, *options)
    assert told["runs"] == 4
    rows = {(one["arm"], one["heads"]): one for one in told["masked"]}
    assert list(rows) == [
        *[("none", 0), ("retrieval", 1), ("random", 1), ("earlier", 1), ("later", 1)],
        *[("retrieval", 6), ("random", 6)],  # fewer than six heads lie before or behind
    ]
    scores = np.array(told["scores"], np.float32)
    experiment = HeadPruning(
        model=str(copying_model),
        haystack=str(haystack),
        needle=list(needles),
        question=list(needles.values()),
        lengths=[24],
        depths=2,
        new_tokens=5,
    )
    causal = experiment.load(tmp_path)
    hidden = experiment.hidden_sentences(causal.tokenizer, 0, "test")
    assert len(hidden.prompts) == 4

    def by_hand(keep: np.ndarray) -> float:
        found = []
        for prompt, needle in zip(hidden.prompts, hidden.needles, strict=True):
            with masked_heads(causal.model, keep, how="uniform", decoding_only=True):
                [run] = retrieve(causal.model, [prompt], new_tokens=5)
            found.append(words_recalled(causal.tokenizer.decode(run.written, skip_special_tokens=True), needle))
        return float(np.mean(found))

    for (arm, heads), one in rows.items():
        keeps = [np.ones_like(scores, dtype=bool)] if arm == "none" else [without_top(scores, heads)]
        if arm in ("random", "earlier", "later"):
            share = 1 - heads / scores.size
            # Of six other heads in all there is one way to mask six.
            draws = 3 if heads == 1 else 1
            keeps = [without_other_heads(scores, share, control=arm, seed=draw) for draw in range(draws)]  # type: ignore[arg-type]
        expected = [by_hand(keep) for keep in keeps]
        assert one["draws"] == pytest.approx(expected), (arm, heads)
        assert one["recall"] == pytest.approx(np.mean(expected))
        if len(keeps) > 1:
            assert one["half_width"] == pytest.approx(stats.sem(expected) * stats.t.ppf(0.975, 2))
            as_low = sum(value <= by_hand(without_top(scores, heads)) for value in expected)
            assert (one["as_low"], one["p_value"]) == (as_low, (1 + as_low) / 4)
    assert rows["retrieval", 1]["recall"] < 0.3 < 0.9 < rows["none", 0]["recall"]
    shown = CliRunner().invoke(app, [*map(str, ["heads", copying_model, "--haystack", haystack, *options])]).stdout
    assert "draws as low" in " ".join(shown.split())


def test_masked_heads_that_were_measured_are_not_measured_again(
    copying_model: Path, haystack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "heads.json"
    options = ["--needle", "s1 s2 s3 s4 s5", "--question", "s1", "--length", 24, "--depths", 2, "--new-tokens", 5]
    command = ["heads", copying_model, "--haystack", haystack, *options, "--mask", 1, "--draws", 2, "-o", target]
    asked: list[int] = []
    recalls = "secateur.trainers.experiments.masked_recall.recalls_of"

    def stopping(*given: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return recalls_of(*given)

    with monkeypatch.context() as patch:
        patch.setattr(recalls, stopping)
        stopped = secateur_here(*map(str, command))
        assert (stopped.returncode, stopped.stdout) == (130, "")
        assert "interrupted; results stay: the same command again makes the rest" in stopped.stderr
    noted = json.loads((tmp_path / "heads.tried.json").read_text())["values"]
    assert len(noted) == 1 + 2  # the scores, and two maskings
    assert not target.exists()
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(recalls, lambda *given: asked.append(1) or recalls_of(*given))
        patch.setattr(HeadPruning, "runs", lambda *_: pytest.fail("heads are scored once"))
        told = answer(*command)
        left = len(asked)
    assert not (tmp_path / "heads.tried.json").exists()
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(recalls, lambda *given: asked.append(1) or recalls_of(*given))
        assert answer(*command[:-2]) == told
    assert left == len(asked) - 2 > 0
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(recalls, stopping)
        stopped = secateur_here(*map(str, command[:-2]))
        assert stopped.returncode == 130
        assert "interrupted; the same command again starts from the beginning" in stopped.stderr


def test_a_model_that_ends_at_once_is_told_to_chat(copying_model: Path, haystack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chatty"
    shutil.copytree(copying_model, folder)
    causal = load_causal(str(folder))
    causal.model.generation_config.eos_token_id = list(range(60))
    causal.model.generation_config.save_pretrained(folder)
    causal.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    causal.tokenizer.save_pretrained(folder)
    options = ["--needle", "s1 s2 s3 s4 s5", "--question", "s1", "--length", 24, "--depths", 2, "--new-tokens", 5]
    refused("ended 2 of 2 answers before their first word", "heads", folder, "--haystack", haystack, *options)
    refused("try --chat", "heads", folder, "--haystack", haystack, *options)


def test_prompts_are_judged_by_what_the_model_writes(copying_model: Path, tmp_path: Path) -> None:
    prompt, examples = tmp_path / "prompt.txt", tmp_path / "examples.jsonl"
    prompt.write_text("s1 s60 s2 s9 s61 s3 s8 s60 s4 s61 {query}\n")
    answer_of = {"s1": "s60", "s2": "s61", "s3": "s60", "s4": "s61"}
    lines = [{"query": key, "answer": written} for key, written in answer_of.items()] * 10
    examples.write_text("\n".join(json.dumps(line) for line in lines))
    sizes = ["--fitness", 8, "--rerank", 12, "--elites", 3, "--test", 16, "--passes", 150]
    methods = ["--method", "hill_climbing", "--method", "gga"]
    options = ["--examples", examples, "--generate", 1, "--stop", "", *sizes, *methods]
    found = {one["method"]: one for one in answer("prompts", copying_model, prompt, *options)["prompts"]}
    assert list(found) == ["full", "hill_climbing", "gga", "random"]
    labels = ["--label", "s60", "--label", "s61"]
    examples.write_text("\n".join(json.dumps(line).replace("answer", "label") for line in lines))
    options = ["--examples", examples, *labels, *sizes, *methods]
    told = {one["method"]: one for one in answer("prompts", copying_model, prompt, *options)["prompts"]}
    # Two labels of one token each: the likelier of all tokens is at most as often right as the likelier of the two.
    for method, one in found.items():
        assert one["passes"] <= 150
        assert one["accuracy"] * 16 == round(one["accuracy"] * 16)
        assert method != "full" or one["accuracy"] <= told[method]["accuracy"]


def test_a_prompt_is_pruned_and_written(copying_model: Path, tmp_path: Path) -> None:
    prompt, examples, target = (tmp_path / name for name in ("prompt.txt", "examples.jsonl", "pruned.txt"))
    prompt.write_text("s1 s60 s2 s9 s61 s3 s8 s60 s4 s61 {query}\n")
    label_of = {"s1": "s60", "s2": "s61", "s3": "s60", "s4": "s61"}
    lines = [{"query": key, "label": label} for key, label in label_of.items()] * 40
    examples.write_text("\n".join(json.dumps(line) for line in lines))
    options = ["--examples", examples, "--label", "s60", "--label", "s61", "--passes", 1500, "--method", "gga"]
    kept = tmp_path / "kept"
    told = answer("prompts", copying_model, prompt, *options, "-o", target, "--manifest", kept)
    found = {one["method"]: one for one in told["prompts"]}
    assert list(found) == ["full", "gga", "random"]
    assert found["gga"]["accuracy"] >= found["full"]["accuracy"]
    assert target.read_text() == found["gga"]["prompt"]
    assert target.read_text().endswith(" {query}")
    assert len(target.read_text().split()) <= 1 + 8
    # The manifest gives the same text again, from the prompt's file and from its own template.
    assert answer("verify", kept)["unit"] == "token"
    answer("apply", kept, prompt, "--model", copying_model, "-o", tmp_path / "of_file.txt")
    answer("apply", kept, copying_model, "-o", tmp_path / "of_template.txt")
    for name in ("of_file.txt", "of_template.txt"):
        assert (tmp_path / name).read_bytes() == target.read_bytes()
    refused("name the model", "apply", kept, prompt, "-o", tmp_path / "no.txt")
    prompt.write_text("s1 s60 s2 s9 s61 s3 s8 s60 s4 s62 {query}")
    refused("another template", "apply", kept, prompt, "--model", copying_model, "-o", tmp_path / "no.txt")
    refused("tokens are applied without tuned", "apply", kept, prompt, "--tuned", prompt, "-o", tmp_path / "no.txt")
    assert not (tmp_path / "no.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["heads", "model", "--haystack", "nowhere.txt"], "there is no such file"),
        (["heads", "model", "--haystack", "{file}", "--needle", "x"], "go together"),
        (["heads", "model", "--haystack", "{file}", "-o", "x.txt"], "ends in .json"),
        (["heads", "model", "--haystack", "{file}", "--how", "half"], "there are zero and uniform"),
        (["heads", "model", "--haystack", "{file}", "--count", "twice"], "there are once and steps"),
        (["heads", "model", "--haystack", "{file}", "--manifest", "m", "--mask", "1", "--mask", "2"], "one --mask"),
        (["heads", "{model}", "--haystack", "{file}", "--mask", "12"], "the model has 12 heads, mask fewer"),
        (["heads", "no/such folder", "--haystack", "{file}"], "cannot be loaded"),
        (["prompts", "m", "nowhere.txt", "--examples", "x", "--label", "a"], "there is no such file"),
        (["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--keep", "2"], "not within 0 … 1"),
        (["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--method", "magic"], "there are random, gga"),
        (["prompts", "m", "{file}", "--examples", "x"], "name the labels"),
        (["prompts", "m", "{file}", "--examples", "x", "--generate", "3", "--judge", "taste"], "there are exact"),
        (["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--reward", "no"], "there are accuracy, margin"),
        (
            ["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--rerank", "999"],
            "do not reach for 10 elites",
        ),
        (["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--generate", "3"], "has no verbalisers"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str], message: str, haystack: Path, copying_model: Path
) -> None:
    places = {"{file}": haystack.as_posix(), "{model}": copying_model.as_posix()}
    given = [places.get(one, one) for one in arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1  # the exception itself; `main` turns it into a sentence and 2
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)
