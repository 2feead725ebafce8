"""From a pool and examples of a job to the rows most similar to them, in Python and in the shell."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.commands.main import app

TOPICS = {
    "bank": "card payment transfer account balance refund pending declined",
    "film": "actor plot scene director dull moving script ending",
    "code": "loop function variable error compile test branch merge",
}


def texts(topic: str, count: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    drawn = rng.choice([*TOPICS[topic].split(), "the", "is", "my"], (count, 8))
    return pl.DataFrame({"text": [" ".join(row) for row in drawn], "source": topic})


@pytest.fixture(scope="module")
def pool() -> pl.DataFrame:
    return pl.concat([texts("film", 300, 0), texts("bank", 60, 1), texts("code", 140, 2)]).sample(
        fraction=1.0, shuffle=True, seed=0
    )


@pytest.mark.parametrize("selector", ["nearest_to_target", "importance_resampling"])
def test_what_is_like_the_target_is_kept_from_frames_and_files(pool, selector, tmp_path) -> None:
    target = texts("bank", 40, 9)
    kept, random = sc.select(pool, selector=selector, text="text", target=target, keep=50, random_twin=True)
    assert (kept["source"] == "bank").sum() >= 45
    assert (random["source"] == "bank").sum() < 15
    pool.write_parquet(tmp_path / "pool.parquet")
    target.write_csv(tmp_path / "target.csv")
    done = CliRunner().invoke(
        app,
        [
            *("select", str(tmp_path / "pool.parquet"), "--selector", selector, "--text", "text", "--keep", "50"),
            *("--target", str(tmp_path / "target.csv"), "-o", str(tmp_path / "kept.parquet"), "--json"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["rows"] == 50
    assert pl.read_parquet(tmp_path / "kept.parquet").equals(kept)


def test_tasks_of_the_target_take_turns_however_many_examples_they_have(pool) -> None:
    target = pl.concat([texts("bank", 40, 9), texts("code", 3, 8)])
    how = {"selector": "nearest_to_target", "text": "text", "keep": 40, "target": target}
    counts = dict(sc.select(pool, target_task="source", **how)["source"].value_counts().iter_rows())
    assert 16 <= counts["bank"] <= 24
    assert 16 <= counts["code"] <= 24
    assert dict(sc.select(pool, **how)["source"].value_counts().iter_rows())["bank"] > 30


def test_vectors_of_pool_and_target_may_be_brought() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(rows, 6)).astype(np.float32) for rows in (80, 5))
    rows = pl.DataFrame({"row": range(80), "vector": vectors.tolist()})
    target = pl.DataFrame({"vector": queries.tolist()})
    how = {"selector": "nearest_to_target", "keep": 12}
    one = sc.select(rows, embeddings="vector", target=target, **how)
    assert one.equals(sc.select(rows, embeddings=vectors, target=queries, **how))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({}, r"target: selector 'nearest_to_target' reads examples of the job"),
        ({"target": pl.DataFrame({"text": ["a"]})}, r"text: name the column of texts"),
        (
            {"target": pl.DataFrame({"body": ["a"]}), "text": "text"},
            r"text of the target: the data has no column 'text'",
        ),
        ({"target": pl.DataFrame({"text": [None, "a"]}), "text": "text"}, r"text of the target: .* is empty in 1 of 2"),
        ({"target": pl.DataFrame({"text": []}, schema={"text": pl.String}), "text": "text"}, r"target: it has no rows"),
        ({"target": np.ones((2, 3)), "embeddings": np.ones((500, 4))}, r"target: vectors \(2, 3\) do not go with"),
        (
            {"selector": "top", "score": np.arange(500), "embeddings": np.ones((500, 4))},
            r"embeddings: selector 'top' reads",
        ),
        (
            {"selector": "uniform_random", "label": "source"},
            r"label: selector 'uniform_random' reads none; leave it out",
        ),
        ({"selector": "uniform_random", "text": "text"}, r"text: selector 'uniform_random' reads none"),
        ({"task": "intent"}, r"task: name the column of the target whose values take turns as target_task"),
        ({"selector": "uniform_random", "target": np.ones((2, 3))}, r"target: selector 'uniform_random' reads none"),
    ],
)
def test_a_target_that_cannot_be_is_refused(pool, asked, text) -> None:
    with pytest.raises(ValueError, match=text):
        sc.select(pool, **({"selector": "nearest_to_target", "keep": 9} | asked))


@pytest.mark.nightly
def test_on_three_sets_turns_beat_the_highest_similarity_and_the_own_source_at_random_beats_turns(
    real_data: Path,
) -> None:
    """1,000 of 44,503 rows for Banking77, judged by logistic regression on TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def rows(name: str, split: str = "train") -> pl.DataFrame:
        table = pl.read_parquet(real_data / name / f"{split}.parquet").select("text", "label")
        return table.select("text", source=pl.lit(name), label=pl.lit(f"{name} ") + pl.col("label").cast(pl.String))

    banking, test = rows("banking77").sample(fraction=1, shuffle=True, seed=1), rows("banking77", "test")
    target, pool = banking[:500], pl.concat([banking[500:], rows("clinc150"), rows("sst2_glue").sample(20_000, seed=0)])
    terms = TfidfVectorizer(sublinear_tf=True).fit(pool["text"])

    def accuracy(kept: pl.DataFrame) -> float:
        model = LogisticRegression(C=10, max_iter=300).fit(terms.transform(kept["text"]), kept["label"].to_numpy())
        return float((model.predict(terms.transform(test["text"])) == test["label"].to_numpy()).mean())

    how = {"keep": 1000, "target": target, "text": "text"}
    cosines = (terms.transform(pool["text"]) @ terms.transform(target["text"]).T).max(axis=1).toarray().ravel()
    found = {
        "random": accuracy(sc.select(pool, keep=1000)),
        "balanced": accuracy(sc.select(pool, keep=1000, by="source", share="balanced")),
        "highest": accuracy(sc.select(pool, keep=1000, score=cosines)),
        "turns": accuracy(sc.select(pool, selector="nearest_to_target", **how)),
        "own source": accuracy(sc.select(pool, keep=1000, by="source", share={"banking77": 1.0})),
    }
    assert sorted(found, key=found.__getitem__) == ["random", "balanced", "highest", "turns", "own source"], found


@pytest.mark.nightly
def test_a_study_of_three_sets_finds_the_same_order(real_data: Path, tmp_path: Path) -> None:
    """The same pool and target in a study that trains networks on TF-IDF, over two seeds."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def rows(name: str, split: str = "train") -> pl.DataFrame:
        table = pl.read_parquet(real_data / name / f"{split}.parquet").select("text", "label")
        return table.select("text", source=pl.lit(name), label=pl.lit(f"{name} ") + pl.col("label").cast(pl.String))

    banking, test = rows("banking77").sample(fraction=1, shuffle=True, seed=1), rows("banking77", "test")
    target, pool = banking[:500], pl.concat([banking[500:], rows("clinc150"), rows("sst2_glue").sample(20_000, seed=0)])
    # Texts of both splits; the study would rightly reject the target's.
    target = target.filter(~pl.col("text").is_in(test["text"].implode()))
    terms = TfidfVectorizer(sublinear_tf=True).fit(pool["text"])
    cosines = (terms.transform(pool["text"]) @ terms.transform(target["text"]).T).max(axis=1).toarray().ravel()
    pool.with_columns(highest=pl.Series(cosines)).write_parquet(tmp_path / "train.parquet")
    test.write_parquet(tmp_path / "test.parquet")
    target.write_parquet(tmp_path / "target.parquet")
    study = {
        "name": "job",
        "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
        "columns": {"text": "text", "label": "label"},
        "target": {"file": "target.parquet", "source": "source"},
        "scores": {"highest": {"column": "highest", "high_means": "better"}},
        "selections": {"most_alike": {"selector": "top", "score": "highest"}, "nearest_to_target": None},
        "keep": [1000],
        "training": {"model": "mlp", "steps": 400, "batch_size": 128, "learning_rate": 3e-3},
        "seeds": 2,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(study))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "job.yaml"), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)["report"]
    means = {
        row["name"]: row["metrics"]["accuracy"]["mean"] for row in report["rows"] if row["name"] != "stratified_random"
    }
    wanted = ["uniform_random", "source_balanced_random", "most_alike", "nearest_to_target", "target_source_random"]
    assert sorted(means, key=means.__getitem__) == wanted, means
    assert report["target"]["winners"][0]["arm"] == "target_source_random"
