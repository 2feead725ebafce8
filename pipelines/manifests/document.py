"""The document of a manifest of any kind: checked on reading, written in one form, its files sealed.

The document of a manifest stands under the key `secateur` of manifest.json. A root checksum covers the document, a
seal each file beside it.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from secateur.pipelines.files.unwritable import Unwritable
from secateur.pipelines.files.whole_files import inside, sha256_of
from secateur.pipelines.manifests import croissant
from secateur.pipelines.manifests.names import DOCUMENT as DOCUMENT
from secateur.pipelines.manifests.provenance import Declaration, FileSeal, FrozenModel
from secateur.pipelines.storage.epoch_table import EPOCHS
from secateur.pipelines.storage.packed_masks import BITS

ROWS: Final = "kept.parquet"
LARGEST_DOCUMENT = 8 * 2**20
"""Bytes; a data set of 20,000 classes needs about 3 MB."""


class ManifestError(ValueError):
    """A fault of a manifest, or of the data that it is applied to, in one sentence."""

    def __init__(self, sentence: str) -> None:
        plain = " ".join(sentence.encode("utf-8", "backslashreplace").decode().split())
        super().__init__(plain if len(plain) <= 600 else f"{plain[:599]}…")


@contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turn errors of the block into one ManifestError that begins with the subject."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{subject}: {place}: {first['msg']}, got {short(first['input'])}") from error
    except FileNotFoundError as error:
        raise ManifestError(f"{subject}: there is no file {error.filename}") from error
    except Unwritable as error:
        raise ManifestError(str(error)) from error  # a sentence already, with the path
    except (OSError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        text = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror + (f" ({shortened(error.filename)})" if error.filename else "")
        raise ManifestError(text if text.startswith(subject) else f"{subject}: {text}") from error


def shortened(name: object) -> str:
    """A path for a message; a long one by its end."""
    text = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return text if len(text) <= 200 else f"…{text[-199:]}"


def short(value: object) -> str:
    """A value for an error message, shortened."""
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def refuse_other_contents(folder: Path) -> None:
    """Raise ManifestError where a folder to be deleted holds more than a manifest and the files that it seals."""
    if not folder.is_dir():
        return
    named = {DOCUMENT, ROWS, BITS, EPOCHS}
    with suppress(ValueError, OSError):  # a broken manifest names no files
        files = parse_document(folder / DOCUMENT)["secateur"].get("files")
        named |= set(files) if isinstance(files, dict) else set()
    there = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    others = sorted({path.relative_to(folder).as_posix() for path in there} - named)
    if others:
        raise ManifestError(f"the folder exists and holds other things than a manifest, {others[0]!r} for one")


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Write manifest.json under its root checksum; raises ManifestError for a document over the largest size."""
    document["secateur"]["root"] = croissant.root_of(document)
    content = croissant.serialise(document)
    if len(content) > LARGEST_DOCUMENT:
        raise ManifestError(f"{DOCUMENT} would take {len(content)} of at most {LARGEST_DOCUMENT} bytes")
    (folder / DOCUMENT).write_bytes(content)


def parse_document(path: Path) -> dict[str, Any]:
    """Read the whole document; raises ManifestError, or ValueError and OSError, for a faulty file."""
    size = size_of_plain_file(path)
    if size > LARGEST_DOCUMENT:
        raise ManifestError(f"{path.name} has {size} bytes, more than the {LARGEST_DOCUMENT} that a manifest may have")
    try:
        document = croissant.parse(path.read_bytes())
    except ValueError as error:
        raise ManifestError(f"{path.name} cannot be trusted: {error}") from error
    if not isinstance(document.get("secateur"), dict):
        raise ManifestError(f"{path.name} holds no object `secateur`, so it is no manifest of ours")
    return document


def declared(document: Mapping[str, Any], part: type[FrozenModel]) -> Declaration[Any]:
    """The declaration in a document whose root is checked; `part` is the model of the kind's own entry."""
    own = document["secateur"]
    declaration = Declaration[part].model_validate(own)  # type: ignore[valid-type]
    if croissant.serialise(declaration.model_dump(mode="json")) != croissant.serialise(own):
        raise ManifestError(f"{DOCUMENT}: `secateur` holds values of the wrong type")
    if declaration.root != croissant.root_of(document):
        raise ManifestError(f"{DOCUMENT} was changed after it was written (its root sha256 differs)")
    return declaration


def check_told(document: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise ManifestError unless a document's entries for other readers equal the `expected` ones.

    Text for people is ignored, as it may change between versions.
    """
    for key in sorted((document.keys() | expected.keys()) - {"secateur"}):
        both = key in document and key in expected
        if not both or (key not in croissant.PROSE and _without_prose(document[key]) != _without_prose(expected[key])):
            raise ManifestError(f"its `{key}` is not what its own part declares")


def _without_prose(value: Any) -> Any:
    """A JSON value without its names and descriptions, at any depth."""
    if isinstance(value, dict):
        return {key: _without_prose(inner) for key, inner in value.items() if key not in croissant.PROSE}
    return [_without_prose(inner) for inner in value] if isinstance(value, list) else value


def seals_of(folder: Path) -> dict[str, FileSeal]:
    """The seals of all files in a folder but manifest.json, by name."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items() if name != DOCUMENT}
    return {name: FileSeal(bytes=size, sha256=sha256_of(files[name])) for name, size in sizes.items()}


def check_seals(folder: Path, files: Mapping[str, FileSeal], *, contents: bool) -> None:
    """Raise ManifestError for a file of another length than sealed or, with `contents`, of another SHA-256."""
    for name, seal in files.items():
        size, path = size_of_plain_file(folder / name), inside(folder, name)
        if size != seal.bytes:
            raise ManifestError(f"{name} has {size} bytes, but {seal.bytes} were written")
        if contents and sha256_of(path) != seal.sha256:
            raise ManifestError(f"{name} was changed after it was written (its sha256 differs)")


def size_of_plain_file(path: Path) -> int:
    """Bytes of a file; raises ManifestError for a link, a device or a pipe without opening it."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ManifestError(f"{path.name} is not a plain file (a link, a folder or a device is not followed)")
    return status.st_size
