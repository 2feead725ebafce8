"""Files that a source names: found by path, glob or folder, digested, and failures of their readers in one sentence."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from secateur.pipelines.files.contents import digest_of as digest_of

VARIABLE = r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"


class SourceError(ValueError):
    """Data that cannot be used as they are; the message says what, where and what to do."""


def find(patterns: Sequence[str], base: Path, split: str) -> list[Path]:
    """Files that paths and globs name, in the given order, sorted within a glob."""
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = located(pattern, base, split)
        if path.is_file():
            files[path] = None
            continue
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
        if path.is_dir():
            raise SourceError(f"source.{split}: {path} is a folder, name the files in it ({path}/*)")
        if not matches:
            raise SourceError(f"source.{split}: no file matches {str(path)!r}")
        files |= dict.fromkeys(matches)
    return storable(list(files), f"source.{split}")


def folder_at(name: str, base: Path, key: str) -> Path:
    """The folder that a key of the source names; SourceError where there is none."""
    path = located(name, base, key)
    if not path.is_dir():
        raise SourceError(f"source.{key}: there is no folder {path}")
    return path


def files_in(folder: Path) -> list[Path]:
    """Files below a folder in the order of their names, less hidden ones, as the readers see them."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    seen = (p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    return storable(sorted(seen), str(folder))


def storable(paths: list[Path], where: str) -> list[Path]:
    """The paths; SourceError where manifests could not hold the name of one of them."""
    for path in paths:
        if re.search("[\x00-\x1f\ud800-\udfff]", str(path)):
            raise SourceError(
                f"{where}: {str(path)!r} has a control character in its name, or one that is not UTF-8: rename it"
            )
    return paths


def located(text: str, base: Path, key: str) -> Path:
    """A path with environment variables filled in, relative ones from `base`."""

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        # As in a shell, `:-` stands in for an empty variable too.
        content = os.environ.get(name) or default if default is not None else os.environ.get(name)
        if content is None:
            raise SourceError(
                f"source.{key}: {text!r} needs the environment variable {name}, which is not set: "
                f"export {name}=FOLDER first, or write the path itself"
            )
        return content

    return Path(os.path.abspath(base / Path(re.sub(VARIABLE, value, text)).expanduser()))


def names_of(paths: Sequence[Path]) -> str:
    """Files for a message."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


@contextmanager
def in_one_sentence(subject: str, place: Callable[[], str] = str) -> Iterator[None]:
    """Failures of the readers, whatever their class, as a SourceError that begins with `subject`."""
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except Exception as error:
        cause = error.__cause__ if type(error) is DatasetGenerationError and error.__cause__ else error
        reason = place() or ": ".join(filter(None, (type(cause).__name__, " ".join(str(cause).split()))))
        raise SourceError(f"{subject}: {reason}") from error
