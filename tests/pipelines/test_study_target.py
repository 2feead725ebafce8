"""`target:` in a study that trains nothing, from files to manifests of rows that are like examples of a job."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import polars as pl
import pytest
import yaml

import secateur as sc
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study, to_make
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study

TOPICS = {
    "bank": "card payment transfer account balance refund pending declined",
    "film": "actor plot scene director dull moving script ending",
    "code": "loop function variable error compile test branch merge",
}


def texts(topic: str, count: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    drawn = rng.choice([*TOPICS[topic].split(), "the", "is", "my"], (count, 8))
    table = pl.DataFrame({"text": [" ".join(row) for row in drawn], "source": topic})
    return table.with_columns(vector=pl.Series(rng.normal(size=(count, 3)).tolist()))


def pool() -> pl.DataFrame:
    rows = pl.concat([texts("film", 200, 0), texts("bank", 60, 1), texts("code", 140, 2)])
    return rows.sample(fraction=1.0, shuffle=True, seed=0).with_row_index("id")


def content(**more: Any) -> dict[str, Any]:
    return {
        "name": "job",
        "source": {"kind": "parquet", "train": "pool.parquet"},
        "columns": {"text": "text", "id": "id"},
        "target": {"file": "job.csv", "source": "source"},
        "selections": {"nearest_to_target": None, "importance_resampling": None},
        "keep": [50],
    } | more


def written(folder: Path, **more: Any) -> StudyFile:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(content(**more)))
    return StudyFile(path, load_study(path))


def run(file: StudyFile) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(file, file.path.parent / "assets", instance)


def kept(folder: Path, selection: str) -> Manifest:
    return Manifest.load(folder / "assets" / "job" / "manifest" / selection / "0")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    pool().write_parquet(folder / "pool.parquet")
    target = pl.concat([texts("bank", 40, 9), pool()[3:4].select("text", "source", "vector")])
    target.drop("vector").write_csv(folder / "job.csv")
    run(written(folder))
    return folder


@pytest.mark.parametrize("selector", ["nearest_to_target", "importance_resampling"])
def test_a_study_keeps_what_the_front_door_keeps(selector: str, ran: Path) -> None:
    made = kept(ran, f"{selector}@50")
    wanted = sc.select(ran / "pool.parquet", selector=selector, text="text", target=ran / "job.csv", keep=50)
    assert [int(row) for row in made.table["id"]] == wanted["id"].to_list()
    told = made.provenance.target
    assert told is not None
    assert (told.rows, told.origin, told.files) == (41, "the file job.csv", ("job.csv",))
    assert kept(ran, f"{selector}+random@50").provenance.target is None


def test_random_rows_of_the_targets_source_and_of_all_sources_alike_stand_beside(ran: Path) -> None:
    sources = pool()["source"]
    own = kept(ran, "target_source_random@50")
    topics = {"bank", pool()["source"][3]}
    assert set(sources.gather(own.rows)) == topics
    assert own.provenance.target is not None
    alike = sources.gather(kept(ran, "source_balanced_random@50").rows).value_counts()["count"]
    assert sorted(alike) == [16, 17, 17]


def test_the_report_says_which_rows_follow_the_target(ran: Path) -> None:
    told = json.loads((ran / "assets" / "job" / "report" / "report.json").read_text())
    parts = {(one["selection"], one["value"]): one["after"] for one in told["parts"] if one["column"] == "source"}
    assert parts["nearest_to_target@50", "bank"] > 0.8
    assert parts["target_source_random@50", "film"] in (0, pytest.approx(200 / 260, abs=0.25))
    [finding] = [one for one in told["findings"] if one["kind"] == "target in data"]
    assert finding["text"].startswith("1 of 41 rows of the target are in the data, too")


def test_a_changed_target_makes_again_only_what_follows_it(ran: Path, tmp_path: Path) -> None:
    file = written(ran)
    assert file.study
    trials = list(file.study.trials)
    assert to_make(file, ran / "assets", trials)[0] == {}
    before = (ran / "job.csv").read_bytes()
    try:
        texts("bank", 45, 5).drop("vector").write_csv(ran / "job.csv")
        made, _ = to_make(file, ran / "assets", trials)
        assert {"target", "target_places", "target_log_ratios", "ngram_counts", "report"} <= set(made)
        assert not {"source", "samples"} & set(made)
    finally:
        (ran / "job.csv").write_bytes(before)


def test_a_filter_takes_its_rows_out_of_the_data(tmp_path: Path) -> None:
    rows = pool().with_columns(example=pl.col("source").eq("bank") & (pl.col("id") % 2 == 0))
    rows.write_parquet(tmp_path / "pool.parquet")
    run(written(tmp_path, target={"filter": {"example": True}, "source": "source"}))
    made = kept(tmp_path, "nearest_to_target@50")
    ids = [int(row) for row in made.table["id"]]
    target = rows.filter("example")
    assert not set(ids) & set(target["id"])
    frame = rows.filter(~pl.col("example"))
    wanted = sc.select(frame, selector="nearest_to_target", text="text", target=target, keep=50)
    assert ids == wanted["id"].to_list()
    told = made.provenance.target
    assert told is not None
    assert (told.rows, told.origin) == (len(target), "rows of the source whose example is True")
    # The manifest finds its rows in the file with the examples, too.
    assert sorted(made.apply(rows.to_pandas())["id"]) == sorted(ids)


@pytest.mark.nightly
def test_a_split_of_the_source_is_a_target(tmp_path: Path) -> None:
    rows, target = pool(), texts("bank", 20, 9)
    splits = {"train": rows.drop("id"), "validation": target}
    datasets.DatasetDict({name: datasets.Dataset.from_polars(part) for name, part in splits.items()}).save_to_disk(
        str(tmp_path / "saved")
    )
    source = {"kind": "disk", "path": "saved", "train": "train"}
    file = written(tmp_path, source=source, columns={"text": "text"}, target={"split": "validation"})
    run(file)
    wanted = sc.select(rows, selector="nearest_to_target", text="text", target=target, keep=50)
    made = kept(tmp_path, "nearest_to_target@50")
    assert (
        rows.with_row_index("row").filter(pl.col("row").is_in(made.rows.tolist()))["id"].to_list()
        == wanted["id"].to_list()
    )
    assert made.provenance.target
    assert made.provenance.target.origin == "the split validation"
    with pytest.raises(StudyError, match=r"target.split: 'train' is source\.train; a target is examples"):
        written(tmp_path, source=source, columns={"text": "text"}, target={"split": "train"})
    assert file.study
    before = file.study.contents(tmp_path, tmp_path / "cache")
    changed = {**splits, "validation": target[:12]}
    datasets.DatasetDict({name: datasets.Dataset.from_polars(part) for name, part in changed.items()}).save_to_disk(
        str(tmp_path / "saved")
    )
    after = file.study.contents(tmp_path, tmp_path / "cache")
    assert {key for key in after if after[key] != before.get(key)} >= {"target.split"}


@pytest.mark.nightly
@pytest.mark.parametrize("brought", ["column", "file"])
def test_vectors_of_the_target_are_a_column_or_a_file(brought: str, tmp_path: Path) -> None:
    rows, target = pool(), texts("bank", 20, 9).with_row_index("id")
    rows.write_parquet(tmp_path / "pool.parquet")
    target.write_parquet(tmp_path / "job.parquet")
    given: dict[str, Any] = {"embeddings": {"column": "vector"}, "target": {"file": "job.parquet"}}
    if brought == "file":
        for name, table in (("vectors", rows), ("queries", target)):
            table.select("id", "vector").sample(fraction=1, shuffle=True, seed=3).write_parquet(
                tmp_path / f"{name}.parquet"
            )
        given["embeddings"] = {"file": "vectors.parquet", "column": "vector"}
        given["target"]["vectors"] = {"file": "queries.parquet", "column": "vector"}
    run(written(tmp_path, **given, selections={"nearest_to_target": None}))
    vectors = [np.array(table["vector"].to_list(), np.float32) for table in (rows, target)]
    wanted = sc.select(rows, selector="nearest_to_target", embeddings=vectors[0], target=vectors[1], keep=50)
    assert [int(row) for row in kept(tmp_path, "nearest_to_target@50").table["id"]] == wanted["id"].to_list()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": None}, r"' reads examples of a job; name them as target: \{file"),
        ({"target": {"file": "job.csv", "split": "x"}}, "name one of file, split and filter, got file and split"),
        ({"target": {"split": "validation"}}, "target.split: a source of kind parquet names files"),
        ({"target": {"file": "job.csv", "own": "bank"}}, "own: values of which column"),
        ({"selections": {"gradient_match": None}}, "compares gradients of a model, and nothing is trained here"),
        (
            {"target": {"file": "job.csv"}, "selections": {"target_source_random": None}},
            "'target_source_random' reads where rows come from; name that column as target",
        ),
        ({"embeddings": {"file": "v.parquet", "column": "v"}}, "target.vectors: embeddings are a file of yours"),
        (
            {"columns": {"features": ["id"]}, "selections": {"nearest_to_target": None}},
            "rows that are no texts are compared by vectors",
        ),
        ({"selections": {"target_source_random": {"selector": "top"}}}, "the report has this name for random rows"),
    ],
)
def test_what_cannot_be_is_refused_when_the_study_loads(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        written(tmp_path, **change)


@pytest.mark.parametrize(
    ("target", "table", "said"),
    [
        ({"file": "gone.csv"}, None, "target.file: there is no file .*gone.csv"),
        ({"file": "job.xlsx"}, None, "target.file: job.xlsx ends in none of"),
        ({"file": "job.csv"}, {"body": ["a"]}, r"target: .*job.csv: there is no column 'text'"),
        ({"file": "job.jsonl"}, {"text": ["a", None]}, "target: text is missing at row 1 of job.jsonl"),
        ({"file": "job.csv", "source": "source"}, {"text": ["a"]}, "target: .*job.csv: there is no column 'source'"),
        (
            {"file": "job.csv", "task": "intent"},
            {"text": ["a", "b"], "intent": ["x", ""]},
            "target.task: column 'intent' is empty in 1 of 2 rows, row 1 of job.csv",
        ),
        (
            {"file": "job.csv", "source": "source", "own": "shop"},
            {"text": ["a"]},
            "target.own: no row of the data is of source shop; there are: ",
        ),
        (
            {"file": "job.csv", "source": "source"},
            {"text": ["a"], "source": ["shop"]},
            r"target.source: no row of the data is of the target's own source \(shop\).*, or write target.own",
        ),
        (
            {"filter": {"source": "shop"}},
            None,
            "target.filter: no row of .*pool.parquet: it takes rows of the source whose source is shop",
        ),
        ({"filter": {"soruce": "shop"}}, None, "target.filter: .*pool.parquet: there is no column 'soruce'"),
        ({"filter": {"source": list(TOPICS)}}, None, "target.filter: takes all 400 rows, none is left to choose from"),
        ({"filter": {"id": "one"}}, None, "target.filter: column 'id' holds Int64, and 'one' is none of these"),
    ],
)
def test_a_target_that_cannot_be_is_refused_by_file_and_row(
    target: dict[str, Any], table: Any, said: str, tmp_path: Path
) -> None:
    pool().write_parquet(tmp_path / "pool.parquet")
    (tmp_path / "job.xlsx").write_bytes(b"")
    if table:
        pl.DataFrame(table).write_csv(tmp_path / "job.csv")
        pl.DataFrame(table).write_ndjson(tmp_path / "job.jsonl")
    with pytest.raises(ValueError, match=said):
        run(written(tmp_path, target=target))
    assert not (tmp_path / "assets" / "job" / "manifest").exists()
