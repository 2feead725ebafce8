"""Every answer lists the faults of data and scores, the gravest first; impossible settings stop before training."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

from secateur.pipelines.assets.facts import rounded
from secateur.pipelines.commands.main import app
from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.definitions import build
from secateur.pipelines.files.unwritable import told
from secateur.pipelines.materialise import instance_at
from secateur.pipelines.pages.groups import Samples, grouped, table_of_findings
from secateur.pipelines.runs import proxy
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.findings import findings_of
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop import run as loop
from secateur.trainers.models import registry as models
from secateur.trainers.tasks.classification import Classification

WriteStudy = Callable[..., StudyFile]


def blobs(count: int, seed: int) -> datasets.Dataset:
    """Three clouds of points in the plane."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    places = rng.normal(size=(count, 2)) + 4 * np.stack([labels, -labels], axis=1)
    return datasets.Dataset.from_dict({"x": places[:, 0], "y": places[:, 1], "label": labels})


def shell(*words: str) -> Result:
    """Run a shell command, which must succeed."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "400", "NO_COLOR": "1"})
    assert done.exit_code == 0, done.exception
    return done


def test_a_study_whose_test_rows_are_all_in_training_says_so_everywhere(
    write_study: WriteStudy, tmp_path: Path
) -> None:
    leaked = blobs(120, 0)
    twice = datasets.concatenate_datasets([leaked, leaked.select([5])])
    twice.to_parquet(tmp_path / "data" / "train.parquet")
    leaked.select(range(40)).to_parquet(tmp_path / "data" / "test.parquet")
    hardest = {"hardest": {"selector": "top", "score": "el2n"}}
    study = str(write_study(keep=[0.25], seeds=1, selections=hardest).path)
    said = "40 test rows of 40 also in train: results on test are too good"
    double = "1 group of equal train rows, 1 more than needed"
    for command, head in (("score", "high means"), ("select", "hardest@0.25"), ("run", "One seed")):
        told = shell(command, study).stdout
        assert told.startswith("finding: " + said), told
        assert told.index(said) < told.index(double) < told.index(head)
        findings = json.loads(shell(command, study, "--json").stdout)["findings"]
        # With so few rows a run may lose a class, which weighs less than leaks and more than duplicates.
        lost = ["lost class"] if command == "run" and len(findings) > 3 else []
        assert [finding["kind"] for finding in findings] == ["leaked", *lost, "few test samples", "duplicates"]
        assert [finding["importance"] for finding in findings] == list(range(len(findings)))
        assert findings[0]["count"] == 40
        assert findings[-1]["rows"] == [["data/train.parquet", 5], ["data/train.parquet", 120]]
    report = marked_home() / "assets" / "blobs" / "report"
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    assert page.index('class="verdict"') < page.index(f"</strong> {said}") < page.index(double)
    assert text.index(said) < text.index("| selection |")
    assert text.index(said) < text.index(double)
    written = json.loads((report / "report.json").read_text())["findings"]
    few = ["few test samples"]
    assert [finding["kind"] for finding in written] == ["leaked", *lost, *few, "duplicates", "suspicious samples"]
    assert [finding["importance"] for finding in written] == list(range(len(written)))
    equal_rows_are_listed_as_groups(written, page, report / "findings.csv")
    the_ui_says_it_unfolded(said, len(written))
    sample = re.compile(r"\bx=-?\d[\d.]*, y=-?\d")
    assert len(sample.findall(page)) == 10 + 1 + 12  # leaks, the duplicate, samples to look at
    shell("run", study, "--without-samples")
    page = (report / "report.html").read_text()
    assert not sample.findall(page)
    assert "train, data/train.parquet: 120" in page
    whole = json.loads((report / "report.json").read_text())
    assert whole["findings"] == written
    yardstick_is_told(whole["yardstick"], shell("run", study).stdout, page, text)


def the_ui_says_it_unfolded(said: str, count: int) -> None:
    """Findings and numbers of the last materialisations, and the link of the landing page to the runs of the shell."""
    with instance_at(marked_home()) as instance:
        runs = instance.get_runs()
        told = {name: facts_in(instance, name) for name in ("report", "source")}
        told |= {name: facts_in(instance, name, "0|hardest@0.25") for name in ("trained_model", "subset", "manifest")}
    assert list(told["report"])[:4] == ["how much can go", "verdict", "findings", "finding 1"]
    assert told["report"]["verdict"].startswith("One seed says nothing about any selection")
    assert told["report"]["finding 1"] == told["source"]["finding 1"]
    assert told["report"]["findings"] == count
    assert told["report"][f"finding {count}"].endswith(
        " training samples to look at, the hardest by aum, el2n, forgetting"
    )
    assert told["source"]["finding 1"].startswith(said)
    trial = {"selection": "hardest", "budget": "0.25", "seed": 0}
    assert all(told[name].items() >= trial.items() for name in ("trained_model", "subset", "manifest"))
    numbers = [value for facts in told.values() for value in facts.values() if isinstance(value, float)]
    assert numbers == [rounded(value) for value in numbers]
    for run in runs:
        assert run.remote_job_origin
        assert run.remote_job_origin.repository_origin.get_label() == "__repository__@secateur.pipelines.definitions"
        assert run.tags.items() >= {"secateur/from": "shell", "dagster/max_retries": "0"}.items()


def facts_in(instance: dg.DagsterInstance, name: str, partition: str | None = None) -> dict[str, Any]:
    """Metadata of the last materialisation of an asset, or of one of its partitions, in the order of the UI."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(["blobs", name]), asset_partitions=[partition] if partition else None)
    events = instance.fetch_materializations(wanted, limit=1).records
    [event, *_] = [each.asset_materialization for each in events if each.asset_materialization]
    return {name: one.value for name, one in event.metadata.items()}


def equal_rows_are_listed_as_groups(written: list[dict[str, Any]], page: str, file: Path) -> None:
    """report.json and the page have the first groups, findings.csv all of them, with the facts of each row."""
    leaked, double, suspicious = written[0], written[-2], written[-1]
    assert (leaked["view"], leaked["group_count"], len(leaked["groups"])) == ("groups", 40, 10)
    first = [(row["split"], row["file"], row["row"]) for row in leaked["groups"][5]["rows"]]
    train = "data/train.parquet"
    assert first == [("test", "data/test.parquet", 5), ("train", train, 5), ("train", train, 120)]
    [group] = double["groups"]
    assert (group["number"], group["count"]) == (1, 2)
    assert [(row["split"], row["sample"], row["given"]) for row in group["rows"]] == [
        ("train", 5, "2"),
        ("train", 120, "2"),
    ]
    assert "Show the first 10 of 40 groups of equal inputs (test)" in page
    assert "Show 1 group of equal rows (train)" in page
    assert page.count("<span>train, data/train.parquet: 120, given 2</span>") == 2
    table = pd.read_csv(file)
    assert table.columns[0] == "finding"
    leaks = table[table.finding == "leaked"]
    assert len(leaks) == 81
    assert set(leaks.importance) == {0}
    assert leaks[leaks.group == 6][["split", "row", "given"]].values.tolist() == [
        ["test", 5, 2],
        ["train", 5, 2],
        ["train", 120, 2],
    ]
    assert leaks.score_el2n.notna().tolist() == (leaks.split == "train").tolist()
    assert table[table.finding == "duplicates"]["sample"].tolist() == [5, 120]
    hard = table[table.finding == "suspicious samples"]
    assert [list(pair) for pair in zip(hard.file, hard.row, strict=True)] == suspicious["rows"]
    assert hard.predicted.notna().all()


def test_cells_of_others_are_no_formulas(tmp_path: Path) -> None:
    """In the form that pandas reads, and with the mark by which Excel recognises UTF-8."""
    names = ("=cmd()", "+1-1", "-1", "@sum", "-3 m", "café")
    samples = pl.LazyFrame({"row": range(6), "file": [0] * 6, "file_row": range(6), "label": range(6)})
    task = Classification(6, names).state()
    held = Samples("train", samples, np.zeros((6, 2), np.float32), ["=a.csv"], task, None, {"el2n": -np.arange(6.0)})
    rows = {"kind": "duplicates", "side": "train", "group": 1, "size": 6, "split": "train", "row": range(6)}
    groups = grouped(pl.DataFrame(rows), {"train": held}, embedded=False)
    finding = {"kind": "duplicates", "split": "train", "importance": 0, "count": 6, "group_count": 1}
    other = {"kind": "rare class", "split": "train", "importance": 1, "count": 3, "text": "three"}
    lines = table_of_findings([finding, other], groups, None, {"train": held})
    lines.write_csv(tmp_path / "findings.csv", include_bom=True)
    assert (tmp_path / "findings.csv").read_bytes().startswith(b"\xef\xbb\xbffinding,")
    table = pd.read_csv(tmp_path / "findings.csv", dtype={"given": str})
    assert table.given.tolist()[:-1] == ["'=cmd()", "'+1-1", "-1", "'@sum", "'-3 m", "café"]
    assert table.file.tolist()[:-1] == ["'=a.csv"] * 6
    assert table.score_el2n.tolist()[:-1] == [-0.0, -1.0, -2.0, -3.0, -4.0, -5.0]
    assert table.iloc[-1][["finding", "count"]].tolist() == ["rare class", 3]
    assert groups.shown["duplicates", "train"][0].rows[5]["given"] == "café"


def yardstick_is_told(known: dict[str, Any], told: str, page: str, text: str) -> None:
    """The proxy's numbers equal those of its model and of its training log; output, page and text have all of them."""
    store, proxy = Store(marked_home() / "assets"), marked_home() / "assets" / "blobs" / "proxy" / "seed-0"
    test = data_of(*(store.load(("blobs", name)) for name in ("test_inputs", "test_samples", "source")), "test")
    assert known["proxy_test"] == evaluate(models.load(proxy), test)["accuracy"]
    assert known["proxy_training"] == pytest.approx(json.loads((proxy / "fit.json").read_text())["accuracy"][-1])
    assert (known["model"], known["rows"], len(known["proxy_accuracy"])) == ("boosted trees", 121, 4)
    assert known["value"] == store.load(("blobs", "yardstick_model"))["metrics"]["accuracy"]
    for sentence in known["sentences"]:
        assert sentence in told
        assert sentence in page
        assert sentence in text


def test_init_prints_findings_and_offers_policies(tmp_path: Path) -> None:
    rows = blobs(120, 0)
    both = datasets.concatenate_datasets([rows, rows.select([3])])
    (tmp_path / "set").mkdir()
    both.to_csv(tmp_path / "set" / "train.csv")
    rows.select(range(50)).to_csv(tmp_path / "set" / "test.csv")
    target = tmp_path / "mine.yaml"
    told = shell("init", str(tmp_path / "set"), "-o", str(target)).stdout
    assert told.startswith("finding: 50 test rows of 50 also in train")
    assert told.index("50 test rows") < told.index("1 group of equal train rows") < told.index("guess")
    text = target.read_text()
    assert "# data: {leaked: drop_from_training}" in text
    assert "# data: {duplicates: drop}" in text
    assert "data" not in yaml.safe_load(text)
    answer = json.loads(shell("init", str(tmp_path / "set"), "-o", str(target), "--overwrite", "--json").stdout)
    assert [finding["kind"] for finding in answer["findings"]] == ["leaked", "duplicates"]


def test_a_text_among_numbers_is_a_finding(tmp_path: Path) -> None:
    places = np.random.default_rng(0).normal(size=(1000, 2))
    rows = [[f"{x:.3f}", f"{y:.3f}", str(row % 3)] for row, (x, y) in enumerate(places)]
    rows[900][0] = "12,5"
    (tmp_path / "cloud.csv").write_text("x;y;label\n" + "".join(";".join(row) + "\n" for row in rows))
    answer = json.loads(shell("init", str(tmp_path / "cloud.csv"), "-o", str(tmp_path / "mine.yaml"), "--json").stdout)
    [finding] = answer["findings"]
    assert (finding["kind"], finding["count"], finding["rows"]) == ("stray values", 1, [["cloud.csv", 900]])
    said = "feature 'x' is read as categories: 999 of 1,000 values are numbers, and not '12,5' of the train split "
    assert finding["text"].startswith(said + "(row 900 of cloud.csv); correct such values")


def test_a_constant_score_is_a_finding_behind_leaks_and_before_duplicates(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secateur.scorers.observers.forgetting import Forgetting

    monkeypatch.setattr(Forgetting, "reduce", lambda self: self.presentations.double() * 0 + 3)
    file = write_study(selections={"hardest": {"selector": "top", "score": "forgetting"}}, keep=[0.5])
    told = shell("score", str(file.path)).stdout
    assert told.startswith("finding: score forgetting is 3 for all 120 samples, so a selection by it is chance")
    store, study = Store(marked_home() / "assets"), file.study
    assert study
    report = store.load(("blobs", "data_report"))
    known = {"split": "train", "count": 1, "text": "", "rows": [], "importance": 0}
    report["findings"] = [known | {"kind": "leaked"}, known | {"kind": "duplicates"}]
    store.save(("blobs", "data_report"), report)
    findings = findings_of(store, study)
    assert [finding["kind"] for finding in findings] == ["leaked", "constant score", "duplicates"]
    assert [finding["importance"] for finding in findings] == [0, 1, 2]


WILD = {"optimiser": "sgd", "learning_rate": 1000.0, "weight_decay": 1000.0, "warmup": 0.0, "batch_size": 16}


def test_a_diverged_training_is_told_by_its_trial(write_study: WriteStudy) -> None:
    wild = {"model": "mlp", "model_settings": {"hidden": [16]}, **WILD, "steps": 40}
    top = {"hardest": {"selector": "top", "score": "aum"}}
    file = write_study(scores={"aum": None}, selections=top, keep=[0.5], seeds=1, training=wild)
    done = CliRunner().invoke(app, ["run", str(file.path), "--selection", "hardest"])
    assert isinstance(done.exception, loop.Diverged)
    assert str(done.exception).startswith("hardest@0.5, seed 0: training diverged: a loss is NaN or infinite")


def test_a_diverged_proxy_is_called_that(write_study: WriteStudy) -> None:
    file = write_study(proxy={"model": "mlp", "model_settings": {"hidden": [16]}, **WILD, "epochs": 4})
    done = CliRunner().invoke(app, ["score", str(file.path)])
    assert isinstance(done.exception, loop.Diverged)
    assert "proxy, seed 0: training diverged" in str(done.exception)
    assert "lower learning_rate (1000" in str(done.exception)
    assert not Store(marked_home() / "assets").find(("blobs", "scores", "aum"))


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy may be trained."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a proxy was trained")

    monkeypatch.setattr(proxy, "train", refuse)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep": [200]}, "keep: 200 is more than the 120 training rows there are"),
        (
            {"selections": {"each": {"selector": "uniform_random", "classes": {"floor": 30}}}, "keep": [0.25]},
            "selections.each.classes.floor: 30 of each of 3 classes are 90 rows, and keep: 0.25 leaves 30 of 120",
        ),
        ({"scores": {"el2n": {}, "aum": {}, "tdds": {}}}, "scores.tdds.window: tdds looks at windows of 10"),
        (
            {"scores": {"el2n": {}, "aum": {}, "tdds": {"window": 3, "epochs": 2}}},
            "windows of 3 presentations of a sample, and 2 epochs of the proxy count",
        ),
        (
            {
                "scores": {"el2n": {}, "aum": {}, "tdds": {"window": 3}},
                "proxy": {"model": "mlp", "steps": 8, "batch_size": 30},
            },
            "and 2 epochs of the proxy count",
        ),
    ],
)
def test_what_the_rows_cannot_give_is_refused_before_training(
    changes: dict[str, Any], said: str, write_study: WriteStudy, untrained: None
) -> None:
    done = CliRunner().invoke(app, ["run", str(write_study(**changes).path)])
    assert isinstance(done.exception, SourceError), done.exception
    assert said in str(done.exception)


def test_a_row_without_a_label_is_one_sentence_of_a_run(write_study: WriteStudy, tmp_path: Path) -> None:
    """From the error of a step within Dagster to the end of the command."""
    rows = blobs(120, 0).to_pandas()
    rows["label"] = rows["label"].astype("Int64")
    rows.loc[7, "label"] = None
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    done = CliRunner().invoke(app, ["select", str(write_study(data={}).path)])
    assert isinstance(done.exception, ValueError)
    assert told(done.exception, tmp_path) is None
    assert "data/train.parquet" in str(done.exception)
    assert "unlabelled" in str(done.exception)


def test_one_class_is_refused_before_training(write_study: WriteStudy, tmp_path: Path, untrained: None) -> None:
    for split in ("train", "test"):
        rows = blobs(90, 0).to_pandas()
        rows["label"] = "spam"
        datasets.Dataset.from_pandas(rows).to_parquet(tmp_path / "data" / f"{split}.parquet")
    done = CliRunner().invoke(app, ["run", str(write_study().path)])
    assert isinstance(done.exception, ValueError), done.exception
    assert "train split: all 90 rows are of class 'spam' (column 'label')" in str(done.exception)


def test_infinite_features_are_refused_by_file_and_row_or_dropped(
    write_study: WriteStudy, tmp_path: Path, untrained: None
) -> None:
    rows = blobs(120, 0).to_pandas()
    blobs(60, 1).to_parquet(tmp_path / "data" / "test.parquet")
    rows.loc[[7, 30], "y"] = [np.inf, -np.inf]
    datasets.Dataset.from_pandas(rows).to_parquet(tmp_path / "data" / "train.parquet")
    done = CliRunner().invoke(app, ["run", str(write_study().path)])
    assert isinstance(done.exception, SourceError), done.exception
    assert "train split: feature column 'y' is infinite at rows 7, 30 of data/train.parquet" in str(done.exception)
    done = CliRunner().invoke(app, ["run", str(write_study(data={"bad_rows": "drop"}).path)])
    assert "a proxy was trained" in str(done.exception)  # the check accepts it


@pytest.mark.parametrize("first", ["prepare", "proxy"])
def test_a_setting_of_a_later_step_is_refused_in_the_launchpad_before_training(
    first: str, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_study()
    defs = build([file], tmp_path / "store")
    job, wanted = defs.resolve_implicit_global_asset_job_def(), [dg.AssetKey(["blobs", "samples"])]
    config: dict[str, Any] = {"blobs__subset": {"config": {"coverage_centric": {"bins": 0}}}}
    config["blobs__trained_model"] = {"config": {"batch_size": 0}}
    with dg.DagsterInstance.ephemeral() as instance:
        if first == "proxy":
            selected = dg.AssetSelection.assets(*wanted).required_multi_asset_neighbors()
            keys = sorted(selected.resolve(defs.resolve_asset_graph()))
            job.execute_in_process(instance=instance, asset_selection=keys)
        monkeypatch.setattr(proxy, "train", lambda *_, **__: pytest.fail("a proxy was trained"))
        graph = defs.resolve_asset_graph()
        keys = [key for key in graph.materializable_asset_keys if key.path[-1] != "report"]
        if first == "proxy":
            keys = [key for key in keys if key not in set(selected.resolve(graph))]
        trial = str(next(iter(file.study.trials)))  # type: ignore[union-attr]
        with pytest.raises(ValueError, match=r"launchpad: blobs__") as refused:
            job.execute_in_process(
                instance=instance,
                asset_selection=sorted(keys),
                run_config={"ops": config},
                tags={"dagster/asset_partition_range_start": trial, "dagster/asset_partition_range_end": trial},
            )
    for setting in ("blobs__trained_model.batch_size", "blobs__subset.coverage_centric.bins"):
        assert f"{setting}: Input should be greater than or equal to 1" in str(refused.value)
