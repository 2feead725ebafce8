"""Studies of other units: accepted YAML, the graph from preparation to report, and repeated runs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import numpy as np
import pytest
import yaml
from scipy import stats
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.definitions import build
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.pages.tables import main_table
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies import units as unit_study
from secateur.pipelines.studies.files import StudyError, StudyFile, load_file, read_studies
from secateur.pipelines.studies.grid import Trial
from secateur.scorers.registry import scorers
from secateur.selectors.contract import mask_selectors
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.contract import Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.judging.comparison import Verdict
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.contract import Metric

RUNS: list[tuple[str, float, int]] = []


class Toy(Experiment):
    """Keeps the largest, or random ones, of numbers drawn by a seed; the metric is the share of their sum."""

    unit, paper, claim = "head", "none", "Largest beats random."
    arms: ClassVar[Arms] = {"random": Arm(), "largest": Arm()}
    references: ClassVar[Arms] = {"whole": Arm()}
    metrics = (Metric("sum", percent=True), Metric("count"))

    def __init__(self, *, size: int = 10, broken: str = "") -> None:
        self.size, self.broken = size, broken

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        RUNS.append(("prepare", 1.0, seed))
        np.save(folder / "numbers.npy", np.random.default_rng(seed).random(self.size))

    def units(self, trial: ArmTrial, prepared: Path) -> np.ndarray:
        return np.asarray(np.load(prepared / "numbers.npy"))

    def outcome(self, trial: ArmTrial, units: np.ndarray, masks: None, progress: Progress) -> Result:
        arm, keep, seed, numbers = trial.name, trial.keep, trial.seed, units
        RUNS.append((arm, keep, seed))
        if self.broken == arm:
            return Result(Outcome(metrics={"sum": float("nan")}))
        if self.broken == f"undeclared {arm}":
            return Result(Outcome(metrics={"sum": 1.0, "weight": 2.0}))
        if arm == "whole":
            return Result(Outcome(metrics={"sum": 1.0, "count": float(self.size)}))
        count = round(keep * self.size)
        order = np.argsort(-numbers) if arm == "largest" else np.random.default_rng((seed, 1)).permutation(self.size)
        mask = np.isin(np.arange(self.size), order[:count])
        kept = Kept("head", {"heads": mask.reshape(2, -1)}, made_for=f"numbers of seed {seed}")
        progress(1, 1)
        metrics = {"sum": float(numbers[mask].sum() / numbers.sum()), "count": float(count)}
        return Result(Outcome(metrics=metrics, samples_seen=count, facts={"first": int(order[0])}), kept)

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        return {"own": f"<svg>{outcomes['largest', 0.5, 0].kept}</svg>".encode()}


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_study, "experiments", lambda: {"toy": Toy})
    RUNS.clear()


@pytest.fixture
def content() -> dict[str, Any]:
    return {"kind": "pruning", "name": "numbers", "experiment": "toy", "keep": [0.2, 0.5], "seeds": 3}


@pytest.fixture
def written(tmp_path: Path, content: dict[str, Any]) -> Callable[..., StudyFile]:
    def write(**told: Any) -> StudyFile:
        path = tmp_path / "numbers.yaml"
        path.write_text(yaml.safe_dump(content | told))
        return load_file(path)

    return write


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"experiment": "toi"}, "there is no 'toi'; did you mean 'toy'"),
        ({"settings": {"siz": 3}}, "settings: siz: .*there are: size, broken"),
        ({"settings": {"size": "many"}}, "settings: size"),
        ({"arms": ["largst"]}, "did you mean 'largest'"),
        ({"arms": ["whole"]}, "'whole' is a reference"),
        ({"arms": ["largest", "largest"]}, "arms: the same value twice"),
        ({"keep": []}, "keep"),
        ({"keep": [0]}, r"keep\.0"),
        ({"keep": [1.5]}, r"keep\.0"),
        ({"keep": [0.1, 0.1]}, "keep: the same value twice"),
        ({"seeds": 0}, "seeds"),
        ({"colour": "red"}, "colour"),
        ({"metric": "summ"}, "metric: there is no 'summ'; did you mean 'sum'. there are: count, sum"),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_loads(
    written: Callable[..., StudyFile], told: dict[str, Any], said: str
) -> None:
    with pytest.raises(StudyError, match=said):
        written(**told)


def test_random_is_always_an_arm_and_references_have_no_budget(written: Callable[..., StudyFile]) -> None:
    study = written(arms=["largest"]).study
    assert study is not None
    assert study.selection_keys == ["whole", "random@0.2", "random@0.5", "largest@0.2", "largest@0.5"]
    assert [(trial.name, trial.keep) for trial in study.trials][::3] == [
        ("whole", 1.0), ("random", 0.2), ("random", 0.5), ("largest", 0.2), ("largest", 0.5),
    ]  # fmt: skip
    only = written(arms=[]).study
    assert only is not None
    assert only.arms == ["random"]


def test_another_of_the_experiments_metrics_can_decide(written: Callable[..., StudyFile]) -> None:
    study = written(metric="count").study
    assert study is not None
    assert [metric.name for metric in metrics_of(study)] == ["count", "sum"]
    assert study.decides("pruned", Trial("random@0.2", 0)) == written().study.decides("pruned", Trial("random@0.2", 0))  # type: ignore[union-attr]
    assert study.decides("report", None) != written().study.decides("report", None)  # type: ignore[union-attr]


def test_trials_of_a_seed_alone_are_read_back() -> None:
    for trial in (Trial("", 3), Trial("er@0.1", 0)):
        assert Trial.parse(str(trial)) == trial


def test_the_graph_from_preparation_to_report(written: Callable[..., StudyFile], tmp_path: Path) -> None:
    file, store = written(), Store(tmp_path / "store")
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, store.root, instance)
        assert len(RUNS) == 3 + 3 * 5
        report = json.loads((store.place(dg.AssetKey(["numbers", "report"])) / "report.json").read_text())
        page = (store.place(dg.AssetKey(["numbers", "report"])) / "report.html").read_text()
        # Independently: the sums again, their paired differences, and the interval from SciPy.
        numbers = [np.random.default_rng(seed).random(10) for seed in range(3)]
        largest = np.array([np.sort(each)[-5:].sum() / each.sum() for each in numbers])
        drawn = [np.random.default_rng((seed, 1)).permutation(10)[:5] for seed in range(3)]
        random = np.array([each[rows].sum() / each.sum() for each, rows in zip(numbers, drawn, strict=True)])
        row = next(row for row in report["rows"] if row["name"] == "largest" and row["keep"] == 0.5)
        assert row["metrics"]["sum"]["mean"] == pytest.approx(largest.mean())
        assert row["against"]["random"]["p_value"] == pytest.approx(stats.ttest_rel(largest, random).pvalue)
        low, high = stats.t.interval(0.95, 2, (largest - random).mean(), stats.sem(largest - random))
        assert row["against"]["random"]["half_width"] == pytest.approx((high - low) / 2)
        assert row["against"]["whole"]["difference"] == pytest.approx((largest - 1).mean())
        assert (row["kept"], row["of"]) == (5, 10)
        assert [metric["percent"] for metric in report["metrics"]] == [True, False]
        assert row["compute"]["all"]["samples"] == 5
        assert report["verdict"] in page
        assert "Own, picture" in page
        assert (store.place(dg.AssetKey(["numbers", "report"])) / "own.svg").read_bytes() == b"<svg>5</svg>"
        # Nothing runs twice; removed results, and those of other settings, run again.
        RUNS.clear()
        run_study(file, store.root, instance)
        assert RUNS == []
        trial = Trial("largest@0.5", 1)
        manifest = Manifest.load(store.place(dg.AssetKey(["numbers", "manifest"]), trial))
        assert manifest.kept.made_for == "numbers of seed 1"
        assert manifest.declaration.payload.groups[0].listed == tuple(
            map(tuple, np.argwhere(manifest.kept.groups["heads"]))
        )
        store.find(dg.AssetKey(["numbers", "pruned"]), trial).unlink()  # type: ignore[union-attr]
        run_study(file, store.root, instance)
        assert RUNS == [("largest", 0.5, 1)]
        RUNS.clear()
        run_study(file, store.root, instance, trials=[trial], again=True)
        assert RUNS == [("largest", 0.5, 1)]
        RUNS.clear()
        run_study(written(settings={"size": 20}), store.root, instance, trials=[trial])
        assert RUNS == [("prepare", 1.0, 1), ("largest", 0.5, 1)]


def test_an_arm_is_run_again_where_the_version_of_its_scorer_or_selector_has_changed(
    written: Callable[..., StudyFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"random": Arm(selector="random_mask"), "largest": Arm("magnitude", "global_mask")}
    monkeypatch.setattr(Toy, "unit", "weight")
    monkeypatch.setattr(Toy, "arms", arms)
    monkeypatch.setattr(Toy, "masks", lambda *rest: None)
    store, trial = Store(tmp_path / "store"), Trial("largest@0.5", 0)

    def run() -> list[tuple[str, float, int]]:
        RUNS.clear()
        run_study(written(keep=[0.5], seeds=1), store.root, instance)
        return list(RUNS)

    with dg.DagsterInstance.ephemeral() as instance:
        assert run() == [("prepare", 1.0, 0), ("whole", 1.0, 0), ("random", 0.5, 0), ("largest", 0.5, 0)]
        assert run() == []
        scorer, selector = scorers("weight")["magnitude"], mask_selectors("weight")["global_mask"]
        changed = replace(scorer, card=replace(scorer.card, version="new"))
        monkeypatch.setitem(scorers("weight"), "magnitude", changed)
        assert run() == [("largest", 0.5, 0)]
        provenance = Manifest.load(store.place(("numbers", "manifest"), trial)).declaration.provenance
        assert provenance.selector_version == f"experiment 1, magnitude new, global_mask {selector.version}"
        assert run() == []
        monkeypatch.setitem(mask_selectors("weight"), "global_mask", replace(selector, version="new"))
        assert run() == [("largest", 0.5, 0)]


def test_a_killed_run_goes_on_with_the_trials_that_are_missing(
    written: Callable[..., StudyFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, plain = written(seeds=2), Toy.run

    def killed(self: Toy, arm: str, keep: float, seed: int, prepared: Path, progress: Progress) -> Result:
        if (arm, seed) == ("largest", 0):
            raise KeyboardInterrupt
        return plain(self, arm, keep, seed, prepared, progress)

    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(Toy, "run", killed)
        with pytest.raises(BaseException):  # noqa: B017, PT011 (an interrupt, or what dagster makes of it)
            run_study(file, tmp_path / "store", instance)
        done = list(RUNS)
        monkeypatch.setattr(Toy, "run", plain)
        RUNS.clear()
        run_study(file, tmp_path / "store", instance)
    assert 3 <= len(done) < 12
    assert not set(done) & set(RUNS)
    assert set(done) | set(RUNS) == {("prepare", 1.0, seed) for seed in (0, 1)} | {
        (arm, keep, seed) for arm in ("random", "largest") for keep in (0.2, 0.5) for seed in (0, 1)
    } | {("whole", 1.0, seed) for seed in (0, 1)}


def test_what_is_prepared_goes_on_after_a_kill_from_the_state_that_it_saved(
    written: Callable[..., StudyFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, plain, states = written(seeds=2), Toy.prepare, list[Any]()

    def long(self: Toy, seed: int, folder: Path, progress: Progress) -> None:
        assert self.snapshots is not None
        states.append((seed, self.snapshots.read({"seed": seed})))
        if len(states) == 2:
            self.snapshots.write({"seed": seed}, {"done": 7})
            raise KeyboardInterrupt
        plain(self, seed, folder, progress)
        self.snapshots.finish()

    monkeypatch.setattr(Toy, "prepare", long)
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(BaseException):  # noqa: B017, PT011 (an interrupt, or what dagster makes of it)
            run_study(file, tmp_path / "store", instance)
        run_study(file, tmp_path / "store", instance)
    first, second, again = states
    assert (first, second, again) == ((0, None), (1, None), (1, {"done": 7}))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("largest", "sum is nan, which is no result"),
        ("undeclared largest", "largest@0.2 has weight; add it to the experiment's `metrics`"),
    ],
)
def test_a_result_that_is_none_fails_and_is_not_kept(
    written: Callable[..., StudyFile], tmp_path: Path, broken: str, said: str
) -> None:
    file = written(settings={"broken": broken})
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(ValueError, match=said):
        run_study(file, tmp_path / "store", instance)
    assert not (tmp_path / "store" / "numbers" / "pruned" / "largest@0.2").exists()


def test_lower_can_be_better_and_random_can_win(
    written: Callable[..., StudyFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = written().study
    assert study is not None
    monkeypatch.setattr(Toy, "metrics", (Metric("sum", higher_is_better=False),))
    values = {"random@0.2": 900.0, "largest@0.2": 500.0, "random@0.5": 300.0, "largest@0.5": 700.0, "whole": 2000.0}
    outcomes = {
        Trial(name, seed): Outcome(metrics={"sum": value + seed * (1 + name.startswith("largest"))})
        for name, value in values.items()
        for seed in range(3)
    }
    report = build_report(study, outcomes)
    assert report.verdict == (
        "Better than random at the same budget, over 3 seeds: largest at 0.2; the others were not. "
        "Random did better than largest at 0.5."
    )
    header, *lines = main_table(report)
    assert header == ["arm", "kept", "sum", "random", "against random"]
    assert lines[0] == ["random", "0.2", "901.0 ± 2.5", "901.0 ± 2.5", "the baseline"]
    assert lines[1][4].startswith("better -399.0 (p ")
    assert lines[-1][:2] == ["whole", "all"]
    verdicts = {(row.name, row.keep): row.against["random"].verdict for row in report.rows if row.name != "random"}
    assert verdicts == {("largest", 0.2): Verdict.BETTER, ("largest", 0.5): Verdict.WORSE}


def test_a_broken_study_stands_beside_the_others(written: Callable[..., StudyFile], tmp_path: Path) -> None:
    written()
    (tmp_path / "other.yaml").write_text("kind: pruning\nname: other\nexperiment: nothing\nkeep: [0.1]\n")
    files = read_studies([tmp_path])
    graph = build(files, tmp_path / "store").resolve_asset_graph()
    keys = {"/".join(key.path) for key in graph.materializable_asset_keys}
    assert keys == {"numbers/prepared", "numbers/pruned", "numbers/report", "other/broken_study"}


def test_from_the_shell(written: Callable[..., StudyFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(written().path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    shell = CliRunner()
    some = shell.invoke(app, ["prune", path, "--selection", "largest", "--keep", "0.5", "--seed", "0", "--json"])
    assert some.exit_code == 0, some.output
    (one,) = json.loads(some.stdout)["trials"]
    assert (one["selection"], one["kept"], one["of"]) == ("largest@0.5", 5, 10)
    sound = shell.invoke(app, ["verify", one["manifest"], "--json"])
    assert json.loads(sound.stdout)["unit"] == "head"
    whole = shell.invoke(app, ["run", path])
    assert whole.exit_code == 0, whole.output
    assert "over 3 seeds" in whole.stdout
    shape = json.loads(shell.invoke(app, ["run", path, "--json"]).stdout)
    assert set(shape) == set(json.loads(some.stdout))
    assert (shape["kind"], shape["made"], len(shape["trials"]), shape["best"]) == ("pruning", 0, 15, None)
    assert RUNS.count(("largest", 0.5, 0)) == 1
    wrong = shell.invoke(app, ["prune", path, "--selection", "larges"])
    assert isinstance(wrong.exception, StudyError)
    assert "did you mean 'largest'" in str(wrong.exception)
    refused = shell.invoke(app, ["score", path])
    assert "is of kind 'pruning' and selects no samples" in str(refused.exception)
