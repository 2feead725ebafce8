"""Manifests are Croissant 1.1 that mlcroissant validates and reads, offline."""

import json
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.pipelines.manifests import croissant
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard
from secateur.pipelines.manifests.rows import Rows

HASHES = [f"{row:032x}" for row in range(6)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    samples = pl.DataFrame({"row": np.arange(6), "content_hash": HASHES, "label": [0, 1, 0, 1, 0, 1]})
    keep = np.array([True, False, True, True, False, False])
    provenance = Provenance(
        dataset="user/letters",
        revision="2f1c",
        selection="hard ones",
        selector="top",
        selector_version="1",
        settings={"end": "high"},
        keep=0.5,
        budget=3,
        seed=0,
        scores=(ScoreCard(name="el2n", version="1", high_means="harder", view="train", paper="arXiv:2107.07075"),),
        license="https://creativecommons.org/licenses/by/4.0/",
    )
    scores = {"el2n": np.linspace(0, 1, 6, dtype=np.float32)}
    weights = np.linspace(1, 2, 6, dtype=np.float32)
    return Manifest.write(tmp_path / "m", Rows.chosen(samples, keep, weights=weights, scores=scores), provenance)


def test_mlcroissant_validates_it(manifest: Manifest) -> None:
    dataset = mlc.Dataset(str(manifest.path / "manifest.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    # No date of publication, which would make two equal runs differ, and no citation, which is the data set's own.
    assert all("citeAs" in text or "datePublished" in text for text in map(str, issues.warnings))
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    assert dataset.metadata.name == "user/letters: hard ones"
    assert "KEPT: 3 of 6 samples" in str(dataset.metadata.description)


def test_mlcroissant_reads_the_kept_rows(manifest: Manifest) -> None:
    records = list(mlc.Dataset(str(manifest.path / "manifest.json")).records(croissant.RECORDS))
    assert [
        {name.removeprefix("kept/"): v.decode() if isinstance(v, bytes) else v.item() for name, v in record.items()}
        for record in records
    ] == manifest.table.to_dicts()
    assert [record["kept/row"] for record in records] == [0, 2, 3]
    assert [record["kept/content_hash"].decode() for record in records] == [HASHES[row] for row in (0, 2, 3)]


def test_mlcroissant_finds_a_changed_file(manifest: Manifest) -> None:
    path = manifest.path / "kept.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(mlc.GenerationError) as caught:
        list(mlc.Dataset(str(manifest.path / "manifest.json")).records(croissant.RECORDS))
    assert "is not identical with the reference" in str(caught.value.__cause__)


def test_what_only_we_know_survives_a_json_ld_reader(manifest: Manifest) -> None:
    rdflib = pytest.importorskip("rdflib")
    document = (manifest.path / "manifest.json").read_text()
    graph = rdflib.Graph().parse(data=document, format="json-ld")
    (literal,) = graph.objects(predicate=rdflib.URIRef("urn:secateur:manifest"))
    assert json.loads(literal) == json.loads(document)["secateur"]
    derived = rdflib.URIRef("http://www.w3.org/ns/prov#wasDerivedFrom")
    label = rdflib.URIRef("http://www.w3.org/ns/prov#label")
    (source,) = graph.objects(predicate=derived)
    (name,) = graph.objects(subject=source, predicate=label)
    assert str(name) == f"user/letters at revision 2f1c, fingerprint {manifest.declaration.fingerprint}"


@given(document=st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_is_serialised_is_parsed_and_nothing_else(document: dict[str, Any]) -> None:
    content = croissant.serialise(document)
    assert croissant.parse(content) == document
    for other in (content[:-1], content + b" ", b" " + content, json.dumps(document).encode() + b" "):
        with pytest.raises(ValueError, match=r"canonical form|JSON"):
            croissant.parse(other)


@given(own=st.dictionaries(st.text(max_size=5), VALUES, max_size=4), key=st.text(max_size=5), value=VALUES)
@settings(max_examples=100, deadline=None)
def test_root_moves_with_everything_but_itself(own: dict[str, Any], key: str, value: Any) -> None:
    document = {"name": "x", "secateur": own}
    root = croissant.root_of(document)
    assert croissant.root_of({"name": "x", "secateur": own | {"root": "0" * 64}}) == croissant.root_of(
        {"name": "x", "secateur": {name: item for name, item in own.items() if name != "root"}}
    )
    changed = own | {key: value}
    same = key == "root" or croissant.serialise(changed) == croissant.serialise(own)
    assert (croissant.root_of({"name": "x", "secateur": changed}) == root) == same
    assert croissant.root_of({"name": "y", "secateur": own}) != root
