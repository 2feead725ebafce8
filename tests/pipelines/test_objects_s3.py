"""A study, exports and rows in place on a real S3 server on this machine; no file contains its key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shell_here import secateur_here
from torch.utils.data import DataLoader

import secateur as sc
from secateur.pipelines.storage.home import home

s3fs: Any = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs 'moto[server]' to run this")
moto: Any = pytest.importorskip("moto.server", reason="moto is not installed: pip install s3fs 'moto[server]'")

SECRET = "pl4ntedS3cretOfTheBucket"
STUDY = """
name: tickets
source: {kind: parquet, train: "s3://bucket/rows/*.parquet", test_fraction: 0.3}
columns: {features: [x, shop], label: label}
proxy: {model: mlp, epochs: 1}
scores: {el2n: }
selections: {hardest: {selector: top, score: el2n}}
keep: [0.5]
training: {model: mlp, steps: 5}
seeds: 1
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket on a server of moto, whose key is in the environment alone."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEY",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if store.exists("bucket"):  # servers of one process share their content
        store.rm("bucket", recursive=True)
    store.mkdir("bucket")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def rows_in(store: Any) -> pd.DataFrame:
    """120 rows in two Parquet objects of the bucket."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=120), "shop": ["a", "b"] * 60, "label": list("pqr") * 40})
    for place, part in enumerate((table[:60], table[60:])):
        with store.open(f"s3://bucket/rows/{place}.parquet", "wb") as stream:
            part.to_parquet(stream, index=False, row_group_size=10)
    return table


def secrets_below(*folders: Path) -> list[str]:
    """Files below some folders that hold the key."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 20
    return [str(file) for file in files if SECRET.encode() in file.read_bytes()]


@pytest.mark.nightly
def test_a_study_an_export_and_rows_in_place_on_s3(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows_in(bucket)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.yaml").write_text(STUDY, encoding="utf-8")
    said = []

    def run(*words: str) -> Any:
        done = secateur_here(*words, "--json")
        said.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    chosen = run("select", "tickets.yaml")
    path = next(one["manifest"] for one in chosen["subsets"] if one["selection"].startswith("hardest"))
    manifest = sc.Manifest.load(path)
    assert {file.name for file in manifest.selection.origin.files} == {f"s3://bucket/rows/{n}.parquet" for n in (0, 1)}
    expected = table[manifest.keep()].reset_index(drop=True)

    whole = run("export", path, "--to", "parquet", "--study", "tickets.yaml", "-o", "s3://bucket/out/kept.parquet")
    assert whole["path"] == "s3://bucket/out/kept.parquet"
    with bucket.open(whole["path"]) as stream:
        pd.testing.assert_frame_equal(pd.read_parquet(stream), expected, check_dtype=False)

    told = run("export", path, "--to", "in_place", "--study", "tickets.yaml", "-o", "s3://bucket/out/rows.parquet")
    assert told["bytes"] <= 8 * len(expected) + 2**16
    view = sc.in_place("s3://bucket/out/rows.parquet")
    found = [value for batch in DataLoader(view, batch_size=16) for value in batch["x"].tolist()]
    assert found == expected["x"].to_list()
    assert sorted(item["x"] for item in view.stream(shuffle=True)) == sorted(found)

    with bucket.open("s3://bucket/rows/1.parquet", "wb") as stream:
        table[60:][::-1].to_parquet(stream, index=False, row_group_size=10)
    with pytest.raises(ValueError, match=r"s3://bucket/rows/1\.parquet has changed") as changed:
        sc.in_place("s3://bucket/out/rows.parquet")
    missing = secateur_here("select", "s3://bucket/nothing.parquet", "--keep", "1", "--json")
    assert missing.returncode == 2
    assert "s3://bucket/nothing.parquet" in missing.stderr
    said += [str(changed.value), missing.stdout, missing.stderr]
    assert SECRET not in "".join(said)
    assert not secrets_below(home(), tmp_path, home().parent)
    for name in bucket.find("bucket"):
        assert SECRET.encode() not in bucket.cat(name)


def test_rows_in_place_and_their_file_on_s3(tmp_path: Path, bucket: Any) -> None:
    table = rows_in(bucket)
    view = sc.in_place([0, 59, 60, 119], "s3://bucket/rows")
    saved = view.save("s3://bucket/out/rows.parquet")
    again = sc.in_place(saved)
    assert again.table(["x"])["x"].to_pylist() == table["x"][[0, 59, 60, 119]].to_list()
    assert [item["shop"] for item in again.stream()] == ["a", "b", "a", "b"]
    forked = DataLoader(again, batch_size=2, num_workers=1)  # the parent has the objects open, and a client of its own
    assert [shop for batch in forked for shop in batch["shop"]] == ["a", "b", "a", "b"]
    assert sc.select("s3://bucket/rows", score="x", keep=5)["x"].to_list() == pytest.approx(
        table["x"].nlargest(5).sort_index().to_list()
    )
    assert SECRET.encode() not in bucket.cat("s3://bucket/out/rows.parquet")
    bucket.rm("s3://bucket/rows/1.parquet")
    with pytest.raises(ValueError, match=r"s3://bucket/rows/1\.parquet is not there"):
        sc.in_place(saved)


def test_a_store_that_does_not_answer_is_told_without_the_key(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server listens here
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.chdir(tmp_path)
    done = secateur_here("select", "s3://bucket/rows", "--keep", "1")
    assert done.returncode == 2
    assert "s3://bucket/rows cannot be read" in done.stderr
    assert SECRET not in done.stdout + done.stderr
