"""`target:` in a study that trains: its rows do not train or test, selections follow it, references stand beside."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml

import secateur as sc
from secateur.pipelines.definitions import build
from secateur.pipelines.manifests.explain import arrays_of, explain
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study, to_make
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study
from secateur.trainers.sparse_rows import inputs_at, open_inputs

TOPICS = {"bank": ["card", "loan", "rate"], "film": ["plot", "scene", "actor"]}
"""Words by source; the first two of each are its two classes, `<source> 0` and `<source> 1`."""


def rows(topic: str, count: int, seed: int) -> pl.DataFrame:
    """Texts of one source; the label is which of two of its words they contain."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, count)
    fillers = rng.choice(["the", "is", "my", "a", "so", TOPICS[topic][2]], (count, 5))
    texts = [
        f"{TOPICS[topic][one]} {' '.join(words)} n{seed}x{place}"
        for place, (one, words) in enumerate(zip(classes, fillers, strict=True))
    ]
    labels = [f"{topic} {one}" for one in classes]
    return pl.DataFrame({"text": texts, "label": labels, "source": topic})


CONTENT: dict[str, Any] = {
    "name": "job",
    "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
    "columns": {"text": "text", "label": "label"},
    "target": {"file": "job.csv", "source": "source"},
    "proxy": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 3, "batch_size": 32},
    "scores": {"el2n": None},
    "selections": {"nearest_to_target": None, "gradient_match": None},
    "keep": [40],
    "training": {
        "model": "mlp",
        "model_settings": {"hidden": [16]},
        "epochs": 40,
        "batch_size": 16,
        "learning_rate": 0.01,
    },
    "seeds": 2,
}


def write(folder: Path) -> None:
    train = pl.concat([rows("film", 120, 0), rows("bank", 60, 1)]).sample(fraction=1.0, shuffle=True, seed=0)
    train.write_parquet(folder / "train.parquet")
    rows("bank", 60, 2).drop("source").write_parquet(folder / "test.parquet")
    rows("bank", 20, 3).write_csv(folder / "job.csv")


def written(folder: Path, **change: Any) -> StudyFile:
    path = folder / "job.yaml"
    content = {key: value for key, value in (CONTENT | change).items() if value is not None}
    path.write_text(yaml.safe_dump(content))
    return StudyFile(path, load_study(path))


def run(file: StudyFile, **how: Any) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(file, file.path.parent / "assets", instance, **how)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    write(folder)
    run(written(folder))
    return folder


def kept(folder: Path, selection: str, seed: int = 0) -> Manifest:
    return Manifest.load(folder / "assets" / "job" / "manifest" / selection / str(seed))


def test_selections_follow_the_target_and_say_which(ran: Path) -> None:
    table = pl.read_parquet(ran / "train.parquet")
    wanted = sc.select(table, selector="nearest_to_target", text="text", target=ran / "job.csv", keep=40)
    nearest = kept(ran, "nearest_to_target@40")
    assert table["text"].gather(nearest.rows).to_list() == wanted["text"].to_list()
    target = nearest.provenance.target
    assert target is not None
    assert (target.rows, target.files, len(target.fingerprint)) == (20, ("job.csv",), 32)
    assert (table["source"].gather(kept(ran, "gradient_match@40").rows) == "bank").mean() > 0.8
    assert kept(ran, "uniform_random@40").provenance.target is None


def test_explain_says_when_the_target_takes_a_row(ran: Path) -> None:
    nearest = kept(ran, "nearest_to_target@40")
    places = np.asarray(Store(ran / "assets").load(("job", "target_places")))
    known = arrays_of(nearest, ran / "assets" / "job")
    row = int(np.flatnonzero(places == 12)[0])
    said = explain(nearest, row, known).sentence
    order = (
        "in turn the 20 rows of the target (the file job.csv) take samples by likeness, and the first 40 of 180 stay"
    )
    assert said == f"Kept: {order}; it is number 13."
    behind = int(np.flatnonzero(places == 100)[0])
    assert explain(nearest, behind, known).sentence == f"Dropped: {order}; it is not among these."
    target = nearest.provenance.target
    assert target is not None
    tasks = nearest.provenance.model_copy(update={"target": target.model_copy(update={"task": "intent"})})
    by_task = replace(nearest, declaration=nearest.declaration.model_copy(update={"provenance": tasks}))
    assert explain(by_task, row, known).sentence.startswith("Kept: in turn the values of 'intent' in the 20 rows of ")


def test_a_recurring_study_reads_its_target_again(ran: Path) -> None:
    file = written(ran, recurring={"cron": "0 6 * * 1"})
    job = build([file], ran / "assets").resolve_job_def("job_rescoring")
    made = {"/".join(key.path[1:]) for key in job.asset_layer.executable_asset_keys}
    assert {"source", "target", "target_places", "gradient_places", "drift"} <= made
    assert file.study
    before = file.study.contents(ran, ran / "cache")
    assert "target.file" in before
    assert file.study.follows(["target"], None, "target.file")
    assert not file.study.follows(["proxy"], None, "target.file")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["sklearn", "proxy"])
def test_rows_are_compared_by_embeddings_where_the_study_names_some(kind: str, tmp_path: Path) -> None:
    write(tmp_path)
    run(written(tmp_path, embeddings={"kind": kind}, selections={"nearest_to_target": None}), part="subsets")
    store = Store(tmp_path / "assets")
    vectors = np.asarray(store.load(("job", "embeddings")))
    # Rows of the target that equal a training row have its vector, up to float16.
    (tmp_path / "job.csv").unlink()
    pl.read_parquet(tmp_path / "train.parquet")[5:6].write_csv(tmp_path / "job.csv")
    run(written(tmp_path, embeddings={"kind": kind}, selections={"nearest_to_target": None}), part="subsets")
    alike = np.argsort(store.load(("job", "target_places")))
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    cosines = unit @ unit[5]
    np.testing.assert_allclose(cosines[alike[:20]], np.sort(cosines)[::-1][:20], atol=2e-3)


def test_references_draw_by_source_and_train_like_any_selection(ran: Path) -> None:
    sources = pl.read_parquet(ran / "train.parquet")["source"]
    for seed in (0, 1):
        assert set(sources.gather(kept(ran, "target_source_random@40", seed).rows)) == {"bank"}
        alike = sources.gather(kept(ran, "source_balanced_random@40", seed).rows).value_counts()["count"]
        assert alike.to_list() == [20, 20]
    told = json.loads((ran / "assets" / "job" / "report" / "report.json").read_text())
    assert {"target_source_random", "source_balanced_random"} <= {row["name"] for row in told["rows"]}


def test_the_report_says_which_comes_first_everywhere(ran: Path) -> None:
    folder = ran / "assets" / "job" / "report"
    told = json.loads((folder / "report.json").read_text())
    means = {row["name"]: row["metrics"]["accuracy"]["mean"] for row in told["rows"]}
    [winner] = told["target"]["winners"]
    assert (winner["keep"], winner["mean"]) == (40, max(means.values()))
    first, *others = told["target"]["sentences"]
    assert first.startswith("At 40 kept, ")
    assert "random of the target's source" in first
    assert "source-balanced random" in first
    assert any("andom of the target's source" in text and "nearest_to_target at 40 kept" in text for text in others)
    nearest = next(row for row in told["rows"] if row["name"] == "nearest_to_target")
    beside = nearest["against"]["random of the target's source"]
    assert beside["difference"] == pytest.approx(means["nearest_to_target"] - means["target_source_random"])
    for name in ("report.md", "report.html"):
        assert "comes first with" in (folder / name).read_text()


def test_on_a_pool_drawn_from_the_target_itself_nothing_is_better_than_random(tmp_path: Path) -> None:
    table = rows("bank", 260, 0).sample(fraction=1.0, shuffle=True, seed=0)
    for name, part in (("train.parquet", table[:160]), ("test.parquet", table[160:220])):
        part.drop("source").write_parquet(tmp_path / name)
    table[220:].drop("source").write_csv(tmp_path / "job.csv")
    run(written(tmp_path, target={"file": "job.csv"}, keep=[30], seeds=3))
    told = json.loads((tmp_path / "assets" / "job" / "report" / "report.json").read_text())
    assert told["verdict"].startswith("No selection did better than random at the same budget, over 3 seeds.")
    assert all(row["metrics"]["accuracy"]["mean"] > 0.75 for row in told["rows"])
    assert any("with source: COLUMN under target" in text for text in told["target"]["sentences"])


def test_gradient_places_are_those_of_autograd(ran: Path) -> None:
    """Round-robin over rows of the target by cosines of explicit gradients of the last layer, in float64."""
    import torch

    from secateur.pipelines.runs.arrays import data_of
    from secateur.trainers.models import registry as models

    store = Store(ran / "assets")
    load = {name: store.load(("job", name)) for name in ("inputs", "samples", "source", "target", "proxy")}
    data = data_of(load["inputs"], load["samples"], load["source"])
    model = models.load(load["proxy"] / "seed-0").double().eval()
    queries, labels = (
        np.asarray(open_inputs(inputs_at(load["target"] / "inputs.npy"))),
        np.load(load["target"] / "targets.npy"),
    )
    layer = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]

    def gradients(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        found = []
        for row, target in zip(inputs, targets, strict=True):
            logits = model(torch.from_numpy(row[None].astype(np.float64)))
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([target]))
            parts = torch.autograd.grad(loss, list(layer.parameters()))
            found.append(torch.cat([part.reshape(-1) for part in parts]).numpy())
        return np.stack(found) / np.linalg.norm(found, axis=1)[:, None]

    cosines = gradients(queries, labels) @ gradients(np.asarray(data.inputs), data.targets).T
    lists, order = [list(np.lexsort((np.arange(len(data)), -one.round(6)))) for one in cosines], list[int]()
    while len(order) < 40:
        for one in lists:
            if len(order) < 40 and (row := one.pop(0)) not in order:
                order.append(row)
    places = store.load(("job", "gradient_places"))
    assert len(set(order) & set(np.argsort(places)[:40].tolist())) >= 39


def test_a_changed_target_makes_again_only_what_follows_it(ran: Path) -> None:
    file, before = written(ran), (ran / "job.csv").read_bytes()
    assert file.study
    trials = list(file.study.trials)
    assert to_make(file, ran / "assets", trials)[0] == {}
    try:
        rows("bank", 15, 4).write_csv(ran / "job.csv")
        made, _ = to_make(file, ran / "assets", trials)
        assert {"target", "target_places", "gradient_places", "report"} <= set(made)
        assert not {"source", "samples", "proxy", "scores/el2n", "yardstick"} & set(made)
    finally:
        (ran / "job.csv").write_bytes(before)


def test_target_rows_in_the_test_split_are_refused_before_any_work(tmp_path: Path) -> None:
    write(tmp_path)
    leaked = pl.concat([rows("bank", 5, 3).drop("source"), pl.read_parquet(tmp_path / "test.parquet")[7:10]])
    leaked.write_csv(tmp_path / "job.csv")
    said = (
        r"target: 3 of 8 rows are in the test split, too \(row 5 of job.csv is row 7 of test.parquet; row 6 of job.csv "
        r"is row 8 of test.parquet; row 7 of job.csv is row 9 of test.parquet\): leave them out of the target"
    )
    with pytest.raises(ValueError, match=said):
        run(written(tmp_path, target={"file": "job.csv"}))
    assert not list((tmp_path / "assets").glob("job/*"))


@pytest.mark.nightly
def test_rows_of_a_filter_are_in_neither_split(tmp_path: Path) -> None:
    table = pl.concat([rows("film", 120, 0), rows("bank", 120, 1)]).with_columns(
        job=pl.col("text").str.contains("n1x[0-3].$")
    )
    table.sample(fraction=1.0, shuffle=True, seed=0).write_parquet(tmp_path / "train.parquet")
    source = {"kind": "parquet", "train": "train.parquet", "test_fraction": 0.3}
    file = written(tmp_path, source=source, target={"filter": {"job": True}, "source": "source"})
    run(file, part="subsets")
    store = Store(tmp_path / "assets")
    hashes = {name: set(store.load(("job", name)).collect()["content_hash"]) for name in ("samples", "test_samples")}
    facts = json.loads((store.load(("job", "target")) / "target.json").read_text())
    assert sum(map(len, hashes.values())) + facts["rows"] == len(table)
    assert facts["rows"] == int(table["job"].sum())
    made = kept(tmp_path, "nearest_to_target@40")
    shuffled = pl.read_parquet(tmp_path / "train.parquet")
    assert not shuffled["job"].gather(made.rows).any()
    assert sorted(made.apply(shuffled)["text"]) == sorted(shuffled["text"].gather(made.rows))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"target": None},
            r"selections\.gradient_match.selector: 'gradient_match' reads examples of a job; name them as target: ",
        ),
        ({"proxy": CONTENT["proxy"] | {"folds": 2}}, "gradients of different proxies cannot be compared"),
        (
            {"selections": {"a": {"selector": "source_balanced_random"}}, "target": {"file": "job.csv"}},
            "reads where rows come from",
        ),
        (
            {
                "target": {"file": "job.csv", "compare": "texts"},
                "columns": {"features": ["x"], "label": "label"},
                "selections": {"nearest_to_target": None},
            },
            "target.compare: rows are no texts",
        ),
        (
            {
                "target": {"file": "job.csv"},
                "columns": {"features": ["x"], "label": "label"},
                "selections": {"importance_resampling": None},
            },
            "importance_resampling counts words of texts",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_study_loads(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        written(tmp_path, **change)


@pytest.mark.parametrize(
    ("target", "table", "said"),
    [
        (
            {"file": "job.csv", "task": "intent"},
            {"text": ["a", "b"], "label": ["bank 0"] * 2, "intent": ["x", " "]},
            "target.task: column 'intent' is empty in 1 of 2 rows, row 1 of job.csv",
        ),
        (
            {"file": "job.csv"},
            {"text": ["a", "b"], "label": ["bank 0", "bank 7"]},
            "label column 'label' is 'bank 7' at row 1 of job.csv, a class that no training row has",
        ),
        (
            {"file": "job.csv", "source": "source", "own": "shop"},
            {"text": ["a"], "label": ["bank 0"]},
            "target.own: no row of the data is of source shop; there are: bank, film",
        ),
        (
            {"filter": {"source": "shop"}},
            None,
            "target.filter: no row of train.parquet: it takes rows of the source whose source is shop",
        ),
        ({"filter": {"shop": "x"}}, None, "target.filter: .*there is no column 'shop'"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_any_work(
    target: dict[str, Any], table: Any, said: str, tmp_path: Path
) -> None:
    write(tmp_path)
    if table:
        pl.DataFrame(table).write_csv(tmp_path / "job.csv")
    with pytest.raises(ValueError, match=said):
        run(written(tmp_path, target=target))
    assert not list((tmp_path / "assets").glob("job/*"))
