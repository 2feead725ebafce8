"""Searches: accepted and refused YAML and tables, and small searches from space to trained model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.definitions import build
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs.architectures import architectures_of, guided_history, replay, space_of
from secateur.pipelines.runs.evaluations import data_for
from secateur.pipelines.runs.outcomes import outcomes_at
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.files import SHIPPED, StudyError, StudyFile, load_file, read_studies
from secateur.pipelines.studies.grid import Trial
from secateur.scorers.architectures.accuracy_predictor import AccuracyPredictor
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.judging import architectures as judging
from secateur.trainers.judging.architectures import config_of, network_key, space_of_configs
from secateur.trainers.models.registry import build as build_model
from secateur.trainers.models.registry import load as load_model

OPERATIONS = ["none", "skip", "conv"]
QUICK = {"trees": 10, "leaves": 4, "least_in_leaf": 1}


def trials() -> pl.DataFrame:
    """Every trial of three edges; the order of the first two does not matter."""
    rows = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    keys = [f"{sorted(row[:2])}{row[2]}" for row in rows]
    # The twins of one trial differ by the noise of their trainings.
    accuracy = [50 + 5 * (a + b) + 3 * c + 0.25 * (a > b) for a, b, c in rows]
    edges = {f"edge{place}": [OPERATIONS[row[place]] for row in rows] for place in range(3)}
    return pl.DataFrame({**edges, "twin": keys, "accuracy": accuracy})


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """A search of a table, as the YAML's mapping."""
    trials().write_parquet(tmp_path / "trials.parquet")
    return {
        "kind": "search",
        "name": "trials",
        "space": {
            "table": {
                "path": "trials.parquet",
                "positions": {f"edge{place}": OPERATIONS for place in range(3)},
                "accuracy": "accuracy",
                "scale": "percent",
                "key": "twin",
            }
        },
        "search": {"initial": 6, "per_round": 3, "budget": 15, "predictor": QUICK, "pruning": {"per_round": 1}},
        "evolution": {"population": 4, "sample": 2},
        "seeds": 3,
    }


def write(folder: Path, content: dict[str, Any]) -> StudyFile:
    path = folder / "trials.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_file(path)


@pytest.fixture
def instance() -> Any:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def search_of(file: StudyFile) -> Search:
    assert isinstance(file.study, Search)
    return file.study


def test_isomorphic_rows_share_a_key_and_the_mean_of_their_accuracies(tmp_path: Path, content: dict[str, Any]) -> None:
    table = architectures_of(search_of(write(tmp_path, content)), tmp_path)
    assert len(table) == 27
    assert table["key"].n_unique() == 18
    one, two = (
        table.filter(pl.struct("edge0", "edge1", "edge2") == dict(zip(("edge0", "edge1", "edge2"), trial, strict=True)))
        for trial in (("skip", "conv", "none"), ("conv", "skip", "none"))
    )
    assert one["key"].item() == two["key"].item()
    assert one["accuracy"].item() == two["accuracy"].item() == 50 + 15 + 0.125


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_choices_are_names_or_numbers_in_either_kind_of_file(
    suffix: str, tmp_path: Path, content: dict[str, Any]
) -> None:
    given = architectures_of(search_of(write(tmp_path, content)), tmp_path)
    edges = [f"edge{place}" for place in range(3)]
    numbered = trials().with_columns(pl.col(edges).replace_strict({n: i for i, n in enumerate(OPERATIONS)}))
    path = tmp_path / f"numbered{suffix}"
    numbered.write_parquet(path) if suffix == ".parquet" else numbered.write_csv(path)
    content["space"]["table"]["path"] = path.name
    assert architectures_of(search_of(write(tmp_path, content)), tmp_path).equals(given)


def changed(column: str, values: list[Any]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda table: table.with_columns(pl.Series(column, values + table[column].to_list()[len(values) :]))


BAD_TABLES = [
    (changed("accuracy", [1.0, None]), ["trials.parquet", "column 'accuracy'", "missing", "row 1"]),
    (changed("accuracy", [float("nan")]), ["missing or no number at row 0"]),
    (changed("accuracy", [101.0]), ["column 'accuracy': 101 is no percent; write scale: number", "row 0"]),
    (changed("edge1", ["none", "none", "pool"]), ["edge1", "unknown choice 'pool' at row 2", "none, skip, conv"]),
    (lambda table: table.rename({"accuracy": "accurcy"}), ["no column 'accuracy'", "did you mean 'accurcy'"]),
    (lambda table: table.head(4), ["3 different architectures", "fewer than the 6"]),
    (lambda table: pl.concat([table, table.head(1).with_columns(twin=pl.lit("x"))]), ["'twin' differs"]),
]


@pytest.mark.parametrize(
    ("change", "words"), BAD_TABLES, ids=["null", "nan", "scale", "unknown", "column", "few", "twin"]
)
def test_bad_tables_are_refused_by_file_column_and_row(
    change: Callable[[pl.DataFrame], pl.DataFrame], words: list[str], tmp_path: Path, content: dict[str, Any]
) -> None:
    change(trials()).write_parquet(tmp_path / "trials.parquet")
    if "3 different" in words[0]:
        content["space"]["table"]["key"] = None
        trials().head(3).write_parquet(tmp_path / "trials.parquet")
    with pytest.raises(ValueError, match=words[0]) as refusal:
        architectures_of(search_of(write(tmp_path, content)), tmp_path)
    for word in words:
        assert word in str(refusal.value)


REFUSED = [
    ({"serch": 1}, ["serch", "there are: kind, name"]),
    ({"space": {}}, ["space", "exactly one of table, callable and models"]),
    ({"search": {"initial": 20, "budget": 20}}, ["budget", "leave none after 20"]),
    ({"search": {"pruning": {"order": "third"}}}, ["order", "'first' or 'second'"]),
    ({"search": {"predictor": {"leaves": 40}}}, ["leaves", "less than or equal to 32"]),
    ({"evolution": {"population": 3}}, ["evolution.sample", "above the population of 3"]),
    ({"space": {"callable": {"evaluate": "no_colon", "positions": {"a": [1]}}}}, ["evaluate", "pattern"]),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_wrong_settings_are_refused(
    change: dict[str, Any], words: list[str], tmp_path: Path, content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as refusal:
        write(tmp_path, {**content, **change})
    assert "trials.yaml" in str(refusal.value)
    for word in words:
        assert word in str(refusal.value), str(refusal.value)


def test_the_search_that_ships_loads() -> None:
    found = {file.name: file for file in read_studies([SHIPPED])}
    assert found["digits_search"].study.kind == "search"


def test_a_search_of_a_table_runs_to_its_pruned_space(
    tmp_path: Path, content: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    file = write(tmp_path, content)
    search = search_of(file)
    for name in ("one", "two"):
        run_study(file, tmp_path / name, instance)
    store, key = Store(tmp_path / "one"), lambda name: dg.AssetKey(["trials", name])
    table, outcomes = store.load(key("architectures")).collect(), outcomes_at(store, search, search.trials)
    assert {trial.name for trial in outcomes} == {"gbdt_s3", "gbdt", "evolution", "random"}
    for trial, outcome in outcomes.items():
        rows, accuracies = outcome.facts["rows"], outcome.facts["accuracies"]
        assert table["key"].gather(rows).n_unique() == len(rows) <= trial.keep == outcome.kept
        assert accuracies == table["accuracy"].gather(rows).to_list()
        assert outcome.metrics == {"accuracy": max(accuracies) / 100}
        whole = outcomes[Trial(f"{trial.name}@15", trial.seed)].facts
        assert (rows, accuracies) == (whole["rows"][: len(rows)], whole["accuracies"][: len(rows)])

    space = space_of(search, table)
    history = guided_history(search, {trial: outcome.model_dump() for trial, outcome in outcomes.items()})
    best = store.load(key("best_architecture"))
    assert best["accuracy"] == history.fitness.max()
    assert best["choices"] == space.describe(int(history.rows[best["found_at"] - 1]))

    manifest = Manifest.load(store.place(key("pruned_search_space")))
    alive = replay(search, space, history).alive
    assert manifest.declaration.unit == "choice"
    choices = [choice for place in manifest.payload.positions for choice in place.choices]
    assert [choice.kept for choice in choices] == alive.tolist()
    assert manifest.payload.left == space.kept(alive)
    assert all(space.kept(alive).values())
    assert not alive.all()
    fitted = AccuracyPredictor.fit(
        space, space.choices_of(history.rows), history.fitness, search.search.predictor, seed=0
    )
    expected = fitted.first_order(space.choices_of(history.rows))
    assert [choice.contribution for choice in choices] == expected.tolist()

    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file() and ".ledger" not in path.parts:  # the ledger holds times of files
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes(), path
    kept = store.place(key("pruned_search_space")) / "manifest.json"
    kept.write_bytes(kept.read_bytes().replace(b'"kept": true', b'"kept": false', 1))
    with pytest.raises(ManifestError):
        Manifest.load(kept.parent)


def test_a_part_of_a_search_is_run_alone_and_is_fresh_when_the_whole_is(
    tmp_path: Path, content: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    file, store = write(tmp_path, content | {"seeds": 2}), Store(tmp_path / "store")
    search, part = search_of(file), [Trial("gbdt@7", 1), Trial("random@7", 1)]
    run_study(file, store.root, instance, trials=part)
    alone = outcomes_at(store, search, part)
    assert [len(outcome.facts["rows"]) for outcome in alone.values()] == [7, 7]
    assert store.find(("trials", "evaluations"), Trial("gbdt@7", 0)) is None
    assert store.find(("trials", "report")) is None
    assert run_study(file, store.root, instance, trials=part).made == 0

    made = run_study(file, store.root, instance)
    # The table, predictor, pruned space, best architecture and report come once; the part exists already.
    assert (made.made, made.fresh) == (len(list(search.trials)) - 2 + 4, 2 + 1)
    run_study(file, tmp_path / "whole", instance)
    assert outcomes_at(Store(tmp_path / "whole"), search, part) == alone
    # Another seed leaves existing results fresh.
    more = write(tmp_path, content | {"seeds": 3})
    assert run_study(more, store.root, instance, trials=[Trial("gbdt@7", 2), *part]).made == 1


def test_a_python_function_is_asked_once_per_architecture(
    tmp_path: Path, content: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_evaluation.py").write_text(
        "asked = []\ndef accuracy(choices):\n    asked.append(tuple(choices.values()))\n"
        "    return choices['width'] / 4 + choices['depth'] if choices['norm'] else float(choices['bad'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    positions: dict[str, Any] = {"width": [8, 16, 32], "depth": [1, 2, 3, 4], "norm": [True]}
    content["space"] = {"callable": {"evaluate": "my_evaluation:accuracy", "positions": positions, "scale": "number"}}
    content["search"] |= {"budget": 9}
    run_study(write(tmp_path, content), tmp_path / "store", instance)
    import my_evaluation

    assert len(set(my_evaluation.asked)) == len(my_evaluation.asked) > 8
    best = Store(tmp_path / "store").load(dg.AssetKey(["trials", "best_architecture"]))
    assert best["accuracy"] == float(best["choices"]["width"]) / 4 + float(best["choices"]["depth"])
    content["space"]["callable"]["positions"] = positions | {"norm": [False], "bad": ["nan"]}
    with pytest.raises(ValueError, match=r"accuracy\(.*gave nan, must be a finite number"):
        run_study(write(tmp_path, content), tmp_path / "other", instance)


def test_configs_that_train_the_same_network_share_a_key() -> None:
    base = TrainingConfig(model="secateur.trainers.models.searchable:searchable_mlp", steps=5)
    choices: dict[str, list[Any]] = {"layer1": ["skip", 8], "layer2": ["skip", 8], "activation": ["relu", "tanh"]}
    space, configs = space_of_configs(base, choices)
    assert space.keys is not None
    # No layer at all (twice: nothing to activate), one of 8 by either place, two of 8; the last two by activation.
    assert len(np.unique(space.keys)) == 1 + 2 + 2
    for one in range(len(configs)):
        for two in range(one):
            models = [build_model(configs[row], (4,), 3, seed=0) for row in (one, two)]
            same = [str(model) for model in models]
            assert (space.keys[one] == space.keys[two]) == (same[0] == same[1])
    other = config_of(base, {"learning_rate": 0.5, "layer1": 8})
    assert other.learning_rate == 0.5
    assert other.model_settings == {"layer1": 8}
    assert network_key(other) != network_key(config_of(base, {"layer1": 8}))
    with pytest.raises(ValueError, match=r"choices .*width.*has no setting 'width'"):
        space_of_configs(base, {"width": [1]})


def test_networks_are_searched_for_real_and_the_best_one_scores_a_study(
    tmp_path: Path, content: dict[str, Any], study_content: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    content["space"] = {
        "models": {
            "source": study_content["source"],
            "columns": study_content["columns"],
            "training": {"model": "secateur.trainers.models.searchable:searchable_mlp", "steps": 12, "batch_size": 16},
            "positions": {"layer1": ["skip", 4, 8], "layer2": ["skip", 8], "learning_rate": [0.001, 0.05]},
            "subset": {"selector": "coverage_centric", "score": "aum", "keep": 0.5, "compare": 6}
            | {"settings": {"cutoff": 0.1}},
        }
    }
    content["search"] |= {"initial": 5, "per_round": 2, "budget": 8}
    content["seeds"] = 1
    store = Store(tmp_path / "store")
    run_study(write(tmp_path, content), store.root, instance)
    best = store.load(dg.AssetKey(["trials", "best_architecture"]))
    found = load_model(store.place(dg.AssetKey(["trials", "trained_model"])))
    network = build_model(TrainingConfig(**best["config"]), (2,), 3, seed=0)
    assert [p.shape for p in found.parameters()] == [p.shape for p in network.parameters()]
    agreed = store.load(dg.AssetKey(["trials", "subset_agreement"]))
    assert (agreed["count"], agreed["kept"], agreed["of"]) == (6, 60, 120)
    assert -1 <= agreed["kendall"] <= 1

    study_content |= {"proxy_from": "trials", "scores": {"el2n": {"epochs": 2}}, "keep": [0.5], "seeds": 1}
    study_content["selections"] = {"hardest": {"selector": "top", "score": "el2n"}}
    path = tmp_path / "blobs.yaml"
    path.write_text(yaml.safe_dump(study_content))
    run_study(load_file(path), store.root, instance)
    proxy = load_model(store.place(dg.AssetKey(["blobs", "proxy"])) / "seed-0")
    assert [p.shape for p in proxy.parameters()] == [p.shape for p in network.parameters()]


def test_the_graph_of_a_search_is_whole(tmp_path: Path, content: dict[str, Any]) -> None:
    defs = build([write(tmp_path, content)], tmp_path / "store")
    dg.Definitions.validate_loadable(defs)
    keys = {key.path[-1] for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert keys == {"architectures", "evaluations", "predictor", "pruned_search_space", "best_architecture", "report"}


EVALUATION = """
import os, signal
from pathlib import Path
def accuracy(choices):
    with Path(os.environ["EVALUATED"]).open("a") as file:
        file.write(f"{choices['width']} {choices['depth']}\\n")
    left = Path(os.environ["EVALUATED"]).read_text().count("\\n")
    if left == int(os.environ.get("KILLED_AT", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    return choices["width"] / 4 + choices["depth"] % 3
"""
SCRIPT = """
import sys
from pathlib import Path
import dagster as dg
from secateur.pipelines.materialise import run_study
from secateur.pipelines.studies.files import load_file
with dg.DagsterInstance.ephemeral() as instance:
    run_study(load_file(Path(sys.argv[1])), Path(sys.argv[2]), instance)
"""


@pytest.mark.nightly  # by day test_killed_commands.py kills runs and searches
def test_a_search_that_is_killed_goes_on_and_finds_the_same(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "my_evaluation.py").write_text(EVALUATION)
    positions = {"width": [8, 16, 32], "depth": [1, 2, 3, 4]}
    content["space"] = {"callable": {"evaluate": "my_evaluation:accuracy", "positions": positions, "scale": "number"}}
    content["search"] |= {"budget": 9}
    path = write(tmp_path, content).path

    def run(root: Path, evaluated: str, **environment: str) -> tuple[int, list[str]]:
        known = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        known |= {"EVALUATED": str(tmp_path / evaluated)}
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path), str(root)],
            env={**os.environ, **known, **environment},
            capture_output=True,
            check=False,
        )
        return ended.returncode, (tmp_path / evaluated).read_text().splitlines()

    code, whole = run(tmp_path / "undisturbed", "whole.txt")
    assert (code, len(whole)) == (0, len(set(whole)))
    code, begun = run(tmp_path / "killed", "killed.txt", KILLED_AT="7")
    assert (code, begun) == (-signal.SIGKILL, whole[:7])
    code, resumed = run(tmp_path / "killed", "killed.txt")
    # Only the killed evaluation is made again.
    assert (code, resumed) == (0, [*whole[:7], *whole[6:]])
    for stored in sorted((tmp_path / "undisturbed" / "trials" / "evaluations").rglob("*.json")):
        one, two = (
            json.loads((tmp_path / root / stored.relative_to(tmp_path / "undisturbed")).read_text())
            for root in ("undisturbed", "killed")
        )
        assert one | {"seconds": 0} == two | {"seconds": 0}
    for name in ("best_architecture.json", "predictor/trees.txt"):
        once, again = (tmp_path / root / "trials" / name for root in ("undisturbed", "killed"))
        assert once.read_bytes() == again.read_bytes()
    # With all evaluations stored the function is not called again; after a change of its file it is.
    assert run(tmp_path / "killed", "killed.txt")[1] == resumed
    (tmp_path / "my_evaluation.py").write_text(EVALUATION + "# other\n")
    assert run(tmp_path / "killed", "killed.txt") == (0, [*resumed, *whole])


def test_networks_trained_before_a_failure_are_not_trained_again(
    tmp_path: Path,
    content: dict[str, Any],
    study_content: dict[str, Any],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content["space"] = {
        "models": {
            "source": study_content["source"],
            "columns": study_content["columns"],
            "training": {"model": "secateur.trainers.models.searchable:searchable_mlp", "steps": 4, "batch_size": 16},
            "positions": {"layer1": ["skip", 4, 8], "layer2": ["skip", 8], "learning_rate": [0.001, 0.05]},
            "training_seeds": 2,
        }
    }
    content["search"] |= {"initial": 4, "per_round": 2, "budget": 6}
    content["seeds"] = 2
    plain, trained = judging.train, list[tuple[str, int]]()
    fails_at = 9

    def counted(data: Any, config: TrainingConfig, *, seed: int) -> Any:
        if len(trained) == fails_at:
            raise RuntimeError("out of memory")
        trained.append((network_key(config), seed))
        return plain(data, config, seed=seed)

    monkeypatch.setattr(judging, "train", counted)
    file, root = write(tmp_path, content), tmp_path / "store"
    with pytest.raises(RuntimeError, match="out of memory"):
        run_study(file, root, instance)
    assert len(list((root / "trials" / ".evaluations").rglob("*.json"))) == fails_at
    fails_at = -1
    run_study(file, root, instance)
    # Guided, unguided and random searches and evolution of two seeds share the trainings of a network.
    assert len(trained) == len(set(trained))
    search = search_of(file)
    every = [outcome.facts for outcome in outcomes_at(Store(root), search, search.trials).values()]
    known = {row: accuracy for each in every for row, accuracy in zip(each["rows"], each["accuracies"], strict=True)}
    table = pl.read_parquet(root / "trials" / "architectures.parquet")
    assert len(trained) == 2 * table["key"].gather(list(known)).n_unique() < sum(len(each["rows"]) for each in every)
    models = search.space.models
    assert models is not None
    data, _ = data_for(models, tmp_path, tmp_path / "cache")
    _, configs = space_of_configs(models.training, models.positions)
    accuracy = judging.ValidationAccuracy(data)
    for row in list(known)[:2]:
        assert known[row] == 100 * np.mean([accuracy(configs[row], seed=seed) for seed in (0, 1)])
