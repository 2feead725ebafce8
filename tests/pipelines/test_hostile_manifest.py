"""A malformed or hostile manifest causes an error of one sentence, or is whole; it never does harm."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests import croissant
from secateur.pipelines.manifests.diff import compare
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard
from secateur.pipelines.manifests.rows import Rows

COUNT = 12


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a whole manifest, a place for broken ones, and files that must stay unchanged."""
    root = tmp_path_factory.mktemp("ground")
    keep = np.arange(COUNT) % 2 == 0
    samples = pl.DataFrame(
        {"row": np.arange(COUNT), "content_hash": [f"{row:032x}" for row in range(COUNT)], "label": [0, 1, 2] * 4}
    )
    provenance = Provenance(
        dataset="d", revision="r", selection="s", selector="top", selector_version="1", settings={"end": "high"},
        keep=0.5, budget=6, seed=0,
        scores=(ScoreCard(name="el2n", version="1", high_means="harder", view="v", paper="p"),),
    )  # fmt: skip
    scores = {"el2n": np.arange(COUNT, dtype=np.float32)}
    rows = Rows.chosen(samples, keep, scores=scores, weights=np.ones(COUNT, np.float32))
    Manifest.write(root / "whole", rows, provenance)
    (root / "precious").write_bytes(b"precious")
    yield root
    assert (root / "precious").read_bytes() == b"precious"


NASTY = st.sampled_from(
    ["../x", "../../etc/passwd", "/etc/passwd", "C:\\x", "file:///etc/passwd", "http://localhost/x", "kept.parquet\0",
     "\ud800", "\u202e", "", " ", "x" * 20_000, -1, 0, 2**31, 2**63, 2**64, 10**400, -(2**63), 0.5, -0.0, 1e308, 5e-324,
     True, False, None, [], {}, [[[[]]]], {"@id": "x"}, {"@context": "http://localhost/context"}, "0" * 64, "f" * 32]
)  # fmt: skip
ANYTHING = st.recursive(
    NASTY | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, as the keys that lead there."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def put(document: Any, path: tuple[Any, ...], value: Any, how: str) -> Any:
    """The document with a value replaced, removed or added at a place."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if how == "remove":
        del inner[path[-1]]
    elif how == "add" and isinstance(inner, dict):
        inner["surprise"] = value
    elif how == "add":
        inner.insert(path[-1], value)
    else:
        inner[path[-1]] = value
    return changed


def sealed(document: Any, content: bytes, *, files: bool) -> bytes:
    """The document as an attacker would write it: canonical, with the right root, sizes and checksums."""
    try:
        if files:
            seal = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            document["secateur"]["files"] = {"kept.parquet": seal}
            file = croissant.ParquetFile("kept.parquet", seal["bytes"], seal["sha256"])
            document["distribution"] = croissant.distribution(file)
            document["version"] = f"1.0.0+{file.sha256[:12]}"
        document["secateur"]["root"] = croissant.root_of(document)
        return croissant.serialise(document)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        return json.dumps(document).encode()


@st.composite
def broken_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes cut, flipped, doubled, re-encoded or replaced."""
    how = draw(st.sampled_from(["cut", "flip", "insert", "repeat", "recode", "replace"]))
    place = draw(st.integers(0, len(whole) - 1))
    if how == "cut":
        return whole[:place]
    if how == "flip":
        return whole[:place] + bytes([draw(st.integers(0, 255))]) + whole[place + 1 :]
    if how == "insert":
        return whole[:place] + draw(st.binary(min_size=1, max_size=40)) + whole[place:]
    if how == "repeat":
        return whole[:place] + whole
    if how == "recode":
        return whole.decode("latin-1").encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "utf-7"])))
    return draw(
        st.binary(max_size=400) | st.sampled_from([b"[" * 99_999, b'{"a":' * 99_999, b"9" * 99_999, b"\0" * 99])
    )


ARRAYS = st.sampled_from(
    [
        pa.array(range(0, COUNT, 2), pa.int64()),
        pa.array([10, 8, 6, 4, 2, 0], pa.int64()),
        pa.array([0] * 6, pa.int64()),
        pa.array([-1, 2, 4, 6, 8, 2**62], pa.int64()),
        pa.array([None, 2, 4, 6, 8, 10], pa.int64()),
        pa.array([2**63, 2, 4, 6, 8, 10], pa.uint64()),
        pa.array([0, 2, 1] * 2, pa.int64()),
        pa.array(np.arange(6, dtype=np.float32)),
        pa.array([np.nan] * 6, pa.float32()),
        pa.array([np.inf] * 6, pa.float32()),
        pa.array([f"{row:032x}" for row in range(0, COUNT, 2)]),
        pa.array(["../x"] * 6),
        pa.array(["0" * 33] * 6),
        pa.array([b"\xff" * 32] * 6),
        pa.array([[{"a": [row]}] for row in range(6)]),
        pa.array(["x", "y"] * 3).dictionary_encode(),
        pa.array([None] * 6, pa.null()),
    ]
)


@st.composite
def tables(draw: st.DrawFn, whole: pa.Table) -> bytes:
    """Bytes of another Parquet file than the written one."""
    table = whole
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, table.num_columns - 1))
        how = draw(st.sampled_from(["replace", "replace", "rename", "drop", "cut"]))
        if how == "replace" and table.num_rows == 6:
            table = table.set_column(place, table.schema.names[place], draw(ARRAYS))
        elif how == "rename":
            names = table.schema.names
            table = table.rename_columns([*names[:place], draw(st.text(max_size=6)), *names[place + 1 :]])
        elif how == "drop" and table.num_columns > 1:
            table = table.remove_column(place)
        else:
            table = table.slice(0, draw(st.integers(0, 6)))
    sink = pa.BufferOutputStream()
    compression = draw(st.sampled_from(["zstd", "none", "snappy", "gzip"]))
    pq.write_table(table, sink, compression=compression, use_dictionary=draw(st.booleans()))
    return bytes(sink.getvalue())


@st.composite
def hostile(draw: st.DrawFn, folder: Path) -> dict[str, bytes]:
    """Files of a manifest, corrupted by accident or by an attacker."""
    document, content = (folder / "manifest.json").read_bytes(), (folder / "kept.parquet").read_bytes()
    how = draw(st.sampled_from(["document bytes", "document", "document", "table bytes", "table bytes", "table"]))
    if how == "document bytes":
        return {"manifest.json": draw(broken_bytes(document)), "kept.parquet": content}
    parsed = json.loads(document)
    if how == "document":
        known = list(places(parsed))
        for _ in range(draw(st.integers(1, 2))):
            place = draw(st.sampled_from(known))
            how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            try:
                parsed = put(parsed, place, draw(ANYTHING), how)
            except (KeyError, IndexError, TypeError, AttributeError):
                continue
        return {"manifest.json": sealed(parsed, content, files=draw(st.booleans())), "kept.parquet": content}
    whole = pq.read_table(folder / "kept.parquet")
    content = draw(broken_bytes(content)) if how == "table bytes" else draw(tables(whole))
    if draw(st.booleans()):
        return {"manifest.json": sealed(parsed, content, files=True), "kept.parquet": content}
    return {"manifest.json": document, "kept.parquet": content}


def attempt(ground: Path, files: dict[str, bytes]) -> None:
    """Load a tampered manifest: one sentence, or a consistent manifest, and no file written anywhere."""
    folder = ground / "tampered"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    before = sorted(ground.rglob("*"))
    refusal = manifest = None
    try:
        manifest = Manifest.load(folder)
    except ManifestError as error:
        refusal = str(error)
    if refusal is not None:
        with pytest.raises(ManifestError):
            export(folder, "indices", ground / "out.npy")
        assert refusal.startswith(f"manifest {folder}: ")
        assert "\n" not in refusal
        assert len(refusal) <= 600
    if manifest is not None:
        own = manifest.declaration
        assert own.kept
        assert len(manifest.rows) == own.count == own.provenance.budget
        assert manifest.keep().sum() == own.count
        assert sum(counted.before for counted in own.payload.classes) == own.of
        assert all(np.isfinite(manifest.table[name].to_numpy()).all() for name in manifest.table.columns[3:])
        assert own.root == croissant.root_of(json.loads(files["manifest.json"]))
        assert own.files["kept.parquet"].sha256 == hashlib.sha256(files["kept.parquet"]).hexdigest()
        export_everywhere(manifest, ground)
    assert sorted(ground.rglob("*")) == before
    assert all((folder / name).read_bytes() == content for name, content in files.items())


def export_everywhere(manifest: Manifest, ground: Path) -> None:
    """Export a tampered manifest and compare it with the whole one: only the target is written."""
    before = set(ground.rglob("*"))
    for name in ("indices", "text", "bitmap", "parquet", "jsonl", "card", "datasets"):
        target = ground / "out" / name
        with suppress(ManifestError):
            export(manifest, name, target)
        assert all(path.is_relative_to(ground / "out") for path in set(ground.rglob("*")) - before)
    assert np.array_equal(np.load(ground / "out" / "indices"), manifest.rows)
    shutil.rmtree(ground / "out")
    assert compare(Manifest.load(ground / "whole"), manifest).both <= len(manifest.rows)


def test_class_names_and_prose_of_any_kind_export(ground: Path) -> None:
    document = json.loads((ground / "whole" / "manifest.json").read_bytes())
    own = document["secateur"]
    for counted, name in zip(own["payload"]["classes"], ["../../up", "a\0b", "| x\n---\n"], strict=True):
        counted["name"] = name
    own["provenance"]["license"] = "---\n../x"
    document["license"] = own["provenance"]["license"]
    content = (ground / "whole" / "kept.parquet").read_bytes()
    attempt(ground, {"manifest.json": sealed(document, content, files=False), "kept.parquet": content})
    assert Manifest.load(ground / "tampered").declaration.payload.classes[0].name == "../../up"


CALM = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@given(data=st.data())
@settings(max_examples=500, **CALM)
def test_500_hostile_manifests_do_no_harm(ground: Path, data: st.DataObject) -> None:
    attempt(ground, data.draw(hostile(ground / "whole")))


@pytest.mark.nightly
@given(data=st.data())
@settings(max_examples=10_000, **CALM)
def test_10000_hostile_manifests_do_no_harm(ground: Path, data: st.DataObject) -> None:
    attempt(ground, data.draw(hostile(ground / "whole")))


def test_whole_one_passes_the_same_trial(ground: Path) -> None:
    files = {name: (ground / "whole" / name).read_bytes() for name in ("manifest.json", "kept.parquet")}
    assert sealed(json.loads(files["manifest.json"]), files["kept.parquet"], files=True) == files["manifest.json"]
    attempt(ground, files)
