"""Studies in a user's own Dagster project, beside existing assets, resources and an IO manager."""

import importlib.metadata
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
import yaml
from dagster.components import ScaffoldRequest

from secateur.pipelines.component import COMPONENTS, Example, SearchComponent, StudyComponent
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.storage.home import home
from secateur.pipelines.studies.files import SHIPPED, load_file

OTHERS = """
import dagster as dg

class Theirs(dg.IOManager):
    def handle_output(self, context, obj):
        raise RuntimeError("not a secateur's output")

    def load_input(self, context):
        raise RuntimeError("not a secateur's input")

@dg.asset
def raw_tickets():
    return [1]

@dg.definitions
def defs():
    store = dg.ResourceDefinition.hardcoded_resource("theirs")
    resources = {"io_manager": Theirs(), "store": store, "progress": store}
    return dg.Definitions(assets=[raw_tickets], resources=resources, executor=dg.in_process_executor)
"""
WriteComponent = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in `dg`'s layout, with definitions of its own."""
    root = tmp_path / "project"
    package = root / "src" / "tickets_project"
    (package / "defs").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[project]\nname = "tickets-project"\n[tool.dg]\ndirectory_type = "project"\n'
        '[tool.dg.project]\nroot_module = "tickets_project"\n'
    )
    (package / "__init__.py").touch()
    (package / "defs" / "__init__.py").touch()
    (package / "defs" / "others.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(root / "src")
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == "tickets_project"]:
        del sys.modules[name]


@pytest.fixture
def write_component(project: Path) -> WriteComponent:
    """Write `defs.yaml` of a component into a folder of its own."""

    def write(component: type[dg.Component], attributes: dict[str, Any], folder: str) -> Path:
        path = project / "src" / "tickets_project" / "defs" / folder / "defs.yaml"
        path.parent.mkdir()
        kind = f"{component.__module__}.{component.__name__}"
        path.write_text(yaml.safe_dump({"type": kind, "attributes": attributes}))
        return path

    return write


def definitions(project: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=project)


def test_a_study_runs_in_a_project_that_has_its_own_io_manager(
    project: Path,
    write_component: WriteComponent,
    study_content: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TICKETS_DATA", str(tmp_path / "data"))
    study_content |= {"keep": [0.25], "seeds": 1, "recurring": {"cron": "0 6 * * 1"}}
    study_content["source"]["train"] = "{{ env.TICKETS_DATA }}/train.parquet"
    study_content["source"]["test"] = "../../../../../data/test.parquet"  # from the folder of its file
    write_component(StudyComponent, study_content, "blobs")
    write_component(StudyComponent, study_content | {"name": "others"}, "others_study")
    defs = definitions(project)
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    assert {"blobs_export", "others_export", "blobs_rescoring", "blobs_ad_hoc_selection"} <= set(repository.job_names)
    assert dg.AssetKey("raw_tickets") in defs.resolve_asset_graph().materializable_asset_keys

    keys = {key for key in defs.resolve_asset_graph().materializable_asset_keys if key.path[0] == "blobs"}
    trials = {dg.AssetKey(["blobs", name]) for name in ("subset", "manifest", "trained_model", "evaluation")}
    whole = keys - trials - {dg.AssetKey(["blobs", "report"])}
    one = dg.MultiPartitionKey({"selection": "hardest@0.25", "seed": "0"})
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(asset_selection=sorted(whole), instance=instance).success
        assert job.execute_in_process(asset_selection=sorted(trials), instance=instance, partition_key=one).success
    manifest = Manifest.load(home() / "assets" / "blobs" / "manifest" / "hardest@0.25" / "0")
    assert len(manifest.rows) == 30


def test_a_search_and_the_study_whose_proxy_it_finds_stand_beside_each_other(
    project: Path, write_component: WriteComponent, study_content: dict[str, Any]
) -> None:
    search = load_file(SHIPPED / "digits_search.yaml").study
    assert search is not None
    write_component(StudyComponent, study_content | {"proxy_from": "digits_search"}, "a_study")
    best = dg.AssetKey(["digits_search", "best_architecture"])
    graph = definitions(project).resolve_asset_graph()
    assert best in graph.external_asset_keys
    write_component(SearchComponent, search.model_dump(mode="json", exclude_unset=True), "search")
    graph = definitions(project).resolve_asset_graph()
    assert best in graph.materializable_asset_keys
    assert best in graph.get(dg.AssetKey(["blobs", "proxy"])).parent_keys


def test_a_study_comes_after_the_asset_that_writes_its_data(
    project: Path, write_component: WriteComponent, study_content: dict[str, Any]
) -> None:
    path = write_component(StudyComponent, study_content, "blobs")
    after = {"target": 'key:"blobs/source"', "attributes": {"deps": ["raw_tickets"]}}
    path.write_text(path.read_text() + yaml.safe_dump({"post_processing": {"assets": [after]}}))
    source = definitions(project).resolve_asset_graph().get(dg.AssetKey(["blobs", "source"]))
    assert source.parent_keys == {dg.AssetKey("raw_tickets")}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_that_ships_is_the_same_as_a_component(
    path: Path, project: Path, write_component: WriteComponent
) -> None:
    file = load_file(path)
    [component] = [each for each in COMPONENTS if isinstance(file.study, each.model)]
    content = yaml.safe_load(path.read_text())
    jsonschema.validate(content, component.get_model_cls().model_json_schema())  # as `dg check yaml` does
    write_component(component, content, "one")
    loaded = dg.ComponentTree.for_project(project).get_all_components(component)
    assert [each.content for each in loaded] == [file.study]


def test_a_wrong_key_is_named_with_its_file(
    project: Path, write_component: WriteComponent, study_content: dict[str, Any]
) -> None:
    path = write_component(StudyComponent, study_content | {"keeps": [0.1]}, "blobs")
    with pytest.raises(Exception, match="loading component blobs") as raised:
        definitions(project)
    told = "".join(traceback.format_exception(raised.value))
    assert f"attributes.keeps at {path}:" in told


@pytest.mark.parametrize("component", COMPONENTS)
def test_editors_are_told_of_every_key_and_shown_an_example_that_is_valid(component: type[dg.Component]) -> None:
    model = component.get_model_cls()
    assert model is not None
    schema = model.model_json_schema()
    assert set(schema["properties"]) == set(model.model_fields)
    [example] = schema["examples"]
    assert model(**example)
    with pytest.raises(jsonschema.ValidationError, match="keeps"):
        jsonschema.validate(example | {"keeps": [1]}, schema)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_new_component_is_a_study_that_loads(component: type[dg.Component], project: Path) -> None:
    """Call the code of `dg scaffold defs secateur.pipelines.component.StudyComponent my-study`."""
    folder = project / "src" / "tickets_project" / "defs" / "my-study"
    folder.mkdir()
    name = f"{component.__module__}.{component.__name__}"
    request = ScaffoldRequest[Any](name, folder, scaffold_format="yaml", project_root=project, params=None)
    Example().scaffold(request)
    keys = definitions(project).resolve_asset_graph().materializable_asset_keys
    assert {key.path[0] for key in keys} == {"raw_tickets", "my_study"}


def test_dg_lists_the_components() -> None:
    [registered] = importlib.metadata.entry_points(group="dagster_dg_cli.registry_modules", name="secateur")
    assert registered.load().StudyComponent is StudyComponent
