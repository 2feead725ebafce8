"""Assets of a study's data: `source`, `samples`, `test_samples`, `inputs`, `test_inputs`, and the check of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import polars.selectors as cs
import xxhash
from jaxtyping import Bool, Int64, Shaped

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.data.check import DataReport, check_data
from secateur.pipelines.data.identity import inspect_samples
from secateur.pipelines.data.images import decode_image
from secateur.pipelines.data.own_samples import inspect_own, revision_of
from secateur.pipelines.data.sources import Loaded, load
from secateur.pipelines.data.targets import as_columns, strata_in, targets_in
from secateur.pipelines.pages.extremes import previews
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import OwnTask, Split
from secateur.trainers.tasks.registry import task_from

NAMES = {
    "source": "Where the data came from: revision, task, class names, numbers of samples.",
    "samples": "Training samples: row, content_hash, label (or target and stratum), preview. Row order is identity "
    "inside a run.",
    "test_samples": "Test samples: row, content_hash, label (or target and stratum).",
    "inputs": "Training inputs as an array, memory-mapped by whoever reads it.",
    "test_inputs": "Test inputs as an array.",
    "encoder": "How rows become inputs, as learned from the training rows: tokenizer, terms or columns.",
}


def data_of(inputs: np.ndarray, samples: pl.LazyFrame, source: dict[str, Any], split: Split = "train") -> Data:
    """Arrays and table of one split as trainers take them; the task is the one that the training rows taught."""
    task = task_from(source["task"])
    if isinstance(task, OwnTask):
        return Data.of(task, split)
    table = samples.select(cs.by_name("label", "target", require_all=False)).collect()
    return Data(inputs, targets_in(table, source["label_names"]), task, source.get("model_settings", {}))


def strata_of(samples: pl.LazyFrame) -> Int64[np.ndarray, " n"]:
    """Stratum of each sample: its class, where targets are classes."""
    return strata_in(samples.select(cs.by_name("label", "stratum", require_all=False)).collect())


def memberships_of(
    samples: pl.LazyFrame, source: dict[str, Any]
) -> Int64[np.ndarray, " n"] | Bool[np.ndarray, "n labels"]:
    """Which groups each sample is in: its stratum, or all its labels where it may have several."""
    if samples.collect_schema().get("target") != pl.List(pl.Int64):
        return strata_of(samples)
    return targets_in(samples.select("target").collect(), source["label_names"])


@dataclass(frozen=True)
class Prepared:
    """A study's data as its assets hold them; `report` is what the check found, None where there are no columns."""

    revision: str
    task: Task
    label_names: tuple[str, ...]
    strata: list[str]
    samples: pl.DataFrame
    test_samples: pl.DataFrame
    inputs: Shaped[np.ndarray, "n ..."]
    test_inputs: Shaped[np.ndarray, "m ..."]
    report: DataReport | None = None
    encoder: encodings.Encoder | None = None
    model_settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> dict[str, Any]:
        """What the asset `source` says."""
        return {
            "revision": self.revision,
            "label_names": list(self.label_names),
            "strata": self.strata,
            "task": self.task.state(),
            "samples": len(self.samples),
            "test_samples": len(self.test_samples),
            "model_settings": self.model_settings,
            "encoding": self.facts,
        }

    def strata_table(self) -> str:
        """Samples per stratum, as Markdown."""
        counts = np.bincount(strata_in(self.samples), minlength=len(self.strata))
        head = "class" if "label" in self.samples.columns else "stratum"
        lines = [f"| {name} | {count} |" for name, count in zip(self.strata, counts, strict=True)]
        return "\n".join([f"| {head} | samples |", "| --- | ---: |", *lines])


def encode(loaded: Loaded, study: Study) -> encodings.Encoded:
    """Inputs of both splits, by the modality that the columns name and the study's encoding."""
    return encodings.encode(
        study.resolved_encoding, loaded.train, loaded.test, study.read_columns.inputs, decode=decode_image
    )


def prepared(study: Study, base: Path, cache: Path) -> Prepared:
    """Read the source, identify every sample, turn rows into arrays; or ask the study's own task for its samples."""
    if study.task.own:
        return prepared_by(study.own_task())
    columns = study.read_columns
    loaded = load(study.read_source, columns, base, cache)
    task = study.task.task(loaded.label_names).fitted(loaded.targets)
    train, test = (
        inspect_samples(rows, columns).with_columns(**as_columns(targets, task.strata(targets)))
        for rows, targets in ((loaded.train, loaded.targets), (loaded.test, loaded.test_targets))
    )
    report = check_data(loaded.train, loaded.test, columns, train, test, loaded.label_names, loaded.unlabelled)
    samples, test_samples = (table.drop("input_hash", "fault") for table in (train, test))
    encoded = encode(loaded, study)
    return Prepared(
        revision=loaded.revision,
        task=task,
        label_names=loaded.label_names,
        strata=task.stratum_names(),
        samples=samples.with_columns(previews(loaded.train, columns)),
        test_samples=test_samples,
        inputs=encoded.inputs,
        test_inputs=encoded.test_inputs,
        report=report,
        encoder=encoded.encoder,
        model_settings=encoded.model_settings,
        facts=encoded.facts,
    )


def prepared_by(task: OwnTask) -> Prepared:
    """The samples that a task of the user's own yields; inputs are their row numbers."""
    samples, test_samples = inspect_own(task, "train"), inspect_own(task, "test")
    return Prepared(
        revision=revision_of(task, samples, test_samples),
        task=task,
        label_names=(),
        strata=task.stratum_names(),
        samples=samples,
        test_samples=test_samples,
        inputs=samples["row"].to_numpy(),
        test_inputs=test_samples["row"].to_numpy(),
    )


def prepare_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """Read the source, identify every sample, turn rows into arrays."""
    key = {name: key_of(study, name) for name in NAMES}

    @dg.multi_asset(
        name=f"{study.name}__prepare",
        outs={
            name: dg.AssetOut(io_manager_key=IO_MANAGER, key=key[name], description=text)
            for name, text in NAMES.items()
            if name != "encoder"
        }
        | {
            "encoder": dg.AssetOut(
                io_manager_key=IO_MANAGER, key=key["encoder"], description=NAMES["encoder"], dagster_type=dg.Nothing
            )
        },
        check_specs=[
            dg.AssetCheckSpec(
                "data_quality",
                asset=key["samples"],
                blocking=True,
                description="Duplicates, empty or undecodable samples, tiny classes, rows shared by train and test.",
            )
        ],
        group_name=study.name,
    )
    def prepare(context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store]) -> Iterator[Any]:
        made = prepared(study, base, secateur_store.root / ".cache")
        context.log.info(f"{len(made.samples)} training and {len(made.test_samples)} test samples, {made.revision}")
        for fact, number in made.facts.items():
            context.log.info(f"{fact}: {number}")
        with secateur_store.folder(key["encoder"]) as folder:
            if made.encoder:
                made.encoder.save(folder)
        yield from outputs_of(study, made, secateur_store.place(key["encoder"]).resolve())
        problems, counts = (made.report.problems(), made.report.counts()) if made.report else ([], {})
        secateur_store.save(key_of(study, "data_report"), {"problems": problems, "counts": counts})
        yield dg.AssetCheckResult(
            check_name="data_quality",
            asset_key=key["samples"],
            passed=not problems,
            severity=dg.AssetCheckSeverity.ERROR
            if made.report and made.report.unusable
            else dg.AssetCheckSeverity.WARN,
            description="; ".join(problems) or "nothing to report",
            metadata=counts,
        )

    return prepare


def outputs_of(study: Study, made: Prepared, encoder: Path) -> Iterator[dg.Output[Any]]:
    """Every asset of the data with its metadata; `encoder` is the folder where that one lies."""
    values: dict[str, Any] = {name: getattr(made, name) for name in NAMES if name != "encoder"}
    # What is made of a revision depends on the study's settings too.
    settings = [
        study.source and study.source.model_dump(mode="json"),
        study.columns and study.columns.model_dump(mode="json"),
        study.task.model_dump(mode="json"),
        study.columns and study.resolved_encoding.model_dump(mode="json"),
    ]
    version = dg.DataVersion(xxhash.xxh3_128_hexdigest(json.dumps([made.revision, *settings], sort_keys=True).encode()))
    for name, value in values.items():
        metadata: dict[str, Any] = {"revision": made.revision}
        if name.endswith("samples"):
            metadata |= {"dagster/row_count": len(value)}
        if name == "samples":
            metadata |= {"classes": dg.MetadataValue.md(made.strata_table())}
            metadata |= {"duplicates found": made.report.train.duplicate_rows if made.report else 0}
        if name.endswith("inputs"):
            metadata |= {"shape": str(value.shape), "dtype": str(value.dtype)} | made.facts
        yield dg.Output(value, name, metadata=metadata, data_version=version)
    yield dg.Output(
        None, "encoder", metadata={"path": dg.MetadataValue.path(encoder)} | made.facts, data_version=version
    )
