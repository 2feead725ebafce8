"""Files of a source: finding them by path, glob or folder, and failures of their readers in one sentence."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from secateur.pipelines.files.addresses import AddressError, is_url, refuse_secret, shown
from secateur.pipelines.files.contents import digest_of as digest_of
from secateur.pipelines.files.objects import copied, objects_folder, url_of, with_urls

VARIABLE = r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"


class SourceError(ValueError):
    """Data that cannot be used as they are; the message names the fault, its place and the remedy.

    It names the URL of an object, not its local copy.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(with_urls(sentence))


def find(patterns: Sequence[str], base: Path, split: str) -> list[Path]:
    """Files that paths and globs name, in the given order, sorted within a glob."""
    files: dict[Path, None] = {}
    for pattern in patterns:
        if is_url(pattern) or is_url(expanded(pattern, split)):
            files |= dict.fromkeys(objects_at(pattern, split))
            continue
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


def objects_at(pattern: str, key: str) -> list[Path]:
    """Copies of the objects that a URL, or a glob of one, names; SourceError for no object, and for a URL with a key.

    Studies are stored and shown, so a key may only stand in an environment variable (`${NAME}`).
    """
    url = expanded(pattern, key)
    try:
        if is_url(pattern):
            refuse_secret(pattern)
        found = copied(url)
    except AddressError as error:
        raise SourceError(f"source.{key}: {error}") from None
    if not found:
        raise SourceError(f"source.{key}: no object matches {shown(url)}")
    return found


def at_hand(data: str | Path) -> Path:
    """The path of a caller's data, for a URL that of its copy; SourceError where the fetch fails."""
    if not is_url(data):
        return Path(data).expanduser()
    try:
        refuse_secret(data)
        found = copied(str(data))
    except AddressError as error:
        raise SourceError(str(error)) from None
    if not found:
        raise SourceError(f"there is no object or folder {shown(data)}")
    if len(found) == 1 and url_of(found[0]) == shown(data):
        return found[0]
    folder = objects_folder() / str(data).partition("://")[0] / shown(data).partition("://")[2].rstrip("/")
    if not folder.is_dir():
        raise SourceError(f"{shown(data)} means {len(found)} objects: name one, or their folder")
    return folder


def folder_at(name: str, base: Path, key: str) -> Path:
    """The folder that a key of the source names; SourceError where there is none."""
    path = located(name, base, key)
    if not path.is_dir():
        raise SourceError(f"source.{key}: there is no folder {path}")
    return path


def files_in(folder: Path) -> list[Path]:
    """Files below a folder in the order of their names, without hidden ones, which the readers skip too."""
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
    """The absolute path of a text with environment variables; relative paths start from `base`."""
    return Path(os.path.abspath(base / Path(expanded(text, key)).expanduser()))


def expanded(text: str, key: str) -> str:
    """A path or URL with environment variables filled in; SourceError where one is not set."""

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

    return re.sub(VARIABLE, value, text)


def names_of(paths: Sequence[Path]) -> str:
    """Files for a message."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


@contextmanager
def in_one_sentence(subject: str, place: Callable[[], str] = str) -> Iterator[None]:
    """Turn failures of the readers, whatever their class, into a SourceError that begins with `subject`."""
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except Exception as error:
        cause = error.__cause__ if type(error) is DatasetGenerationError and error.__cause__ else error
        reason = place() or ": ".join(filter(None, (type(cause).__name__, " ".join(str(cause).split()))))
        raise SourceError(f"{subject}: {reason}") from error
