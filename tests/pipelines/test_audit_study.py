"""`secateur audit STUDY`: the asset of a study, its checks and page, new rows of a recurring one, limits."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import yaml

from secateur.pipelines.audits.study_models import predicted
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import instance_at, to_make
from secateur.pipelines.pages.served import FILE
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import load_file
from secateur.pipelines.studies.grid import Trial
from secateur.trainers.models.registry import load as load_model
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression
from tests.support.planted import topics
from tests.support.shell_here import secateur_here

COPIES, LEAKS, WRONG = 30, 12, 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, a study that trains on them, one that trains nothing, and a home."""
    folder = tmp_path_factory.mktemp("study")
    topics(folder, copies=COPIES, leaks=LEAKS, wrong=WRONG)
    trained = {
        "name": "tickets", "source": {"kind": "csv", "train": "train.csv", "test": "test.csv"},
        "columns": {"text": "body", "label": "queue"}, "proxy": {"model": "mlp", "epochs": 1}, "scores": {"loss": None},
        "selections": {"hardest": {"selector": "top", "score": "loss", "end": "high"}}, "keep": [0.5],
        "training": {"model": "mlp", "epochs": 3, "batch_size": 10}, "seeds": 1, "recurring": {"cron": "0 3 * * *"},
    }  # fmt: skip
    chosen = {
        "name": "choices", "source": {"kind": "csv", "train": "train.csv"}, "columns": {"text": "body"},
        "selections": {"uniform_random": None}, "keep": [0.5],
    }  # fmt: skip
    for content in (trained, chosen):
        (folder / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))
    return folder


def shell(place: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, printed JSON, and standard error."""
    done = secateur_here("audit", *words, "--json", SECATEUR_HOME=str(place / "home"))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.fixture(scope="module")
def once() -> dict[Path, tuple[int, dict[str, Any], str]]:
    """The finished steps."""
    return {}


@pytest.fixture
def first(place: Path, once: dict[Path, tuple[int, dict[str, Any], str]]) -> tuple[int, dict[str, Any], str]:
    """The first audit of the study that trains, made within a test: its fixtures trust its code."""
    if place not in once:
        once[place] = shell(place, str(place / "tickets.yaml"), "--max-leaks", "0")
    return once[place]


def test_a_study_is_audited_as_its_data_are(place: Path, first: tuple[int, dict[str, Any], str]) -> None:
    code, answer, errors = first
    assert (code, answer["leaks"], answer["duplicates"]) == (1, LEAKS, COPIES)
    assert f"{LEAKS} leaks of 200 rows exceed the limit of 0 rows" in errors
    assert answer["saving"]["steps"] == 3 * (60 - 57)  # of 600 and 570 rows in batches of 10
    page = Path(answer["files"]["page"])
    assert "nearly the same as a row of train" in page.read_text()
    assert FILE.fullmatch("/tickets/audit.html")
    kept = Manifest.load(page.parent / "manifests" / "deduplicated").apply(pd.read_csv(place / "train.csv"))
    assert kept.index.to_list() == list(range(600 - COPIES))


def test_the_asset_has_checks_that_fail(place: Path, first: tuple[int, dict[str, Any], str]) -> None:
    with instance_at(place / "home") as instance:
        key = dg.AssetKey(["tickets", "audit"])
        [event] = instance.fetch_materializations(key, limit=1).records
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["leaks"].value == LEAKS
        told = [one.dagster_event for one in instance.all_logs(event.run_id) if one.dagster_event]
        checks = [one.asset_check_evaluation_data for one in told if one.event_type_value == "ASSET_CHECK_EVALUATION"]
        passed = {one.check_name: one.passed for one in checks if one.asset_key == key}
    assert passed == {"no_leaks": False, "no_duplicates": False, "labels_right": False}


def test_a_run_of_the_study_leaves_the_audit_out(place: Path) -> None:
    file = load_file(place / "tickets.yaml")
    assert file.study is not None
    assert "audit" not in to_make(file, place / "other" / "assets", list(file.study.trials))[0]


def test_of_new_rows_alone_it_tells_again(place: Path, first: tuple[int, dict[str, Any], str]) -> None:
    assert shell(place, str(place / "tickets.yaml"))[1]["findings"] == first[1]["findings"]  # it was fresh
    train = pl.read_csv(place / "train.csv")
    pl.concat([train, train[50:53]]).write_csv(place / "train.csv")
    try:
        code, answer, _ = shell(place, str(place / "tickets.yaml"))
    finally:
        train.write_csv(place / "train.csv")
    assert code == 0
    assert (answer["leaks"], answer["duplicates"]) == (LEAKS, COPIES + 3)
    told = {(one["kind"], one["split"]): sorted(row for _, row in one["rows"]) for one in answer["findings"]}
    told.pop(("wrong labels", "train"), None)
    assert told == {("duplicates", "train"): [50, 51, 52, 600, 601, 602]}


@pytest.mark.nightly
def test_a_study_that_trains_nothing_is_audited(place: Path) -> None:
    code, answer, _ = shell(place, str(place / "choices.yaml"), "--max-duplicates", "0")
    assert (code, answer["duplicates"]) == (1, COPIES)
    assert answer["labels_not_looked_at"] == "no labels are known"
    kept = Manifest.load(Path(answer["files"]["folder"]) / "manifests" / "deduplicated")
    assert len(kept.apply(pd.read_csv(place / "train.csv"))) == 600 - COPIES


def test_options_of_data_are_refused_for_a_study(place: Path) -> None:
    code, _, errors = shell(place, str(place / "tickets.yaml"), "--label", "queue")
    assert code == 2
    assert "--label is an option of data" in errors


@pytest.fixture
def judged(place: Path) -> str:
    """A study whose proxies of folds can judge labels."""
    content = yaml.safe_load((place / "tickets.yaml").read_text()) | {"name": "judged"}
    content |= {"proxy": {"model": "mlp", "epochs": 6, "folds": 3, "batch_size": 16}, "seeds": 2}
    del content["recurring"]
    (place / "judged.yaml").write_text(yaml.safe_dump(content))
    return str(place / "judged.yaml")


def test_proxies_judge_the_rows_that_they_did_not_see(place: Path, judged: str) -> None:
    """The audit's predictions of the labels are those of each fold's own network, computed here one by one."""
    done = secateur_here("score", judged, SECATEUR_HOME=str(place / "home"))
    assert done.returncode == 0, done.stderr
    code, answer, errors = shell(place, judged)
    assert code == 0, errors
    store, hits = Store(place / "home" / "assets"), 0
    folds, inputs = store.load(("judged", "proxy_folds")), torch.tensor(np.asarray(store.load(("judged", "inputs"))))
    labels = store.load(("judged", "samples")).collect()["label"].to_numpy()
    for fold in range(3):
        network, mine = load_model(store.load(("judged", "proxy", f"seed-0-fold-{fold}"))), folds == fold
        with torch.no_grad():
            hits += int((network(inputs[mine]).argmax(1).numpy() == labels[mine]).sum())
    wrong = answer["wrong_labels"]["train"]
    assert wrong["accuracy"] == pytest.approx(hits / 600)
    assert wrong["low"] <= WRONG <= wrong["high"]
    assert "proxies of 3 folds" in answer["notes"][0]
    assert answer["notes"][1].endswith("cheap model: the study has no model yet that was trained on everything")
    assert answer["resting_on_leaks"]["model"] == "logistic regression of TF-IDF"


@pytest.mark.nightly
def test_models_of_everything_say_what_leaks_are_worth(place: Path, judged: str) -> None:
    """An earlier audit is made again after the study has trained, and agrees with the study's evaluation."""
    assert shell(place, judged)[0] == 0
    done = secateur_here("run", judged, SECATEUR_HOME=str(place / "home"))
    assert done.returncode == 0, done.stderr
    _, answer, _ = shell(place, judged)
    store = Store(place / "home" / "assets")
    held_out = store.load(("judged", "yardstick"))["proxy"]["held_out"]["accuracy"]
    assert answer["wrong_labels"]["train"]["accuracy"] == pytest.approx(held_out)
    trained = [store.load(("judged", "evaluation"), Trial("full", seed))["metrics"]["accuracy"] for seed in range(2)]
    worth = answer["resting_on_leaks"]
    assert worth["model"] == "the study's model trained on everything, 2 seeds"
    assert (worth["whole"], worth["leaked_rows"]) == (pytest.approx(sum(trained) / 2), LEAKS)
    assert not [note for note in answer["notes"] if "cheap model" in note]


@pytest.mark.parametrize(
    ("target", "outputs", "means"),
    [
        ("class", [[0.0, np.log(3)]], [[0.25, 0.75]]),
        ("labels", [[0.0, np.log(3)]], [[0.5, 0.75]]),
        ("numbers", [[-1.0], [1.0]], [[10.0], [14.0]]),
    ],
)
def test_outputs_are_probabilities_or_numbers_of_the_user(target: str, outputs: Any, means: Any) -> None:
    tasks: dict[str, Task] = {
        "class": Classification(2), "labels": MultiLabel(2), "numbers": Regression().fitted(np.array([[10.0], [14.0]])),
    }  # fmt: skip
    np.testing.assert_allclose(predicted(np.array(outputs), tasks[target]), means)


@pytest.mark.parametrize("where", [pytest.param("file", marks=pytest.mark.nightly), "filter"])
def test_the_target_of_a_choice_is_compared_with_the_data(place: Path, tmp_path: Path, where: str) -> None:
    """Rows 3 and 5 of the data occur in the target, as a near and as an equal copy."""
    data = pl.read_csv(place / "train.csv")
    near = data[3].with_columns(body=pl.col("body") + " indeed")
    own = pl.concat([data[5], near, data[:1].with_columns(body=pl.lit("nothing like the others at all here"))])
    target: dict[str, Any] = {"file": str(tmp_path / "job.csv")}
    own.write_csv(tmp_path / "job.csv")
    if where == "filter":
        own = own.with_columns(job=pl.lit("this"))
        data = pl.concat([data.with_columns(job=pl.lit("other")), own])
        target = {"filter": {"job": ["this"]}}
    data.write_csv(tmp_path / "data.csv")
    content = {
        "name": f"wanted_{where}", "source": {"kind": "csv", "train": "data.csv"}, "columns": {"text": "body"},
        "target": target, "selections": {"wanted": {"selector": "nearest_to_target"}}, "keep": [0.5],
    }  # fmt: skip
    study = tmp_path / f"{content['name']}.yaml"
    study.write_text(yaml.safe_dump(content))
    code, answer, errors = shell(place, str(study), "--max-leaks", "0")
    assert code == 1, errors
    assert answer["rows"] == {"train": 600, "target": 3}
    assert (answer["leaks"], answer["duplicates"]) == (2, COPIES)
    told = {one["kind"]: one["rows"] for one in answer["findings"] if one["split"] == "target"}
    first, file = (0, "job.csv") if where == "file" else (600, "data.csv")
    leaks = {kind: [(Path(name).name, row) for name, row in told[kind]] for kind in ("leaked", "near leaked")}
    assert leaks == {"leaked": [(file, first)], "near leaked": [(file, first + 1)]}
    kept = Manifest.load(Path(answer["files"]["folder"]) / "manifests" / "without_leaks").apply(data)
    assert sorted(set(data["body"][:600]) - set(kept["body"])) == sorted({data["body"][3], data["body"][5]})


TINY = {"model": "language_model", "model_settings": {"layers": 1, "width": 16, "heads": 2}, "epochs": 1}
FINE_TUNED = {
    "proxy": TINY, "training": TINY, "scores": {"loss": None}, "seeds": 1, "task": "sft",
    "selections": {"easiest": {"selector": "top", "score": "loss", "end": "low"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "more"),
    [
        ({"messages": "messages", "label": "topic"}, FINE_TUNED),
        pytest.param({"prompt": "prompt", "completion": "completion"}, FINE_TUNED, marks=pytest.mark.nightly),
        ({"messages": "messages"}, {"selections": {"uniform_random": None}}),
    ],
)
def test_conversations_of_a_study_are_audited_as_texts(
    place: Path, tmp_path: Path, columns: dict[str, Any], more: dict[str, Any]
) -> None:
    """Row 3 again as row 100, a near copy of row 5 as row 101, and 10 wrong topics."""
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for row in range(140):
        topic = "ab"[row % 2]
        asked = " ".join(
            [*(f"{topic}{rng.integers(9)}" for _ in range(5)), *(f"w{one}" for one in rng.integers(0, 300, 8))]
        )
        rows.append({"prompt": asked, "completion": f"w{row} {asked[-9:]}", "topic": topic})
    rows[100], rows[101] = dict(rows[3]), rows[5] | {"prompt": f"{rows[5]['prompt']} indeed"}
    for row in range(10, 20):
        rows[row]["topic"] = "ba"[row % 2]
    for one in rows:
        one["messages"] = [
            {"role": role, "content": one[key]} for role, key in (("user", "prompt"), ("assistant", "completion"))
        ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = {
        "name": "chats",
        "source": {"kind": "jsonl", "train": "chats.jsonl"},
        "columns": columns,
        "keep": [0.5],
    } | more
    if more is FINE_TUNED:
        study["source"]["test"] = "chats_test.jsonl"  # type: ignore[index]
        leaked = {**rows[7], "prompt": "now " + rows[7]["prompt"]}
        leaked["messages"] = [{"role": "user", "content": leaked["prompt"]}, leaked["messages"][1]]
        (tmp_path / "chats_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [leaked, rows[9]]))
    (tmp_path / "chats.yaml").write_text(yaml.safe_dump(study))
    code, answer, errors = shell(tmp_path, str(tmp_path / "chats.yaml"))
    assert code == 0, errors
    told = {(one["kind"], one["split"]): sorted(row for _, row in one["rows"]) for one in answer["findings"]}
    assert told["duplicates", "train"] == [3, 100]
    assert told["near duplicates", "train"] == [5, 101]
    if more is FINE_TUNED:
        assert (told["leaked", "test"], told["near leaked", "test"]) == ([1], [0])
    if "label" in columns:
        wrong = answer["wrong_labels"]["train"]
        assert wrong["low"] <= 10 <= wrong["high"]
        assert set(told["wrong labels", "train"]) >= set(range(10, 19))
    else:
        assert answer["labels_not_looked_at"] == "no labels are known"
    page = Path(answer["files"]["page"]).read_text()
    if "messages" in columns:
        assert f"user: {rows[5]['prompt']}" in page
