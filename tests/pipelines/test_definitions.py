"""The graph: its assets, the input of the launchpad, and one small study from source to report."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pytest

from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.definitions import build
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import SHIPPED, StudyFile, read_studies
from secateur.pipelines.studies.grid import Trial

WriteStudy = Callable[..., StudyFile]


def key(*parts: str) -> dg.AssetKey:
    return dg.AssetKey(["blobs", *parts])


@pytest.fixture
def instance() -> Any:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_the_graph_is_whole_and_named_by_study(write_study: WriteStudy, tmp_path: Path) -> None:
    defs = build([write_study()], tmp_path / "store")
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    assert graph.external_asset_keys == {key("ad_hoc_selection")}
    expected = """source samples test_samples inputs test_inputs encoder proxy scores/aum scores/el2n scores/forgetting
        yardstick tuning subset manifest trained_model evaluation report audit"""
    assert {"/".join(k.path) for k in graph.materializable_asset_keys} == {f"blobs/{name}" for name in expected.split()}
    for name in ("subset", "manifest", "trained_model", "evaluation"):
        partitions = graph.get(key(name)).partitions_def
        assert isinstance(partitions, dg.MultiPartitionsDefinition)
        assert len(partitions.get_partition_keys()) == 18
    assert graph.get(key("scores", "el2n")).code_version == "1"
    assert "High means: harder" in (graph.get(key("scores", "el2n")).description or "")


def test_every_asset_is_kept_by_our_io_manager(tmp_path: Path) -> None:
    """If a decorator does not name it, Dagster pickles into its own folder, or uses a host project's manager."""
    kept_by = {
        (key.to_user_string(), one.node_def.output_def_named(name).io_manager_key)
        for one in build(read_studies([SHIPPED]), tmp_path).assets or ()
        if isinstance(one, dg.AssetsDefinition)
        for name, key in one.keys_by_output_name.items()
    }
    assert len(kept_by) > 100
    assert not [key for key, manager in kept_by if manager != IO_MANAGER]


def test_the_launchpad_offers_settings_with_the_studys_values(write_study: WriteStudy, tmp_path: Path) -> None:
    job = build([write_study()], tmp_path / "store").resolve_implicit_global_asset_job_def()
    for config in ({"score_el2n": {"epochs": 1}}, {"proxy": {"learning_rate": 0.01}}):
        dg.validate_run_config(job, {"ops": {"blobs__proxy_training": {"config": config}}})
    filled = dg.validate_run_config(job, {})["ops"]
    assert filled["blobs__proxy_training"]["config"]["score_el2n"] == {"epochs": 2}
    assert filled["blobs__subset"]["config"]["coverage_centric"] == {"cutoff": None, "bins": 50}


@pytest.mark.parametrize(
    ("op", "config"),
    [
        ("blobs__proxy_training", {"score_el2n": {"epochs": "many"}}),
        ("blobs__proxy_training", {"score_el2n": {"epoch": 3}}),
        ("blobs__proxy_training", {"score_forgetting": {"never_learned": "nan"}}),
        ("blobs__subset", {"hardest": {"end": "middle"}}),
        ("blobs__trained_model", {"optimiser": "adam"}),
    ],
)
def test_the_launchpad_refuses_what_no_setting_takes(
    op: str, config: dict[str, Any], write_study: WriteStudy, tmp_path: Path
) -> None:
    job = build([write_study()], tmp_path / "store").resolve_implicit_global_asset_job_def()
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"ops": {op: {"config": config}}})


def test_a_broken_study_shows_as_a_failed_one_beside_the_others(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    broken = StudyFile(tmp_path / "mine.yaml", None, "mine.yaml: scores: must be a mapping")
    defs = build([broken, write_study()], tmp_path / "store")
    graph = defs.resolve_asset_graph()
    shown = dg.AssetKey(["mine", "broken_study"])
    assert "must be a mapping" in (graph.get(shown).description or "")
    assert key("report") in graph.materializable_asset_keys
    done = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[shown], raise_on_error=False
    )
    assert not done.success


def digests(folder: Path) -> dict[str, str]:
    """Content of every file below a folder, without durations."""
    timed = {"training.json", "evaluation", ".cache", "report", ".tuning", ".ledger", "subset_cost"}
    timed |= {"tuning_cost.json", "proxy_cost.json", "yardstick_cost.json"}
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in timed for part in path.relative_to(folder).parts)
    }


def test_a_study_runs_from_source_to_report_and_again_to_the_same_bytes(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    file = write_study()
    run_study(file, tmp_path / "first", instance)
    store = Store(tmp_path / "first")
    assert file.study is not None
    for trial in file.study.trials:
        keep = store.load(key("subset"), trial)
        assert keep.dtype == np.bool_
        assert keep.sum() == {0.25: 30, 60: 60, 1.0: 120}[trial.keep]
        manifest = Manifest.load(store.load(key("manifest"), trial), verify=True)
        assert (manifest.rows == np.flatnonzero(keep)).all()
        metrics = store.load(key("evaluation"), trial)
        assert metrics["steps"] == 30
        assert 0 <= metrics["metrics"]["accuracy"] <= 1
    report = json.loads((store.load(key("report")) / "report.json").read_text())
    assert len(report["rows"]) == 8
    assert {row["kept"] for row in report["rows"]} == {30, 60}
    assert "<svg" in (store.load(key("report")) / "accuracy.svg").read_text()
    tuned = store.load(key("tuning"))["coverage_centric@0.25"]
    assert str(tuned["settings"]["cutoff"]) in tuned["validation"]
    kept = Manifest.load(store.load(key("manifest"), Trial("coverage_centric@0.25", 1)))
    assert kept.provenance.settings["cutoff"] == tuned["settings"]["cutoff"]
    assert [card.name for card in kept.provenance.scores] == ["aum"]

    run_study(file, tmp_path / "second", instance)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert not list(tmp_path.rglob("*partial*"))


def test_a_manifest_selects_from_the_data_it_was_made_of_and_from_no_other(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    run_study(write_study(seeds=1, keep=0.25), tmp_path / "store", instance)
    manifest = Manifest.load(Store(tmp_path / "store").load(key("manifest"), Trial("hardest@0.25", 0)))
    data = datasets.Dataset.from_parquet(str(tmp_path / "data" / "train.parquet"), cache_dir=str(tmp_path / "hf"))
    picked = manifest.apply(data)
    assert picked["x"][:] == data.select(manifest.rows)["x"][:]
    moved = data.select(np.roll(np.arange(len(data)), 7))
    assert manifest.apply(moved)["x"][:] == [x for x in moved["x"] if x in set(picked["x"])], "in the data's order"
    other = datasets.Dataset.from_parquet(str(tmp_path / "data" / "test.parquet"), cache_dir=str(tmp_path / "hf"))
    with pytest.raises(ValueError, match="not made from this data"):
        manifest.apply(other)


def test_the_ui_gets_numbers_and_small_pictures(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    run_study(write_study(seeds=1, keep=0.25), tmp_path / "store", instance)

    def metadata(asset: dg.AssetKey, partition: str | None = None) -> dict[str, Any]:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset, asset_partitions=[partition] if partition else None), limit=1
        ).records
        assert records[0].asset_materialization is not None
        return {name: value.value for name, value in records[0].asset_materialization.metadata.items()}

    score = metadata(key("scores", "aum"))
    assert score["high means"] == "easier"
    assert score["dagster/row_count"] == 120
    assert score["histogram"].startswith("![aum](data:image/svg+xml;base64,")
    subset = metadata(key("subset"), "0|coverage_centric@0.25")
    assert subset["kept"] == 30
    assert subset["balance of strata"].startswith("![")
    assert "cutoff" in subset["settings"]
    assert len(score["histogram"]) < 100_000
    assert len(subset["balance of strata"]) < 100_000
    assert len(metadata(key("report"))["report"]) < 200_000


def test_samples_that_cannot_be_used_stop_everything_behind_them(
    study_content: dict[str, Any], write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    pictures = [{"bytes": b"not an image", "path": None}] + [png(shade) for shade in range(29)]
    rows = {"image": pictures, "label": [row % 3 for row in range(30)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "data" / "train.parquet")
    source = {"kind": "parquet", "train": "data/train.parquet", "test_fraction": 0.2}
    file = write_study(source=source, columns={"image": "image", "label": "label"})
    with pytest.raises(SourceError, match=r"image cannot be decoded at row 0 of data/train.parquet"):
        run_study(file, tmp_path / "store", instance)
    assert Store(tmp_path / "store").find(key("proxy")) is None


def png(shade: int) -> dict[str, Any]:
    """A grey image of 4 x 4 pixels as a trial of an image column."""
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.new("L", (4, 4), shade * 8).save(content, "png")
    return {"bytes": content.getvalue(), "path": None}
