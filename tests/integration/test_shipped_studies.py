"""The shipped studies, shortened: the default on bundled data, and real pictures of clothes."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import SHIPPED, StudyFile, load_study
from secateur.pipelines.studies.grid import Trial


def shortened(name: str, folder: Path, **changes: Any) -> StudyFile:
    """A shipped study with some keys changed, one level deep."""
    content = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    for key, value in changes.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return StudyFile(path, load_study(path))


def report_of(store: Store, study: str) -> dict[str, Any]:
    folder = store.load(dg.AssetKey([study, "report"]))
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_digits(tmp_path: Path) -> None:
    file = shortened("digits", tmp_path, seeds=1, keep=[0.3], validation={"seeds": 1}, compare_at="epochs")
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, tmp_path / "store", instance)
    store = Store(tmp_path / "store")
    report = report_of(store, "digits")
    assert {row["of"] for row in report["rows"]} == {1438}
    assert "359 test samples" in report["note"]
    accuracy = {row["name"]: row["metrics"]["accuracy"]["mean"] for row in report["rows"]}
    assert accuracy["uniform_random"] > 0.85
    assert accuracy["easiest"] < accuracy["uniform_random"], "the easiest digits alone teach less than random ones"
    manifest = Manifest.load(store.load(dg.AssetKey(["digits", "manifest"]), Trial("hardest@0.3", 0)))
    assert len(manifest.rows) == 431


def test_fashion_mnist(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (real_data / "fashion_mnist").is_dir():
        pytest.skip(f"no fashion_mnist at {real_data}: set SECATEUR_DATA to run this test")
    monkeypatch.setenv("SECATEUR_DATA", str(real_data.resolve()))
    file = shortened(
        "fashion_mnist",
        tmp_path,
        source={"limit": 1000},
        seeds=2,
        keep=[0.2],
        proxy={"model_settings": {"width": 8}},
        training={"model_settings": {"width": 8}, "steps": 150, "learning_rate": 0.01},
    )
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, tmp_path / "store", instance)
    report = report_of(Store(tmp_path / "store"), "fashion_mnist")
    assert {row["of"] for row in report["rows"]} == {1000}
    accuracy = {row["name"]: row["metrics"]["accuracy"]["mean"] for row in report["rows"]}
    assert accuracy["uniform_random"] > 0.5
    assert {row["kept"] for row in report["rows"]} == {200}
