"""What an export takes from a study: its training rows, the report on it, and what to say of what was written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.pipelines.data.sources import load
from secateur.pipelines.exports.registry import exporters
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study

if TYPE_CHECKING:
    import datasets


def training_rows(file: StudyFile, root: Path) -> "datasets.Dataset":
    """The rows that a study selects from, undecoded; `root` is where assets are, and with them prepared tables."""
    study = file.study
    assert isinstance(study, Study)
    if study.task.own:
        raise ManifestError(
            f"the samples of {study.name} come from its task {study.task.kind}: its manifest says which to keep, by "
            "row and content hash"
        )
    return load(study.read_source, study.read_columns, file.path.parent, root / ".cache").train


def with_report(to: str, settings: dict[str, Any], manifest: Manifest, root: Path) -> dict[str, Any]:
    """The settings of a format, the study's report among them where the format quotes one and there is one."""
    report = root / manifest.provenance.dataset / "report" / "report.json"
    quotes = to in exporters() and "report" in exporters()[to].settings.model_fields
    plain = Path(manifest.provenance.dataset).name == manifest.provenance.dataset
    quoted = quotes and plain and report.is_file()
    return {"report": str(report), **settings} if quoted else settings


def described(path: Path, to: str, manifest: Manifest) -> dict[str, Any]:
    """What was written, as JSON-able data: where, how many rows of how many, in how many files and bytes."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    declared = manifest.declaration
    return {
        "path": str(path.resolve()),
        "format": to,
        "rows": declared.count,
        "of": declared.of,
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "dataset": declared.provenance.dataset,
        "selection": declared.provenance.selection,
        "seed": declared.provenance.seed,
    }
