"""Assets of a study's data: `source`, `samples`, `test_samples`, `inputs`, `test_inputs`, and their check."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import polars.selectors as cs
import xxhash
from jaxtyping import Int64

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.facts import tidy, told_of
from secateur.pipelines.assets.launchpad import refuse_out_of_range
from secateur.pipelines.assets.origin import read_facts
from secateur.pipelines.assets.own_inputs import check_brought
from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.assets.sample_target import check_target
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.assets.unit_columns import check_columns, check_tokens
from secateur.pipelines.data.apart import APART
from secateur.pipelines.data.check import DataReport, Finding, check_data, report_of, text_findings
from secateur.pipelines.data.fingerprints import FINGERPRINT, fingerprint
from secateur.pipelines.data.known_rows import EncodedBefore, remember
from secateur.pipelines.data.own_samples import inspect_own, own_findings, own_groups, revision_of
from secateur.pipelines.data.preparation import (
    begin,
    check_ids,
    encoding_facts,
    link_shards,
    write_inputs,
    write_samples,
)
from secateur.pipelines.data.scan import rows_in
from secateur.pipelines.data.sources import FORMAT, Loaded, Places, load
from secateur.pipelines.data.spread import Spread, divided
from secateur.pipelines.data.stored_targets import strata_in
from secateur.pipelines.files.partial_names import resumable_folder
from secateur.pipelines.files.shown_text import in_markdown
from secateur.pipelines.pages.previews import PREVIEW, Previews, previews_in
from secateur.pipelines.runs.deciding import fitted_task, known_of_inputs
from secateur.pipelines.runs.own_target import apart_of
from secateur.pipelines.runs.ray_cluster import spread_over
from secateur.pipelines.runs.room import refuse_large
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.sparse_rows import inputs_at, open_inputs
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import OwnTask, Split
from secateur.trainers.tasks.token_roles import token_counts

NAMES = {
    "source": "Where the data came from: revision, task, class names, numbers of samples.",
    "samples": "Training samples: row, file and row in it, path of a picture, content_hash, label (or target and "
    "stratum). Row order is identity inside a run.",
    "test_samples": "Test samples: row, file and row in it, content_hash, label (or target and stratum).",
    "inputs": "Training inputs as an array, memory-mapped by whoever reads it.",
    "test_inputs": "Test inputs as an array.",
    "encoder": "How rows become inputs, as learned from the training rows: tokenizer, terms or columns.",
}


def strata_of(samples: pl.LazyFrame) -> Int64[np.ndarray, " n"]:
    """Stratum of each sample: its class if targets are classes."""
    return strata_in(samples.select(cs.by_name("label", "stratum", require_all=False)).collect())


def previews_of(study: Study, store: Store, longest: int = PREVIEW, split: Split = "train") -> Previews | None:
    """Previews of samples, of at most `longest` characters each, from the stored rows of a split."""
    key = key_of(study, "rows")
    return previews_in(store.load(key) / split, study.columns, longest) if store.find(key) else None


def training_files(source: Mapping[str, Any]) -> list[str]:
    """Files of the training samples, indexed by the samples' column `file`."""
    return [name for name, _ in source.get("training_files", ())]


@dataclass(frozen=True)
class Prepared:
    """A study's prepared data: tables and arrays in `folder`, the findings of the check in `report`."""

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
    found: Sequence[Finding] = ()
    """Findings on the samples of the study's own task."""
    groups: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Rows of leaks, duplicates and conflicts, in the format of `equal_groups.table_of`."""
    encoder: encodings.Encoder | None = None
    model_settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)
    """Result of `read_facts`: facts about the files."""
    judging: dict[str, Any] = field(default_factory=dict)
    """Result of `facts_of_metrics`: facts about the test samples."""

    @property
    def source(self) -> dict[str, Any]:
        """Content of the asset `source`."""
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
            "test_counts": list(self.report.test.class_counts) if self.report else [],
            **self.judging,
            **self.read,
        }

    def told(self) -> dict[str, Any]:
        """The report of the check as JSON, with the findings on samples of the study's own task."""
        report = report_of(self.report)
        return report | {"findings": [*report["findings"], *(asdict(finding) for finding in self.found)]}

    def strata_table(self, head: str) -> str:
        """Samples per stratum, as Markdown."""
        lines = [f"| {in_markdown(name)} | {count} |" for name, count in zip(self.strata, self.counts, strict=True)]
        return "\n".join([f"| {head} | samples |", "| --- | ---: |", *lines])


def prepared(
    study: Study,
    base: Path,
    cache: Path,
    folder: Path,
    spread: Spread | None = None,
    known: EncodedBefore | None = None,
) -> Prepared:
    """Read the source, identify every sample and encode rows as arrays; or take the samples of the study's own task.

    Writes tables, arrays and shards below `folder` in batches, one in memory at a time. Resumes a killed preparation of
    the same data. With `spread`, other processes read and encode rows; rows in `known` keep their earlier encoding.
    """
    if study.task.own:
        return prepared_by(study.own_task(), folder)
    columns = study.read_columns
    loaded = load(study.read_source, columns, base, cache, study.data, apart=apart_of(study), spread=spread)
    check_target(study, loaded, base, cache)
    besides = check_columns(study, loaded, base, cache)
    begin(folder, f"{FORMAT} {version_of(study, loaded.revision)}")
    report = check_data(loaded)
    task, judging = fitted_task(study, loaded)
    names, counted = task.stratum_names(), task.strata(loaded.targets)
    with loaded.placing("train"):
        encoder = encodings.fit_encoder(study.resolved_encoding, divided(loaded.rows["train"], spread), columns.inputs)
    inputs = {
        split: write_split(study, base, loaded, split, folder, encoder, task, spread, known)
        for split in ("train", "test")
    }
    check_tokens(study, besides, inputs["train"])
    if APART in loaded.rows:
        link_shards(loaded.rows[APART], folder / "rows" / APART)
    facts = encoding_facts(encoder, loaded, inputs, spread)
    report = replace(report, texts=text_findings(facts, {name: len(rows) for name, rows in loaded.rows.items()}))
    train, test_inputs = (open_inputs(inputs[split]) for split in ("train", "test"))
    refuse_large(study, Data(train, loaded.targets, task, encoder.model_settings), counted)
    judging = known_of_inputs(study, task, judging, test_inputs, loaded.test_targets, loaded.targets)
    return Prepared(
        revision=loaded.revision,
        task=task,
        label_names=loaded.label_names,
        strata=names,
        counts=tuple(np.bincount(counted, minlength=len(names)).tolist()),
        sizes=(len(loaded.targets), len(loaded.test_targets)),
        folder=folder,
        files=loaded.files,
        report=report,
        groups=report.groups(),
        encoder=encoder,
        model_settings=encoder.model_settings,
        facts=facts,
        judging=judging,
        read=read_facts(loaded, study),
    )


def write_split(
    study: Study,
    base: Path,
    loaded: Loaded,
    split: str,
    folder: Path,
    encoder: encodings.Encoder,
    task: Task,
    spread: Spread | None,
    known: EncodedBefore | None,
) -> Path:
    """Write arrays, samples and shards of a split below the folder of a preparation; returns the path of the arrays."""
    columns, rows = study.read_columns, loaded.rows[split]
    prefix, targets = ("", loaded.targets) if split == "train" else ("test_", loaded.test_targets)
    if columns.id:
        check_own_ids(loaded, split, columns.id)
    pictures = (columns.image, study.read_source.picture_folder(base, split)) if columns.image else None
    with loaded.placing(split):
        there = known.of(encoder, split, rows) if known else None
        inputs = write_inputs(folder / f"{prefix}inputs.npy", encoder, rows, spread, there)
    counts = token_counts(np.load(inputs, mmap_mode="r")) if study.modality == "sequence" else None
    strata = task.strata(targets)
    write_samples(folder / f"{prefix}samples.parquet", rows, targets, strata, pictures, columns.id, tokens=counts)
    link_shards(rows, folder / "rows" / split)
    return inputs


def check_own_ids(loaded: Loaded, split: str, name: str) -> None:
    """Raise SourceError if the id column of a split has a gap or a duplicate."""
    say = partial(Places(loaded.rows, loaded.files).text, split)
    check_ids(loaded.rows[split].column(name), say, f"columns.id, {split} split")


def version_of(study: Study, revision: str) -> str:
    """Digest of everything that determines a study's samples: the data, the settings of reading and encoding, and the
    files that these name.
    """
    settings = [
        study.source and study.source.model_dump(mode="json"),
        study.columns and study.columns.model_dump(mode="json"),
        study.task.model_dump(mode="json"),
        study.data.model_dump(mode="json"),
        study.columns and study.resolved_encoding.model_dump(mode="json"),
        study.columns and contents_of(study.resolved_encoding),
        *([study.target.filter] if study.target and study.target.filter else []),
    ]
    return xxhash.xxh3_128_hexdigest(json.dumps([revision, *settings], sort_keys=True).encode())


def prepared_by(task: OwnTask, folder: Path) -> Prepared:
    """Prepare the samples of the user's own task; the inputs are row numbers."""
    begin(folder, task.name)
    samples, test_samples = inspect_own(task, "train"), inspect_own(task, "test")
    for prefix, table in (("", samples), ("test_", test_samples)):
        identity = {FINGERPRINT: fingerprint(table["content_hash"])}
        table.write_parquet(folder / f"{prefix}samples.parquet", metadata=identity)
        np.save(folder / f"{prefix}inputs.npy", table["row"].to_numpy())
    return Prepared(
        revision=revision_of(task, samples, test_samples),
        task=task,
        label_names=(),
        strata=task.stratum_names(),
        counts=tuple(np.bincount(strata_in(samples), minlength=len(task.stratum_names())).tolist()),
        sizes=(len(samples), len(test_samples)),
        folder=folder,
        found=own_findings({"train": samples, "test": test_samples}),
        groups=own_groups({"train": samples, "test": test_samples}),
    )


def prepare_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """Read the source, identify every sample and encode rows as arrays."""
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
    @told_in_a_sentence
    def prepare(context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store]) -> Iterator[Any]:
        refuse_out_of_range(context)
        cache = secateur_store.root / ".cache"
        with resumable_folder(cache / f"prepare-{study.name}") as folder:
            with spread_over(study.compute.scoring, study.compute.ray_address) as spread:
                before = encoded_before(study, secateur_store)
                made = prepared(study, base, cache, folder, spread, before)
            for of, count in before.found.items():
                context.log.info(f"{count} {of} samples were encoded before, in the same way")
            context.log.info(f"{made.sizes[0]} training and {made.sizes[1]} test samples, {made.revision}")
            for fact, number in made.facts.items():
                context.log.info(f"{fact}: {number}")
            report = made.told()
            check_brought(study, made.source, folder, base, secateur_store)
            yield from samples_of(study, made, report["findings"])
            with secateur_store.folder(key["encoder"]) as place:
                if made.encoder:
                    made.encoder.save(place)
            with secateur_store.folder(key_of(study, "rows")) as place:
                if (folder / "rows").is_dir():
                    for split in (folder / "rows").iterdir():
                        split.rename(place / split.name)
            place, named = secateur_store.place(key["encoder"]).resolve(), contents_of(study, base)
            yield from outputs_of(study, made, place, report["findings"], named)
            remember_encoded(study, made, before, secateur_store)
        secateur_store.save(key_of(study, "data_report"), report)
        secateur_store.save(key_of(study, "data_groups"), made.groups)
        for finding in report["findings"]:
            context.log.warning(finding["text"])
        yield quality_of(key["samples"], report)

    return prepare


ARRAYS = {"train": "inputs", "test": "test_inputs"}


def encoded_before(study: Study, store: Store) -> EncodedBefore:
    """Undamaged arrays in the store from an earlier preparation of the study."""
    arrays: dict[str, tuple[Path, str]] = {}
    for split, name in ARRAYS.items():
        key = key_of(study, name)
        if (path := store.find(key)) and not store.faults(key) and (content := store.content(key)):
            arrays[split] = path, content
    place = store.find(key_of(study, "rows"))
    rows = {split: rows_in(place / split) for split in arrays} if place else {}
    return EncodedBefore(store.root / ".cache" / "encoded" / f"{study.name}.json", arrays, rows)


def remember_encoded(study: Study, made: Prepared, before: EncodedBefore, store: Store) -> None:
    """Record the rows and the encoder of the arrays now in the store."""
    if made.encoder:
        shards = {split: rows_in(store.place(key_of(study, "rows")) / split) for split in ARRAYS}
        contents = {split: store.content(key_of(study, name)) or "" for split, name in ARRAYS.items()}
        remember(before.record, made.encoder, shards, contents)


def quality_of(samples: dg.AssetKey, report: Mapping[str, Any]) -> dg.AssetCheckResult:
    """The check of the samples: findings and counts."""
    problems = [finding["text"] for finding in report["findings"]]
    return dg.AssetCheckResult(
        check_name="data_quality",
        asset_key=samples,
        passed=not problems,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(problems) or "nothing to report",
        metadata=report["counts"],
    )


def samples_of(study: Study, made: Prepared, findings: list[dict[str, Any]]) -> Iterator[dg.Output[Any]]:
    """Samples of both splits, before all other outputs: the store assigns later outputs to these samples."""
    for prefix, size in (("", made.sizes[0]), ("test_", made.sizes[1])):
        metadata: dict[str, Any] = {"revision": made.revision, "dagster/row_count": size}
        if not prefix:
            head = "class" if made.task.name == "classification" else "stratum"
            metadata |= {"classes": dg.MetadataValue.md(made.strata_table(head))}
            metadata |= told_of(findings) | {"duplicates found": made.report.train.duplicate_rows if made.report else 0}
        name, version = f"{prefix}samples", dg.DataVersion(version_of(study, made.revision))
        yield dg.Output(made.folder / f"{name}.parquet", name, metadata=metadata, data_version=version)


def outputs_of(
    study: Study, made: Prepared, encoder: Path, findings: list[dict[str, Any]], named: Mapping[str, str]
) -> Iterator[dg.Output[Any]]:
    """Every other data asset with its metadata; `encoder` is that asset's folder.

    The data version of `source` covers all inputs in `named`: every step that reads files or code of its own also reads
    `source`, and so becomes stale when they change.
    """
    own = version_of(study, made.revision)
    version = dg.DataVersion(own)
    whole = dg.DataVersion(xxhash.xxh3_128_hexdigest(json.dumps([own, dict(named)]).encode()) if named else own)
    metadata = told_of(findings) | {"revision": made.revision}
    yield dg.Output(made.source, "source", metadata=metadata, data_version=whole)
    for prefix in ("", "test_"):
        path = inputs_at(made.folder / f"{prefix}inputs.npy")
        inputs = open_inputs(path)
        metadata = {"revision": made.revision, "shape": str(inputs.shape), "dtype": str(inputs.dtype)}
        metadata |= tidy(made.facts)
        yield dg.Output(path, f"{prefix}inputs", metadata=metadata, data_version=version)
    yield dg.Output(
        None, "encoder", metadata={"path": dg.MetadataValue.path(encoder)} | tidy(made.facts), data_version=version
    )
