"""`secateur audit STUDY --against FILE`: benchmarks beside the rows of a study, whose own audit is not changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from PIL import Image

from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.storage.store import Store
from tests.support.planted import topics
from tests.support.shell_here import secateur_here

COPIES, LEAKS = 30, 12


def shell(place: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, printed JSON, and standard error."""
    done = secateur_here("audit", *words, "--json", SECATEUR_HOME=str(place / "home"))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def studied(folder: Path, **content: Any) -> str:
    """The path of a study that chooses at random."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "study", "selections": {"uniform_random": None}, "keep": [0.5]} | content))
    return str(path)


def rows_of(answer: dict[str, Any]) -> dict[tuple[str, str], list[int]]:
    """Rows of findings in ascending order, by kind and part."""
    return {(one["kind"], one["split"]): sorted(row for _, row in one["rows"]) for one in answer["findings"]}


def test_benchmarks_are_compared_with_a_study(tmp_path: Path) -> None:
    """Rows 0 and 1 of a benchmark are training rows 100 and 101, row 2 a test row, row 3 nearly training row 102."""
    topics(tmp_path, copies=COPIES, leaks=LEAKS, wrong=0)
    train, test = pl.read_csv(tmp_path / "train.csv"), pl.read_csv(tmp_path / "test.csv")
    texts = [*train["body"][100:102], test["body"][150], train["body"][102] + " indeed", "none of these words", None]
    pl.DataFrame({"id": range(6), "body": texts}).write_ndjson(tmp_path / "eval.jsonl")
    pl.DataFrame({"body": ["nothing that anybody wrote", "nor that one"]}).write_parquet(tmp_path / "clean.parquet")
    study = studied(
        tmp_path, source={"kind": "csv", "train": "train.csv", "test": "test.csv"},
        columns={"text": "body", "label": "queue"}, training={"model": "mlp", "epochs": 1}, seeds=1,
    )  # fmt: skip
    named, clean = str(tmp_path / "eval.jsonl"), str(tmp_path / "clean.parquet")
    table, folder = tmp_path / "findings.csv", tmp_path / "found"
    words = ("--against", named, "--against", clean, "--findings", str(table), "--write", str(folder))
    code, answer, errors = shell(tmp_path, study, *words, "--max-leaks", "20%", "--max-duplicates", "5%")
    assert code == 1
    assert "3 leaks of 5" in errors
    assert "eval.jsonl rows exceed the limit of 20.00% of the rows" in errors
    assert answer["rows"] == {"train": 600, "test": 200, named: 5, clean: 2}
    assert answer["leaks_by_part"] == {"test": LEAKS, named: 3, clean: 0}
    found = rows_of(answer)
    assert found["leaked", named] == [0, 1]
    assert found["near leaked", named] == [3]
    assert found["shared", named] == [2]
    assert any("1 row without an input that can be read is left out" in note for note in answer["notes"])
    lines = pl.read_csv(table).filter((pl.col("finding") == "leaked") & (pl.col("split") == named))
    assert lines["other_row"].to_list() == [100, 101]
    assert lines["file"].str.ends_with("eval.jsonl").all()
    kept = Manifest.load(folder / "manifests" / "without_leaks").apply(pd.read_csv(tmp_path / "train.csv"))
    assert not {100, 101, 102} & set(kept.index)
    assert len(kept) == 600 - LEAKS - 3
    assert not Store(tmp_path / "home" / "assets").find(("study", "audit"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"q": ["a"]}, ("eval.jsonl", "'body'")),
        ({"body": [1.5, 2.5]}, ("eval.jsonl", "text column 'body' holds numbers")),
        ({"body": ["", ""]}, ("eval.jsonl", "no row is left, of 2 (text is empty")),
        (None, ("eval.jsonl", "there is no such file")),
    ],
)
def test_a_benchmark_that_cannot_be_read_is_named(
    tmp_path: Path, table: dict[str, list[Any]] | None, words: tuple[str, ...]
) -> None:
    pl.DataFrame({"body": [f"text {row}" for row in range(10)]}).write_csv(tmp_path / "train.csv")
    if table is not None:
        pl.DataFrame(table).write_ndjson(tmp_path / "eval.jsonl")
    study = studied(tmp_path, source={"kind": "csv", "train": "train.csv"}, columns={"text": "body"})
    code, _, errors = shell(tmp_path, study, "--against", str(tmp_path / "eval.jsonl"))
    assert code == 2
    assert "--against" in errors
    assert "target" not in errors
    for word in words:
        assert word in errors
    assert not Store(tmp_path / "home" / "assets").find(("study", "samples"))


def test_options_that_a_study_has_with_a_benchmark_alone(tmp_path: Path) -> None:
    pl.DataFrame({"body": ["a", "b"]}).write_csv(tmp_path / "train.csv")
    study = studied(tmp_path, source={"kind": "csv", "train": "train.csv"}, columns={"text": "body"})
    against = ("--against", str(tmp_path / "train.csv"))
    for words, said in [
        (("--findings", "found.csv"), "--findings: a study has it with --against alone"),
        ((*against, "--label", "body"), "--label is an option of data"),
        ((*against, "--again"), "--again: with --against"),
        ((*against, "--write", str(tmp_path / "home" / "assets" / "study")), "an input of this audit"),
        ((*against, "--findings", str(tmp_path / "train.csv"), "--overwrite"), "is an input of this audit"),
    ]:
        code, _, errors = shell(tmp_path, study, *words)
        assert (code, said in errors) == (2, True), errors


def pictures(folder: Path) -> dict[str, Any]:
    """Class folders of noise; the first picture of the benchmark is the second one of training."""
    rng = np.random.default_rng(0)
    every = rng.integers(0, 256, (14, 12, 12, 3), dtype=np.uint8)
    for part, some in (("train", range(10)), ("eval", (1, *range(10, 14)))):
        for place, number in enumerate(some):
            at = folder / part / "ab"[place % 2] / f"{place:02}.png"
            at.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(every[number]).save(at)
    return {"source": {"kind": "imagefolder", "train": "train"}, "columns": {"image": "image"}}


def numbers(folder: Path) -> dict[str, Any]:
    """Rows of numbers, whole ones in the file of training and with a decimal point in that of the benchmark."""
    values = np.random.default_rng(0).integers(0, 1000, (14, 3))
    pl.DataFrame(values[:10], schema=["x", "y", "z"]).write_csv(folder / "train.csv")
    pl.DataFrame(values[[1, *range(10, 14)]].astype(float), schema=["x", "y", "z"]).write_parquet(
        folder / "eval.parquet"
    )
    return {"source": {"kind": "csv", "train": "train.csv"}, "columns": {"features": ["x", "y", "z"]}}


def chats(folder: Path) -> dict[str, Any]:
    """Prompts and completions of words that no two rows share."""
    rows = [{"prompt": f"what is thing{n}", "completion": f"it is answer{n}"} for n in range(14)]
    pl.DataFrame(rows[:10]).write_ndjson(folder / "train.jsonl")
    pl.DataFrame([rows[1], *rows[10:]]).write_ndjson(folder / "eval.jsonl")
    return {
        "source": {"kind": "jsonl", "train": "train.jsonl"},
        "columns": {"prompt": "prompt", "completion": "completion"},
    }


@pytest.mark.parametrize(("make", "name"), [(pictures, "eval"), (numbers, "eval.parquet"), (chats, "eval.jsonl")])
def test_benchmarks_of_each_kind_are_read_with_the_columns_of_the_study(tmp_path: Path, make: Any, name: str) -> None:
    study = studied(tmp_path, **make(tmp_path))
    code, answer, errors = shell(tmp_path, study, "--exact", "--against", str(tmp_path / name), "--max-leaks", "0")
    assert code == 1, errors
    assert answer["leaks_by_part"] == {str(tmp_path / name): 1}
    [leaked] = [one for one in answer["findings"] if one["kind"] == "leaked"]
    assert len(leaked["rows"]) == 1
