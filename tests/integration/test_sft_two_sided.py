"""Fine-tuning data with planted junk and copies, where a selection beats random, and clean data, where none does."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from instruction_grammar import instructions, write
from sft_rows import encoded
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.storage.home import marked_home
from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.loop.train import train
from secateur.trainers.passes.scoring import score_rows

ROWS, SEEDS = 600, 5
JUNK, COPIES = 0.4, 0.3
MODEL: dict[str, Any] = {
    "model": "language_model",
    "model_settings": {"layers": 1, "width": 48},
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 0.005,
}
STUDY: dict[str, Any] = {
    "source": {"kind": "jsonl", "train": "train.jsonl", "test": "test.jsonl"},
    "columns": {"prompt": "prompt", "completion": "completion", "label": "source"},
    "task": "sft",
    "proxy": MODEL,
    "checkpoints": 4,
    "scores": {"checkpoint_loss": None, "ifd_loss": {"min_response_tokens": 1, "above_one": True}},
    "selections": {
        "likeliest": {"selector": "top", "score": "checkpoint_loss", "end": "low"},
        "most_helped": {"selector": "top", "score": "ifd_loss", "end": "low"},
        "s2l": {"clusters": 20},
    },
    "keep": {"tokens": [0.5]},
    "training": MODEL,
    "seeds": SEEDS,
    "time_to": False,
}


def test_the_grammar_has_what_it_says() -> None:
    rows = pl.DataFrame(instructions(ROWS, 0, junk=JUNK, copies=COPIES))
    kinds = rows["kind"].str.strip_prefix("copy of ")
    assert rows["kind"].str.starts_with("copy").mean() == COPIES
    assert abs((kinds == "junk").mean() - JUNK) < 0.03
    answers = {tuple(row.values()) for row in rows.filter(kinds == "clean").select("prompt", "completion").to_dicts()}
    assert len({prompt for prompt, _ in answers}) == len(answers), "one right answer each"
    clean = pl.DataFrame(instructions(ROWS, 0))
    assert (clean["kind"] == "clean").all()


def test_the_loss_tells_junk_from_answers() -> None:
    rows = instructions(240, 0, junk=JUNK, copies=COPIES, things=4)
    named = datasets.Dataset.from_list([{"prompt": row["prompt"], "answer": row["completion"]} for row in rows])
    data, _ = encoded(named)
    config = TrainingConfig(**MODEL | {"epochs": 8})
    model = train(data, config, seed=0).model
    wanted = {"loss": (checkpoint_loss, {})}
    [loss] = score_rows([[model]], data, np.arange(len(rows)), wanted, device=torch.device("cpu")).values()
    assert roc_auc_score(["junk" in row["kind"] for row in rows], loss) > 0.75


def ran(folder: Path, name: str, **planted: float) -> dict[str, Any]:
    """Report of the study on data with planted faults, and NLL by arm and seed."""
    write(folder / "train.jsonl", instructions(ROWS, 0, **planted))
    write(folder / "test.jsonl", instructions(300, 99))
    (folder / "study.yaml").write_text(yaml.safe_dump({"name": name} | STUDY))
    done = CliRunner().invoke(app, ["run", "study.yaml", "--json"])
    assert done.exit_code == 0, done.output
    home = marked_home() / "assets" / name
    report = json.loads((home / "report" / "report.json").read_text())
    arms = [path.name.partition("@")[0] for path in (home / "evaluation").iterdir() if "@" in path.name]
    found = {
        arm: [
            json.loads((home / "evaluation" / f"{arm}@0.5" / f"{seed}.json").read_text())["metrics"]["nll"]
            for seed in range(SEEDS)
        ]
        for arm in sorted(arms)
    }
    for arm, losses in found.items():  # the table of docs/fine-tuning.md
        print(f"{name} | {arm} | {np.mean(losses):.3f} | {' '.join(f'{loss:.2f}' for loss in losses)}")
    print(report["verdict"])
    spent = [json.loads(path.read_text())["total"] for path in (home / "subset_spent").glob("*@*/*.json")]
    assert max(spent) - min(spent) <= 12, "equal tokens"
    return {"report": report, "nll": found}


@pytest.mark.nightly
def test_some_selection_beats_random_in_every_seed_where_there_is_junk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = ran(tmp_path, "planted", junk=JUNK, copies=COPIES)
    random = np.array(found["nll"].pop("uniform_random"))
    wins = {arm: int((np.array(losses) < random).sum()) for arm, losses in found["nll"].items()}
    chosen = {arm: count for arm, count in wins.items() if arm in STUDY["selections"]}
    assert max(chosen.values()) == SEEDS, wins
    best = max(chosen, key=lambda arm: chosen[arm])
    assert found["report"]["verdict"].startswith(f"Better than random at the same budget, over {SEEDS} seeds: {best}")


@pytest.mark.nightly
def test_no_selection_is_called_better_than_random_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = ran(tmp_path, "clean")
    assert found["report"]["verdict"].startswith("No selection did better than random")
