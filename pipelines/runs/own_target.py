"""Reading the rows of a study's target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from secateur.pipelines.data.apart import Apart
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.data.target_rows import load_target, source_of
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.target import StudyTarget


@dataclass(frozen=True)
class Held:
    """Rows of a target, their files by name and number of rows, and the revision of the files."""

    rows: SplitRows
    files: Sequence[tuple[str, int]]
    revision: str


def target_of(study: Study | Choice) -> StudyTarget:
    """The target of a study that has one."""
    assert study.target
    return study.target


def columns_of(study: Study | Choice) -> Columns:
    """Columns to read from a target's own files: inputs, and labels where something learns from them."""
    columns = study.read_columns
    target = target_of(study)
    keys = {columns.kind, "prompt", "missing"} | ({"id"} if target.vectors and target.vectors.file else set())
    learned = isinstance(study, Study) and study.task.declared.learns_target
    keys |= {"label", "target"} if learned and "gradient_places" in study.target_signals else set()
    return Columns(**columns.model_dump(include=keys))


def apart_of(study: Study | Choice) -> Apart | None:
    """Filter for rows of the source that are the target; None where the target lies elsewhere."""
    target = study.target
    return Apart(target.filter, tuple(target.read_besides)) if target and target.filter else None


def read_target(study: Study | Choice, base: Path, cache: Path) -> Held:
    """The rows of a target that lies in files of its own; SourceError for any fault in them."""
    target = target_of(study)
    source = source_of(study.read_source, base, target.file, target.split)
    key = "target.split" if target.file is None else "target.file"
    whole = load_target(source, columns_of(study), target.read_besides, base, cache, study.data, key)
    return Held(whole.rows, list(zip(whole.files, whole.counts, strict=True)), whole.revision)
