"""Settings of every scorer and selector from signature through YAML, study, launchpad form, run config to the call."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import dagster as dg
import pytest
import yaml
from annotated_types import Ge, Le, Lt
from pydantic import BaseModel

from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.definitions import build
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.pipelines.studies.selection import choosers
from secateur.pipelines.studies.target import OF_TARGET
from secateur.scorers.contract import settings_of
from secateur.scorers.registry import scorers
from secateur.selectors.contract import selectors
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.missing_signals import missing_signals

SCORES = {
    name: one
    for name, one in scorers().items()
    if one.settings.model_fields and not missing_signals(one, Classification(2))
}
SELECTIONS = {
    name: one
    for name, one in selectors().items()
    if one.settings.model_fields and not OF_TARGET.intersection(one.reads)
}
GIVEN: dict[str, dict[str, Any]] = {
    "prototypes": {"clusters": 5},
    "semantic_deduplication": {"samples_per_cluster": 8},
    "band": {"low": -1e6, "high": 1e6},
    "quantile_window": {"low": 0.1, "high": 0.8},
    "tdds": {"epochs": 4, "window": 2},
    "mean_probability": {"epochs": 4},
}
"""Values of the study where the default does not suit 120 samples, or where settings depend on one another."""


def other_value(annotation: Any, default: Any, bounds: list[Any]) -> Any:
    """A value of the type, within the bounds, that is not the default."""
    options = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) in (Union, UnionType):
        return other_value(options[0], default, bounds)
    if get_origin(annotation) is Literal:
        return next(option for option in options if option != default)
    start = default if isinstance(default, int | float) and not isinstance(default, bool) else 2
    if annotation is int:
        return start + 1
    assert annotation is float, f"a setting of type {annotation}: say here how to pick another value"
    high = next((float(getattr(b, "le", getattr(b, "lt", 0))) for b in bounds if isinstance(b, Le | Lt)), start + 1)
    low = next((float(b.ge) for b in bounds if isinstance(b, Ge)), 0.0)
    between = low + (high - low) / 4
    return between if between != default else low + (high - low) / 2


def others(name: str, settings: type[BaseModel]) -> dict[str, Any]:
    """Values of all settings, each different from its default."""
    found = {
        field: other_value(declared.annotation, declared.default, declared.metadata)
        for field, declared in settings.model_fields.items()
    }
    return found | GIVEN.get(name, {})


def launched(name: str, settings: type[BaseModel], study_values: dict[str, Any]) -> dict[str, Any]:
    """Values for the launchpad that differ from the study's: defaults, or the next ones after it."""
    found = {}
    for field, declared in settings.model_fields.items():
        value = study_values[field]
        usable = not declared.is_required() and declared.default is not None and name not in GIVEN
        found[field] = declared.default if usable and declared.default != value else shifted(value)
    return found


def shifted(value: Any) -> Any:
    return value + 1 if isinstance(value, int) else value / 2 if isinstance(value, float) else value


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The arguments of the last call of every scorer and selector, by name."""
    seen: dict[str, dict[str, Any]] = {}

    def recording(name: str, function: Callable[..., Any], settings: type[BaseModel]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            seen[name] = {field: value for field, value in kwargs.items() if field in settings.model_fields}
            return function(*args, **kwargs)

        return call

    for name, one in SCORES.items():
        if isinstance(one, type):
            monkeypatch.setattr(one, "__init__", recording(name, one.__init__, one.settings))
        else:
            watched = dataclasses.replace(one, compute=recording(name, one.compute, one.settings))
            monkeypatch.setitem(scorers(), name, watched)  # type: ignore[arg-type]
    for name, chosen in SELECTIONS.items():
        watched = dataclasses.replace(chosen, choose=recording(name, chosen.choose, chosen.settings))
        for known in (selectors(), choosers()):
            monkeypatch.setitem(known, name, watched)  # type: ignore[arg-type]
    return seen


@pytest.fixture
def everything(study_content: dict[str, Any], tmp_path: Path) -> tuple[StudyFile, dict[str, dict[str, Any]]]:
    """A study of every scorer and selector with settings, read from its YAML, and its settings."""
    values = {name: others(name, one.settings) for name, one in {**SCORES, **SELECTIONS}.items()}
    names = set(scorers()) & {signal for one in SELECTIONS.values() for signal in one.reads}
    names |= {signal for one in SCORES.values() for signal in getattr(one, "signals", ())} & set(scorers())
    content = study_content | {
        "scores": {name: values.get(name, {}) for name in sorted({*SCORES, *names, "loss"})},
        "selections": {
            name: values[name] | ({"score": "loss"} if "scores" in one.reads else {})
            for name, one in SELECTIONS.items()
        },
        "keep": 0.25,
        "seeds": 1,
        "checkpoints": 4,
        "neighbours": {"count": 6},
    }
    path = tmp_path / "blobs.yaml"
    path.write_text(yaml.safe_dump(content))
    return StudyFile(path, load_study(path)), values


def run(file: StudyFile, root: Path, run_config: dict[str, Any]) -> None:
    defs = build([file], root)
    job = defs.resolve_implicit_global_asset_job_def()
    names = {"manifest", "trained_model", "evaluation", "report"}
    keys = [key for key in defs.resolve_asset_graph().materializable_asset_keys if key.path[-1] not in names]
    last = dg.AssetKey(["blobs", "subset"])
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(
            instance=instance,
            asset_selection=sorted(set(keys) - {last}),
            run_config={"ops": run_config.get("assets", {})},
        )
        assert file.study is not None
        trials = [str(trial) for trial in file.study.trials]
        spread = {"dagster/asset_partition_range_start": trials[0], "dagster/asset_partition_range_end": trials[-1]}
        job.execute_in_process(
            instance=instance, asset_selection=[last], tags=spread, run_config={"ops": run_config.get("subset", {})}
        )


def test_there_is_something_to_follow() -> None:
    assert {"el2n", "vog", "density", "normalised_vog"} <= SCORES.keys()
    assert {"top", "coverage_centric", "prototypes"} <= SELECTIONS.keys()


def test_values_of_the_yaml_reach_every_call(
    everything: tuple[StudyFile, dict[str, dict[str, Any]]], calls: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    file, values = everything
    for name, settings in values.items():
        declared = {**SCORES, **SELECTIONS}[name].settings.model_fields
        assert any(settings[field] != declared[field].default for field in declared)
    run(load_again(file), tmp_path / "store", {})
    assert calls == values


def test_values_of_the_launchpad_win_over_the_yaml(
    everything: tuple[StudyFile, dict[str, dict[str, Any]]], calls: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    file, values = everything
    every = {**SCORES, **SELECTIONS}
    wanted = {name: launched(name, every[name].settings, settings) for name, settings in values.items()}
    wanted["quantile_window"] = {"low": 0.05, "high": 0.9}
    assert all(wanted[name] != values[name] for name in wanted)
    proxy = {f"score_{name}": wanted[name] for name, one in SCORES.items() if isinstance(one, type)}
    batched = {name: wanted[name] for name, one in SCORES.items() if hasattr(one, "several")}
    assets = {"blobs__proxy_training": {"config": proxy}, "blobs__scoring_pass": {"config": batched}}
    for name, one in SCORES.items():
        if hasattr(one, "signals"):
            assets[f"blobs__scores__{name}"] = {"config": wanted[name]}
    subset = {"blobs__subset": {"config": {name: wanted[name] for name in SELECTIONS}}}
    run(load_again(file), tmp_path / "store", {"assets": assets, "subset": subset})
    assert calls == wanted


def load_again(file: StudyFile) -> StudyFile:
    """The study as read after the calls are watched: scorers are looked up when the graph is built."""
    return StudyFile(file.path, load_study(file.path))


def test_sequences_are_lists_in_a_form() -> None:
    def experiment(*, lengths: Sequence[int] = (16, 20), names: tuple[str, ...] = ()) -> None: ...

    made = form(settings_of(experiment, "experiment"), {})
    assert made().model_dump() == {"lengths": [16, 20], "names": []}
    assert made.to_config_schema().as_field()
