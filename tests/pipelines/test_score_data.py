"""`secateur score DATA`: from a file to the scores of its rows, and on to a selection by them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.commands.main import app

COUNT = 90


def shell(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    if code:
        assert done.exception is not None
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Rows of two sizes in `shapes.csv` of the working folder; one has no label."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, COUNT)
    table = pl.DataFrame(
        {
            "uid": [f"u{row:02d}" for row in range(COUNT)],
            "width": (label * 2 + rng.normal(size=COUNT)).round(4),
            "height": rng.normal(size=COUNT).round(4),
            "label": [None if row == 7 else ["small", "large"][each] for row, each in enumerate(label)],
        }
    )
    monkeypatch.chdir(tmp_path)
    table.write_csv("shapes.csv")
    return table


def test_scores_of_a_file_are_those_of_the_call_and_select_its_rows(shapes: pl.DataFrame) -> None:
    words = ["--label", "label", "--features", "width", "--features", "height", "--epochs", "3", "--seed", "1"]
    words += ["--score", "aum", "--score", "el2n", "--set", "el2n.epochs=2", "--set", "proxy.batch_size=16"]
    answer = json.loads(shell("score", "shapes.csv", *words, "--key", "uid", "-o", "scores.parquet", "--json"))
    with pytest.warns(UserWarning, match="1 of 90 rows get no score"):
        wanted = sc.score(
            "shapes.csv", label="label", features=["width", "height"], scores={"aum": None, "el2n": {"epochs": 2}},
            epochs=3, seed=1, proxy={"batch_size": 16}, progress=False,
        )  # fmt: skip
    table = pl.read_parquet("scores.parquet")
    assert table.columns == ["row", "aum", "el2n", "uid"]
    assert table.drop("uid").equals(wanted)
    assert table["uid"].to_list() == shapes["uid"].to_list()
    assert table["aum"].null_count() == 1
    assert "1 of 90 rows get no score" in answer["left_out"]
    assert (answer["rows"], answer["file"]) == (COUNT, "scores.parquet")
    [aum, el2n] = answer["scores"]
    assert (aum["score"], aum["high_means"], aum["samples"]) == ("aum", "easier", COUNT - 1)
    assert el2n["max"] == pytest.approx(wanted["el2n"].max())
    # The user's next step: add the score to the data, in a study or for a selection.
    shapes.join(table.drop("row"), on="uid").drop_nulls("aum").write_csv("scored.csv")
    shell("select", "scored.csv", "--score", "aum", "--end", "low", "--keep", "9", "--no-random", "-o", "hard.csv")
    hard = table.drop_nulls("aum").sort("aum")["uid"][:9]
    assert set(pl.read_csv("hard.csv")["uid"]) == set(hard)
    study = {
        "name": "again", "source": {"kind": "csv", "train": "shapes.csv"}, "data": {"unlabelled": "drop"},
        "columns": {"features": ["width"], "label": "label", "id": "uid"}, "keep": [9],
        "scores": {"aum": {"file": "known.parquet", "key": "uid", "column": "aum", "high_means": "easier"}},
        "selections": {"hard": {"selector": "top", "score": "aum", "end": "low"}},
    }  # fmt: skip
    table.drop_nulls("aum").write_parquet("known.parquet")
    Path("again.yaml").write_text(json.dumps(study))
    told = json.loads(shell("run", "again.yaml", "--json"))
    kept = pl.read_parquet(Path(told["manifest"]) / "kept.parquet")
    assert set(kept["id"]) == set(hard)


@pytest.mark.parametrize(("to", "name"), [([], "shapes_scores.csv"), (["--to", "jsonl"], "shapes_scores.jsonl")])
def test_what_is_not_named_is_guessed_and_the_file_is_called_after_the_data(
    to: list[str], name: str, shapes: pl.DataFrame
) -> None:
    before = Path("shapes.csv").read_bytes()
    said = shell("score", "shapes.csv", "--label", "label", "--score", "loss", "--epochs", "1", *to)
    assert f"90 rows; scores in {name}" in said
    table = pl.read_csv(name) if name.endswith(".csv") else pl.read_ndjson(name)
    assert table["row"].to_list() == list(range(COUNT))
    assert table["loss"].null_count() == 1
    refusal = " ".join(shell("score", "shapes.csv", "--label", "label", *to, code=2).split())
    assert refusal.endswith("exists already: name another path, or replace it with --overwrite")
    shell("score", "shapes.csv", "--label", "label", "--score", "loss", "--epochs", "1", "--overwrite", *to)
    assert Path("shapes.csv").read_bytes() == before


REFUSED: list[tuple[list[str], str]] = [
    (["gone.csv"], "there is no file or folder 'gone.csv'"),
    (["shapes.csv", "--again"], "--again is an option of a study, and shapes.csv is none: leave it out"),
    (["digits", "--label", "a"], "--label is an option of a file of data, and digits is none: leave it out"),
    (["digits", "--overwrite"], "--overwrite is an option of a file of data, and digits is none"),
    (["shapes.csv", "--score", "amu"], "there is no 'amu'; did you mean 'aum'?"),
    (["shapes.csv", "--score", "aum", "--score", "aum"], "--score aum: say it once"),
    (["shapes.csv", "--score", "aum", "--set", "el2n.epochs=2"], "--set el2n.epochs: name a setting of a score of"),
    (["shapes.csv", "--score", "el2n", "--set", "el2n.epoch=2"], "scores.el2n: epoch: there is no such key"),
    (["shapes.csv", "--set", "proxy.folds=3"], "proxy: folds are for studies"),
    (["shapes.csv", "--label", "colour"], "'colour'"),
    (["shapes.csv", "--label", "label", "--key", "id"], "--key: shapes.csv has no column 'id'; did you mean 'uid'?"),
    (["shapes.csv", "--to", "indices"], "--to: indices holds no table of scores; there are: parquet, csv, jsonl"),
    (["shapes.csv", "--to", "csv", "-o", "a.parquet"], "-o a.parquet is of parquet; leave --to out"),
    (["shapes.csv", "-o", "shapes.csv", "--overwrite"], "shapes.csv is the data itself"),
    (["shapes.csv", "--task", "regress"], "regress"),
    (["shapes.csv", "--label", "label", "--set", "proxy.batch_size=some"], "proxy.batch_size"),
]


@pytest.mark.parametrize(("words", "text"), REFUSED, ids=lambda value: " ".join(value)[:50])
def test_the_shell_refuses_in_one_sentence_and_writes_nothing(
    words: list[str], text: str, shapes: Any, tmp_path: Path
) -> None:
    assert text in shell("score", *words, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes.csv"]


def test_nothing_is_written_into_a_folder_of_data(shapes: Any) -> None:
    Path("parts").mkdir()
    Path("shapes.csv").rename("parts/shapes.csv")
    assert "is the data itself" in shell("score", "parts", "--label", "label", "-o", "parts/scores.csv", code=2)
