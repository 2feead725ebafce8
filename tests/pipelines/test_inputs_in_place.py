"""Each input of a study is overwritten in place; a run in the same home then gives the results of a fresh home.

The models of studies declare the inputs: a new key that takes a text belongs to a scene, or to the keys that name no
input.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from input_scenes import Scene, scenes
from kill_scenes import compared
from pydantic import BaseModel

from secateur.pipelines.assets.recurring import stamp_now
from secateur.pipelines.data.source_kinds.contract import SourceKind
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import KINDS, kind_named
from secateur.scorers.settings import NamesInput, types_in
from secateur.trainers.experiments.contract import experiments

OF_COLUMNS = "columns.text columns.features columns.label columns.id columns.group columns.missing"
OF_SOURCES = "label_names split.column split.after"
OF_TEXTS = "columns.prompt columns.completion columns.messages"
OF_TARGETS = (
    "target.filter target.own target.source target.split target.task target.vectors.column target.vectors.key "
    "target.vectors.fingerprint"
)
NO_INPUTS = {
    "samples": f"name description metric {OF_COLUMNS} task.settings scores scores.scorer scores.settings selections "
    "selections.selector selections.score selections.settings distillation.for recurring.cron recurring.timezone "
    "compute.ray_address embeddings.revision embeddings.column embeddings.key embeddings.fingerprint scores.classes "
    "scores.column scores.fingerprint scores.high_means scores.key selections.by selections.share budget_of "
    f"selections.as_many_as {OF_TARGETS} {OF_TEXTS}",
    "samples source.Csv": f"{OF_SOURCES} separator charset",
    "samples source.Hub": f"{OF_SOURCES} train test name config revision",  # its commit counts
    **{f"samples source.{kind}": OF_SOURCES for kind in ("Disk", "Imagefolder", "Jsonl", "Parquet")},
    **{f"samples source.{kind}": "label_names" for kind in ("Diabetes", "Digits")},
    "choice": f"name description metric {OF_COLUMNS} columns.image scores scores.column scores.key scores.fingerprint "
    "embeddings.column embeddings.key embeddings.fingerprint selections selections.selector selections.score "
    "selections.by selections.share selections.settings keep recurring.cron recurring.timezone scores.classes "
    f"scores.high_means scores.scorer scores.settings {OF_TARGETS} {OF_TEXTS}",
    "search": "name description metric space.table.positions space.table.accuracy space.table.key "
    "space.callable.positions space.models.subset.selector space.models.subset.score space.models.subset.settings",
    "search space.models": f"{OF_COLUMNS} {OF_TEXTS} columns.image",  # one reader reads all sources
    "pruning": "name description metric experiment settings arms",  # settings are those of the experiments
    "grokking_tickets": "operation network",
    "random_pruning": "strangers",  # arrays of its data
    "head_pruning": "revision needle question",
    "prompt_pruning": "revision template verbalisers protect stop",
}
"""Keys that take texts, but no file, folder or code."""
ROOTS: dict[str, type[BaseModel]] = {
    **{kind: kind_named(kind) for kind in KINDS},
    **{name: each.settings for name, each in experiments().items()},
}


def keys_of(model: type[BaseModel], above: str) -> Iterator[tuple[str, bool]]:
    """Keys that take any text or path, each with its mark as an input; the sources of a search count as one."""
    for name, field in model.model_fields.items():
        parts, key = set(types_in(field.annotation)), f"{above}{field.alias or name}"
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        if above.startswith(("search", "choice")) and any(issubclass(part, SourceKind) for part in inner):
            yield key, False
            continue
        for part in inner:
            yield from keys_of(part, f"{key}.{part.__name__}." if issubclass(part, SourceKind) else f"{key}.")
        if parts & {str, Path, Any}:
            yield key, any(isinstance(mark, NamesInput) for mark in field.metadata)


def declared() -> dict[str, bool]:
    """Every key that takes a text, after its kind of study or experiment, with its mark."""
    return {key: marked for root, model in ROOTS.items() for key, marked in keys_of(model, f"{root} ")}


def test_every_key_that_takes_a_text_has_a_scene_or_names_no_input() -> None:
    known = {key for scene in scenes(Path()).values() for key in scene.changes}
    others = {f"{root}{'.' if ' ' in root else ' '}{key}" for root, keys in NO_INPUTS.items() for key in keys.split()}
    assert not known & others
    found = declared()
    assert known | others == found.keys()
    marked = {key for key, mark in found.items() if mark}
    assert marked <= known
    read_by_sources = {
        key for key in known if " source." in key or key.endswith((".source", " source", "columns.image"))
    }
    assert known - marked == read_by_sources | {"samples proxy_from"}


class Stage:
    """A working folder with the inputs of a scene, and homes beside it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.name = "study"
        for name, content in (("before", scene.before), (self.name, scene.study)):
            if content:
                Path(f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **content}))
        scene.set_up()

    def made(self, home: str) -> int:
        """Run the scene in a home as a new process would; gives the number of assets made for its study."""
        self.forget_code()
        made = 0
        with dg.DagsterInstance.ephemeral() as instance:
            for name in ("before", self.name):
                path = Path(f"{name}.yaml").absolute()
                if path.exists():
                    file = StudyFile(path, load_study(path))
                    made = run_study(file, Path(home).absolute() / "assets", instance, part=self.part(name)).made
        return made

    def contents(self) -> dict[str, str]:
        """Contents of all inputs of the study in a new process, with the stamp if it has a source."""
        self.forget_code()
        study, store = load_study(Path(f"{self.name}.yaml")), Store(Path("home").absolute() / "assets")
        found = study.contents(Path.cwd(), store.root / ".cache")
        if isinstance(study, Study) and study.source:
            found["stamp"] = stamp_now(study, Path.cwd(), store)
        return found

    def part(self, name: str) -> Any:
        return self.scene.part if name == self.name else "everything"

    def forget_code(self) -> None:
        """Forget modules in the working folders of all scenes, which a new process does not know."""
        for name, module in list(sys.modules.items()):
            if str(vars(module).get("__file__") or "").startswith(str(Path.cwd().parent)):
                del sys.modules[name]
        importlib.invalidate_caches()

    def holds(self, home: str) -> dict[str, Any]:
        """Files of a home for readers, without the private ones of steps."""
        found = compared(Path(home), f"assets/{self.name}")
        own = {name for name in found if any(part.startswith(".") for part in name.split("/"))}
        return {name: without_latency(value) for name, value in found.items() if name not in own}


def without_latency(value: Any) -> Any:
    """JSON without the one metric that is a time, also within tables."""
    if isinstance(value, dict):
        return {name: without_latency(each) for name, each in value.items() if name != "latency_microseconds"}
    if not isinstance(value, list):
        return value
    if value and all(isinstance(row, list) for row in value):
        times = {place for place, head in enumerate(value[0]) if str(head).startswith("latency")}
        value = [[cell for place, cell in enumerate(row) if place not in times] for row in value]
    return [without_latency(each) for each in value]


SCENES = scenes(Path())
BY_DAY = [
    pytest.param(name, marks=() if scene.daily else pytest.mark.nightly) for name, scene in sorted(SCENES.items())
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder on the import path, without bytecode, whose check has a resolution of seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize("name", sorted(name for name, scene in SCENES.items() if not scene.before))
def test_contents_and_the_stamp_change_with_each_input_and_with_nothing_else(
    name: str, copying_model: Path, folder: Path
) -> None:
    scene = scenes(copying_model)[name]
    stage = Stage(scene)
    before = stage.contents()
    assert stage.contents() == before
    for key, change in scene.changes.items():
        change()
        now = stage.contents()
        tops = {each.partition(".")[0] for each in before.keys() | now.keys() if before.get(each) != now.get(each)}
        # Changes show in the stamp, in a source with its pictures, in a task with its samples, or in settings.
        root, _, inner = key.partition(" ")
        top = inner.partition(".")[0] if root in KINDS else "settings"
        expected = {"source"} if top == "columns" or inner.endswith(".source") else {top}
        assert tops - {"stamp"} == expected | ({"source"} if top == "task" else set()), key
        assert ("stamp" in tops) == ("stamp" in now), key
        before = now
    for path in [each for each in folder.rglob("*") if each.is_file()]:
        os.utime(path, (4e9, 4e9))
    assert stage.contents() == before


@pytest.mark.parametrize("strictly", [False, pytest.param(True, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", BY_DAY)
def test_a_run_after_a_change_in_place_is_one_in_a_fresh_home(
    name: str, strictly: bool, copying_model: Path, folder: Path
) -> None:
    """Each change makes an asset anew; the test compares homes after the last one and, nightly, after each."""
    scene = scenes(copying_model)[name]
    stage = Stage(scene)
    first = stage.made("home")
    # Each run requests the manifest of a trial that has none, such as a twin with a teacher.
    unchanged = stage.made("home")
    assert unchanged <= 1 < first
    for number, (key, change) in enumerate(scene.changes.items(), start=1):
        before = stage.holds("home")
        change()
        assert stage.made("home") > unchanged, f"{key} was changed, and all was fresh"
        now = stage.holds("home")
        assert now != before, f"{key} was changed, and nothing else came of it"
        if strictly or number == len(scene.changes):
            stage.made(f"fresh {number}")
            fresh = stage.holds(f"fresh {number}")
            others = sorted(each for each in now.keys() | fresh.keys() if now.get(each, "") != fresh.get(each, ""))
            assert not others, f"after {key} was changed, other than in a fresh home: {others}"
