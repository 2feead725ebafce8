"""Exports from the UI's job and from the shell: arguments are checked first, answers name the written files."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import polars as pl
import pytest
from huggingface_hub import DatasetCard
from sample_tables import samples_table

from secateur.pipelines.commands import main as cli
from secateur.pipelines.commands.export import FORMATS
from secateur.pipelines.data.sources import load
from secateur.pipelines.definitions import build
from secateur.pipelines.exports.registry import exporters
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial

ROWS = list(range(0, 120, 4))
CELL = Trial("hardest@0.25", 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    return marked_home()


@pytest.fixture
def file(write_study: Callable[..., StudyFile], home: Path) -> StudyFile:
    """A study with the manifest of one trial and a report, as its assets would leave them."""
    file = write_study()
    assert file.study is not None
    store = Store(home / "assets")
    rows = load(file.study.source, file.study.columns, file.path.parent, home / "assets" / ".cache").train
    provenance = Provenance(
        dataset="blobs", revision="r", selection="hardest", selector="top", selector_version="1", settings={},
        keep=0.25, budget=30, seed=1, columns=file.study.columns.model_dump(exclude_none=True),
    )  # fmt: skip
    place = store.place(dg.AssetKey(["blobs", "manifest"]), CELL)
    samples, names = samples_table(rows, file.study.columns), ["class 0", "class 1", "class 2"]
    Manifest.write(place, Rows.chosen(samples, np.isin(np.arange(120), ROWS), label_names=names), provenance)
    with store.folder(dg.AssetKey(["blobs", "report"])) as folder:
        (folder / "report.json").write_text(
            json.dumps({"study": "blobs", "verdict": "No better.", "table": [["a"]], "note": ""})
        )
    return file


def launch(file: StudyFile, home: Path, **config: Any) -> dg.ExecuteInProcessResult:
    asked = {"study": "blobs", "selection": "hardest", "keep": 0.25, "seed": 1, "format": "indices"} | config
    job = build([file], home / "assets").resolve_job_def("export")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance, run_config={"ops": {"export_selection": {"config": asked}}}, raise_on_error=False
        )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (step,) = [event for event in result.all_events if event.is_step_failure]
    return str(step.step_failure_data.error.message)


def test_the_job_writes_below_home_and_says_what(file: StudyFile, home: Path) -> None:
    result = launch(file, home)
    assert result.success
    target = home / "exports" / "blobs" / "hardest@0.25" / "1" / "indices.npy"
    assert np.load(target).tolist() == ROWS
    (observed,) = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    told = {name: value.value for name, value in observed.metadata.items()}
    assert told == {
        "path": str(target.resolve()), "format": "indices", "rows": 30, "of": 120, "files": 1, "dataset": "blobs",
        "bytes": target.stat().st_size, "selection": "hardest", "seed": 1,
    }  # fmt: skip
    assert observed.asset_key == dg.AssetKey(["blobs", "manifest"])
    assert observed.partition == str(CELL)


def test_the_job_exports_samples_with_settings(file: StudyFile, home: Path) -> None:
    result = launch(file, home, format="datasets", settings={"row_column": "row"}, target="for/them")
    assert result.success
    found = datasets.load_from_disk(str(home / "exports" / "for" / "them"))
    assert list(found["row"]) == ROWS
    assert found.column_names == ["x", "y", "label", "row"]
    again = {"format": "datasets", "target": "for/them"}
    told = "exists already: name another path, or replace it with overwrite: true"
    assert told in failure(launch(file, home, **again))
    assert launch(file, home, **again, overwrite=True).success
    assert "row" not in datasets.load_from_disk(str(home / "exports" / "for" / "them")).column_names


def test_the_card_quotes_the_report(file: StudyFile, home: Path) -> None:
    assert launch(file, home, format="card", target="README.md").success
    assert "No better." in DatasetCard.load(home / "exports" / "README.md").text


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"selection": "hardst"}, "selection: there is no 'hardst'; did you mean 'hardest'?"),
        ({"keep": 0.3}, "keep: hardest has the budgets 0.25, 60; name one, got 0.3"),
        ({"keep": None}, "keep: hardest has the budgets 0.25, 60; name one, got None"),
        ({"seed": 7}, "seed: the study has the seeds 0 … 1, got 7"),
        ({"seed": 0}, "has no partition 0|hardest@0.25 yet: materialise it"),
        ({"settings": {"shards": 3}}, "format indices: shards: there is no such key; there are: none"),
        ({"target": "../out"}, "is not a plain name inside"),
        ({"target": "/etc/out"}, "is not a plain name inside"),
        ({"target": "a\0b"}, "is not a plain name inside"),
        ({"target": "x" * 5000}, "File name too long (…xxx"),
        ({"format": "imagefolder"}, "needs one column of images: of x, y, label none holds images"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    config: dict[str, Any], said: str, file: StudyFile, home: Path
) -> None:
    told = failure(launch(file, home, **config))
    assert said in told
    assert "\n" not in told
    exported = [path for path in (home / "exports").rglob("*") if path.is_file()] if (home / "exports").exists() else []
    assert exported == []


def test_each_build_offers_its_own_studies(file: StudyFile, home: Path) -> None:
    assert file.study is not None
    other = dataclasses.replace(file, study=file.study.model_copy(update={"name": "before"}))
    jobs = [build([each], home / "assets").resolve_job_def("export") for each in (other, file)]
    for job, study in zip(jobs, ("before", "blobs"), strict=True):
        asked = {"study": study, "selection": "hardest", "format": "indices"}
        assert dg.validate_run_config(job, {"ops": {"export_selection": {"config": asked}}})


@pytest.mark.parametrize("config", [{"study": "other"}, {"format": "excel"}, {"seed": "one"}, {"overwrite": "yes"}])
def test_what_can_be_chosen_is_refused_in_the_launchpad(config: dict[str, Any], file: StudyFile, home: Path) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        launch(file, home, **config)


def test_without_studies_there_is_no_job(home: Path) -> None:
    assert list(build([], home / "assets").jobs or []) == []


def test_help_names_every_format() -> None:
    told = FORMATS.replace(";", ",").replace("(row numbers)", "").replace("(samples)", "").replace("(a README)", "")
    told = told.replace("(fine-tuning data)", "")
    assert {name.strip() for name in told.split(",")} == set(exporters())


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `secateur export WORDS` as the entry point does; gives exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["secateur", "export", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        seen = capsys.readouterr()
        return int(left.value.code or 0), seen.out, seen.err

    return run


TypeIn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def manifest(file: StudyFile, home: Path) -> Path:
    return Store(home / "assets").place(dg.AssetKey(["blobs", "manifest"]), CELL)


def test_the_command_prints_the_path_or_one_json_object(
    manifest: Path, file: StudyFile, type_in: TypeIn, tmp_path: Path
) -> None:
    target = tmp_path / "kept.parquet"
    code, seen, _ = type_in(
        manifest, "--to", "parquet", "--study", file.path, "--out", target, "--set", "row_column=row"
    )
    assert (code, seen) == (0, f"{target}\n")
    assert pl.read_parquet(target)["row"].to_list() == ROWS
    code, seen, _ = type_in(manifest, "--to", "webdataset", "--study", file.path, "-o", tmp_path / "wds", "--json")
    told = json.loads(seen)
    assert code == 0
    assert (told["path"], told["rows"], told["of"], told["files"]) == (str(tmp_path / "wds"), 30, 120, 3)
    assert told["bytes"] == sum(path.stat().st_size for path in (tmp_path / "wds").iterdir())


@pytest.mark.parametrize("study", [True, False])
def test_an_export_in_a_new_home_marks_it_where_it_prepares_rows(
    study: bool, manifest: Path, file: StudyFile, type_in: TypeIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    monkeypatch.setenv("SECATEUR_HOME", str(new))
    to = ("--to", "jsonl", "--study", file.path) if study else ("--to", "indices")
    assert type_in(manifest, *to, "-o", tmp_path / "kept")[0] == 0
    assert new.exists() == study
    assert marked_home() == new  # no later command mistakes it for a home of another version


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "excel"], "format: there is no 'excel'; there are: axolotl, bitmap"),
        (["--to", "webdataset"], "it needs the data set: name a study (--study)"),
        (["--to", "indices", "--study", "nothing"], "there is no study 'nothing'"),
        (["--to", "indices", "--set", "shards"], "--set shards: settings are given as NAME=VALUE"),
        (["--to", "indices", "--set", "a=1", "--set", "a=2"], "a is set twice"),
        (["--to", "card", "--set", "report=/nowhere"], "there is no file /nowhere"),
        (["--to", "indices", "--out", "there"], "exists already"),
    ],
)
def test_a_mistake_in_the_shell_is_one_sentence(
    words: list[str], said: str, manifest: Path, type_in: TypeIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("theirs")
    code, seen, errors = type_in(manifest, *words)
    assert (code, seen) == (2, "")
    assert said in " ".join(errors.split())
    assert "Traceback" not in errors
    assert (tmp_path / "there").read_text() == "theirs"
