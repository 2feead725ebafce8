"""The forecast of `run --dry-run`: trainings of a teacher, memory, and sources that a look cannot size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_data import write_shapes
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.pages.stages import first_stage
from secateur.pipelines.runs.forecast import MANY, memory_of, other_trainings
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation import tuning
from secateur.trainers.distillation.objective import Distillation

CONFIG = TrainingConfig(model="mlp", model_settings={"hidden": [5]}, steps=1, batch_size=8)


def test_trainings_of_a_teacher_are_counted(write_study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the search for the teacher's weight trains, counted at its calls of `train`."""
    study = write_study(distillation={"tune": True}).study
    foreseen, unknown = other_trainings(study, 120), other_trainings(study, MANY)
    assert foreseen["teacher"] == [30 * 32]
    trained, train = [], tuning.train

    def counted(*given: Any, **named: Any) -> Any:
        trained.append(named["seed"])
        return train(*given, **named)

    monkeypatch.setattr(tuning, "train", counted)
    random = np.random.default_rng(0)
    data = Data(random.normal(size=(120, 2)).astype(np.float32), random.integers(0, 3, 120), 3)
    tuning.tune_distillation(
        data,
        CONFIG,
        Distillation(tune=True),
        lambda rows, n, seed: uniform_random(rows, n, seed=seed),
        keep=study.keep,
        seeds=1,
    )
    assert len(foreseen["distillation_tuning"]) == len(unknown["distillation_tuning"]) == len(trained)
    given = write_study(distillation={"teacher": "models/teacher"}).study
    assert "teacher" not in other_trainings(given, 120), "one from a folder is not trained"


def test_what_a_run_refuses_a_forecast_refuses(write_study: Any) -> None:
    for changes, said in (
        ({"metric": "auroc"}, "metric: auroc cannot be measured"),
        ({"keep": [500]}, "keep"),
        ({"keep": [0.001]}, "less than half of one: name a larger fraction, or a count"),
    ):
        done = CliRunner().invoke(app, ["run", str(write_study(**changes).path), "--dry-run"])
        assert done.exit_code != 0
        assert said in str(done.exception)


def test_memory_is_that_of_rows_weights_and_optimiser(write_study: Any) -> None:
    study = write_study().study
    study = study.model_copy(update={"training": CONFIG, "proxy": study.proxy.model_copy(update=dict(CONFIG))})
    data = Data(np.zeros((50, 7), np.float32), np.arange(50) % 3, 3)
    room = memory_of(study, data, 1000)
    weights = 7 * 5 + 5 + 5 * 3 + 3
    assert room["libraries"] == 1000
    assert room["samples"] == 50 * 7 * 4 + 50 * 8
    moments = room["training"] - 4 * 4 * weights
    assert 0 <= moments <= 4 * 4 * 7 * 4, "beside weights, gradients and two moments only what standardises inputs"
    plain = study.model_copy(update={"training": CONFIG.model_copy(update={"optimiser": "sgd", "momentum": 0.0})})
    same = plain.model_copy(update={"proxy": study.proxy.model_copy(update=dict(plain.training))})
    assert room["training"] - memory_of(same, data, 0)["training"] == 2 * 4 * weights


def test_pictures_are_probed_once_they_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that the answer lists the unknown values, the reason, and the remedy."""
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    write_shapes(tmp_path / "shapes", (24, 12))
    config = {"model": "mlp", "model_settings": {"hidden": [8]}, "batch_size": 8}
    study = {
        "name": "shapes",
        "source": {"kind": "imagefolder", "train": "shapes/train", "test": "shapes/test"},
        "columns": {"image": "image", "label": "label"},
        "proxy": config | {"epochs": 1},
        "training": config | {"steps": 10_000},
        "scores": {"el2n": {"epochs": 1}},
        "selections": {"hardest": {"selector": "top", "score": "el2n"}},
        "keep": [0.5],
        "seeds": 1,
    }
    path = tmp_path / "shapes.yaml"
    path.write_text(yaml.safe_dump(study))

    def said(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    before = json.loads(said("run", str(path), "--dry-run", "--json"))
    assert (before["seconds"], before["memory_bytes"]) == (None, None)
    assert "its data is of kind imagefolder and was not prepared here yet" in before["unknown"][0]
    assert {"of": "proxy", "to_make": 1, "made": 0} in before["trainings"]
    told = said("run", str(path), "--dry-run")
    assert "memory: not known" in told
    assert "after secateur score shapes this command measures" in told
    said("score", str(path))
    after = json.loads(said("run", str(path), "--dry-run", "--json"))
    assert after["unknown"] == []
    assert "cut short" in after["seconds_by"]
    assert after["seconds"] > 0
    assert after["memory"]["samples"] == 24 * (16 * 16 * 3 + 8)


def test_the_first_stage_is_counted_and_the_others_are_said(write_study: Any) -> None:
    file = write_study(seeds={"from": 2, "to": 4}, keep=[0.5, 0.25], refine=True)
    assert file.study
    now, every = len(first_stage(file.study)), len(list(file.study.trials))
    done = CliRunner().invoke(app, ["run", str(file.path), "--dry-run", "--json"], catch_exceptions=False)
    answer = json.loads(done.stdout)
    assert answer["trainings"][0] == {"of": "trials", "to_make": now, "made": 0}
    assert answer["later_stages"]["trials"] == every - now > now
    assert answer["later_stages"]["seconds"] > 0
    told = CliRunner().invoke(app, ["run", str(file.path), "--dry-run"], catch_exceptions=False).stdout
    assert f"this is the first stage: up to {every - now} further trials follow where outcomes ask for them" in told
