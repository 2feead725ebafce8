"""Scores of logits and probabilities of the user's own model, in a study that trains and in one that does not."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import save_file

import secateur as sc
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import Made, run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study

COUNT, EPOCHS = 90, 3
CLASSES = ["maths", "code", "web"]
"""In the order of the outputs, which is not alphabetical."""
SCORES: dict[str, Any] = {
    "aum": {"outputs": "logits", "file": "logits.npy"},
    "late": {"scorer": "el2n", "epochs": 2, "outputs": "logits", "file": "logits.npy"},
    "forgetting": {"outputs": "logits", "file": "logits.safetensors"},
    "entropy": {"outputs": "probabilities", "file": "probabilities.parquet", "key": "uid", "column": "p"},
    "pvi": {"outputs": "probabilities", "column": "held"},
}


@pytest.fixture
def brought(tmp_path: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows, and a model's outputs for them: in files of every kind, one of them in another order."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(EPOCHS, COUNT, 3)).astype(np.float32)
    labels = rng.integers(0, 3, COUNT)
    held = torch.softmax(torch.from_numpy(logits[-1]).double(), dim=1).numpy()
    table = pl.DataFrame(
        {
            "x": rng.normal(size=COUNT) + labels,
            "y": rng.normal(size=COUNT),
            "kind": [CLASSES[label] for label in labels],
            "uid": [f"u{row:02d}" for row in range(COUNT)],
            "held": held.tolist(),
        }
    )
    table.write_parquet(tmp_path / "data.parquet")
    np.save(tmp_path / "logits.npy", logits)
    save_file({"logits": torch.from_numpy(logits)}, tmp_path / "logits.safetensors")
    other = table.select("uid", pl.Series("p", held.tolist())).sample(fraction=1, shuffle=True, seed=1)
    other.write_parquet(tmp_path / "probabilities.parquet")
    return table, logits


def written(folder: Path, scores: dict[str, Any], **changes: Any) -> StudyFile:
    content = {
        "name": "outputs",
        "source": {"kind": "parquet", "train": "data.parquet"},
        "columns": {"features": ["x", "y"], "label": "kind"},
        "scores": scores,
        "selections": {"hard": {"selector": "top", "score": "aum", "end": "low"}},
        "keep": [0.2],
    }
    path = folder / "outputs.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return StudyFile(path, load_study(path))


TRAINED: dict[str, Any] = {
    "source": {"kind": "parquet", "train": "data.parquet", "test_fraction": 0.3},
    "training": {"model": "mlp", "steps": 5},
    "seeds": 1,
}


def run(file: StudyFile, **how: Any) -> Made:
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(file, file.path.parent / "assets", instance, **how)


def whole(fingerprint: str) -> dict[str, Any]:
    """The scores; those of files without ids for the data of that fingerprint."""
    named = {name: {**body, "classes": CLASSES} for name, body in SCORES.items()}
    return {
        name: body if "key" in body or "file" not in body else {**body, "fingerprint": fingerprint}
        for name, body in named.items()
    }


@pytest.mark.parametrize("more", [{}, TRAINED], ids=["nothing is trained", "a study that trains"])
def test_scores_of_outputs_are_those_of_the_front_door(more: Any, brought: Any, tmp_path: Path) -> None:
    table, logits = brought
    scores = whole("0" * 32)
    with pytest.raises(Exception, match=r"scores.aum.fingerprint: logits.npy was made for other data") as refusal:
        run(written(tmp_path, scores, **more), part="scores")
    assert not (tmp_path / "assets" / "outputs" / "scores").exists()
    scores = whole(str(refusal.value).split("has the fingerprint ")[1][:32])
    file = written(tmp_path, scores, **more)
    run(file, part="scores")
    run(file, part="subsets")
    store = Store(tmp_path / "assets")
    rows = store.load(("outputs", "samples")).collect()["file_row"].to_numpy()
    assert len(rows) == (COUNT if not more else len(rows)) > 40
    labels = np.array([CLASSES.index(name) for name in table["kind"]])[rows]
    of = {"late": {"scorer": "el2n", "epochs": 2}, "aum": None, "forgetting": None}
    wanted = sc.scores_of(logits[:, rows], labels, scores=of)
    wanted = wanted.hstack(sc.scores_of(logits[-1][rows], labels, scores=["entropy", "pvi"]))
    for name in SCORES:
        found = store.load(("outputs", "scores", name))[:]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted[name], rtol=2e-5, atol=2e-6, err_msg=name)
    name = "hard@0.2"
    manifest = Manifest.load(tmp_path / "assets" / "outputs" / "manifest" / name / "0")
    assert set(manifest.training_rows) == set(np.argsort(wanted["aum"].to_numpy())[: len(manifest.training_rows)])
    [card] = manifest.provenance.scores
    assert (card.name, card.scorer, card.high_means) == ("aum", "aum", "easier")
    assert card.settings["outputs"] == "logits"
    assert run(file, part="subsets").made == 0


def test_a_file_with_scores_of_outputs_alone_trains_nothing(brought: Any, tmp_path: Path) -> None:
    assert isinstance(written(tmp_path, SCORES).study, Choice)


REFUSED = [
    ({"aum": {"outputs": "logits"}}, "scores.aum: name a column of the data, or a file"),
    ({"aum": {"outputs": "guesses", "file": "l.npy"}}, "scores.aum.outputs: Input should be 'logits' or 'probabili"),
    ({"amu": {"outputs": "logits", "file": "l.npy"}}, "scorer: there is no 'amu'; did you mean 'aum'?"),
    ({"aum": {"outputs": "logits", "file": "l.npy", "high_means": "harder"}}, "high_means: easier it is, of aum"),
    (
        {"el2n": {"outputs": "logits", "file": "l.npy", "epoch": 2}},
        "epoch: there is no such key; did you mean 'epochs'",
    ),
    ({"aum": {"outputs": "logits", "column": ["a", "b"]}}, "outputs in the data are one column of lists"),
]


@pytest.mark.parametrize(("scores", "message"), REFUSED, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("more", [{}, TRAINED], ids=["choice", "samples"])
def test_what_cannot_be_is_refused_when_the_study_loads(scores: Any, message: str, more: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"outputs\.yaml") as refusal:
        written(tmp_path, scores, **more)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ({"outputs": "probabilities", "column": "held"}, "which output is that of 'code' is not known: name all 3"),
        ({"outputs": "probabilities", "column": "held", "classes": ["web", "code"]}, "2 are named, and there are 3"),
        (
            {"outputs": "logits", "column": "held", "classes": CLASSES},
            "as probabilities do: name probabilities as outputs",
        ),
        (
            {"outputs": "logits", "file": "gone.npy", "fingerprint": "a", "classes": CLASSES},
            "scores.aum.file: there is no",
        ),
        (
            {"outputs": "logits", "file": "turned.npy", "fingerprint": "a", "classes": CLASSES},
            f"turned.npy holds {COUNT} epochs of {EPOCHS} rows, and data.parquet has {COUNT} rows: epochs come first",
        ),
        (
            {"outputs": "probabilities", "file": "short.parquet", "key": "uid", "column": "p", "classes": CLASSES},
            r"short.parquet has no row of key 'uid'",
        ),
        (
            {"scorer": "grand", "outputs": "probabilities", "column": "held", "classes": CLASSES},
            "grand does not follow: it reads the",
        ),
        (
            {"scorer": "forgetting", "outputs": "probabilities", "column": "held", "classes": CLASSES},
            "forgetting does not follow: it compares 2 epochs, and 1 epoch counts",
        ),
    ],
)
def test_what_does_not_go_with_the_data_is_refused(score: Any, message: str, brought: Any, tmp_path: Path) -> None:
    pl.read_parquet(tmp_path / "probabilities.parquet").head(80).write_parquet(tmp_path / "short.parquet")
    np.save(tmp_path / "turned.npy", np.zeros((COUNT, EPOCHS, 3)))
    scores = {"aum": {"scorer": "aum", **score}}
    with pytest.raises(Exception, match=r"outputs: scores.aum") as refusal:
        run(written(tmp_path, scores), part="scores")
    assert message in str(refusal.value)
