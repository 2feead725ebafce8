"""Ad-hoc selections from the launchpad: the right samples, a manifest that verifies, mistakes found before any work."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from secateur.pipelines.assets.shell_runs import QUIET
from secateur.pipelines.definitions import build
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.selectors.static.stratified_random import stratified_random
from secateur.selectors.static.top import top

WriteStudy = Callable[..., StudyFile]
KEY = dg.AssetKey(["blobs", "ad_hoc_selection"])


class Desk:
    """A study whose subsets have been made, and its launchpad."""

    def __init__(self, file: StudyFile, root: Path, instance: dg.DagsterInstance) -> None:
        self.file, self.store, self.instance = file, Store(root), instance
        self.job = build([file], root).resolve_job_def("blobs_ad_hoc_selection")

    def ask(self, **config: Any) -> dg.ExecuteInProcessResult:
        asked = {"ops": {"select_from_blobs": {"config": config}}, **QUIET}
        return self.job.execute_in_process(instance=self.instance, run_config=asked, raise_on_error=False)

    def page(self, **config: Any) -> dict[str, Any]:
        """The UI's metadata of a successful selection."""
        assert self.ask(**config).success
        event = self.instance.get_latest_materialization_event(KEY)
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def refusal(self, **config: Any) -> str:
        (step,) = [event for event in self.ask(**config).all_events if event.is_step_failure]
        return str(step.step_failure_data.error.message)

    def score(self, name: str) -> np.ndarray:
        return np.array(self.store.load(dg.AssetKey(["blobs", "scores", name])))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    import datasets
    import yaml

    from secateur.pipelines.studies.files import load_study

    folder = tmp_path_factory.mktemp("desk")
    rng = np.random.default_rng(0)
    for name, count in (("train", 120), ("test", 30)):
        labels = np.arange(count) % 3
        points = rng.normal(size=(count, 2)) + labels[:, None]
        datasets.Dataset.from_dict({"x": points[:, 0], "y": points[:, 1], "label": labels}).to_parquet(
            folder / f"{name}.parquet"
        )
    recipe = {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 2, "batch_size": 32}
    content = {
        "name": "blobs",
        "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
        "columns": {"features": ["x", "y"], "label": "label"},
        "proxy": recipe,
        "training": recipe,
        "scores": {"el2n": {"epochs": 2}, "forgetting": None, "density": None},
        "selections": {"hardest": {"selector": "top", "score": "el2n"}, "covered": {"selector": "k_center"}},
        "keep": [0.25],
        "seeds": 1,
        "neighbours": {"count": 4},
    }
    path = folder / "blobs.yaml"
    path.write_text(yaml.safe_dump(content))
    file = StudyFile(path, load_study(path))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, folder / "store", instance, part="scores")
        run_study(file, folder / "store", instance, part="subsets")
        yield Desk(file, folder / "store", instance)


def test_the_defaults_select(desk: Desk) -> None:
    page = desk.page(score="el2n")
    manifest = Manifest.load(page["path"], verify=True)
    assert manifest.rows.tolist() == np.flatnonzero(top(desk.score("el2n"), 30, ids=np.arange(120))).tolist()
    assert page["name"] == manifest.provenance.selection == "top-el2n-0.25-seed0"
    assert (page["kept"], page["of"], page["selector"], page["score"]) == (30, 120, "top", "el2n")
    assert Path(page["path"]).is_relative_to(desk.store.root)
    # The same request is the same selection: it replaces the first.
    assert desk.page(score="el2n")["path"] == page["path"]


def test_choices_reach_the_selector_and_the_manifest(desk: Desk) -> None:
    page = desk.page(score="forgetting", keep=7, seed=2**63 - 1, settings={"end": "low"}, name="easy.7")
    manifest = Manifest.load(page["path"], verify=True)
    expected = top(desk.score("forgetting"), 7, end="low", seed=2**63 - 1, ids=np.arange(120))
    assert manifest.rows.tolist() == np.flatnonzero(expected).tolist()
    told = manifest.provenance
    assert (told.selector, told.settings, told.keep, told.budget, told.seed) == ("top", {"end": "low"}, 7, 7, 2**63 - 1)
    assert [card.name for card in told.scores] == ["forgetting"]
    assert manifest.path.name == "easy.7"


def test_a_selector_of_no_score_leaves_the_score_alone(desk: Desk) -> None:
    page = desk.page(selector="stratified_random", keep=12, seed=1)
    labels = np.arange(120) % 3
    expected = stratified_random(np.arange(120), labels, 12, seed=1)
    assert Manifest.load(page["path"]).rows.tolist() == np.flatnonzero(expected).tolist()
    assert page["score"] == "none, stratified_random reads none"


def test_the_page_is_that_of_the_studys_own_subset(desk: Desk) -> None:
    page = desk.page(score="el2n", keep=0.25)
    own = desk.store.load(dg.AssetKey(["blobs", "subset"]), Trial("hardest@0.25", 0))
    random = desk.store.load(dg.AssetKey(["blobs", "subset"]), Trial("uniform_random@0.25", 0))
    assert "| hardest | 1.00 | 30 |" in page["overlap"]
    assert f"| {np.count_nonzero(own & random)} |" in page["overlap"]
    event = desk.instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            asset_key=dg.AssetKey(["blobs", "subset"]),
            asset_partitions=["0|hardest@0.25"],
        ),
        limit=1,
    )[0].asset_materialization
    assert event is not None
    same = (
        "coverage radius",
        "coverage radius of random",
        "balance of strata",
        "kept and dropped",
        "overlap with random",
    )
    assert {name: page[name] for name in same} == {name: event.metadata[name].value for name in same}
    assert page["coverage radius"] > 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"settings": {"ennd": "low"}}, "settings of top: there is no 'ennd'; did you mean 'end'?"),
        ({"settings": {"end": "middle"}}, "end: Input should be 'high' or 'low', got 'middle'"),
        ({"selector": "stratified_random", "settings": {"end": "low"}}, "stratified_random has none, got 'end'"),
        ({"keep": 0}, "keep: a fraction above 0 and up to 1, or a whole number of samples, got 0"),
        ({"keep": -3}, "got -3"),
        ({"keep": 1.5}, "keep: a fraction above 0 and up to 1, or a whole number of samples, got 1.5"),
        ({"keep": 121}, "keep: blobs has 120 samples, got 121"),
        ({"seed": -1}, "seed: a whole number from 0"),
        ({"seed": 2**63}, "seed: a whole number from 0 to 9223372036854775807, got 9223372036854775808"),
        ({"name": "../out"}, "name: up to 100 letters"),
        ({"name": "x" * 101}, "name: up to 100 letters"),
        ({"name": ".hidden"}, "name: up to 100 letters"),
        (
            {"selector": "quantile_window", "settings": {"low": 0.4, "high": 0.5}, "keep": 60},
            "budget 60 is above",
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence_and_nothing_is_written(
    desk: Desk, config: dict[str, Any], said: str
) -> None:
    folder = desk.store.place(KEY)
    before = sorted(folder.glob("*"))
    text = desk.refusal(**config)
    assert said in text
    assert "\n" not in text
    assert sorted(folder.glob("*")) == before
    assert not (desk.store.root / "out").exists()


def test_a_given_name_is_replaced_only_where_that_is_asked_for(desk: Desk) -> None:
    desk.page(name="mine", keep=5)
    told = "exists already: name another path, or replace it with overwrite: true"
    assert told in desk.refusal(name="mine", keep=6)
    assert Manifest.load(desk.store.place(KEY) / "mine").declaration.count == 5
    assert desk.page(name="mine", keep=6, overwrite=True)["kept"] == 6


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"selector": "tpo"}, "got tpo"),
        ({"score": "aum"}, "got aum"),
        ({"selector": "coverage_centric"}, "got coverage_centric"),
        ({"keep": "many"}, "keep"),
        ({"seed": 0.5}, "seed"),
        ({"kep": 0.1}, "kep"),
    ],
)
def test_the_launchpad_itself_refuses_what_it_can(desk: Desk, config: dict[str, Any], said: str) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        dg.validate_run_config(desk.job, {"ops": {"select_from_blobs": {"config": config}}})
    assert said in str(caught.value)


def test_the_launchpad_offers_what_the_study_can_serve_and_says_why_not_the_rest(desk: Desk) -> None:
    (op,) = desk.job.nodes
    fields = op.definition.config_schema.config_type.fields  # type: ignore[union-attr]
    assert all(field.description for field in fields.values())
    offered = {value.config_value for value in fields["selector"].config_type.enum_values}
    assert {"top", "k_center", "uniform_random", "stratified_random", "herding"} <= offered
    assert not {"coverage_centric", "rs2", "info_batch"} & offered
    assert "coverage_centric needs aum" in fields["selector"].description
    assert all(field.default_provided for field in fields.values())


def test_what_has_not_been_made_is_named(write_study: WriteStudy, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        desk = Desk(write_study(), tmp_path / "empty", instance)
        assert desk.refusal() == "blobs/scores/aum has not been made yet: materialise it, then select"


def test_scores_of_other_data_are_refused(write_study: WriteStudy, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        file = write_study(seeds=1, keep=[0.25])
        run_study(file, tmp_path / "store", instance, part="scores")
        desk = Desk(file, tmp_path / "store", instance)
        assert "cutoff" in desk.refusal(selector="coverage_centric")
        assert desk.page(selector="coverage_centric", settings={"cutoff": 0.1})["kept"] == 30
        desk.store.save(dg.AssetKey(["blobs", "scores", "aum"]), np.zeros(90, np.float32))
        assert desk.refusal() == "blobs/scores/aum has 90 rows, blobs/samples 120: materialise it again"
