"""Rows are never read beside those of other samples: each stored value records the samples that it was made for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from documents import FENCE, ROOT
from safetensors.numpy import load_file

from secateur.pipelines.assets.ad_hoc_selection import Made
from secateur.pipelines.data.fingerprints import FINGERPRINT, fingerprint
from secateur.pipelines.definitions import build
from secateur.pipelines.manifests.explain import arrays_of
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.records import StoredError, records_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import Selection
from secateur.pipelines.studies.signals import DATA, OF_ANY_SAMPLES, samples_behind

RICH: dict[str, Any] = {
    "scores": {"aum": None, "el2n": {"epochs": 2}, "checkpoint_loss": None, "density": None},
    "selections": {
        "hardest": {"selector": "top", "score": "el2n"},
        "coverage_centric": {"score": "aum", "cutoff": 0.1},
        "far": {"selector": "k_center"},
    },
    "keep": [0.25],
    "seeds": 1,
    "distillation": {"for": ["hardest"]},
    "recurring": {"cron": "0 6 * * 1"},
}
"""Every kind of asset that a study of samples can have."""
MADE_ANEW = {
    "audit",
    "proxy",
    "aum",
    "el2n",
    "checkpoint_loss",
    "embeddings",
    "teacher",
    "teacher_logits",
    "tuning",
    "yardstick",
}
"""Assets that follow from the samples themselves and from models, and refuse no rows."""
TRIAL = Trial("hardest@0.25", 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study of 120 and 60 points, `blobs.yaml`."""
    folder, network = tmp_path_factory.mktemp("stored"), {"model": "mlp", "model_settings": {"hidden": [16]}}
    for name, count, seed in (("train", 120, 0), ("test", 60, 1)):
        labels = np.arange(count) % 3
        points = np.random.default_rng(seed).normal(np.stack([labels, -labels], axis=1), 1.0)
        table = pa.table({"x": points[:, 0], "y": points[:, 1], "label": labels})
        pq.write_table(table, folder / f"{name}.parquet")
    content = {
        "name": "blobs",
        "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
        "columns": {"features": ["x", "y"], "label": "label"},
        "proxy": {**network, "epochs": 2},
        "training": {**network, "steps": 10},
        "validation": {"fraction": 0.25, "seeds": 1},
        **RICH,
    }
    (folder / "blobs.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def ran(place: Path) -> Iterator[tuple[StudyFile, Any]]:
    """The rich study, made whole below `<place>/store`; with its instance."""
    file = StudyFile(place / "blobs.yaml", load_study(place / "blobs.yaml"))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, place / "store", instance)
        yield file, instance


def counts_in(path: Path) -> set[int]:
    """Lengths of the arrays and tables in a file."""
    if path.suffix == ".npy":
        return {len(np.load(path, mmap_mode="r"))}
    if path.suffix == ".parquet":
        return {pq.read_metadata(path).num_rows}
    return {len(tensor) for tensor in load_file(path).values()} if path.suffix == ".safetensors" else set()


@pytest.mark.usefixtures("ran")
def test_every_array_of_rows_says_for_which_samples_it_was_made(place: Path) -> None:
    """Found by their lengths, 120 and 60, so that a new asset without a record is found too."""
    root, aligned, seen = place / "store", {120: "samples", 60: "test_samples"}, set()
    now = {
        name: fingerprint(pl.read_parquet(root / "blobs" / f"{name}.parquet")["content_hash"])
        for name in aligned.values()
    }
    for name, expected in now.items():
        assert pq.read_metadata(root / "blobs" / f"{name}.parquet").metadata[FINGERPRINT.encode()].decode() == expected
    recorded = {root / "blobs" / name: record for record in records_of(root, "blobs") for name in record.files}
    for path in (root / "blobs").rglob("[!.]*.*"):
        if any(part.startswith(".") for part in path.relative_to(root).parts) or path.is_dir():
            continue
        record = recorded[path]  # every file has a record
        for name in {aligned[count] for count in counts_in(path) & aligned.keys()}:
            if record.names[1] not in OF_ANY_SAMPLES:
                assert record.samples[name] == now[name], path
                seen.add(record.names[1])
    assert seen >= {
        *("samples", "test_samples", "inputs", "test_inputs", "scores", "embeddings", "neighbour_indices"),
        *("neighbour_distances", "subset", "teacher_logits"),
    }


def test_after_the_rows_moved_no_asset_reads_what_was_made_before(ran: tuple[StudyFile, Any], place: Path) -> None:
    (file, instance), root = ran, place / "store"
    study = file.study
    assert isinstance(study, Study)
    before = Manifest.load(Store(root).place(("blobs", "manifest"), TRIAL))
    table = pq.read_table(place / "train.parquet")
    pq.write_table(table.take(np.arange(len(table))[::-1].copy()), place / "train.parquet")

    defs = build([file], root)
    job, graph = defs.resolve_implicit_global_asset_job_def(), defs.resolve_asset_graph()
    prepared = {dg.AssetKey(["blobs", name]) for name in DATA}
    assert job.execute_in_process(instance=instance, asset_selection=sorted(prepared)).success
    accepted = set()
    for key in sorted(graph.materializable_asset_keys - prepared):
        rows = {parent for parent in graph.get(key).parent_keys - prepared if samples_behind(parent.path[1])}
        if not rows:
            accepted.add(key.path[-1])
            continue
        partitioned = graph.get(key).is_partitioned
        done = job.execute_in_process(
            instance=instance,
            asset_selection=sorted(graph.get(key).execution_set_asset_keys),
            partition_key=f"{TRIAL.seed}|{TRIAL.selection}" if partitioned else None,
            raise_on_error=False,
        )
        assert not done.success, key
        [failure] = done.get_step_failure_events()
        text = str(failure.step_failure_data.error)
        assert "older than blobs/samples, which holds other rows" in text, (key, text)
        assert any(f"materialise {'/'.join(parent.path)}" in text for parent in rows), (key, text)
    assert accepted == MADE_ANEW

    (shown,) = [
        text
        for _, _, text in FENCE.findall((ROOT / "docs" / "cli.md").read_text())
        if text.startswith("blobs/scores/el2n is older")
    ]
    with pytest.raises(StoredError, match=re.escape(" ".join(shown.split()))):
        Made.of(study, Selection(selector="top", score="el2n", settings={}), Store(root))
    assert "other data" in str(arrays_of(before, root / "blobs"))

    # Making all stale assets gives the same as a run in an empty home.
    run_study(file, root, instance, part="subsets")
    run_study(file, place / "new", instance, part="subsets")
    names = sorted(path.relative_to(place / "new") for path in (place / "new" / "blobs").rglob("[!.]*.npy"))
    assert len(names) > 10
    for name in names:
        np.testing.assert_array_equal(np.load(root / name), np.load(place / "new" / name), err_msg=str(name))
    places = [Store(home).place(("blobs", "manifest"), TRIAL) for home in (root, place / "new")]
    kept, expected = (Manifest.load(place, verify=True) for place in places)
    assert kept.table.equals(expected.table)
    assert set(kept.table["content_hash"]) == set(before.table["content_hash"])
