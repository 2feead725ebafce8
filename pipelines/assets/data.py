"""Assets of a study's data: `source`, `samples`, `test_samples`, `inputs`, `test_inputs`, and the check of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import xxhash

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.data.check import check_data
from secateur.pipelines.data.identity import inspect_samples
from secateur.pipelines.data.images import decode_image
from secateur.pipelines.data.sources import Loaded, load
from secateur.pipelines.pages.extremes import previews
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data
from secateur.trainers.modalities import encoding as encodings

NAMES = {
    "source": "Where the data came from: revision, class names, numbers of samples.",
    "samples": "Training samples: row, content_hash, label, preview. Row order is identity inside a run.",
    "test_samples": "Test samples: row, content_hash, label.",
    "inputs": "Training inputs as an array, memory-mapped by whoever reads it.",
    "test_inputs": "Test inputs as an array.",
    "encoder": "How rows become inputs, as learned from the training rows: tokenizer, terms or columns.",
}

IDENTITY = ("row", "content_hash", "label")


def data_of(inputs: np.ndarray, samples: pl.LazyFrame, source: dict[str, Any]) -> Data:
    """Arrays and table of one split as trainers take them."""
    return Data(inputs, labels_of(samples), len(source["label_names"]), source.get("model_settings", {}))


def labels_of(samples: pl.LazyFrame) -> np.ndarray:
    """Labels, int64 `[n]`."""
    return samples.select("label").collect()["label"].to_numpy().astype(np.int64)


def encode(loaded: Loaded, study: Study) -> encodings.Encoded:
    """Inputs of both splits, by the modality that the columns name and the study's encoding."""
    return encodings.encode(
        study.resolved_encoding, loaded.train, loaded.test, study.columns.inputs, decode=decode_image
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
        loaded = load(study.source, study.columns, base, secateur_store.root / ".cache")
        context.log.info(f"{len(loaded.train)} training and {len(loaded.test)} test samples, {loaded.revision}")
        train, test = (inspect_samples(split, study.columns) for split in (loaded.train, loaded.test))
        tables = [table.select(IDENTITY) for table in (train, test)]
        tables[0] = tables[0].with_columns(previews(loaded.train, study.columns))
        encoded = encode(loaded, study)
        for fact, number in encoded.facts.items():
            context.log.info(f"{fact}: {number}")
        with secateur_store.folder(key["encoder"]) as folder:
            encoded.encoder.save(folder)
        source = {
            "revision": loaded.revision,
            "label_names": list(loaded.label_names),
            "samples": len(train),
            "test_samples": len(test),
            "model_settings": encoded.model_settings,
            "encoding": encoded.facts,
        }
        counts = np.bincount(train["label"].to_numpy(), minlength=len(loaded.label_names))
        classes = dg.MetadataValue.md(
            "\n".join(
                ["| class | samples |", "| --- | ---: |"]
                + [f"| {name} | {count} |" for name, count in zip(loaded.label_names, counts, strict=True)]
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
        made_of = [part.model_dump(mode="json") for part in (study.source, study.columns, study.resolved_encoding)]
        told = json.dumps([loaded.revision, *made_of], sort_keys=True)
        version = dg.DataVersion(xxhash.xxh3_128_hexdigest(told.encode()))
        report = check_data(loaded.train, loaded.test, study.columns, train, test, loaded.label_names)
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
        secateur_store.save(key_of(study, "data_report"), {"problems": problems, "counts": report.counts()})
        yield dg.AssetCheckResult(
            check_name="data_quality",
            asset_key=key["samples"],
            passed=not problems,
            severity=dg.AssetCheckSeverity.ERROR if report.unusable else dg.AssetCheckSeverity.WARN,
            description="; ".join(problems) or "nothing to report",
            metadata=report.counts(),
        )

    return prepare
