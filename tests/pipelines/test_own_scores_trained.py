"""The user's own scores in a study that trains: from the files to report, explanation and the next run."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_studies import read

from secateur.pipelines.assets.own_inputs import own_values, rows_now
from secateur.pipelines.assets.recurring import stamp_now
from secateur.pipelines.data.own_values import DataRows
from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.manifests.explain import arrays_of, explain, places_of
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import Made, run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.own_scores import OwnScore
from secateur.selectors.static.coverage_centric import coverage_centric
from secateur.selectors.static.k_center import k_center

COUNT = 120
OWN: dict[str, Any] = {
    "scores": {
        "ease": {"column": "ease", "high_means": "easier"},
        "judge": {"file": "grades.parquet", "key": "uid", "column": "grade", "high_means": "better"},
    },
    "selections": {
        "best": {"selector": "top", "score": "judge"},
        "band": {"score": "ease", "low": 0.2, "high": 0.8},
        "coverage_centric": {"score": "ease", "cutoff": 0.2},
    },
    "training": {"model": "mlp", "model_settings": {"hidden": [16]}, "steps": 5, "batch_size": 32},
    "keep": [0.25],
    "seeds": 1,
}


def brought(folder: Path) -> pl.DataFrame:
    """The training rows with an id and a column of ease, which the test file lacks, and grades in another order."""
    path, rng = folder / "data" / "train.parquet", np.random.default_rng(3)
    table = pl.read_parquet(path).with_columns(
        pl.Series("uid", [f"u{row:03d}" for row in range(COUNT)]), pl.Series("ease", rng.random(COUNT))
    )
    table.write_parquet(path)
    grades = table.select("uid", pl.Series("grade", rng.permutation(COUNT)))
    grades.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "grades.parquet")
    return table.join(grades, on="uid", maintain_order="left")


@pytest.fixture
def untrained(study_content: dict[str, Any], tmp_path: Path) -> Any:
    """Write the study with only the user's scores, and no proxy."""
    plain = {key: value for key, value in study_content.items() if key != "proxy"}

    def write(**changes: Any) -> StudyFile:
        path = tmp_path / "blobs.yaml"
        path.write_text(yaml.safe_dump({**plain, **OWN, **changes}))
        return StudyFile(path, load_study(path))

    return write


def run(file: StudyFile, **how: Any) -> Made:
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(file, file.path.parent / "assets", instance, **how)


def manifest_of(folder: Path, name: str) -> Manifest:
    return Manifest.load(folder / "assets" / "blobs" / "manifest" / name / "0")


def test_own_scores_alone_train_no_proxy_and_reach_report_and_explanation(untrained: Any, tmp_path: Path) -> None:
    table, file = brought(tmp_path), untrained()
    run(file)
    store, root = Store(tmp_path / "assets"), tmp_path / "assets" / "blobs"
    assert not (root / "proxy").exists()
    np.testing.assert_array_equal(store.load(("blobs", "scores", "ease"))[:], table["ease"].to_numpy())
    np.testing.assert_array_equal(store.load(("blobs", "scores", "judge"))[:], table["grade"].to_numpy())
    best = manifest_of(tmp_path, "best@0.25")
    assert set(best.rows) == set(np.argsort(table["grade"].to_numpy())[-30:])
    inside = table["ease"].is_between(0.2, 0.8).to_numpy()
    assert inside[manifest_of(tmp_path, "band@0.25").rows].all()
    hardness = -table["ease"].to_numpy().astype(np.float32)
    kept = coverage_centric(hardness, -hardness, 30, cutoff=0.2, seed=0, ids=np.arange(COUNT))
    assert set(manifest_of(tmp_path, "coverage_centric@0.25").rows) == set(np.flatnonzero(kept))
    [card] = best.provenance.scores
    assert (card.name, card.scorer, card.high_means) == ("judge", "own", "better")
    known = arrays_of(best, root)
    found = explain(best, 5, known)
    assert found.scores[0].value == table["grade"][5]
    assert places_of(best, known).find("5") == 5
    told = json.loads((root / "report" / "report.json").read_text())
    assert told["suspects"]["ordered_by"] == ["ease"]
    assert told["yardstick"]["proxy_test"] is None
    assert told["yardstick"]["value"] > 0.5
    for one in told["suspects"]["listed"]:
        assert one["scores"] == {"ease": pytest.approx(table["ease"][one["row"]]), "judge": table["grade"][one["row"]]}
        assert (one["predicted"], one["certainty"]) == ("", None)
    cut = manifest_of(tmp_path, "coverage_centric@0.25")
    row = int(cut.rows[0])
    stratum = explain(cut, row, arrays_of(cut, root)).stratum
    assert stratum
    assert stratum.low <= np.float32(table["ease"][row]) <= stratum.high
    assert run(file).made == 0


def test_a_new_file_changes_its_score_and_what_reads_it_alone(untrained: Any, tmp_path: Path) -> None:
    table, file = brought(tmp_path), untrained()
    run(file, part="subsets")
    before = {name: set(manifest_of(tmp_path, f"{name}@0.25").rows) for name in OWN["selections"]}
    table.select("uid", -pl.col("grade")).write_parquet(tmp_path / "grades.parquet")
    made = run(file, part="subsets")
    after = {name: set(manifest_of(tmp_path, f"{name}@0.25").rows) for name in OWN["selections"]}
    assert {name for name in after if after[name] != before[name]} == {"best"}
    assert made.made == 3  # the score, and subset and manifest of its reader
    table.select("uid", "grade").head(COUNT - 1).write_parquet(tmp_path / "grades.parquet")
    with pytest.raises(Exception, match=r"grades.parquet has no row of key 'uid' \('u119'\) for 1 of 120 rows"):
        run(file, part="subsets")
    assert set(manifest_of(tmp_path, "best@0.25").rows) == after["best"]


def test_what_cannot_be_joined_is_refused_before_the_proxy_is_trained(write_study: Any, tmp_path: Path) -> None:
    table = brought(tmp_path)
    own = {**OWN["scores"], "aum": None}
    file = write_study(**{**OWN, "scores": own})
    table.select("uid", pl.when(pl.col("uid") > "u116").then(None).otherwise("grade").alias("grade")).write_parquet(
        tmp_path / "grades.parquet"
    )
    with pytest.raises(Exception, match=r"scores.judge: column 'grade' is empty in 3 of 120 rows of grades.parquet"):
        run(file)
    assert not (tmp_path / "assets" / "blobs" / "proxy").exists()
    assert not (tmp_path / "assets" / "blobs" / "samples.parquet").exists()


def test_own_scores_stand_beside_scorers_and_do_not_train_the_proxy_again(write_study: Any, tmp_path: Path) -> None:
    table = brought(tmp_path)
    file = write_study(**{**OWN, "scores": {**OWN["scores"], "forgetting": None}})
    run(file, part="scores")
    store = Store(tmp_path / "assets")
    forgetting = store.load(("blobs", "scores", "forgetting"))[:]
    assert forgetting.dtype == np.float32
    table.select("uid", -pl.col("grade")).write_parquet(tmp_path / "grades.parquet")
    assert run(file, part="scores").made == 1
    np.testing.assert_array_equal(store.load(("blobs", "scores", "judge"))[:], -table["grade"].to_numpy())


def test_a_recurring_study_sees_a_new_score_file(untrained: Any, tmp_path: Path) -> None:
    table, file = brought(tmp_path), untrained(recurring={})
    store, study = Store(tmp_path / "assets"), read(file)
    run(file, part="scores")
    before = stamp_now(study, tmp_path, store)
    assert stamp_now(study, tmp_path, store) == before
    table.select("uid", -pl.col("grade")).write_parquet(tmp_path / "grades.parquet")
    assert stamp_now(study, tmp_path, store) != before


REFUSED = [
    ({"scores": {"judge": {"column": "grade"}}}, "scores.judge.high_means: Field required"),
    ({"scores": {"judge": {"high_means": "better"}}}, "scores.judge: name a column of the data, or a file"),
    (
        {"scores": {"judge": {"column": "a", "high_means": "better", "colour": 1}}},
        "scores.judge.colour: there is no such key; did you mean 'column'? there are: column, file, key",
    ),
    ({"scores": {"aum": {"column": "a", "high_means": "harder"}}}, "aum: selectors read a score of this name of which"),
    ({"scores": {**OWN["scores"], "aum": None}}, "scores.aum: 'aum' watches a proxy, and the study has none: add pro"),
    ({"checkpoints": 3}, "checkpoints: it says how a proxy is made, and the study has none"),
    ({"selections": {"k_center": None}}, "selections.k_center: 'k_center' reads embeddings of a proxy, and the study"),
    (
        {"selections": {"coverage_centric": {"score": "judge", "cutoff": 0.1}}},
        "tells hard samples from easy ones, and high judge means better",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused_when_the_study_loads(change: Any, message: str, untrained: Any) -> None:
    with pytest.raises(StudyError, match=r"blobs\.yaml") as refusal:
        untrained(**change)
    assert message in str(refusal.value)


def test_a_file_with_training_is_a_study_that_trains(untrained: Any) -> None:
    assert not isinstance(untrained().study, Choice)
    assert Trial("best@0.25", 0) in list(read(untrained()).trials)


@pytest.fixture(scope="module")
def prepared_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyFile]:
    """A study whose data are in the store, and its folder."""
    folder = tmp_path_factory.mktemp("joined")
    (folder / "data").mkdir()
    names = [f"u{row:02d}" for row in range(40)]
    plain = {"x": np.arange(40) / 7, "y": np.arange(40) % 5 + 0.5, "label": np.arange(40) % 2, "uid": names}
    # A part is held out, so that row numbers of the study differ from those of the file.
    pl.DataFrame(plain).write_parquet(folder / "data" / "all.parquet")
    pl.DataFrame({"uid": names, "grade": np.arange(40.0)}).write_parquet(folder / "grades.parquet")
    path = folder / "joined.yaml"
    content = {
        "name": "joined",
        "source": {"kind": "parquet", "train": "data/all.parquet", "test_fraction": 0.25},
        "columns": {"features": ["x", "y"], "label": "label"},
        "scores": {"judge": OWN["scores"]["judge"]},
        "selections": {"best": OWN["selections"]["best"]},
        "training": {"model": "mlp", "steps": 5},
        "keep": [0.5],
    }
    path.write_text(yaml.safe_dump(content))
    file = StudyFile(path, load_study(path))
    run(file, part="scores")
    return folder, file


def rows_of(folder: Path, file: StudyFile) -> DataRows:
    """The training rows of that study."""
    store = Store(folder / "assets")
    samples, source = store.load(("joined", "samples")), store.load(("joined", "source"))
    rows = rows_now(read(file), source, samples, folder, store)
    assert len(rows.places) == 31
    return rows


FAULTS = {
    "none": "",
    "missing": "has no row of key",
    "twice": "is that of an earlier row",
    "strange": "is that of no row of",
    "empty": "column 'grade' is empty in 1 of",
    "infinite": "column 'grade' is NaN, infinite",
}


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(40)),
    fault=st.sampled_from(sorted(FAULTS)),
    at=st.integers(0, 30),
    ending=st.sampled_from(["csv", "parquet", "jsonl"]),
    held_out=st.booleans(),
)
def test_a_reordered_file_is_joined_and_a_changed_one_refused(
    order: Any, fault: str, at: int, ending: str, held_out: bool, prepared_rows: Any
) -> None:
    """A training row has the value of its own id, in any order, or the file is refused; the file may have the rows that
    are held out."""
    folder, file = prepared_rows
    study, rows = read(file), rows_of(folder, file)
    listed = [row for row in order if held_out or row in rows.places]
    at = listed.index(rows.places[at])
    table = pl.DataFrame({"uid": [f"u{row:02d}" for row in listed], "grade": [float(row**2 % 37) for row in listed]})
    here = pl.int_range(pl.len()) == at
    changed = {
        "none": table,
        "missing": table.filter(~here),
        "twice": pl.concat([table, table[at]]),
        "strange": pl.concat([table, pl.DataFrame({"uid": ["u99"], "grade": [1.0]})]),
        "empty": table.with_columns(grade=pl.when(~here).then("grade")),
        "infinite": table.with_columns(grade=pl.when(~here).then("grade").otherwise(float("inf"))),
    }[fault]
    path = folder / f"mixed.{'csv' if fault == 'infinite' else ending}"  # JSON has no infinity
    {".csv": changed.write_csv, ".parquet": changed.write_parquet, ".jsonl": changed.write_ndjson}[path.suffix](path)
    judge = study.own_scores["judge"].model_copy(update={"file": Path(path.name)})
    study = study.model_copy(update={"scores": {"judge": judge}})
    if fault == "none":
        np.testing.assert_array_equal(own_values(study, "judge", folder, rows), rows.places**2 % 37)
        return
    with pytest.raises(SourceError) as refusal:
        own_values(study, "judge", folder, rows)
    assert FAULTS[fault] in str(refusal.value)
    assert "scores.judge" in str(refusal.value)


def test_an_array_without_ids_needs_the_fingerprint_of_these_data(prepared_rows: Any, tmp_path: Path) -> None:
    """Its rows are those of the file; the training rows are a part of them."""
    folder, file = prepared_rows
    study, rows = read(file), rows_of(folder, file)
    np.save(folder / "grades.npy", np.arange(40.0))

    def values(**how: Any) -> np.ndarray:
        score = OwnScore(file=Path("grades.npy"), high_means="better", **how)
        return own_values(study.model_copy(update={"scores": {"judge": score}}), "judge", folder, rows)

    with pytest.raises(SourceError, match=f"nothing in grades.npy says which row .* fingerprint: {rows.revision}"):
        values()
    with pytest.raises(SourceError, match="was made for other data"):
        values(fingerprint="0" * 32)
    np.testing.assert_array_equal(values(fingerprint=rows.revision), rows.places)
    np.save(folder / "grades.npy", np.arange(30.0))
    with pytest.raises(SourceError, match=r"grades.npy has 30 rows, and data/all.parquet has 40"):
        values(fingerprint=rows.revision)


VECTORS = {
    "selections": {"spread": {"selector": "k_center"}},
    "scores": {"rare": {"scorer": "nearest_sample"}},
    "embeddings": {"file": "vectors.npy"},
}


def test_own_vectors_take_the_place_of_those_of_a_proxy(untrained: Any, tmp_path: Path) -> None:
    brought(tmp_path)
    vectors = np.random.default_rng(5).normal(size=(COUNT, 3)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    file = untrained(**VECTORS)
    run(file, part="scores")
    run(file, part="subsets")
    store = Store(tmp_path / "assets")
    assert not (tmp_path / "assets" / "blobs" / "proxy").exists()
    np.testing.assert_array_equal(store.load(("blobs", "embeddings"))[:], vectors)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) + np.diag(np.full(COUNT, np.inf))
    np.testing.assert_allclose(store.load(("blobs", "scores", "rare")), apart.min(axis=1), rtol=1e-5)
    chosen = k_center(vectors, 30, seed=0, ids=np.arange(COUNT))
    assert set(manifest_of(tmp_path, "spread@0.25").rows) == set(np.flatnonzero(chosen))
    assert run(file, part="subsets").made == 0
    np.save(tmp_path / "vectors.npy", -2 * vectors)
    run(file, part="subsets")
    np.testing.assert_array_equal(store.load(("blobs", "embeddings"))[:], -2 * vectors)
    vectors[3, 1] = np.nan
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(Exception, match=r"embeddings: vectors are NaN or infinite for 1 of 120 rows, .*row 3"):
        run(file, part="subsets")
    np.save(tmp_path / "vectors.npy", vectors[:-1])
    with pytest.raises(Exception, match=r"vectors.npy has 119 rows, and data/train.parquet has 120"):
        run(file, part="subsets")


def test_vectors_are_a_column_of_the_training_file_or_a_table_joined_by_id(untrained: Any, tmp_path: Path) -> None:
    table = brought(tmp_path)
    vectors = np.random.default_rng(5).normal(size=(COUNT, 3)).astype(np.float32)
    data = tmp_path / "data" / "train.parquet"
    pl.read_parquet(data).with_columns(pl.Series("vector", vectors.tolist())).write_parquet(data)
    store = Store(tmp_path / "assets")
    run(untrained(**VECTORS | {"embeddings": {"column": "vector"}}), part="subsets")
    np.testing.assert_array_equal(store.load(("blobs", "embeddings"))[:], vectors)
    other = table.select("uid", pl.Series("v", (2 * vectors).tolist())).sample(fraction=1, shuffle=True, seed=2)
    other.write_parquet(tmp_path / "vectors.parquet")
    joined = {"embeddings": {"file": "vectors.parquet", "key": "uid", "column": "v"}}
    run(untrained(**VECTORS | joined), part="subsets")
    np.testing.assert_array_equal(store.load(("blobs", "embeddings"))[:], 2 * vectors)


def test_a_fault_of_vectors_stops_a_study_before_its_proxy_is_trained(write_study: Any, tmp_path: Path) -> None:
    brought(tmp_path)
    np.save(tmp_path / "vectors.npy", np.zeros((COUNT, 3, 1), np.float32))
    with pytest.raises(Exception, match=r"numbers \[rows, dimensions\] are needed, and vectors.npy holds"):
        run(write_study(**VECTORS))
    assert not (tmp_path / "assets" / "blobs" / "proxy").exists()


def test_own_vectors_are_compared_with_those_of_a_target(untrained: Any, tmp_path: Path) -> None:
    table = brought(tmp_path)
    rng = np.random.default_rng(6)
    vectors, wanted = rng.normal(size=(COUNT, 3)).astype(np.float32), rng.normal(size=(1, 3)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "wanted.npy", wanted)
    near = table.head(1).drop("grade").with_columns(x=pl.lit(9.0, pl.Float32))
    near.write_parquet(tmp_path / "target.parquet")
    changes = {"selections": {"nearest_to_target": None}, "scores": {}, "embeddings": {"file": "vectors.npy"}}
    with pytest.raises(StudyError, match=r"target.vectors: embeddings are a file of yours for the data; name one"):
        untrained(**changes, target={"file": "target.parquet"})
    target = {"file": "target.parquet", "vectors": {"file": "wanted.npy"}}
    with pytest.raises(Exception, match=r"nothing in wanted.npy says which row is which") as refusal:
        run(untrained(**changes, target=target), part="subsets")
    target["vectors"]["fingerprint"] = str(refusal.value).split("fingerprint: ")[1][:32]  # type: ignore[index]
    run(untrained(**changes, target=target), part="subsets")
    cosines = (vectors @ wanted[0]) / np.linalg.norm(vectors, axis=1)
    assert set(manifest_of(tmp_path, "nearest_to_target@0.25").rows) == set(np.argsort(cosines)[-30:])
