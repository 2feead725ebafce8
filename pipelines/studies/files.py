"""Files of studies: every `*.yaml` of the folders, read and validated, a broken one beside the others."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from secateur.pipelines.studies.rejections import SHIPPED as SHIPPED
from secateur.pipelines.studies.rejections import fault_text
from secateur.pipelines.studies.samples import Study

if TYPE_CHECKING:
    from secateur.pipelines.studies.architectures import Search
    from secateur.pipelines.studies.units import PruningStudy

Checked = TypeVar("Checked", bound=BaseModel)


class StudyError(ValueError):
    """A study file that cannot be used; the text names the file, the key and what is allowed."""


@dataclass(frozen=True)
class StudyFile:
    """A study or the reason why its file holds none."""

    path: Path
    study: Study | None
    error: str = ""
    search: "Search | None" = None
    """Instead of a study, where the file is of `kind: search`."""
    pruning: "PruningStudy | None" = None
    """Instead of a study of samples, where the file is of `kind: pruning`."""

    @property
    def name(self) -> str:
        named = self.study or self.search or self.pruning
        return named.name if named else re.sub(r"\W+", "_", self.path.stem) or "study"


def load_file(path: Path) -> StudyFile:
    """Read and validate one file, be it a study, of samples or of other units, or a search; raises StudyError."""
    content = read_yaml(path)
    if content.get("kind") == "search":
        from secateur.pipelines.studies.architectures import Search

        return StudyFile(path, None, search=validated(Search, content, path, "search"))
    if content.get("kind") == "pruning":
        from secateur.pipelines.studies.units import PruningStudy

        return StudyFile(path, None, pruning=validated(PruningStudy, content, path, "study of units"))
    return StudyFile(path, load_study(path))


def load_study(path: Path) -> Study:
    """Read and validate one file; raises StudyError."""
    return validated(Study, read_yaml(path), path, "study")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds; raises StudyError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of keys, got {type(content).__name__}")
    return content


def validated(model: type[Checked], content: dict[str, Any], path: Path, kind: str) -> Checked:
    """Raise StudyError with file, key and what is allowed where the content does not fit the model."""
    try:
        return model(**content)
    except ValidationError as error:
        faults = "\n".join(f"  {fault_text(fault)}" for fault in error.errors())
        raise StudyError(f"{path}:\n{faults}\n  keys of a {kind}: {', '.join(model.model_fields)}") from error
    except TypeError as error:
        raise StudyError(f"{path}: keys must be text: {error}") from error


def study_folders() -> list[Path]:
    """The studies that ship, then the user's folder: SECATEUR_STUDIES, or `studies` below the working directory."""
    return [SHIPPED, Path(os.environ.get("SECATEUR_STUDIES", "studies"))]


def read_studies(folders: list[Path]) -> list[StudyFile]:
    """Every `*.yaml` of the folders; a broken file, or a second one of the same name, takes no other down."""
    found: list[StudyFile] = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.y*ml"))):
        try:
            read = load_file(path)
        except StudyError as error:
            read = StudyFile(path, None, str(error))
        first = next((other for other in found if other.name == read.name), None)
        if first:
            error_text = f"{path}: a study named {read.name!r} is already in {first.path}; rename one of them"
            read = StudyFile(path.with_name(f"{path.stem}_{len(found)}{path.suffix}"), None, read.error or error_text)
        found.append(read)
    return found
