"""Assets of a study's data: `source`, `samples`, `test_samples`, `inputs`, `test_inputs`, and the check of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import polars.selectors as cs
import xxhash

from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.data.check import check_data
from secateur.pipelines.data.identity import inspect_samples
from secateur.pipelines.data.images import decode_image
from secateur.pipelines.data.sources import Loaded, load
from secateur.pipelines.data.targets import as_columns, strata_in, targets_in
from secateur.pipelines.pages.extremes import previews
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.tasks.registry import task_from

NAMES = {
    "source": "Where the data came from: revision, class names, numbers of samples.",
    "samples": "Training samples: row, content_hash, label (or target and stratum), preview. Row order is identity "
    "inside a run.",
    "test_samples": "Test samples: row, content_hash, label (or target and stratum).",
    "inputs": "Training inputs as an array, memory-mapped by whoever reads it.",
    "test_inputs": "Test inputs as an array.",
    "encoder": "How rows become inputs, as learned from the training rows: tokenizer, terms or columns.",
}


def data_of(inputs: np.ndarray, samples: pl.LazyFrame, source: dict[str, Any]) -> Data:
    """Arrays and table of one split as trainers take them; the task is the one that the training rows taught."""
    targets = targets_in(
        samples.select(cs.by_name("label", "target", require_all=False)).collect(), source["label_names"]
    )
    return Data(inputs, targets, task_from(source["task"]), source.get("model_settings", {}))


def strata_of(samples: pl.LazyFrame) -> np.ndarray:
    """Stratum of each sample, int64 `[n]`: its class, where targets are classes."""
    return strata_in(samples.select(cs.by_name("label", "stratum", require_all=False)).collect())


def encode(loaded: Loaded, study: Study) -> encodings.Encoded:
    """Inputs of both splits, by the modality that the columns name and the study's encoding."""
    return encodings.encode(
        study.resolved_encoding, loaded.train, loaded.test, study.columns.inputs, decode=decode_image
    )


def prepare_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """Read the source, identify every sample, turn rows into arrays."""
    key = {name: dg.AssetKey([study.name, name]) for name in NAMES}

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
        loaded = load(study.source, study.columns, base, secateur_store.root / ".cache")
        context.log.info(f"{len(loaded.train)} training and {len(loaded.test)} test samples, {loaded.revision}")
        train, test = (inspect_samples(split, study.columns) for split in (loaded.train, loaded.test))
        task = study.task.task(loaded.label_names).fitted(loaded.targets)
        strata = [task.strata(targets) for targets in (loaded.targets, loaded.test_targets)]
        train = train.with_columns(**as_columns(loaded.targets, strata[0]))
        test = test.with_columns(**as_columns(loaded.test_targets, strata[1]))
        tables = [table.drop("input_hash", "fault") for table in (train, test)]
        tables[0] = tables[0].with_columns(previews(loaded.train, study.columns))
        encoded = encode(loaded, study)
        for fact, number in encoded.facts.items():
            context.log.info(f"{fact}: {number}")
        with secateur_store.folder(key["encoder"]) as folder:
            encoded.encoder.save(folder)
        source = {
            "revision": loaded.revision,
            "label_names": list(loaded.label_names),
            "strata": task.stratum_names(),
            "task": task.state(),
            "samples": len(train),
            "test_samples": len(test),
            "model_settings": encoded.model_settings,
            "encoding": encoded.facts,
        }
        counts = np.bincount(strata[0], minlength=len(source["strata"]))
        stratum = "class" if study.task.target == "class" else "stratum"
        classes = dg.MetadataValue.md(
            "\n".join(
                [f"| {stratum} | samples |", "| --- | ---: |"]
                + [f"| {name} | {count} |" for name, count in zip(source["strata"], counts, strict=True)]
            )
        )
        values: dict[str, Any] = {
            "source": source,
            "samples": tables[0],
            "test_samples": tables[1],
            "inputs": encoded.inputs,
            "test_inputs": encoded.test_inputs,
        }
        # What is made of a revision depends on the study's settings too.
        settings = (study.source, study.columns, study.task, study.resolved_encoding)
        made_of = [part.model_dump(mode="json") for part in settings]
        told = json.dumps([loaded.revision, *made_of], sort_keys=True)
        version = dg.DataVersion(xxhash.xxh3_128_hexdigest(told.encode()))
        report = check_data(
            loaded.train, loaded.test, study.columns, train, test, loaded.label_names, loaded.unlabelled
        )
        for name, value in values.items():
            metadata: dict[str, Any] = {"revision": loaded.revision}
            if name.endswith("samples"):
                metadata |= {"dagster/row_count": len(value)}
            if name == "samples":
                metadata |= {"classes": classes, "duplicates found": report.train.duplicate_rows}
            if name.endswith("inputs"):
                metadata |= {"shape": str(value.shape), "dtype": str(value.dtype)} | encoded.facts
            yield dg.Output(value, name, metadata=metadata, data_version=version)
        yield dg.Output(
            None,
            "encoder",
            metadata={"path": dg.MetadataValue.path(secateur_store.place(key["encoder"]).resolve())} | encoded.facts,
            data_version=version,
        )
        problems = report.problems()
        secateur_store.save(dg.AssetKey([study.name, "data_report"]), {"problems": problems, "counts": report.counts()})
        yield dg.AssetCheckResult(
            check_name="data_quality",
            asset_key=key["samples"],
            passed=not problems,
            severity=dg.AssetCheckSeverity.ERROR if report.unusable else dg.AssetCheckSeverity.WARN,
            description="; ".join(problems) or "nothing to report",
            metadata=report.counts(),
        )

    return prepare
