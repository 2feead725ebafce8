"""Studies of regression, several labels and a task of one's own: from their file to report, manifest and export."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import polars as pl
import pytest
import yaml
from shell_here import secateur_here
from sklearn.metrics import roc_auc_score

from secateur.pipelines.definitions import build
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.explain import arrays_of, explain
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study, validated
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.contract import selectors

Run = Callable[[dict[str, Any]], "Ran"]
TABLE = {"model": "mlp", "model_settings": {"hidden": [32]}, "batch_size": 32, "learning_rate": 0.01}


class Ran:
    """A study that was run whole, and its results."""

    def __init__(self, file: StudyFile, root: Path) -> None:
        assert file.study
        self.file, self.study, self.root, self.store = file, file.study, root, Store(root)

    def value(self, asset: str, trial: Trial | None = None) -> Any:
        return self.store.load(dg.AssetKey([self.study.name, *asset.split("/")]), trial)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.value("report") / "report.json").read_text())
        return found

    def manifest(self, trial: Trial) -> Manifest:
        return Manifest.load(self.store.place(dg.AssetKey([self.study.name, "manifest"]), trial), verify=True)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write a study, run all of it."""

    def ran(content: dict[str, Any]) -> Ran:
        path = tmp_path / f"{content['name']}.yaml"
        path.write_text(yaml.safe_dump(content))
        file = StudyFile(path, load_study(path))
        with dg.DagsterInstance.ephemeral() as instance:
            run_study(file, tmp_path / "assets", instance)
        return Ran(file, tmp_path / "assets")

    return ran


def refused(folder: Path, content: dict[str, Any]) -> str:
    """The message when a study loads."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(StudyError) as error:
        load_study(path)
    return str(error.value)


def slopes(folder: Path, *, permuted: bool = False) -> dict[str, Any]:
    """A study of two numbers that follow from three others, a fifth of the targets shifted by three deviations."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 300), ("test", 200)):
        x = rng.normal(size=(count, 3))
        pay = 1000 + 200 * (x @ [1.0, -0.5, 0.2]) + 10 * rng.normal(size=count)
        if permuted:
            pay = rng.permutation(pay)
        elif split == "train":
            pay[: count // 5] += 3 * pay.std() * rng.choice([-1, 1], count // 5)
        table = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "pay": pay, "twice": 2 * pay}
        pl.DataFrame(table).write_parquet(folder / f"{split}.parquet")
    return {
        "name": "slopes",
        "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
        "columns": {"features": ["a", "b", "c"], "label": "pay"},
        "task": {"kind": "regression", "loss": "huber", "units": ["euros"]},
        "proxy": TABLE | {"epochs": 20},
        "scores": {"loss": None, "el2n": {"epochs": 20}, "dynamic_uncertainty": None},
        "selections": {
            "easiest": {"selector": "top", "score": "el2n", "end": "low"},
            "hardest": {"selector": "top", "score": "el2n", "end": "high"},
            "coverage_centric": {"score": "el2n", "cutoff": 0.2},
        },
        "keep": [0.5],
        "training": TABLE | {"steps": 80},
        "seeds": 2,
        "distillation": {"for": ["uniform_random"]},
        "recurring": {"watch_seconds": 60},
    }


def test_regression_from_study_to_export(run: Run, tmp_path: Path) -> None:
    ran = run(slopes(tmp_path))
    shifted = np.arange(300) < 60
    for name in ("loss", "el2n"):
        assert roc_auc_score(shifted, ran.value(f"scores/{name}")) >= 0.9
    samples = ran.value("samples").collect()
    assert samples.columns == ["row", "file", "file_row", "content_hash", "target", "stratum"]
    np.testing.assert_array_equal(samples["target"], pl.read_parquet(tmp_path / "train.parquet")["pay"])
    strata = ran.value("source")["strata"]
    assert np.bincount(samples["stratum"]).tolist() == [50] * 6
    assert len(strata) == 6
    trial = Trial("easiest@0.5", 0)
    metrics = ran.value("evaluation", trial)["metrics"]
    assert metrics["rmse"] < ran.value("evaluation", Trial("hardest@0.5", 0))["metrics"]["rmse"]
    assert 0 < metrics["r2"] <= 1
    rows = {row["name"]: row for row in ran.report()["rows"]}
    means = {name: row["metrics"]["rmse"]["mean"] for name, row in rows.items()}
    better = [name for name, row in rows.items() if row["against"].get("random", {}).get("verdict") == "better"]
    assert all(means[name] < means["uniform_random"] for name in better), "a smaller error is better"
    assert "uniform_random+kd" in rows
    manifest = ran.manifest(trial)
    assert manifest.table.columns[2] == "stratum"
    assert [counted.before for counted in manifest.declaration.payload.classes] == [50] * 6
    assert [counted.name for counted in manifest.declaration.payload.classes] == strata
    data = datasets.Dataset.from_parquet(str(tmp_path / "train.parquet"))
    shuffled = np.random.default_rng(0).permutation(300)
    applied = manifest.apply(data.select(shuffled))
    assert applied["pay"][:] == [data["pay"][row] for row in shuffled if row in set(manifest.rows)]
    export(manifest, "parquet", tmp_path / "kept.parquet", dataset=data)
    assert pl.read_parquet(tmp_path / "kept.parquet")["pay"].to_list() == applied["pay"][:] or len(applied) == 150
    row = int(manifest.rows[0])
    known = explain(manifest, row, arrays_of(manifest, ran.root / "slopes"))
    assert known.label == f"{data['pay'][row]:.6g} euros"
    assert known.group == strata[samples["stratum"][row]]
    covering = ran.manifest(Trial("coverage_centric@0.5", 0))
    assert not np.intersect1d(covering.rows, np.argsort(ran.value("scores/el2n"))[-60:]).size, "large residuals are cut"
    told = [explain(covering, one, arrays_of(covering, ran.root / "slopes")).sentence for one in (row, 0)]
    assert all("el2n" in sentence for sentence in told)
    stratified = ran.value("subset", Trial("stratified_random@0.5", 0))
    assert np.bincount(samples["stratum"].to_numpy()[stratified]).tolist() == [25] * 6


def test_several_numbers_are_learned_together(run: Run, tmp_path: Path) -> None:
    content = slopes(tmp_path) | {"columns": {"features": ["a", "b", "c"], "label": ["pay", "twice"]}, "seeds": 1}
    content["task"] = "regression"
    del content["distillation"], content["recurring"]
    ran = run(content)
    metrics = ran.value("evaluation", Trial("easiest@0.5", 0))["metrics"]
    assert metrics["rmse_twice"] == pytest.approx(2 * metrics["rmse_pay"], rel=0.5)


def test_permuted_targets_make_no_selection_better_than_random(run: Run, tmp_path: Path) -> None:
    content = slopes(tmp_path, permuted=True) | {"seeds": 4, "training": TABLE | {"steps": 40}}
    content |= {"proxy": TABLE | {"epochs": 5}, "scores": {"loss": None, "el2n": {"epochs": 5}}}
    del content["distillation"], content["recurring"]
    rows = run(content).report()["rows"]
    assert {row["name"] for row in rows} >= {"easiest", "hardest", "uniform_random"}
    assert not [row["name"] for row in rows if row["against"].get("random", {}).get("verdict") == "better"]


def shop(folder: Path) -> dict[str, Any]:
    """A study of four labels that follow from as many numbers; of a fifth of the rows one label is flipped."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 400), ("test", 200)):
        x = rng.normal(size=(count, 4))
        has = x > [0.0, 0.5, 1.0, 1.2]
        if split == "train":
            rows = np.arange(count // 5)
            has[rows, rng.integers(0, 4, len(rows))] ^= True
        tags = [[name for name, there in zip("wxyz", row, strict=True) if there] for row in has.tolist()]
        pl.DataFrame({**{f"n{i}": x[:, i] for i in range(4)}, "tags": tags}).write_parquet(folder / f"{split}.parquet")
    return {
        "name": "shop",
        "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
        "columns": {"features": ["n0", "n1", "n2", "n3"], "label": "tags"},
        "task": "multi_label",
        "proxy": TABLE | {"epochs": 20},
        "scores": {"loss": None, "aum": None, "forgetting": None, "el2n": {"epochs": 10}},
        "selections": {
            "easiest": {"selector": "top", "score": "aum", "end": "high"},
            "by_label": {"selector": "top", "score": "el2n", "classes": {"policy": "balanced"}},
        },
        "keep": [0.5],
        "training": TABLE | {"steps": 60},
        "seeds": 1,
        "distillation": {"for": ["uniform_random"]},
    }


def test_several_labels_from_study_to_export(run: Run, tmp_path: Path) -> None:
    ran = run(shop(tmp_path))
    flipped = np.arange(400) < 80
    assert roc_auc_score(flipped, -ran.value("scores/aum")) >= 0.9
    samples = ran.value("samples").collect()
    source = ran.value("source")
    assert source["label_names"] == ["w", "x", "y", "z"]
    written = pl.read_parquet(tmp_path / "train.parquet")["tags"].to_list()
    assert [[source["label_names"][place] for place in places] for places in samples["target"]] == written
    metrics = ran.value("evaluation", Trial("full", 0))["metrics"]
    assert metrics["mean_average_precision"] > 0.8
    assert ran.report()["rows"]
    trial = Trial("by_label@0.5", 0)
    manifest = ran.manifest(trial)
    assert [counted.name for counted in manifest.declaration.payload.classes] == ["w", "x", "y", "z", "no label"]
    data = datasets.Dataset.from_parquet(str(tmp_path / "train.parquet"))
    assert len(manifest.apply(data)) == 200
    export(manifest, "jsonl", tmp_path / "kept.jsonl", dataset=data)
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [line["tags"] for line in kept] == [written[row] for row in manifest.rows]
    stratified = ran.value("subset", Trial("stratified_random@0.5", 0))
    has = np.array([[name in tags for name in "wxyz"] for tags in written])
    assert np.abs(has[stratified].sum(axis=0) - has.sum(axis=0) / 2).max() <= 3


@pytest.mark.parametrize("write", [pytest.param(slopes, marks=pytest.mark.nightly), shop])
def test_rescoring_compares_with_the_last(write: Callable[[Path], dict[str, Any]], run: Run, tmp_path: Path) -> None:
    content = write(tmp_path) | {"seeds": 1, "scores": {"loss": None}, "recurring": {"watch_seconds": 60}}
    content |= {"selections": {"easiest": {"selector": "top", "score": "loss", "end": "low"}}}
    content |= {"proxy": TABLE | {"epochs": 2}, "training": TABLE | {"steps": 3}}
    del content["distillation"]
    ran, name = run(content), content["name"]
    rows = pl.read_parquet(tmp_path / "train.parquet")
    rows.head(len(rows) - 20).write_parquet(tmp_path / "train.parquet")
    defs = build([ran.file], ran.root)
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def(f"{name}_rescoring").execute_in_process(instance=instance).success
        event = instance.get_latest_materialization_event(dg.AssetKey([name, "drift"]))
    assert event is not None
    assert event.asset_materialization is not None
    numbers = {key: value.value for key, value in event.asset_materialization.metadata.items()}
    assert (numbers["shared samples"], numbers["removed samples"]) == (len(rows) - 20, 20)
    assert numbers["rank correlation of loss"] > 0.5
    last = pl.read_parquet(ran.value("drift") / "previous.parquet")
    assert last["subset:easiest@0.5"].sum() == len(rows) // 2


PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
WRONG = """
import numpy as np
from shapes import Segmentation as Right


class Segmentation(Right):
    def samples(self, split):
        made = super().samples(split)
        for row in range(12 if split == "train" else 0):
            made[row]["mask"] = np.roll(made[row]["mask"], (8, 8), (0, 1))
        return made

    def ids(self, split):
        return [f"{split}-{row}.png" for row in range(60 if split == "train" else 30)]

    def groups(self, split):
        return ["left", "right"] * (len(self.ids(split)) // 2)

    def shown(self, target):
        return f"{int(target['mask'].sum())} pixels"
"""


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The task of docs/tasks.md, at a study's `module:factory`, and one with 12 wrong masks."""
    [code] = re.findall(r"```python file=shapes.py\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 30, "docs/limits.md promises thirty lines"
    (tmp_path / "shapes.py").write_text(code)
    (tmp_path / "wrong_shapes.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("shapes", "wrong_shapes"):
        sys.modules.pop(name, None)


OWN = {
    "name": "own",
    "task": "wrong_shapes:Segmentation",
    "proxy": {"epochs": 15, "batch_size": 16, "learning_rate": 0.01},
    "scores": {"loss": None},
    "selections": {"easiest": {"selector": "top", "score": "loss", "end": "low"}},
    "keep": [0.5],
    "training": {"steps": 80, "batch_size": 16, "learning_rate": 0.02},
    "seeds": 2,
}


def test_a_task_of_ones_own_from_study_to_report(run: Run, shapes: None) -> None:
    ran = run(OWN)
    wrong = np.arange(60) < 12
    assert roc_auc_score(wrong, ran.value("scores/loss")) >= 0.9
    assert ran.value("samples").collect()["preview"].to_list()[:2] == ["train-0.png", "train-1.png"]
    kept = ran.value("subset", Trial("easiest@0.5", 0))
    assert not kept[:12].any()
    assert ran.value("evaluation", Trial("full", 0))["metrics"]["overlap"] > 0.5
    assert {row["name"] for row in ran.report()["rows"]} == {"uniform_random", "stratified_random", "easiest"}
    manifest = ran.manifest(Trial("easiest@0.5", 0))
    assert manifest.rows.tolist() == np.flatnonzero(kept).tolist()
    assert [(one.name, one.before) for one in manifest.declaration.payload.classes] == [("left", 30), ("right", 30)]
    stratified = ran.value("subset", Trial("stratified_random@0.5", 0))
    assert stratified[::2].sum() == stratified[1::2].sum() == 15
    known = explain(manifest, 0, arrays_of(manifest, ran.root / "own"))
    assert re.fullmatch(r"\d+ pixels", known.label or "")
    assert known.group == "left"


QUICK = OWN | {"task": "shapes:Segmentation", "seeds": 1, "proxy": {"epochs": 1}, "training": {"steps": 1}}


def test_distillation_of_a_task_without_distances_ends_the_first_action_of_a_later_run(run: Run, shapes: None) -> None:
    run(QUICK)
    with pytest.raises(ValueError, match="distillation: task shapes:Segmentation defines no distance"):
        run(QUICK | {"distillation": {"for": ["easiest"]}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"selections": {"spread": {"selector": "k_center"}}}, "selections.spread: it reads embeddings"),
        ({"scores": {"loss": None, "prototype_distance": None}}, "scores.prototype_distance: .*no linear layer"),
        ({"scores": {"loss": None, "density": None}}, "scores.density: .*no linear layer"),
        ({"scores": {"loss": None, "grand": None}}, "scores.grand: .*takes whole batches, not one tensor"),
        ({"scores": {"loss": None, "forgetting": None}}, "harder too: checkpoint_loss, loss$"),
    ],
)
def test_what_ones_own_task_lacks_is_said_before_anything_is_read(
    change: dict[str, Any], said: str, shapes: None
) -> None:
    study = validated(QUICK | change, Path("own.yaml"))
    assert isinstance(study, Study)
    with pytest.raises(ValueError, match=said):
        study.own_task()


def test_scores_that_are_recommended_to_ones_own_task_are_there(run: Run, shapes: None) -> None:
    ran = run(QUICK | {"scores": dict.fromkeys(("checkpoint_loss", "loss"))})
    for name in ("checkpoint_loss", "loss"):
        assert np.ptp(ran.value(f"scores/{name}")) > 0


def test_the_command_finds_ones_own_task_in_the_working_folder_and_lists_what_it_cannot_import(
    shapes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "studies").mkdir()
    for content in (QUICK, QUICK | {"name": "broken", "task": "broken_shapes:Segmentation"}):
        (tmp_path / "studies" / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "broken_shapes.py").write_text("raise RuntimeError('imported')")

    monkeypatch.delenv("SECATEUR_STUDIES")
    listed = {one["name"]: one for one in json.loads(secateur_here("studies", "--json").stdout)["studies"]}
    assert listed["own"]["metric"] == listed["broken"]["metric"] == "its task's"
    assert listed["digits"]["metric"] == "by its data"
    assert (listed["adult"]["metric"], listed["diabetes"]["metric"]) == ("accuracy", "rmse")
    # -P: as of an installed command, the working folder is not on the path.
    code = "from secateur.pipelines.commands.main import main; main()"
    command = [sys.executable, "-P", "-c", code, "score", "own", "--json"]
    scored = subprocess.run(command, capture_output=True, text=True, check=False)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["scores"][0]["samples"] == 60
    refused = secateur_here("score", "broken")
    assert refused.returncode == 2
    assert "'broken_shapes:Segmentation' cannot be imported: imported" in refused.stderr


def test_a_signal_that_ones_own_task_lacks_ends_the_first_action_of_the_run(run: Run, shapes: None) -> None:
    with pytest.raises(Exception, match=r"scores.aum: .*margin.*does not define margin"):
        run(OWN | {"scores": {"loss": None, "aum": None}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "regresion"}, "did you mean 'regression'?"),
        ({"task": {"kind": "regression", "loss": "cubic"}}, "Input should be 'squared' or 'huber'"),
        ({"task": {"kind": "regression", "los": "huber"}}, "there are: loss, delta, units"),
        ({"task": "classification", "columns": {"features": ["a"], "label": ["pay", "twice"]}}, "task: regression"),
        ({"scores": {"aum": None}}, "a number has no competing classes"),
        ({"scores": {"aum": None}}, "scores that it has"),
        ({"selections": {"pairs": {"selector": "beta_sampling", "score": "loss"}}}, "selections.pairs: .*probabilit"),
        ({"selections": {"d2": {"selector": "d2_pruning", "score": "dynamic_uncertainty"}}}, "such as el2n or loss"),
        ({"training": TABLE | {"steps": 5, "label_smoothing": 0.1}}, "regression has none"),
        ({"task": "shapes:Segmentation"}, "source: the task shapes:Segmentation brings its samples with it"),
        ({"source": None}, "source: Field required"),
        ({"columns": {"features": ["a"], "label": "pay", "target": "labels"}}, "does not fit the task"),
    ],
)
def test_what_does_not_fit_a_task_is_said_when_the_study_loads(
    change: dict[str, Any], said: str, tmp_path: Path, shapes: None
) -> None:
    assert re.search(said, refused(tmp_path, slopes(tmp_path) | change))


@pytest.mark.parametrize("name", ["coverage_centric", "d2_pruning", "double_end"])
def test_where_there_is_no_aum_the_highest_scores_are_cut(name: str) -> None:
    rng, ids = np.random.default_rng(0), np.arange(200)
    scores, embeddings = rng.normal(size=200).astype(np.float32), rng.normal(size=(200, 4)).astype(np.float32)
    chosen = Selection(selector=name, score="loss", cut_by="score").static
    assert "aum" not in chosen.reads
    values = {"scores": scores, "aum": -scores, "embeddings": embeddings, "budget": 50}
    keep, same = (
        one(*(values[read] for read in one.reads), cutoff=0.3, seed=1, ids=ids) for one in (chosen, selectors()[name])
    )
    np.testing.assert_array_equal(keep, same)
    assert not keep[np.argsort(scores)[-60:]].any()
