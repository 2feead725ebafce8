"""Inputs of an export from a study, its training rows and report, and the summary of the written export."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from secateur.pipelines.data import types
from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.files import SourceError, in_one_sentence
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, Types
from secateur.pipelines.data.sources import own_manners
from secateur.pipelines.exports.registry import exporters
from secateur.pipelines.exports.selected import SourceRows
from secateur.pipelines.files.objects import sizes_at
from secateur.pipelines.files.whole_files import new_file
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.origin import FileRows
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study

if TYPE_CHECKING:
    import datasets


def training_rows(file: StudyFile, root: Path, to: str = "") -> SourceRows:
    """All columns of the files that a study selects from, with the user's own values, undecoded.

    CSV and JSON lines have one type per column over all files, as in the study; a CSV for export as CSV stays texts.
    Parquet is read by `datasets`; a data set is returned itself. `root` is the folder of assets and prepared tables;
    `to` the format to write.
    """
    study = file.study
    assert isinstance(study, Study | Choice)
    if isinstance(study, Study) and study.task.own:
        raise ManifestError(
            f"the samples of {study.name} come from its task {study.task.kind}: its manifest says which to keep, by "
            "row and content hash"
        )
    base, cache = file.path.parent.absolute(), root / ".cache"
    with own_manners():
        splits, revision = study.read_source.read(study.read_columns, base, cache / "sources")
        held = splits["train"]
        if not isinstance(held, Sequence):
            name = DatasetSplit(study.read_source.name_of("train", base), held).shown(base)
            whole = (FileRows(name=name, rows=len(held)),)
            return SourceRows(held, whole, revision, base, tuple(sources_of(study, base)))
        data, counts = whole_rows(held, cache / "exports" / revision, texts=to == "csv")
    names = tuple(FileRows(name=each.shown(base), rows=rows) for each, rows in zip(held, counts, strict=True))
    return SourceRows(data, names, revision, base, tuple(sources_of(study, base)))


def sources_of(study: Study | Choice, base: Path) -> list[Path]:
    """Files of a source; none for a data set of a library or on the hub."""
    try:
        return [path for paths in study.read_source.files(base).values() for path in paths]
    except NotImplementedError:
        return []


def whole_rows(files: Sequence[SourceFile], cache: Path, *, texts: bool) -> tuple["datasets.Dataset", list[int]]:
    """All columns of files, one after another, from an Arrow file below `cache`; and the rows of each."""
    import datasets

    if all(isinstance(file, ParquetFile) for file in files):
        with in_one_sentence("source.train"):
            paths = [file.name for file in files]
            data = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(cache))
        return data, [file.footer[1] for file in files if isinstance(file, ParquetFile)]
    # In features some texts stand for a missing value: here all texts are the user's own.
    plain = [
        replace(file, features=(), missing=(), verbatim=True) if isinstance(file, CsvFile) else file for file in files
    ]
    wanted = whole_types(plain, texts=texts)
    names = xxhash.xxh3_64_hexdigest("\n".join([*(file.name for file in files), *map(str, wanted.items())]).encode())
    path = cache / f"{names}.arrow"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with new_file(path) as partial:
            write_whole(plain, wanted, partial)
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
    numbers = table.column(table.num_columns - 1)
    counts = [0] * len(files)
    for entry in numbers.value_counts().to_pylist():
        counts[entry["values"]] = entry["counts"]
    table = table.drop_columns([table.column_names[-1]])
    features = datasets.Features.from_arrow_schema(table.schema)
    features.update({name: datasets.Image() for name, kind in wanted.items() if kind == types.PICTURE})
    for name, classes in files[0].label_names.items():
        features[name] = datasets.ClassLabel(names=list(classes))
    return datasets.Dataset(table.cast(features.arrow_schema)), counts


def whole_types(files: Sequence[SourceFile], *, texts: bool) -> dict[str, pa.DataType]:
    """One type for each column of any of the files, in the order of the first."""
    chosen: dict[str, pa.DataType] = {}
    for file in files:
        all_texts = texts and isinstance(file, CsvFile)
        own = dict.fromkeys(file.columns, types.TEXT) if all_texts else file.stored_types()
        for name, kind in own.items():
            together = file.joined(chosen.get(name, types.NOTHING), kind)
            if together is None:
                raise SourceError(
                    f"{file.name}: column {name!r} holds {types.shown_type(kind)} and other values in another file: "
                    "make it one type in all files"
                )
            chosen[name] = together
    return chosen


FILE = "secateur:file"


def write_whole(files: Sequence[SourceFile], wanted: Types, path: Path) -> None:
    """Columns of all files in one Arrow file, null where a file lacks one, and last the number of the file."""
    schema = pa.schema([*wanted.items(), (FILE, pa.int64())])
    with pa.ipc.new_file(str(path), schema) as writer:
        for place, file in enumerate(files):
            own = {name: kind for name, kind in wanted.items() if name in file.columns}
            for table in file.batches(own):
                rows = table.num_rows
                columns = [table[name] if name in own else pa.nulls(rows, kind) for name, kind in wanted.items()]
                writer.write_table(pa.table([*columns, pa.repeat(pa.scalar(place), rows)], schema=schema))


def with_report(to: str, settings: dict[str, Any], manifest: Manifest, root: Path) -> dict[str, Any]:
    """The settings of a format, with the study's report if the format quotes one and it exists."""
    report = root / manifest.provenance.dataset / "report" / "report.json"
    quotes = to in exporters() and "report" in exporters()[to].settings.model_fields
    plain = Path(manifest.provenance.dataset).name == manifest.provenance.dataset
    quoted = quotes and plain and report.is_file()
    return {"report": str(report), **settings} if quoted else settings


def described(path: Path | str, to: str, manifest: Manifest) -> dict[str, Any]:
    """The written export as JSON-able data: path, rows, all rows, and numbers of files and bytes."""
    if isinstance(path, str):
        sizes, where = sizes_at(path), path
    else:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        sizes, where = [file.stat().st_size for file in files], str(path.resolve())
    declared = manifest.declaration
    return {
        "path": where,
        "format": to,
        "rows": declared.count,
        "of": declared.of,
        "files": len(sizes),
        "bytes": sum(sizes),
        "dataset": declared.provenance.dataset,
        "selection": declared.provenance.selection,
        "seed": declared.provenance.seed,
    }
