"""Reads and validates every study file (`*.yaml`) of the folders; a broken file does not stop the others."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secateur.pipelines.studies.folders import SHIPPED as SHIPPED
from secateur.pipelines.studies.folders import files_in, own_folder, shipped_files
from secateur.pipelines.studies.plain_yaml import read_yaml, within_bounds
from secateur.pipelines.studies.rejections import did_you_mean, fault_text, require
from secateur.pipelines.studies.study import KINDS, AnyStudy, kind_named, kind_of
from secateur.pipelines.studies.trust import TRUST, refuse_untrusted


class StudyError(ValueError):
    """An unusable study file; the message names the file, the key and the allowed values."""


@dataclass(frozen=True)
class StudyFile:
    """A study of any kind, or the error of its file."""

    path: Path
    study: AnyStudy | None
    error: str = ""

    @property
    def name(self) -> str:
        return self.study.name if self.study else re.sub(r"\W+", "_", self.path.stem) or "study"


def load_file(path: Path) -> StudyFile:
    """Read and validate one file of a trusted folder; raises StudyError before it reads a file of an untrusted one."""
    if path.is_symlink() and not path.exists():
        raise StudyError(f"{path}: is a link that leads nowhere; remove it, or restore the file")
    if path.exists() and not path.is_file():  # to open a pipe would wait for whoever writes into it
        raise StudyError(f"{path}: is no file, and a study is one; remove it, or name it otherwise than *.yaml")
    try:
        refuse_untrusted(path)
    except ValueError as error:
        raise StudyError(str(error)) from error
    return StudyFile(path, load_study(path))


def load_study(path: Path) -> AnyStudy:
    """The study, of any kind, that a file holds; raises StudyError."""
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise StudyError(f"{path}: not readable as YAML: {error}") from error
    return validated(content, path)


def validated(content: Any, path: Path) -> AnyStudy:
    """A study from a file's content; raises StudyError with file, key and allowed values if the content is invalid."""
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of keys, got {type(content).__name__}")
    kind = kind_of(content)
    try:
        require(str(kind), KINDS, "kind")
        return kind_named(kind)(**content)
    except ValidationError as error:
        faults = "\n".join(f"  {fault_text(fault, kind_named(kind))}" for fault in error.errors())
        raise StudyError(f"{path}:\n{within_bounds(faults)}") from error
    except TypeError as error:
        raise StudyError(f"{path}: keys must be text: {error}") from error
    except ValueError as error:
        raise StudyError(f"{path}: {within_bounds(str(error))}") from error


def own_studies() -> list[StudyFile]:
    """The user's studies."""
    return read_studies([own_folder()])


def all_studies(examples: Callable[[str], bool] = lambda _: True) -> list[StudyFile]:
    """The user's studies, then the shipped ones whose names `examples` accepts.

    A study of the user replaces a shipped one of the same name.
    """
    own = own_studies()
    names = {file.name for file in own}
    wanted = (path for name, path in shipped_files().items() if name not in names and examples(name))
    return [*own, *map(load_file, wanted)]


def read_studies(folders: list[Path]) -> list[StudyFile]:
    """Read every `*.yaml` of the folders; a broken file or a duplicate name becomes an error entry, the others load."""
    files: list[StudyFile] = []
    for path in (path for folder in folders for path in files_in(folder)):
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


def find_study(name: str) -> StudyFile:
    """The file of the study with that name or path; raises StudyError if it is missing or broken."""
    file = load_file(Path(name)) if name.endswith((".yaml", ".yml")) else named(name)
    if file.study is None:
        raise StudyError(file.error)
    return file


def named(name: str) -> StudyFile:
    """The file of the study with that name; raises StudyError, which lists the known names."""
    files, shipped = {file.name: file for file in own_studies()}, shipped_files()
    if name not in files and name in shipped:
        return load_file(shipped[name])
    if name not in files:
        known = [*files, *shipped]
        there = f"{did_you_mean(name, known)}there are: {', '.join(known)}"
        unread = sorted({file.error for file in files.values() if TRUST in file.error})
        raise StudyError(f"there is no study {name!r}; {there}" + (f"\nnot read: {unread[0]}" if unread else ""))
    return files[name]
