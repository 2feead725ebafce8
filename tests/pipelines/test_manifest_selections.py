"""From an audit's manifests to a study that trains on their rows, and from the study's audit to its report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.manifests import kept_rows
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.pages.served import Reports
from secateur.pipelines.runs.audit_told import LINK
from secateur.pipelines.runs.choosing import subset_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import kind_named
from tests.support.planted import topics
from tests.support.shell_here import secateur_here

COPIES, LEAKS, WRONG = 30, 12, 40
CONTENT: dict[str, Any] = {
    "name": "cleaned", "source": {"kind": "csv", "train": "train.csv", "test": "test.csv"},
    "columns": {"text": "body", "label": "queue"}, "keep": [0.5], "seeds": 2,
    "selections": {"clean": {"manifest": "audit/manifests/deduplicated"}},
    "training": {"model": "mlp", "epochs": 1, "batch_size": 10},
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, the output of `secateur audit DATA --write`, and a study that names a manifest of it."""
    folder = tmp_path_factory.mktemp("manifests")
    topics(folder, copies=COPIES, leaks=LEAKS, wrong=WRONG)
    files = ["train.csv", "--test", "test.csv"]
    asked = [str(folder / word) if word.endswith(".csv") else word for word in files]
    done = secateur_here("audit", *asked, "--label", "queue", "--write", str(folder / "audit"))
    assert done.returncode == 0, done.stderr
    (folder / "cleaned.yaml").write_text(yaml.safe_dump(CONTENT))
    return folder


def run(place: Path, *words: str) -> Any:
    return secateur_here(*words, SECATEUR_HOME=str(place / "home"))


def report_in(place: Path) -> dict[str, Any]:
    return json.loads((place / "home" / "assets" / "cleaned" / "report" / "report.json").read_text())


@pytest.fixture(scope="module")
def ran() -> set[Path]:
    """A place where the study has run."""
    return set()


@pytest.fixture
def trained(place: Path, ran: set[Path]) -> Path:
    if place not in ran:
        done = run(place, "run", str(place / "cleaned.yaml"))
        assert done.returncode == 0, done.stderr
        ran.add(place)
    return place


def test_rows_of_a_manifest_train_beside_as_many_at_random(trained: Path) -> None:
    store, kept = Store(trained / "home" / "assets"), 600 - COPIES
    masks = {
        (name, seed): np.asarray(store.load(("cleaned", "subset"), Trial(f"{name}@own", seed)))
        for name in ("clean", "clean_random") for seed in range(2)
    }  # fmt: skip
    rows = Manifest.load(trained / "audit" / "manifests" / "deduplicated").rows
    for seed in range(2):
        np.testing.assert_array_equal(np.flatnonzero(masks["clean", seed]), rows)
        assert masks["clean_random", seed].sum() == kept
        own = Manifest.load(store.find(("cleaned", "manifest"), Trial("clean@own", seed)) or Path())
        assert own.apply(pl.read_csv(trained / "train.csv")).equals(pl.read_csv(trained / "train.csv")[rows.tolist()])
    assert (masks["clean_random", 0] != masks["clean_random", 1]).any()
    report = report_in(trained)
    whole = {row["name"]: row for row in report["whole"]}
    assert {name: row["kept"] for name, row in whole.items()} == {"full": 600, "clean": kept, "clean_random": kept}
    means = [whole[name]["metrics"]["accuracy"]["mean"] for name in ("clean", "clean_random")]
    compared = whole["clean"]["against"]["as many rows at random"]
    assert compared["difference"] == pytest.approx(means[0] - means[1])
    assert "as many rows at random" not in whole["clean_random"]["against"]
    assert "Rows of manifests:" in report["verdict"]


def test_the_audit_of_a_study_stands_in_its_report(trained: Path) -> None:
    assert report_in(trained)["findings"] == []
    audited = run(trained, "audit", str(trained / "cleaned.yaml"))
    assert audited.returncode == 0, audited.stderr
    assert f"secateur run {trained / 'cleaned.yaml'} puts these findings" in " ".join(audited.stdout.split())
    again = run(trained, "run", str(trained / "cleaned.yaml"), "--json")
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["made"] == 1  # the report alone
    found = {one["kind"]: one for one in answer["findings"]}
    assert (found["near leaked"]["count"], found["near duplicates"]["count"]) == (LEAKS, 2 * COPIES)
    assert {one["kind"] for one in report_in(trained)["findings"] if one["source"] == "audit"} == set(found)
    folder = trained / "home" / "assets" / "cleaned" / "report"
    page = (folder / "report.html").read_text()
    assert f'href="{LINK}"' in page
    assert (folder / LINK).is_file()
    assert "nearly the same as a row of train" in page
    assert "Without copies" in page
    listed = pl.read_csv(folder / "findings.csv").filter(pl.col("finding") == "near duplicates")
    whole = pl.read_csv(folder / ".." / "audit" / "findings.csv").filter(pl.col("finding") == "near duplicates")
    assert listed["row"].to_list() == whole["row"].to_list()
    served = Reports.report(type("Served", (), {"store": Store(trained / "home" / "assets")}), "/cleaned/report.html")  # type: ignore[arg-type]
    assert served is not None
    assert b'href="audit.html"' in served[1]
    assert LINK.encode() not in served[1]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"manifest": "audit/manifests/none"}, "selections.clean.manifest: there is no folder"),
        ({"manifest": "audit"}, "selections.clean.manifest: manifest"),
        ({"manifest": "audit/manifests/deduplicated", "score": "loss"}, "clean.score: the manifest says which rows"),
        ({"manifest": "audit/manifests/deduplicated", "budget": "study"}, "budget: a manifest says how many rows stay"),
        ({"as_many_as": "dirty"}, "selections.clean.as_many_as: there is no 'dirty'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    place: Path, tmp_path: Path, selection: dict[str, Any], message: str
) -> None:
    (place / "bad.yaml").write_text(yaml.safe_dump(CONTENT | {"name": "bad", "selections": {"clean": selection}}))
    done = secateur_here("run", str(place / "bad.yaml"), SECATEUR_HOME=str(tmp_path / "home"))
    assert done.returncode == 2
    assert message in done.stderr.replace("\n", " ")
    assert not (tmp_path / "home" / "assets" / "bad" / "trained_model").exists()


def test_a_manifest_of_other_columns_is_refused_with_both(place: Path, tmp_path: Path) -> None:
    done = secateur_here("audit", str(place / "train.csv"), "--no-label", "--write", str(tmp_path / "audit"))
    assert done.returncode == 0, done.stderr
    selections = {"clean": {"manifest": str(tmp_path / "audit" / "manifests" / "deduplicated")}}
    (place / "other.yaml").write_text(yaml.safe_dump(CONTENT | {"name": "other", "selections": selections}))
    done = secateur_here("run", str(place / "other.yaml"), SECATEUR_HOME=str(tmp_path / "home"))
    assert done.returncode == 2
    assert "It was made of text body, and the study reads text body, label queue" in done.stderr.replace("\n", " ")


def test_a_study_reads_its_own_dump() -> None:
    study = kind_named("samples").model_validate(CONTENT)
    assert isinstance(study, Study)
    assert study.selections["clean_random"].as_many_as == "clean"
    assert study.title("clean_random") == "random, as many as clean"
    assert Study.model_validate(study.model_dump()) == study


def test_a_further_random_set_has_other_rows_and_a_title_of_its_own() -> None:
    selections = CONTENT["selections"] | {"draw": {"as_many_as": "clean"}, "again": {"as_many_as": "clean"}}
    study = kind_named("samples").model_validate(CONTENT | {"selections": selections})
    assert isinstance(study, Study)
    kept, names = np.arange(200) < 100, ("clean_random", "draw", "again")
    trials = [Trial(name, seed) for name in names for seed in (0, 1)]
    signals, table = {"strata": np.zeros(200, np.uint8)}, pl.DataFrame()
    drawn = [subset_of(study, trial, signals, table, {}, {}, {"clean": kept}).keep for trial in trials]
    assert [keep.sum() for keep in drawn] == [100] * 6
    assert len({keep.tobytes() for keep in drawn}) == 6
    assert [study.title(name) for name in ("draw", "again")] == [
        "draw: random, as many as clean", "again: random, as many as clean",
    ]  # fmt: skip


def test_a_manifest_that_holds_other_rows_than_were_to_be_written_is_a_fault_of_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secateur.pipelines.assets.subsets import verifies, write_manifest

    samples = pl.DataFrame({"row": np.arange(6), "content_hash": [f"{row:032x}" for row in range(6)], "label": [0] * 6})
    rows = Rows.chosen(samples, np.arange(6) % 2 == 0)
    told = Provenance(
        dataset="made", revision="1", selection="even", selector="top", selector_version="1", settings={}, keep=3,
        budget=3, seed=0,
    )  # fmt: skip
    store, key, trial = Store(tmp_path), ("made", "manifest"), Trial("even@0.5", 0)
    faults: list[str] = []
    written = write_manifest(store, key, trial, rows, told, faults)
    assert verifies(faults).passed
    read = Manifest.load(written.path)
    assert read.declaration == written.declaration
    assert read.table["row"].to_list() == [0, 2, 4]
    plain = kept_rows.write
    monkeypatch.setattr(kept_rows, "write", lambda table, path: plain(table.reverse(), path))
    write_manifest(store, key, trial, rows, told, faults)
    assert not verifies(faults).passed
    assert "its rows are not ascending" in faults[0]
