"""Formats whose packages are not installed, or that may run code, raise an error with the remedy."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import secateur as sc

SHARD = {
    "column_encodings": ["str"], "column_names": ["id"], "column_sizes": [None], "compression": None, "format": "mds",
    "hashes": [], "raw_data": {"basename": "shard.00000.mds", "bytes": 3, "hashes": {}}, "samples": 3,
    "size_limit": None, "version": 2, "zip_data": None,
}  # fmt: skip
CHUNK = {"chunk_bytes": 3, "chunk_size": 3, "dim": None, "filename": "chunk-0-0.bin"}
INDEXES: dict[str, tuple[str, dict[str, Any], str]] = {
    "MDS without its package": ("shard.00000.mds", {"version": 2, "shards": [SHARD]}, "pip install mosaicml-streaming"),
    "packed MDS": ("shard.00000.mds.zstd", {"version": 2, "shards": [SHARD]}, "unpack it first"),
    "JSON of MDS": ("shard.00000.mds", {"version": 2, "shards": [{**SHARD, "format": "json"}]}, "not mds"),
    "LitData without its package": ("chunk-0-0.bin", {"chunks": [CHUNK], "config": {}}, "pip install litdata"),
    "LitData of pickles": (
        "chunk-0-0.bin", {"chunks": [CHUNK], "config": {"data_format": ["str", "pickle"]}}, "may run code"
    ),
    "LitData of tokens": (
        "chunk-0-0.bin", {"chunks": [CHUNK], "config": {"item_loader": "TokensLoader"}}, "are no rows"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INDEXES)
def test_shards_that_cannot_be_read(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("streaming", "litdata"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    name, index, said = INDEXES[case]
    (tmp_path / name).write_bytes(b"abc")
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=said):
        list(sc.in_place([1], tmp_path))


def test_lance_without_its_package_and_at_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    (tmp_path / "rows.lance" / "_versions").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"the extra `lance`"):
        sc.in_place([1], tmp_path / "rows.lance")
    with pytest.raises(ValueError, match="copy it here first"):
        sc.in_place([1], "memory://bucket/rows.lance")
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ValueError, match="is none of disk, lance, litdata, mds, parquet, webdataset"):
        sc.in_place([1], tmp_path)
