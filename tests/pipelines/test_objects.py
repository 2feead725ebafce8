"""Sources and exports by URL: a study, a selection and exports on object stores, without credentials anywhere."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sample_tables import study_manifest
from shell_here import secateur_here
from small_studies import REST

import secateur as sc
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.exports.registry import export
from secateur.pipelines.exports.source import training_rows
from secateur.pipelines.files.addresses import AddressError, shown
from secateur.pipelines.files.objects import Upload, copied, objects_folder, scrubbed, url_of
from secateur.pipelines.manifests.document import ManifestError

SECRET = "pl4ntedS3cret"
STUDY = "name: s\nsource: {{kind: {kind}, train: '{train}', test_fraction: 0.3}}\n" + (
    "columns: {features: [x, shop], label: label}\n" + REST
).replace("{", "{{").replace("}", "}}")


@pytest.fixture
def store() -> Iterator[Any]:
    """An empty store in memory."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()


def rows_of(count: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"x": rng.normal(size=count), "shop": ["a", "b"] * (count // 2), "label": list("pqr") * (count // 3)}
    )


def packed(table: pd.DataFrame) -> bytes:
    held = io.BytesIO()
    table.to_parquet(held, index=False, row_group_size=10)
    return held.getvalue()


@pytest.fixture
def objects(store: Any) -> pd.DataFrame:
    """Two Parquet files and one of CSV in a bucket."""
    table = rows_of()
    store.pipe("/bucket/rows/0.parquet", packed(table[:50]))
    store.pipe("/bucket/rows/1.parquet", packed(table[50:]))
    store.pipe("/bucket/rows.csv", table.to_csv(index=False).encode())
    return table


def test_a_study_of_objects_is_that_of_the_same_files(tmp_path: Path, objects: pd.DataFrame, store: Any) -> None:
    (tmp_path / "rows").mkdir()
    found = {}
    for place, train in (("here", "rows/*.parquet"), ("there", "memory://bucket/rows/*.parquet")):
        folder = tmp_path / place
        (folder / "rows").mkdir(parents=True)
        for name in ("0.parquet", "1.parquet"):
            (folder / "rows" / name).write_bytes(store.cat(f"/bucket/rows/{name}"))
        text = STUDY.format(kind="parquet", train=train)
        found[place] = study_manifest(text, folder, lambda samples: (samples["row"] % 3 == 0).to_numpy())
    (_, here), (file, there) = found["here"], found["there"]
    assert here.provenance.revision == there.provenance.revision
    assert here.table.equals(there.table)
    assert set(there.places["file"]) == {"memory://bucket/rows/0.parquet", "memory://bucket/rows/1.parquet"}
    rows = training_rows(file, tmp_path / "home")
    path = export(there, "parquet", tmp_path / "kept.parquet", dataset=rows)
    assert pl.read_parquet(path).equals(pl.from_pandas(objects)[there.keep().nonzero()[0]])
    view = sc.in_place(there, "memory://bucket/rows")
    assert view.lazy().collect().equals(pl.read_parquet(path))
    saved = view.save("memory://bucket/kept.parquet")
    assert store.size("/bucket/kept.parquet") <= 8 * len(view) + 2**16
    assert sc.in_place(saved).table().equals(view.table())
    exported = export(there, "in_place", "memory://bucket/again.parquet", dataset=rows, warn=print)
    assert store.cat("/bucket/again.parquet") == store.cat("/bucket/kept.parquet")
    store.pipe("/bucket/rows/1.parquet", packed(objects[::-1][:40]))
    with pytest.raises(ValueError, match=r"memory://bucket/rows/1\.parquet has changed"):
        sc.in_place(exported)


def test_an_object_that_changed_is_fetched_again_and_others_are_not(objects: pd.DataFrame, store: Any) -> None:
    [first] = copied("memory://bucket/rows.csv")
    assert url_of(first) == "memory://bucket/rows.csv"
    assert first.read_bytes() == store.cat("/bucket/rows.csv")
    before = first.stat()
    assert copied("memory://bucket/rows.csv")[0].stat() == before
    changed = store.cat("/bucket/rows.csv").replace(b"p", b"q")
    store.pipe("/bucket/rows.csv", changed)
    assert copied("memory://bucket/rows.csv")[0].read_bytes() == changed
    assert [path.name for path in copied("memory://bucket/rows")] == ["0.parquet", "1.parquet"]
    store.rm("/bucket/rows/0.parquet")
    assert [path.name for path in copied("memory://bucket/rows")] == ["1.parquet"]
    assert not (first.parent / "rows" / "0.parquet").exists()


def test_the_shell_selects_from_and_audits_an_object(tmp_path: Path, objects: pd.DataFrame, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = secateur_here(
        "select", "memory://bucket/rows", "--score", "x", "--keep", "9", "-o", "kept.csv", "--no-random"
    )
    assert done.returncode == 0, done.stderr
    assert pd.read_csv("kept.csv")["x"].to_numpy() == pytest.approx(objects["x"].nlargest(9).sort_index().to_numpy())
    kept = sc.select("memory://bucket/rows.csv", score="x", keep=9)
    assert kept["x"].to_numpy() == pytest.approx(objects["x"].nlargest(9).sort_index().to_numpy())
    done = secateur_here("audit", "memory://bucket/rows.csv", "--no-label", "--json")
    assert json.loads(done.stdout)["rows"] == {"train": 90}, done.stderr
    assert str(objects_folder()) not in done.stdout + done.stderr
    done = secateur_here("select", "memory://bucket/nothing.csv", "--score", "x", "--keep", "9")
    assert done.returncode == 2
    assert "memory://bucket/nothing.csv" in done.stderr


def test_files_and_folders_are_exported_to_a_store(tmp_path: Path, store: Any, manifest_of: Any) -> None:
    data = datasets.Dataset.from_dict({"text": [f"text {row}" for row in range(20)], "label": [0, 1] * 10})
    manifest = manifest_of(data, {"text": "text", "label": "label"}, [1, 4, 19])
    url = "memory://out/kept.jsonl"
    assert export(manifest, "jsonl", url, dataset=data) == url
    assert [json.loads(line)["text"] for line in store.cat("/out/kept.jsonl").splitlines()] == [
        "text 1",
        "text 4",
        "text 19",
    ]
    with pytest.raises(ManifestError, match="exists already: name another URL, or replace it with --overwrite"):
        export(manifest, "jsonl", url, dataset=data)
    export(manifest, "text", url, overwrite=True)
    assert store.cat("/out/kept.jsonl") == b"1\n4\n19\n"
    folder = "memory://out/shards"
    export(manifest, "webdataset", folder, dataset=data, settings={"shard_rows": 1})
    assert len(store.glob("/out/shards/*.tar")) == 3
    export(manifest, "webdataset", folder, dataset=data, overwrite=True)
    assert len(store.glob("/out/shards/*.tar")) == 1
    assert [item["txt"] for item in sc.in_place([0, 2], folder)] == [b"text 1", b"text 19"]
    store.pipe("/out/mine/notes.txt", b"mine")
    with pytest.raises(ManifestError, match="no whole export of ours"):
        export(manifest, "webdataset", "memory://out/mine", dataset=data, overwrite=True)
    assert store.cat("/out/mine/notes.txt") == b"mine"
    done = secateur_here("export", str(manifest.path), "--to", "indices", "-o", "memory://out/rows.npy", "--json")
    told = json.loads(done.stdout)
    assert (told["path"], told["bytes"]) == ("memory://out/rows.npy", store.size("/out/rows.npy"))
    assert np.load(io.BytesIO(store.cat("/out/rows.npy"))).tolist() == [1, 4, 19]


def test_an_export_that_fails_stores_nothing(store: Any) -> None:
    def half() -> None:
        with Upload("memory://out/a.txt") as path:
            left.append(path)
            path.write_text("half")
            raise RuntimeError("the disk is full")

    left: list[Path] = []
    with pytest.raises(RuntimeError, match="disk is full"):
        half()
    assert not store.exists("/out/a.txt")
    assert not left[0].parent.exists()


@pytest.mark.parametrize(
    "url", [f"s3://user:{SECRET}@bucket/x.parquet", f"https://host/x.parquet?X-Amz-Signature={SECRET}"]
)
def test_a_url_with_a_credential_is_refused_without_it(tmp_path: Path, url: str) -> None:
    said = []
    calls: list[Any] = [
        lambda: sc.select(url, keep=1),
        lambda: sc.in_place([0], url),
        lambda: sc.in_place(url),
        lambda: study_manifest(STUDY.format(kind="parquet", train=url), tmp_path, lambda samples: []),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="leave credentials to") as caught:
            call()
        error: BaseException | None = caught.value
        while error is not None:
            said.append(str(error))
            error = None if error.__suppress_context__ else error.__context__
    done = secateur_here("select", url, "--keep", "1")
    assert done.returncode == 2
    assert SECRET not in "".join([*said, done.stdout, done.stderr])


@pytest.mark.parametrize("url", ["s3://", "memory://", "s3:///"])
def test_a_url_that_names_nothing_is_refused_as_one(url: str) -> None:
    for call in (lambda: sc.select(url, keep=1), lambda: sc.in_place(url)):
        with pytest.raises(ValueError, match=rf"{url} names no file: write bucket and key"):
            call()


def test_a_url_in_a_variable_is_shown_without_its_credential(
    tmp_path: Path, objects: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAIN", f"memory://user:{SECRET}@bucket/missing.parquet?key={SECRET}")
    with pytest.raises(SourceError) as caught:
        study_manifest(STUDY.format(kind="parquet", train="${TRAIN}"), tmp_path, lambda samples: [])
    assert SECRET not in str(caught.value)
    assert shown(os.environ["TRAIN"]) == "memory://bucket/missing.parquet"


def test_what_a_client_says_is_scrubbed() -> None:
    url = f"https://me:{SECRET}@host/x?token={SECRET}"
    said = scrubbed(OSError(f"403 for url('{url}') and s3://a:{SECRET}@b/c?d={SECRET}, sorry"), url)
    assert SECRET not in said
    assert "https://host/x" in said
    with pytest.raises(AddressError, match="Protocol not known"):
        copied("nostore://bucket/x")
