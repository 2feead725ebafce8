"""The audit of a study compares the study's embeddings: an encoder's, or the user's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.audits.study_vectors import vectors_compared
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import load_file
from tests.support import tiny_encoder
from tests.support.planted import WORDS, topics
from tests.support.shell_here import secateur_here

CHOSEN = {
    "name": "choices", "source": {"kind": "csv", "train": "train.csv"}, "columns": {"text": "body"},
    "selections": {"k_center": None}, "keep": [0.5], "embeddings": {"file": "vectors.npy"},
    "recurring": {"cron": "0 3 * * *"},
}  # fmt: skip
TRAINED = {
    "name": "tickets", "source": {"kind": "csv", "train": "train.csv", "test": "test.csv"},
    "columns": {"text": "body", "label": "queue"}, "scores": {"density": None},
    "selections": {"densest": {"selector": "top", "score": "density", "end": "high"}}, "keep": [0.5],
    "training": {"model": "mlp", "epochs": 1}, "seeds": 1,
}  # fmt: skip


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def audited(path: Path) -> dict[str, Any]:
    done = secateur_here("audit", str(path), "--json", SECATEUR_HOME=str(path.parent / "home"))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def by_embeddings(answer: dict[str, Any], kind: str) -> list[int]:
    found = [one["rows"] for one in answer["findings"] if one["kind"] == f"{kind} by embeddings"]
    return sorted(row for rows in found for _, row in rows)


def chosen(folder: Path) -> tuple[Path, np.ndarray]:
    """A study that trains nothing, and vectors of its 600 rows and two more: rows 400 and 601 are near 7 and 9."""
    topics(folder, copies=0, leaks=0, wrong=0)
    values = np.random.default_rng(0).normal(size=(602, 8)).astype(np.float32)
    values[400], values[601] = (values[row] * 1.001 + 0.001 for row in (7, 9))
    np.save(folder / "vectors.npy", values[:600])
    return written(folder, CHOSEN), values


def test_vectors_of_the_user_are_made_ahead_of_the_audit_and_compared(tmp_path: Path) -> None:
    answer = audited(chosen(tmp_path)[0])
    assert by_embeddings(answer, "near duplicates") == [7, 400]
    assert answer["measures"][-1]["duplicates"] == 1
    assert "near copies: also by embeddings (The array vectors.npy)" in answer["notes"]


@pytest.mark.nightly
def test_a_recurring_audit_remembers_vectors(tmp_path: Path) -> None:
    path, values = chosen(tmp_path)
    audited(path)
    train, new = pl.read_csv(tmp_path / "train.csv"), pl.read_csv(tmp_path / "test.csv")[:2]
    pl.concat([train, new]).write_csv(tmp_path / "train.csv")
    np.save(tmp_path / "vectors.npy", values)
    second = audited(path)
    assert by_embeddings(second, "near duplicates") == [9, 601]  # new rows alone
    assert second["measures"][-1]["duplicates"] == 2
    assert any(note.startswith("2 rows are new since the last audit") for note in second["notes"])
    looks = np.load(Store(tmp_path / "home/assets").load(("choices", "audit_memory")) / "looks.npz")
    np.testing.assert_array_equal(looks["vectors"], values)
    values[3] *= -1
    np.save(tmp_path / "vectors.npy", values)
    third = audited(path)
    assert (
        "near copies: all rows are compared again: embeddings of 1 known rows are others than before" in third["notes"]
    )


@pytest.mark.nightly
def test_an_encoder_of_the_study_says_which_test_rows_leak(tmp_path: Path) -> None:
    """Two rows of signs that its tokenizer does not know are equal to the encoder."""
    for path, signs in zip(
        topics(tmp_path, copies=0, leaks=0, wrong=0), ("日 月 火 水 木", "一 二 三 四 五"), strict=True
    ):
        held = pl.read_csv(path)
        body = pl.Series("body", [signs, *held["body"][1:]])
        held.with_columns(body).write_csv(path)
    folder = tiny_encoder.saved(tmp_path / "bert", WORDS)
    answer = audited(written(tmp_path, TRAINED | {"embeddings": {"kind": "encoder", "encoder": folder}}))
    assert f"near copies: also by embeddings ({folder})" in answer["notes"]
    measure = answer["measures"][-1]
    assert f"cosine of the study's encoder {folder}" in measure["reason"]
    leaks = by_embeddings(answer, "near leaked")
    assert measure["leaks"] == len(leaks)
    assert 0 in leaks


@pytest.mark.parametrize(
    ("embeddings", "compared"),
    [(None, False), ({"kind": "sklearn"}, False), ({"file": "vectors.npy"}, True), ({"column": "vector"}, True)],
)
def test_embeddings_that_know_labels_or_are_the_words_are_not_compared(
    tmp_path: Path, embeddings: dict[str, str] | None, compared: bool
) -> None:
    more = {"proxy": {"model": "mlp", "epochs": 1}} if embeddings is None else {"embeddings": embeddings}
    study = load_file(written(tmp_path, TRAINED | more)).study
    assert study is not None
    assert bool(vectors_compared(study)) == compared  # type: ignore[arg-type]
    unread = {"scores": {}, "selections": {"uniform_random": None}}
    study = load_file(written(tmp_path, TRAINED | more | unread)).study
    assert study is not None
    assert not vectors_compared(study)  # type: ignore[arg-type]
