"""The deciding metric of a study of samples: the study names it, or it follows from the training samples.

The asset `source` holds the task fitted to the training samples, and facts about metrics on the test samples; every
reader of the study's metrics calls `metrics_of`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from secateur.pipelines.data.sources import Loaded, SourceError
from secateur.pipelines.files.shown_text import quoted
from secateur.pipelines.runs.possible import check_possible
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.rejections import require
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.tasks.class_metrics import rarest
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Metric, Task, deciding_first
from secateur.trainers.tasks.registry import task_from


def facts_of_metrics(task: Task, test_targets: Any) -> dict[str, Any]:
    """Facts for the asset `source` about metrics on the test samples: floors, and reasons why some are undefined."""
    return {"floors": task.floors(test_targets), "undefined": task.undefined(test_targets)}


def metrics_of(study: AnyStudy, source: Mapping[str, Any] | None = None) -> tuple[Metric, ...]:
    """The metrics of a study, the deciding one first, with their floors on its test samples.

    `source` is the value of this asset, for a study of samples. Raises ValueError where the deciding metric is none of
    the task's, or undefined on the test samples.
    """
    if not isinstance(study, Study) or source is None:
        return deciding_first(study.metrics, study.metric)
    metrics = task_from(source["task"]).metrics
    known, missing = {metric.name: metric for metric in metrics}, source.get("undefined", {})
    name = study.metric or metrics[0].name
    if name in missing:
        others = ", ".join(other for other in known if other not in missing)
        raise ValueError(
            f"metric: {name} cannot be measured on the test samples: {missing[name]}; correct these, or name one of "
            f"{others}"
        )
    require(name, known, "metric")
    floors = source.get("floors", {})
    return tuple(replace(one, floor=floors.get(one.name, one.floor)) for one in deciding_first(metrics, name))


def check_metric(study: Study, source: Mapping[str, Any], targets: Any) -> None:
    """Raise SourceError where the deciding metric is undefined on the test samples, or, if the study tunes something,
    on the held-out part of the training samples with these targets."""
    try:
        metric = metrics_of(study, source)[0]
        tuned = any(selection.untuned for selection in study.selections.values())
        if tuned or (study.distillation and study.distillation.tune):
            task, fraction = task_from(source["task"]), study.validation.fraction
            _, held = task.split(targets, fraction, 0)
            if why_not := task.undefined(targets[held]).get(metric.name):
                raise ValueError(
                    f"validation.fraction: {metric.name} decides, and cannot be measured on the {fraction:g} of the "
                    f"training samples that are held out to tune by: {why_not}; raise it, or name another metric"
                )
    except ValueError as error:
        raise SourceError(f"{study.name}: {error}") from error


def fitted_task(study: Study, loaded: Loaded) -> tuple[Task, dict[str, Any]]:
    """The task fitted to the training rows, and `facts_of_metrics`; raises SourceError, before any work, for a study
    that is impossible with these rows."""
    task = study.task.task(loaded.label_names).fitted(loaded.targets)
    classes = len(np.unique(loaded.targets)) if loaded.targets.dtype == np.int64 and task.learns_target else None
    check_possible(study, task.strata(loaded.targets), task.stratum_names(), classes)
    judging = facts_of_metrics(task, loaded.test_targets)
    check_metric(study, {"task": task.state(), **judging}, loaded.targets)
    return task, judging


def known_of_inputs(
    study: Study, task: Task, judging: Mapping[str, Any], inputs: Any, test_targets: Any, targets: Any
) -> dict[str, Any]:
    """`facts_of_metrics` with the metrics that the test inputs leave undefined; raises as `check_metric`."""
    undefined = {**judging["undefined"], **task.undefined_of(inputs, test_targets)}
    known = {**judging, "undefined": undefined}
    check_metric(study, {"task": task.state(), **known}, targets)
    return known


def deciding_in(store: Store, study: AnyStudy) -> Metric:
    """The deciding metric of a study, from the store."""
    key = (study.name, "source")
    return metrics_of(study, store.load(key) if store.find(key) else None)[0]


def why(study: Study, source: Mapping[str, Any]) -> str:
    """Sentences about the classes that explain the metrics to a reader; empty for other tasks."""
    task = task_from(source["task"])
    if not isinstance(task, Classification) or not any(task.counts):
        return ""
    names, counts = task.stratum_names(), task.counts
    said = ""
    if (rare := rarest(counts)) is not None:
        share = f"{100 * counts[rare] / sum(counts):.2g}%"
        said = f"Class {quoted(names[rare])} has {share} of the training samples, less than half of an even share"
        decides = task.metrics[0].name.replace("_", " ")
        said += f": {decides} decides. " if study.metric is None else ". "
        said += f"AUROC and average precision are of {quoted(names[task.positive])}. " if task.classes == 2 else ""
    share = source.get("floors", {}).get("accuracy")
    if share is not None:
        common = quoted(names[counts.index(max(counts))])
        said += f"A model that always answers {common} has an accuracy of {100 * share:.1f}%. "
    return said
