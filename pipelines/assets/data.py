"""Assets of a study's data: `source`, `samples`, `test_samples`, `inputs`, `test_inputs`, and the check of them."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet
import xxhash
from jaxtyping import Bool, Int64, Shaped

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.launchpad import refuse_out_of_range
from secateur.pipelines.assets.origin import read_facts
from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.data.check import DataReport, check_data, report_of, text_findings
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.own_samples import inspect_own, revision_of
from secateur.pipelines.data.scan import CONTENT, FILE, ROW, SplitRows, words_of
from secateur.pipelines.data.sources import load
from secateur.pipelines.data.targets import as_columns, strata_in, targets_in
from secateur.pipelines.data.types import series_of
from secateur.pipelines.pages.previews import Previews, previews_in
from secateur.pipelines.runs.findings import listed_in_markdown
from secateur.pipelines.runs.possible import check_possible
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import OwnTask, Split
from secateur.trainers.tasks.registry import task_from

NAMES = {
    "source": "Where the data came from: revision, task, class names, numbers of samples.",
    "samples": "Training samples: row, file and row in it, path of a picture, content_hash, label (or target and "
    "stratum). Row order is identity inside a run.",
    "test_samples": "Test samples: row, file and row in it, content_hash, label (or target and stratum).",
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


def previews_of(study: Study, store: Store) -> Previews | None:
    """What a reader sees of training samples, from the rows that the study's home holds."""
    return previews_in(store.place(key_of(study, "rows")) / "train", study.columns)


def training_files(source: Mapping[str, Any]) -> list[str]:
    """Names of the files that the training samples lie in, by the numbers of the samples' column `file`."""
    return [name for name, _ in source.get("training_files", ())]


@dataclass(frozen=True)
class Prepared:
    """A study's data as its assets hold them: tables and arrays in `folder`, the findings of the check in `report`."""

    revision: str
    task: Task
    label_names: tuple[str, ...]
    strata: list[str]
    counts: tuple[int, ...]
    """Training samples of each stratum."""
    sizes: tuple[int, int]
    folder: Path
    files: tuple[str, ...] = ()
    report: DataReport | None = None
    encoder: encodings.Encoder | None = None
    model_settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)
    """What `read_facts` says of the files."""

    @property
    def source(self) -> dict[str, Any]:
        """What the asset `source` says."""
        return {
            "revision": self.revision,
            "files": list(self.files),
            "label_names": list(self.label_names),
            "strata": self.strata,
            "task": self.task.state(),
            "samples": self.sizes[0],
            "test_samples": self.sizes[1],
            "model_settings": self.model_settings,
            "encoding": self.facts,
            **self.read,
        }

    def strata_table(self, head: str) -> str:
        """Samples per stratum, as Markdown."""
        lines = [f"| {name} | {count} |" for name, count in zip(self.strata, self.counts, strict=True)]
        return "\n".join([f"| {head} | samples |", "| --- | ---: |", *lines])


def prepared(study: Study, base: Path, cache: Path, folder: Path) -> Prepared:
    """Read the source, identify every sample, turn rows into arrays; or ask the study's own task for its samples.

    Tables, arrays and shards are written below `folder`, in batches; memory holds one of them.
    """
    if study.task.own:
        return prepared_by(study.own_task(), folder)
    columns = study.read_columns
    loaded = load(study.read_source, columns, base, cache, study.data)
    task = study.task.task(loaded.label_names).fitted(loaded.targets)
    report = check_data(loaded)
    names, strata = task.stratum_names(), task.strata(loaded.targets)
    classed = loaded.targets.dtype == np.int64
    check_possible(study, strata, names, len(np.unique(loaded.targets)) if classed else None)
    encoder = encodings.fit_encoder(study.resolved_encoding, loaded.rows["train"], columns.inputs)
    facts = encodings.facts_of(encoder, loaded.rows["train"], loaded.rows["test"])
    report = replace(report, texts=text_findings(facts, {name: len(rows) for name, rows in loaded.rows.items()}))
    for split, prefix, targets in (("train", "", loaded.targets), ("test", "test_", loaded.test_targets)):
        rows = loaded.rows[split]
        pictures = (columns.image, study.read_source.picture_folder(base, split)) if columns.image else None
        write_samples(folder / f"{prefix}samples.parquet", rows, targets, task.strata(targets), pictures)
        write_inputs(folder / f"{prefix}inputs.npy", encoder, rows)
        link_shards(rows, folder / "rows" / split)
    return Prepared(
        revision=loaded.revision,
        task=task,
        label_names=loaded.label_names,
        strata=names,
        counts=tuple(np.bincount(strata, minlength=len(names)).tolist()),
        sizes=(len(loaded.targets), len(loaded.test_targets)),
        folder=folder,
        files=loaded.files,
        report=report,
        encoder=encoder,
        model_settings=encoder.model_settings,
        facts=facts,
        read=read_facts(loaded, study),
    )


def write_samples(
    path: Path,
    rows: SplitRows,
    targets: Shaped[np.ndarray, "n ..."],
    strata: Int64[np.ndarray, " n"],
    pictures: tuple[str, Path] | None = None,
) -> None:
    """The table of samples: `row`, `file` and `file_row`, `content_hash`, and the target as `as_columns` has it.

    With the column of `pictures` also `path`, of a picture that has one; below the folder, where it lies there.
    """
    writer, start = None, 0
    for table in rows.batches([FILE, ROW, CONTENT, *([pictures[0]] if pictures else [])]):
        part = slice(start, start + table.num_rows)
        own = {name: values.to_arrow() for name, values in as_columns(targets[part], strata[part]).items()}
        known = {"row": pa.array(np.arange(part.start, part.stop)), "file": table[FILE], "file_row": table[ROW]}
        if pictures:
            known["path"] = paths_below(table[pictures[0]], pictures[1])
        block = pa.table(known | {"content_hash": hex_of(words_of(table[CONTENT]))} | own)
        writer = writer or pyarrow.parquet.ParquetWriter(path, block.schema, compression="zstd")
        writer.write_table(block)
        start = part.stop
    if writer:
        writer.close()


def paths_below(cells: pa.ChunkedArray, folder: Path) -> pa.Array:
    """Paths of pictures from a folder on, as they are where they lie elsewhere, empty where there is none."""
    paths = series_of(cells).struct.field("path").cast(pl.String).fill_null("")
    return paths.str.strip_prefix(f"{folder}/").to_arrow().cast(pa.string())


def write_inputs(path: Path, encoder: encodings.Encoder, rows: SplitRows) -> None:
    """The rows as one array in an .npy file."""
    with path.open("wb") as file:
        head = {"descr": encoder.dtype.str, "fortran_order": False, "shape": (len(rows), *encoder.shape)}
        np.lib.format.write_array_header_1_0(file, head)
        for _, block in encodings.blocks_of(encoder, rows):
            file.write(np.ascontiguousarray(block).data)


def link_shards(rows: SplitRows, folder: Path) -> None:
    """The shards of a split in a folder of their own, as further names of the same files where that is possible."""
    folder.mkdir(parents=True)
    for place, shard in enumerate(rows.shards):
        target = folder / f"{place:05}.arrow"
        try:
            target.hardlink_to(shard)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(shard, target)


def prepared_by(task: OwnTask, folder: Path) -> Prepared:
    """The samples that a task of the user's own yields; inputs are their row numbers."""
    samples, test_samples = inspect_own(task, "train"), inspect_own(task, "test")
    for prefix, table in (("", samples), ("test_", test_samples)):
        table.write_parquet(folder / f"{prefix}samples.parquet")
        np.save(folder / f"{prefix}inputs.npy", table["row"].to_numpy())
    return Prepared(
        revision=revision_of(task, samples, test_samples),
        task=task,
        label_names=(),
        strata=task.stratum_names(),
        counts=tuple(np.bincount(strata_in(samples), minlength=len(task.stratum_names())).tolist()),
        sizes=(len(samples), len(test_samples)),
        folder=folder,
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
                description="Rows in train and test, duplicates, conflicting labels, rows left out, tiny classes.",
            )
        ],
        group_name=study.name,
    )
    def prepare(context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store]) -> Iterator[Any]:
        refuse_out_of_range(context)
        cache = secateur_store.root / ".cache"
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="prepare-") as name:
            folder = Path(name)
            made = prepared(study, base, cache, folder)
            context.log.info(f"{made.sizes[0]} training and {made.sizes[1]} test samples, {made.revision}")
            for fact, number in made.facts.items():
                context.log.info(f"{fact}: {number}")
            with secateur_store.folder(key["encoder"]) as place:
                if made.encoder:
                    made.encoder.save(place)
            with secateur_store.folder(key_of(study, "rows")) as place:
                if (folder / "rows").is_dir():
                    for split in (folder / "rows").iterdir():
                        split.rename(place / split.name)
            report = report_of(made.report)
            yield from outputs_of(study, made, secateur_store.place(key["encoder"]).resolve(), report["findings"])
        secateur_store.save(key_of(study, "data_report"), report)
        problems = [finding["text"] for finding in report["findings"]]
        for problem in problems:
            context.log.warning(problem)
        yield dg.AssetCheckResult(
            check_name="data_quality",
            asset_key=key["samples"],
            passed=not problems,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(problems) or "nothing to report",
            metadata=report["counts"],
        )

    return prepare


def outputs_of(study: Study, made: Prepared, encoder: Path, findings: list[dict[str, Any]]) -> Iterator[dg.Output[Any]]:
    """Every asset of the data with its metadata; `encoder` is the folder where that one lies.

    What the check found stands with the source, which the overview of a study begins with, and with the samples.
    """
    told = {"findings": dg.MetadataValue.md(listed_in_markdown(findings) or "nothing to report")}
    # What is made of a revision depends on the study's settings too.
    settings = [
        study.source and study.source.model_dump(mode="json"),
        study.columns and study.columns.model_dump(mode="json"),
        study.task.model_dump(mode="json"),
        study.data.model_dump(mode="json"),
        study.columns and study.resolved_encoding.model_dump(mode="json"),
    ]
    version = dg.DataVersion(xxhash.xxh3_128_hexdigest(json.dumps([made.revision, *settings], sort_keys=True).encode()))
    yield dg.Output(made.source, "source", metadata=told | {"revision": made.revision}, data_version=version)
    for prefix, size in (("", made.sizes[0]), ("test_", made.sizes[1])):
        metadata: dict[str, Any] = {"revision": made.revision, "dagster/row_count": size}
        if not prefix:
            head = "class" if made.task.name == "classification" else "stratum"
            metadata |= {"classes": dg.MetadataValue.md(made.strata_table(head))}
            metadata |= told | {"duplicates found": made.report.train.duplicate_rows if made.report else 0}
        name = f"{prefix}samples"
        yield dg.Output(made.folder / f"{name}.parquet", name, metadata=metadata, data_version=version)
        inputs = np.load(made.folder / f"{prefix}inputs.npy", mmap_mode="r")
        metadata = {"revision": made.revision, "shape": str(inputs.shape), "dtype": str(inputs.dtype)} | made.facts
        name = f"{prefix}inputs"
        yield dg.Output(made.folder / f"{name}.npy", name, metadata=metadata, data_version=version)
    yield dg.Output(
        None, "encoder", metadata={"path": dg.MetadataValue.path(encoder)} | made.facts, data_version=version
    )
