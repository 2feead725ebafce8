"""Quality of a study's models: metrics of the proxy on its training samples and on the test samples, beside those of a
simple model, the yardstick.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secateur.pipelines.runs.by_class import SAMPLES
from secateur.pipelines.runs.deciding import deciding_in
from secateur.pipelines.runs.proxy import FIT
from secateur.pipelines.runs.training import trained_outcome
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.contract import Data
from secateur.trainers.judging.comparison import Summary, summarise
from secateur.trainers.judging.evaluation import evaluate, mean_outputs
from secateur.trainers.judging.outcome import Cost, Outcome
from secateur.trainers.judging.yardstick import VERSION, rows_within, why_not, yardstick_of
from secateur.trainers.loop.train import fresh_model
from secateur.trainers.models import registry as models
from secateur.trainers.passes.folds import Folds
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask

SHARE = 0.5
"""Share of the multiplications of one training, of a proxy if there is one, that the yardstick may take; a study trains
many more models."""
POINT = 0.01
"""Least gap of models trained on everything behind the yardstick for a finding: a point of a share, 1% of a number."""
BY_HEART, GAP = 0.95, 0.1
"""Metric on the training samples from which on the proxy may know them by heart, and its least lead over the metric on
the test samples."""


@dataclass(frozen=True)
class Beside:
    """The deciding metric of the study's models, beside a simple model of the same encoded samples."""

    model: str | None
    """The simple model; None where there is none."""
    inputs: str
    """Its inputs in words; empty where there is none."""
    value: float | None
    """Its metric on the test samples."""
    rows: int | None
    """Number of training samples that it was fitted to."""
    columns: int | None
    """Number of columns of the encoded samples that it reads."""
    why_not: str
    """The reason why there is no simple model; empty where there is one."""
    proxy_training: float | None
    """Metric of the proxies on the samples that they learned from, in their last epoch; None where it is unknown."""
    proxy_test: float | None
    """Metric of the proxies on the test samples, the mean over runs; None without a proxy."""
    proxy_held_out: float | None
    """Their metric on the training samples, each by proxies that did not see it; None without folds."""
    proxy_accuracy: tuple[float, ...]
    """Accuracy of the proxies on the training samples in each epoch; empty for targets other than classes."""
    whole: float | None
    """Metric of models trained on everything; None where none was trained."""
    weaker: str
    """The finding that these are clearly behind the simple model; empty where they are not."""
    by_heart: str
    """The finding that the proxies know labels by heart that they cannot predict; empty where they do not."""
    sentences: tuple[str, ...]
    """The numbers in words."""


def proxy_facts(folders: Sequence[Path], data: Data, test: Data, folds: Folds | None = None) -> dict[str, Any]:
    """Metrics of proxies on the test samples, and in training if their folders hold these: means over runs. With folds
    also their joint metrics on the training samples, each by proxies that did not see it.
    """
    proxies = [models.load(folder) for folder in folders]
    fits = [json.loads((folder / FIT).read_text()) for folder in folders if (folder / FIT).is_file()]
    known = fits if len(fits) == len(folders) else []
    alike = len({len(fit["accuracy"]) for fit in known}) == 1
    return {
        "test": means([evaluate(proxy, test) for proxy in proxies]),
        "held_out": {} if folds is None or isinstance(data.task, OwnTask) else held_out(proxies, data, folds),
        "training": means([fit["metrics"] for fit in known]),
        "accuracy": np.mean([fit["accuracy"] for fit in known], axis=0).tolist() if alike else [],
    }


def held_out(proxies: Sequence[Any], data: Data, folds: Folds) -> dict[str, float]:
    """Metrics on the training samples of the mean output of the proxies that did not see a sample."""
    outputs = mean_outputs(proxies, data, np.arange(len(data)), folds).astype(np.float32)
    return dict(data.task.evaluate(outputs, data.targets))


def means(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the metrics that all have."""
    names = set.intersection(*(set(one) for one in several)) if several else set()
    return {name: float(np.mean([one[name] for one in several])) for name in sorted(names)}


def cost_of(study: Study) -> tuple[str, ...]:
    """Key of the yardstick's cost."""
    return (study.name, "yardstick_cost")


def simple_model(
    study: Study, source: Mapping[str, Any], folders: Sequence[Path], data: Data, test: Data, store: Store
) -> dict[str, Any]:
    """The yardstick of a study, as JSON, fitted once to the same samples; `why_not` where there is none."""
    if reason := why_not(data):
        return {"why_not": reason}
    if folders:
        seen, network = trained_outcome(folders[0]).samples_seen, models.load(folders[0])
    else:
        training = study.training
        seen = training.total_steps(len(data)) * min(training.batch_size, len(data))
        network = fresh_model(data, training, 0)
    weights = sum(weight.numel() for weight in network.parameters())
    kind = study.modality
    assert kind != "sequence"
    rows = rows_within(SHARE * 3 * seen * weights, data, kind)
    key, spent = (study.name, "yardstick_model"), cost_of(study)
    from sklearn import __version__ as sklearn_version

    made_of = digest_of(rows=rows, version=VERSION, sklearn=sklearn_version, **data_parts(study, source))

    def work() -> None:
        started = time.perf_counter()
        found = yardstick_of(data, test, kind, rows=rows)
        store.save(spent, vars(Cost(seconds=time.perf_counter() - started)))
        store.save(key, asdict(found))

    made: dict[str, Any] = Ledger(store).once(key, None, made_of, work, beside=[spent])
    return made


def beside(study: Study, known: Mapping[str, Any], metric: Metric, outcomes: Mapping[Trial, Outcome]) -> Beside:
    """The models of a study beside its yardstick; `known` is the value of the asset `yardstick`, `outcomes` those of
    the trials at hand."""
    simple, proxy = known["model"], known["proxy"]
    values = [one.metrics[metric.name] for trial, one in outcomes.items() if trial.selection == study.references[0]]
    whole = summarise(values) if values else None
    value = simple.get("metrics", {}).get(metric.name)
    name = f"{simple['model']} on {simple['inputs']}" if value is not None else ""
    weaker = value is not None and whole is not None and is_behind(whole, value, metric, known["test_samples"])
    epoch = epoch_known_by_heart(proxy, metric)
    return Beside(
        model=simple.get("model"),
        inputs=simple.get("inputs", ""),
        value=value,
        rows=simple.get("rows"),
        columns=simple.get("columns"),
        why_not=simple.get("why_not", ""),
        proxy_training=proxy["training"].get(metric.name),
        proxy_test=proxy["test"].get(metric.name),
        proxy_held_out=proxy["held_out"].get(metric.name),
        proxy_accuracy=tuple(proxy["accuracy"]),
        whole=whole.mean if whole else None,
        weaker=weaker_text(name, value, whole, metric) if weaker and value is not None and whole else "",
        by_heart=by_heart_text(proxy, metric, epoch) if epoch is not None else "",
        sentences=tuple(sentences_of(simple, proxy, metric, name, whole, known["test_samples"])),
    )


def is_behind(whole: Summary, value: float, metric: Metric, test_samples: int) -> bool:
    """Whether models are clearly behind a value: by more than their interval over seeds, by `POINT`, and, for shares,
    by five test samples, which one side wins alone by chance in 3 of 100 cases.
    """
    gap = (value - whole.mean) * (1 if metric.higher_is_better else -1)
    least = max(POINT, SAMPLES / test_samples) if metric.percent else POINT * abs(value)
    return whole.half_width is not None and gap > whole.half_width and gap >= least


def epoch_known_by_heart(proxy: Mapping[str, Any], metric: Metric) -> int | None:
    """The first epoch, from 1, in which the proxies' accuracy on the training samples exceeds that on the test samples;
    0 where it is unknown, and None where they do not know labels by heart that they cannot predict.
    """
    known, test = proxy["training"].get(metric.name), proxy["test"].get(metric.name)
    if (
        test is None
        or not (metric.percent and metric.higher_is_better)
        or known is None
        or known < BY_HEART
        or known - test < GAP
    ):
        return None
    ahead = (epoch for epoch, share in enumerate(proxy["accuracy"], 1) if share > proxy["test"]["accuracy"])
    return next(ahead, 0)


def by_heart_text(proxy: Mapping[str, Any], metric: Metric, epoch: int) -> str:
    """The finding about a proxy that knows labels by heart."""
    shorter = f"fewer epochs (from epoch {epoch} on it knew more of the training samples than of others)"
    return (
        f"the proxy gets {shown(proxy['training'][metric.name], metric)} on the samples that it learned from, and "
        f"{shown(proxy['test'][metric.name], metric)} on the test samples: it knows labels by heart that it cannot "
        f"predict, so the scores of wrong labels look like those of right ones; write proxy: {{folds: 5}}, which has "
        f"each sample scored by proxies that did not see it, or {shorter if epoch else 'fewer epochs'}"
    )


def weaker_text(name: str, value: float, whole: Summary, metric: Metric) -> str:
    """The finding about models that a simple one beats."""
    return (
        f"{name} gets {shown(value, metric)} on the test samples, and networks trained on everything get "
        f"{shown(whole.mean, metric)}{spread(whole, metric)}: the study prunes for a weak model, and a better one may "
        "need other samples; train longer, or take another model"
    )


def sentences_of(
    simple: Mapping[str, Any], proxy: Mapping[str, Any], metric: Metric, name: str, whole: Summary | None, tests: int
) -> Iterator[str]:
    """Sentences with the metrics of the models, for every report; `tests` is the number of test samples."""
    word = metric.name.replace("_", " ")
    if name:
        part = f"{simple['rows']:,} of {simple['samples']:,}" if simple["rows"] < simple["samples"] else "all"
        drawn = f", {simple['columns']:,} of {simple['of_columns']:,} columns" * (
            simple["columns"] < simple["of_columns"]
        )
        said = f"Yardstick, {word}: {name}, fitted to {part} training samples{drawn}, gets "
        some = f"{simple['judged']:,} of the" if simple.get("judged", tests) < tests else "the"
        said += f"{shown(simple['metrics'][metric.name], metric)} on {some} test samples"
        yield said + (
            f"; networks trained on everything {shown(whole.mean, metric)}{spread(whole, metric)}." if whole else "."
        )
    elif simple.get("why_not"):
        yield f"No yardstick: {simple['why_not']}."
    known = proxy["training"].get(metric.name)
    before = (
        f" {shown(known, metric)} on the samples that it learned from, in its last epoch, and"
        if known is not None
        else ""
    )
    if metric.name in proxy["held_out"]:
        apart = shown(proxy["held_out"][metric.name], metric)
        yield f"The proxies of the folds get {apart} on training samples that they did not see."
    if metric.name in proxy["test"]:
        yield f"The proxy gets{before} {shown(proxy['test'][metric.name], metric)} on the test samples."


def shown(value: float, metric: Metric) -> str:
    """A value of the metric with its unit."""
    return f"{100 * value:.1f}%" if metric.percent else f"{value:.3g} {metric.unit}".rstrip()


def spread(whole: Summary, metric: Metric) -> str:
    """The interval of a mean, without its unit, and its number of seeds, which may be larger than a table's."""
    half = whole.half_width
    if half is None:
        return " (one seed)"
    return (f" ± {100 * half:.1f}" if metric.percent else f" ± {half:.2g}") + f" over {whole.seeds} seeds"


def beside_in(store: Store, study: AnyStudy, outcomes: Mapping[Trial, Outcome]) -> Beside | None:
    """`beside` for a study of any kind; None where its assets are not in the store."""
    key = (study.name, "yardstick")
    if not isinstance(study, Study) or not store.holds(key):
        return None
    return beside(study, store.load(key), deciding_in(store, study), outcomes)


def beside_findings(found: Beside | None) -> list[dict[str, Any]]:
    """One finding for each reason to doubt the models."""
    told = {"weak model": found.weaker, "learned by heart": found.by_heart} if found else {}
    return [
        {"kind": kind, "split": "test" if kind == "weak model" else "train", "count": 0, "text": text, "rows": []}
        for kind, text in told.items()
        if text
    ]
