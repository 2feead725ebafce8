"""Files of studies: every `*.yaml` of the folders, read and validated, a broken one beside the others."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secateur.pipelines.studies.plain_yaml import read_yaml
from secateur.pipelines.studies.rejections import SHIPPED as SHIPPED
from secateur.pipelines.studies.rejections import fault_text, require
from secateur.pipelines.studies.study import DEFAULT_KIND, AnyStudy, kinds


class StudyError(ValueError):
    """A study file that cannot be used; the text names the file, the key and what is allowed."""


@dataclass(frozen=True)
class StudyFile:
    """A study of any kind, or the reason why its file holds none."""

    path: Path
    study: AnyStudy | None
    error: str = ""

    @property
    def name(self) -> str:
        return self.study.name if self.study else re.sub(r"\W+", "_", self.path.stem) or "study"


def load_file(path: Path) -> StudyFile:
    """Read and validate one file; raises StudyError."""
    return StudyFile(path, load_study(path))


def load_study(path: Path) -> AnyStudy:
    """The study, of any kind, that a file holds; raises StudyError."""
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise StudyError(f"{path}: not readable as YAML: {error}") from error
    return validated(content, path)


def validated(content: Any, path: Path) -> AnyStudy:
    """A study from what its file holds; raises StudyError with file, key and what is allowed where that is none."""
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of keys, got {type(content).__name__}")
    kind = content.get("kind", DEFAULT_KIND)
    try:
        require(str(kind), kinds(), "kind")
        return kinds()[kind](**content)
    except ValidationError as error:
        faults = "\n".join(f"  {fault_text(fault, kinds()[kind])}" for fault in error.errors())
        raise StudyError(f"{path}:\n{faults}") from error
    except TypeError as error:
        raise StudyError(f"{path}: keys must be text: {error}") from error
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from error


def study_folders() -> list[Path]:
    """The studies that ship, then the user's folder: SECATEUR_STUDIES, or `studies` below the working directory."""
    return [SHIPPED, Path(os.environ.get("SECATEUR_STUDIES", "studies"))]


def read_studies(folders: list[Path]) -> list[StudyFile]:
    """Every `*.yaml` of the folders; a broken file, or a second one of the same name, takes no other down."""
    files: list[StudyFile] = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.y*ml"))):
        try:
            file = load_file(path)
        except StudyError as error:
            file = StudyFile(path, None, str(error))
        first = next((other for other in files if other.name == file.name), None)
        if first:
            error_text = f"{path}: a study named {file.name!r} is already in {first.path}; rename one of them"
            file = StudyFile(path.with_name(f"{path.stem}_{len(files)}{path.suffix}"), None, file.error or error_text)
        files.append(file)
    return files
