"""Teachers through the graph: trained or given, logits by blocks, the loss of a trial's students, the cost."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import torch

from secateur.pipelines.assets import teacher as module
from secateur.pipelines.assets.data import prepare_asset
from secateur.pipelines.assets.teacher import teacher_assets, teacher_inputs
from secateur.pipelines.definitions import resources_of
from secateur.pipelines.runs import teaching
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.teaching import objective_for
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation import token_teacher
from secateur.trainers.distillation.cached_logits import TeacherLogits, cache_logits
from secateur.trainers.distillation.objective import Distillation, distil
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.distillation.tuning import tune_distillation
from secateur.trainers.loop.checkpoints import fingerprint
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models
from secateur.trainers.tasks.classification import Classification

WriteStudy = Callable[..., StudyFile]
CPU = torch.device("cpu")


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["blobs", name])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


class Graph:
    """One study's data and teacher assets, materialised below a root."""

    def __init__(self, study: Study, root: Path, instance: dg.DagsterInstance) -> None:
        self.study, self.store, self.instance = study, Store(root / "store"), instance
        self.assets = [prepare_asset(study, root), *teacher_assets(study, root)]

    def materialise(self, *names: str) -> dict[str, dict[str, Any]]:
        """Metadata by name; of everything without names."""
        resources = resources_of(self.store.root)
        selection = [key(name) for name in names] or None
        done = dg.materialize(self.assets, instance=self.instance, resources=resources, selection=selection)
        events = [event.materialization for event in done.get_asset_materialization_events()]
        return {one.asset_key.path[1]: {name: value.value for name, value in one.metadata.items()} for one in events}

    @property
    def data(self) -> Data:
        return data_of(*(self.store.load(key(name)) for name in ("inputs", "samples", "source")))

    @property
    def loaded(self) -> dict[str, Any]:
        return {name: self.store.load(key(name)) for name in teacher_inputs(self.study)}


@pytest.fixture
def graph(write_study: WriteStudy, tmp_path: Path, instance: dg.DagsterInstance) -> Callable[..., Graph]:
    def make(**distillation: Any) -> Graph:
        study = write_study(distillation=distillation).study
        assert study is not None
        return Graph(study, tmp_path, instance)

    return make


def weights_of(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_a_study_without_distillation_has_no_such_assets(write_study: WriteStudy) -> None:
    study = write_study().study
    assert study is not None
    assert teacher_assets(study) == []
    assert teacher_inputs(study) == {}


def test_the_teacher_is_trained_on_all_samples_and_says_what_it_cost(graph: Callable[..., Graph]) -> None:
    larger = {"model": "mlp", "model_settings": {"hidden": [32]}, "epochs": 3, "batch_size": 32}
    taught = graph(teacher=larger, seed=7)
    shown = taught.materialise()
    expected = train(taught.data, TrainingConfig(**larger), seed=7, device=CPU)
    assert torch.equal(weights_of(models.load(taught.store.place(key("teacher")))), weights_of(expected.model))
    cost = taught.store.load(key("teacher_cost"))
    assert (cost["forward"], cost["backward"]) == (360, 360)
    assert cost["seconds"] > 0
    assert shown["teacher"]["backward"] == 360
    assert 0 <= shown["teacher"]["test accuracy"] <= 1
    cached = TeacherLogits.load(taught.store.place(key("teacher_logits")))
    direct = cache_logits(expected.model, taught.data)
    np.testing.assert_array_equal(cached.values, direct.values)
    assert (cached.augmentation, cached.teacher) == (None, fingerprint([taught.store.place(key("teacher"))]))
    assert shown["teacher_logits"]["augmentation"] == "none"
    assert taught.store.load(key("teacher_logits_cost"))["forward"] == 120


def test_students_of_a_trial_descend_what_direct_calls_say(graph: Callable[..., Graph]) -> None:
    taught = graph(temperature=2.0, curve=[[0.1, 1.0], [0.6, 0.5]], top_k=2)
    taught.materialise()
    data, config = taught.data, taught.study.training
    keep = uniform_random(np.arange(120), 42, seed=0)
    objective = objective_for(taught.study, config, taught.loaded, kept=42, data=taught.data)
    student = train(data, config, seed=0, keep=keep, objective=objective, device=CPU).model
    model = train(data, config, seed=1000, device=CPU).model
    teacher = Teacher(cached=cache_logits(model, data, top_k=2, temperature=2.0))
    direct = distil(teacher, alpha=0.75, temperature=2.0)
    expected = train(data, config, seed=0, keep=keep, objective=direct, device=CPU).model
    assert torch.equal(weights_of(student), weights_of(expected))
    assert not torch.equal(weights_of(student), weights_of(train(data, config, seed=0, keep=keep, device=CPU).model))


def test_where_students_see_varied_samples_nothing_is_cached_and_the_teacher_is_asked(
    graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = graph()
    assert set(teacher_inputs(taught.study)) == {"teacher", "teacher_logits"}
    varied = taught.study.training.model_copy(update={"augmentation": Augmentation(flip=True)})
    augmented = taught.study.model_copy(update={"training": varied})
    assert set(teacher_inputs(augmented)) == {"teacher"}
    assert len(teacher_assets(augmented)) == 1
    assert set(teacher_inputs(graph(cache=False).study)) == {"teacher"}
    taught.materialise()
    asked: list[bool] = []
    build = token_teacher.Teacher

    def recorded(*args: Any, **kwargs: Any) -> Teacher:
        teacher = build(*args, **kwargs)
        asked.append(teacher.cached is None)
        return teacher

    monkeypatch.setattr(token_teacher, "Teacher", recorded)
    objective_for(taught.study, taught.study.training, taught.loaded, kept=12, data=taught.data)
    # The launchpad may set augmentation where the study did not.
    objective_for(taught.study, varied, taught.loaded, kept=12, data=taught.data)
    assert asked == [False, True]


def test_a_teacher_from_a_folder_is_taken_as_it_is(graph: Callable[..., Graph], tmp_path: Path) -> None:
    config = TrainingConfig(model="mlp", model_settings={"hidden": [5]}, steps=3)
    random = np.random.default_rng(0)
    data = Data(random.normal(size=(9, 2)).astype(np.float32), np.arange(9) % 3, 3)
    (tmp_path / "given").mkdir()
    model = train(data, config, seed=0, device=CPU).model
    models.save(model, tmp_path / "given", config, (2,))
    taught = graph(teacher="given", alpha=0.5)
    taught.materialise()
    assert torch.equal(weights_of(models.load(taught.store.place(key("teacher")))), weights_of(model))
    assert taught.store.load(key("teacher_cost")) == {"forward": 0, "backward": 0, "seconds": 0.0}


def test_a_folder_without_a_teacher_of_these_data_is_refused(graph: Callable[..., Graph], tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(ValueError, match=r"given has no model\.json and no model\.safetensors; name a saved"):
        graph(teacher="given").materialise()
    config = TrainingConfig(model="mlp", steps=1)
    four = train(Data(np.eye(4, dtype=np.float32), np.arange(4), 4), config, seed=0, device=CPU).model
    models.save(four, tmp_path / "given", config, (4,))
    with pytest.raises(ValueError, match=r"given reads inputs of shape \[4\], those of the data are \[2\]"):
        graph(teacher="given").materialise()
    four = train(Data(np.eye(4, 2, dtype=np.float32), np.arange(4), 4), config, seed=0, device=CPU).model
    models.save(four, tmp_path / "given", config, (2,))
    with pytest.raises(ValueError, match=r"given knows 4 classes \(without names\), the data have 3 \("):
        graph(teacher="given").materialise()


@pytest.mark.parametrize("known", ["names", "none", "other names"])
def test_a_folder_of_classes_in_another_order_is_matched_or_refused(
    known: str, graph: Callable[..., Graph], tmp_path: Path
) -> None:
    """The same data, prepared in the order of the study and taught to a model that has its classes the other way."""
    taught = graph(teacher="given", alpha=0.5)
    taught.materialise(*(each.path[1] for each in taught.assets[0].keys))
    data, config = taught.data, TrainingConfig(model="mlp", steps=100, learning_rate=0.02)
    names = {"names": data.task.names[::-1], "none": (), "other names": ("x", "y", "z")}[known]  # type: ignore[attr-defined]
    turned = Data(data.inputs, 2 - data.targets, Classification(3, names))
    model = train(turned, config, seed=0, device=CPU).model
    (tmp_path / "given").mkdir()
    models.save(model, tmp_path / "given", config, (2,))
    if known != "names":
        said = {
            "none": "have no class names, and fit the data's in another order",
            "other names": "(x, y, z), the data",
        }
        with pytest.raises(ValueError, match=r"distillation.teacher: the model in .*given") as refusal:
            taught.materialise()
        assert said[known] in str(refusal.value)
        return
    shown = taught.materialise()
    assert shown["teacher"]["test accuracy"] > 0.8
    cached = TeacherLogits.load(taught.store.place(key("teacher_logits")))
    assert cached.task is not None
    assert cached.task["names"] == list(names)
    said = Teacher(cached=cached)(torch.arange(120), torch.zeros(120, 2), data.task)
    assert (said.argmax(dim=1).numpy() == data.targets).mean() > 0.8


def test_a_folder_without_names_takes_those_of_the_data(graph: Callable[..., Graph], tmp_path: Path) -> None:
    taught = graph(teacher="given", alpha=0.5)
    taught.materialise(*(each.path[1] for each in taught.assets[0].keys))
    data, config = taught.data, TrainingConfig(model="mlp", steps=20)
    plain = Data(data.inputs, data.targets, 3)
    (tmp_path / "given").mkdir()
    models.save(train(plain, config, seed=0, device=CPU).model, tmp_path / "given", config, (2,))
    taught.materialise()
    names = json.loads((taught.store.place(key("teacher")) / "model.json").read_text())["task"]["names"]
    assert names == list(data.task.names)  # type: ignore[attr-defined]
    (tmp_path / "given" / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"given has no config in its model\.json"):
        taught.materialise()


@pytest.mark.parametrize("top_k", [None, 1])
def test_logits_go_on_at_the_next_block_and_give_the_same_bytes(
    graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, top_k: int | None
) -> None:
    taught, whole = graph(top_k=top_k), module.logits_in_blocks
    monkeypatch.setattr(module, "BLOCK", 16)

    def interrupted(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, block in enumerate(whole(*args, **kwargs)):
            if number == 3:
                raise RuntimeError("interrupted")
            yield block

    with monkeypatch.context() as patched:
        patched.setattr(module, "logits_in_blocks", interrupted)
        with pytest.raises(RuntimeError, match="interrupted"):
            taught.materialise()
    place = taught.store.place(key("teacher_logits"))
    assert not place.exists()
    assert taught.materialise("teacher_logits")["teacher_logits"]["blocks resumed"] == 3
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    with monkeypatch.context() as patched:
        # Cached, taught and tuned results of the same inputs are not made again.
        for name in ("train", "logits_in_blocks"):
            patched.setattr(module, name, interrupted)
        again = taught.materialise("teacher", "teacher_logits")
    assert again["teacher_logits"]["blocks resumed"] == 0
    assert again["teacher"]["backward"] > 0
    shutil.rmtree(place)
    assert taught.materialise("teacher_logits")["teacher_logits"]["blocks resumed"] == 0
    assert {path.name: path.read_bytes() for path in place.iterdir()} == files


def test_logits_of_other_data_are_refused(graph: Callable[..., Graph]) -> None:
    taught = graph()
    taught.materialise()
    with pytest.raises(ValueError, match="holds 120 samples, the data 121: materialise blobs/teacher_logits again"):
        objective_for(
            taught.study, taught.study.training, taught.loaded, kept=12, data=taught.data.take(np.arange(121) % 120)
        )


def test_what_the_search_found_is_what_students_and_cache_go_by(
    graph: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(*args: Any, **kwargs: Any) -> Any:
        return tune_distillation(*args, **kwargs, alphas=(0.0, 0.6), temperatures=(1.0, 3.0))

    monkeypatch.setattr(module, "tune_distillation", few)
    taught = graph(tune=True, top_k=2)
    taught.materialise()
    found = taught.store.load(key("distillation_tuning"))
    assert [share for share, _ in found["settings"]["curve"]] == [0.25, 0.5]
    assert len(found["validation"]) == 8
    assert json.dumps(found)
    assert taught.store.load(key("distillation_tuning_cost"))["backward"] > 0
    cached = TeacherLogits.load(taught.store.place(key("teacher_logits")))
    assert cached.temperature == found["settings"]["temperature"]
    settings = teaching.tuned_settings(teaching.asked(taught.study), taught.loaded)
    assert settings == Distillation(**found["settings"], top_k=2)
    assert objective_for(taught.study, taught.study.training, taught.loaded, kept=30, data=taught.data)
