"""Scores through the graph: the rows that are scored again, kills, and the same numbers as direct calls."""

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pytest
import torch

from secateur.pipelines.assets import embeddings as embedding_assets
from secateur.pipelines.definitions import build
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.costs import parts_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.checkpoints.pvi import null_model_of
from secateur.scorers.contract import Scorer
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.loop.train import train
from secateur.trainers.passes import embeddings as trainers_embeddings
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.missing_signals import missing_signals

WriteStudy = Callable[..., StudyFile]
CPU = torch.device("cpu")
PREPARED = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder")
CHECKPOINT_SCORES = {"checkpoint_loss": None, "last_layer_grand": None}
FEW = {"selections": {"hardest": {"selector": "top", "score": "checkpoint_loss"}}}


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["blobs", *name.split("/")])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def materialise(file: StudyFile, root: Path, instance: dg.DagsterInstance, *names: str) -> dict[str, dict[str, Any]]:
    """Materialise assets by name, several at once; metadata by name."""
    job = build([file], root).resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=instance, asset_selection=[key(name) for name in names])
    found = {}
    for event in done.get_asset_materialization_events():
        material = event.materialization
        found["/".join(material.asset_key.path[1:])] = {name: one.value for name, one in material.metadata.items()}
    return found


def scored(names: Any) -> list[str]:
    return [f"scores/{name}" for name in names]


def append(file: Path, rows: dict[str, list[Any]]) -> None:
    """Add rows to a Parquet file."""
    data = datasets.Dataset.from_parquet(str(file), cache_dir=str(file.parent / ".hf"))
    more = datasets.Dataset.from_dict(rows, features=data.features)
    datasets.concatenate_datasets([data, more]).to_parquet(file)


def wide_points(folder: Path, rows: int = 90) -> list[str]:
    """Three classes in eight dimensions, as Parquet files; names of the columns."""
    names = [f"f{number}" for number in range(8)]
    for split, seed in (("train", 0), ("test", 1)):
        random = np.random.default_rng(seed)
        labels = np.arange(rows) % 3
        points = random.normal(size=(rows, 8)) + 2 * np.eye(3, 8)[labels]
        columns = {name: points[:, place].astype(np.float32) for place, name in enumerate(names)}
        datasets.Dataset.from_dict(columns | {"label": labels}).to_parquet(folder / f"{split}.parquet")
    return names


def test_appended_rows_alone_are_scored_while_the_proxy_is_kept(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    file, root = write_study(scores=CHECKPOINT_SCORES, **FEW), tmp_path / "store"
    assets = scored(CHECKPOINT_SCORES)
    first = materialise(file, root, instance, *PREPARED, "proxy", *assets)
    before = {name: np.array(Store(root).load(key(name))) for name in assets}
    assert all(first[name]["rows rescored"] == 120 for name in assets)
    append(tmp_path / "data" / "train.parquet", {"x": [9.0, 8.0, 7.0], "y": [1.0, 2.0, 3.0], "label": [0, 1, 2]})
    second = materialise(file, root, instance, *PREPARED, *assets)
    for name in assets:
        assert (second[name]["rows rescored"], second[name]["rows found"]) == (3, 120)
        after = Store(root).load(key(name))
        np.testing.assert_array_equal(after[:120], before[name])
        assert np.isfinite(after[120:]).all()
        assert len(after) == 123


def test_a_new_version_of_one_scorer_leaves_the_others_alone(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, root, assets = write_study(scores=CHECKPOINT_SCORES, **FEW), tmp_path / "store", scored(CHECKPOINT_SCORES)
    materialise(file, root, instance, *PREPARED, "proxy", *assets)
    old: Any = scorers()["last_layer_grand"]
    new = dataclasses.replace(old, card=dataclasses.replace(old.card, version="2"))
    monkeypatch.setitem(scorers(), "last_layer_grand", new)  # type: ignore[arg-type]
    again = materialise(file, root, instance, *assets)
    assert again["scores/checkpoint_loss"]["rows rescored"] == 0
    assert again["scores/last_layer_grand"]["rows rescored"] == 120
    graph = build([file], root).resolve_asset_graph()
    assert graph.get(key("scores/last_layer_grand")).code_version == "2"


KILLED = """
import sys, time
from functools import partial
from pathlib import Path
import dagster as dg
from secateur.pipelines.assets import scoring_pass as scoring_assets
from secateur.pipelines.definitions import build
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.missing_signals import missing_signals
scoring_assets.ScoreStore = partial(scoring_assets.ScoreStore, shard=16)
quick = scoring_assets.score_rows
def slow(*args, **kwargs):
    time.sleep(0.3)
    return quick(*args, **kwargs)
scoring_assets.score_rows = slow
path, root = Path(sys.argv[1]), Path(sys.argv[2])
job = build([StudyFile(path, load_study(path))], root).resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.ephemeral() as instance:
    job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["blobs", "scores", "checkpoint_loss"])])
"""


def test_a_killed_scoring_pass_goes_on_at_the_next_shard_and_gives_the_same_bytes(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, root = write_study(scores={"checkpoint_loss": None}, **FEW), tmp_path / "store"
    materialise(file, root, instance, *PREPARED, "proxy")
    kept = root / "blobs" / ".score_store"
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, str(file.path), str(root)]) as run:
        until = time.monotonic() + 240
        while len(list(kept.rglob("*.parquet"))) < 2 and run.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    there = {path: path.read_bytes() for path in kept.rglob("*.parquet")}
    assert 2 <= len(there) < 8
    from secateur.pipelines.assets import scoring_pass as scoring_assets

    whole = scoring_assets.ScoreStore
    monkeypatch.setattr(scoring_assets, "ScoreStore", lambda place: whole(place, shard=16))
    resumed = materialise(file, root, instance, "scores/checkpoint_loss")["scores/checkpoint_loss"]
    assert resumed["rows found"] == 16 * len(there)
    assert resumed["rows rescored"] == 120 - 16 * len(there)
    assert all(path.read_bytes() == content for path, content in there.items())
    score = (root / "blobs" / "scores" / "checkpoint_loss.npy").read_bytes()
    shards = {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*.parquet")}
    kept.rename(tmp_path / "aside")
    assert materialise(file, root, instance, "scores/checkpoint_loss")["scores/checkpoint_loss"]["rows found"] == 0
    assert (root / "blobs" / "scores" / "checkpoint_loss.npy").read_bytes() == score
    assert {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*.parquet")} == shards


def test_a_planted_near_duplicate_finds_its_partner_and_recall_is_checked(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    columns = wide_points(tmp_path / "data")
    train_file = tmp_path / "data" / "train.parquet"
    original = datasets.Dataset.from_parquet(str(train_file), cache_dir=str(tmp_path / "hf"))[17]
    append(train_file, {name: [original[name] + 0.001 * (name != "label")] for name in original})
    file = write_study(
        scores={"nearest_sample": None, "density": {"k": 3}},
        selections={"hardest": {"selector": "top", "score": "density"}},
        columns={"features": columns, "label": "label"},
        embeddings={"kind": "sklearn", "dimensions": 8},
        neighbours={"count": 4},
    )
    root = tmp_path / "store"
    names = ("embeddings", "neighbour_indices", "neighbour_distances", "scores/nearest_sample")
    found = materialise(file, root, instance, *PREPARED, *names)
    store = Store(root)
    indices, nearest = store.load(key("neighbour_indices")), store.load(key("scores/nearest_sample"))
    assert (indices[90, 0], indices[17, 0]) == (17, 90)
    assert set(np.argsort(nearest)[:2].tolist()) == {17, 90}
    assert found["neighbour_indices"]["recall"] == 1.0
    checks = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key("neighbour_indices"), "recall"), limit=1
    )
    assert checks[0].status.value == "SUCCEEDED"


@pytest.mark.parametrize(
    ("changes", "asset"),
    [
        ({}, "label_free_neighbours"),
        ({"neighbours": {"label_free": False}}, "neighbour_indices"),
        ({"embeddings": {"kind": "sklearn"}}, "neighbour_indices"),
    ],
)
def test_agreement_reads_neighbours_that_did_not_learn_the_labels_unless_the_study_says_so(
    changes: dict[str, Any], asset: str, write_study: WriteStudy, tmp_path: Path
) -> None:
    scores = {"aum": None, "neighbour_agreement": None}
    top = {"agreeing": {"selector": "top", "score": "neighbour_agreement"}}
    file = write_study(scores=scores, selections=top, **changes)
    graph = build([file], tmp_path / "store").resolve_asset_graph()
    assert key(asset) in graph.get(key("scores/neighbour_agreement")).parent_keys
    behind = {each.path[1] for each in dg.AssetSelection.assets(key(asset)).upstream().resolve(graph)}
    study = file.study
    assert study
    learned = asset == "neighbour_indices" and study.embeddings.kind == "proxy"
    assert ("proxy" in behind) == learned
    assert ("proxy" in parts_of(study, {"neighbour_agreement"})) == learned, "what it is charged"


def test_embeddings_go_on_at_the_next_block_and_give_the_same_bytes(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_study(
        scores={"prototype_distance": None},
        selections={"hardest": {"selector": "top", "score": "prototype_distance"}},
        embeddings={"kind": "sklearn", "block": 16},
    )
    root, whole = tmp_path / "store", trainers_embeddings.embed

    def interrupted(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, block in enumerate(whole(*args, **kwargs)):
            if number == 3:
                raise RuntimeError("interrupted")
            yield block

    with monkeypatch.context() as patched:
        patched.setattr(embedding_assets, "embed", interrupted)
        with pytest.raises(RuntimeError, match="interrupted"):
            materialise(file, root, instance, *PREPARED, "embeddings")
    assert materialise(file, root, instance, "embeddings")["embeddings"]["blocks resumed"] == 3
    resumed = (root / "blobs" / "embeddings.npy").read_bytes()
    assert materialise(file, root, instance, "embeddings")["embeddings"]["blocks resumed"] == 0
    assert (root / "blobs" / "embeddings.npy").read_bytes() == resumed


def direct(study: Study, data: Data) -> dict[str, np.ndarray]:
    """Every score of a study by direct calls, averaged over its proxy runs."""
    import copy

    totals: dict[str, list[np.ndarray]] = {}
    runs = []
    for seed in range(study.proxy_runs):
        watchers = {
            name: score.declared(len(data), CPU, **score.settings)  # type: ignore[call-arg, arg-type, misc]
            for name, score in study.scores.items()
            if isinstance(score.declared, type)
        }
        run: list[torch.nn.Module] = []

        def keep(model: torch.nn.Module, done: int, total: int, run: list[torch.nn.Module] = run) -> None:
            if done * study.checkpoints // total > len(run):
                run.append(copy.deepcopy(model))

        train(data, study.proxy, seed=seed, observers=list(watchers.values()), device=CPU, checkpoint=keep)
        for name, watcher in watchers.items():
            totals.setdefault(name, []).append(watcher.scores())
        runs.append(run)
    found = {name: np.mean(each, axis=0, dtype=np.float64).astype(np.float32) for name, each in totals.items()}
    reading = {
        name: (score.declared, score.settings)
        for name, score in study.scores.items()
        if isinstance(score.declared, CheckpointScorer)
    }
    found |= score_rows(runs, data, np.arange(len(data)), reading, device=CPU)
    embeddings = np.concatenate(list(embed(EmbeddingSettings(), data, model=runs[0][-1])))
    graph = nearest_neighbours(embeddings, study.neighbours.count)
    signals = {
        **found,
        "labels": data.targets,
        "strata": data.targets,
        "null_log_probabilities": null_model_of(data.targets, data.task.width),
    }
    signals |= {"embeddings": embeddings, "neighbour_distances": graph.distances}
    plain = np.concatenate(list(embed(EmbeddingSettings(kind="sklearn"), data)))
    signals["label_free_neighbours"] = nearest_neighbours(plain, study.neighbours.count).indices
    for name, score in study.scores.items():
        if isinstance(score.declared, Scorer):
            found[name] = score.declared(*(signals[each] for each in score.declared.signals), **score.settings)
    return found


def test_every_score_through_the_graph_is_that_of_direct_calls_averaged_over_proxies(
    write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    # The proxy has four epochs, fewer than the default window of tdds.
    of_classes = {name for name, one in scorers().items() if not missing_signals(one, Classification(2))}
    scores = dict.fromkeys(sorted(of_classes)) | {"tdds": {"window": 2}}
    file = write_study(scores=scores, proxy_runs=2, checkpoints=3, seeds=1, neighbours={"count": 4})
    root, study = tmp_path / "store", file.study
    assert study is not None
    others = ("proxy", "embeddings", "neighbour_indices", "neighbour_distances")
    others += ("label_free_embeddings", "label_free_neighbours")
    found = materialise(file, root, instance, *PREPARED, *others, *scored(study.scores))
    assert found["proxy"]["runs"] == 2
    store = Store(root)
    data = data_of(store.load(key("inputs")), store.load(key("samples")), store.load(key("source")))
    expected = direct(study, data)
    assert expected.keys() == of_classes
    for name, values in expected.items():
        np.testing.assert_array_equal(store.load(key(f"scores/{name}")), values, err_msg=name)
    single = direct(study.model_copy(update={"proxy_runs": 1}), data)
    assert not np.allclose(single["aum"], expected["aum"])
    assert not np.allclose(single["checkpoint_loss"], expected["checkpoint_loss"])
