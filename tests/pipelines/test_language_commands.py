"""`secateur heads` and `secateur prompts` on a saved folder of a model, as anybody's own would be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
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
    assert told["masked"]["none"] > 0.9
    assert told["masked"]["retrieval"] < 0.3
    assert told["masked"]["later"] == told["masked"]["none"]
    assert json.loads(target.read_text()) == told
    assert target.with_suffix(".svg").read_bytes().startswith(b"<?xml")
    assert not list(tmp_path.rglob("*.partial"))
    # The manifest says so, and makes a model that computes what the masked one does.
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
    # The manifest gives the same text again, of the prompt's file and of the template that it holds itself.
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
        (["heads", "no/such folder", "--haystack", "{file}"], "cannot be loaded"),
        (["prompts", "m", "nowhere.txt", "--examples", "x", "--label", "a"], "there is no such file"),
        (["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--keep", "2"], "not within 0 … 1"),
        (["prompts", "m", "{file}", "--examples", "x", "--label", "a", "--method", "magic"], "there are random, gga"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments: list[str], message: str, haystack: Path) -> None:
    given = [haystack.as_posix() if one == "{file}" else one for one in arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1  # the exception itself; `main` turns it into a sentence and 2
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception)
