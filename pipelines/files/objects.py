"""Objects of a store (`s3://`, `gs://`, `memory://`) as files: cached copies for reading, and uploads of exports.

A copy lies below `$SECATEUR_CACHE/objects` (`~/.cache/secateur` if that is not set) under the scheme and the path of
its URL, without user, password and query: its path identifies its source. It is fetched again if the store reports
another size, time or tag of the object than at the last fetch.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from secateur.pipelines.files.addresses import URL, AddressError, Options, Stored, shown, store_of
from secateur.pipelines.files.whole_files import OVERWRITE, new_file, write_bytes

RECEIPT = "secateur.json"
"""File of an exported folder that is written last, so that a folder with it is complete."""


UPLOADS = "secateur-upload-"
"""Prefix of the names of folders whose content waits for its upload."""


def waits(path: Path) -> bool:
    """Whether a path lies in a folder whose content waits for its upload."""
    return path.parent.name.startswith(UPLOADS)


def objects_folder() -> Path:
    """The folder of copies of objects."""
    cache = os.environ.get("SECATEUR_CACHE") or Path.home() / ".cache" / "secateur"
    return Path(os.path.abspath(cache)) / "objects"


def url_of(path: Path | str) -> str:
    """The URL of which a path is the copy, without secrets; empty for any other path."""
    try:
        scheme, *parts = Path(path).relative_to(objects_folder()).parts
    except ValueError:
        return ""
    return f"{scheme}://{'/'.join(parts)}"


def with_urls(text: str) -> str:
    """A message with the URLs in place of the paths of copies."""
    folder = re.escape(str(objects_folder()))
    return re.sub(rf"{folder}/([A-Za-z][A-Za-z0-9+.-]*)/", r"\1://", text)


def scrubbed(error: BaseException, url: str) -> str:
    """The message of a store's client, without user, password and query of any URL in it."""
    said = " ".join(str(error).replace(url, shown(url)).split())
    said = re.sub(rf"{URL.pattern[1:]}\S+", lambda found: shown(found[0].rstrip("'\")>,")), said)
    return f"{type(error).__name__}{f': {said[:300]}' if said else ''}"


def copied(url: str, options: Options | None = None) -> list[Path]:
    """Copies of the objects at a URL, or a glob of one, sorted by name; for a folder of all in it.

    Raises AddressError where the store does not have them or does not answer, without a cause that might contain a key.
    """
    try:
        store, path = store_of(url, options)
        if store.isfile(path):
            found = [path]
        elif store.isdir(path):
            found = [each for each in store.find(path) if "/." not in each[len(path) :]]
            _forget(objects_folder() / url.partition("://")[0] / path.strip("/"), [each[len(path) :] for each in found])
        else:
            found = [str(each) for each in store.glob(path) if store.isfile(each)]
        scheme = url.partition("://")[0]
        return [_copy(Stored(each, f"{scheme}://{each.lstrip('/')}", store), scheme) for each in sorted(found)]
    except AddressError:
        raise
    except Exception as error:  # clients of stores raise their own errors
        said = scrubbed(error, url)
    raise AddressError(f"{shown(url)} cannot be read: {said}")


def _forget(folder: Path, names: Sequence[str]) -> None:
    """Remove copies in a folder whose objects no longer exist."""
    there = {folder / name.lstrip("/") for name in names}
    for copy in folder.rglob("*") if folder.is_dir() else ():
        if copy.is_file() and not copy.name.startswith(".") and copy not in there:
            copy.unlink()


def _copy(stored: Stored, scheme: str) -> Path:
    place = shown(stored.name).partition("://")[2]
    if ".." in place.split("/") or not place:
        raise AddressError(f"{shown(stored.name)} is no name of an object")
    target = objects_folder() / scheme / place
    note, version = target.with_name(f".{target.name}.version"), stored.version()
    told = json.dumps({"size": stored.size(), "version": version}).encode()
    if version and target.is_file() and note.is_file() and note.read_bytes() == told:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_file(target, overwrite=True) as partial:
        stored.store.get_file(stored.path, str(partial))
        if partial.stat().st_size != stored.size():
            raise AddressError(f"{shown(stored.name)} changed while it was fetched: try again")
    write_bytes(note, told, overwrite=True)
    return target


def refuse_there(url: str, *, overwrite: bool, options: Options | None = None) -> None:
    """Raise FileExistsError for an object at a URL that may not be replaced: a folder may only if it is an export."""
    store, path = store_of(url, options)
    try:
        there, folder = store.exists(path), store.isdir(path)
        known = folder and store.isfile(f"{path.rstrip('/')}/{RECEIPT}")
    except Exception as error:
        said = scrubbed(error, url)
    else:
        if there and not overwrite:
            raise FileExistsError(f"{shown(url)} exists already: name another URL, or replace it with {OVERWRITE}")
        if folder and not known:
            raise FileExistsError(f"{shown(url)} is a folder that is no whole export of ours: name another URL")
        return
    raise AddressError(f"{shown(url)} cannot be written: {said}")


def stored_at(url: str, source: Path, options: Options | None = None) -> None:
    """Write a file, or a folder whose `secateur.json` comes last, to a URL; removes an earlier export there."""
    store, path = store_of(url, options)
    try:
        if source.is_file():
            store.put_file(str(source), path)
            return
        whole = path.rstrip("/")
        if store.isdir(path):
            store.rm_file(f"{whole}/{RECEIPT}")
            store.rm(path, recursive=True)
        names = sorted(each.relative_to(source).as_posix() for each in source.rglob("*") if each.is_file())
        for name in sorted(names, key=lambda name: name == RECEIPT):
            store.put_file(str(source / name), f"{whole}/{name}")
        return
    except Exception as error:
        said = scrubbed(error, url)
    raise AddressError(f"{shown(url)} cannot be written: {said}")


def sizes_at(url: str, options: Options | None = None) -> list[int]:
    """Bytes of each object at a URL or below it."""
    store, path = store_of(url, options)
    return [int(told["size"]) for told in store.find(path, detail=True).values()]


class Upload:
    """A local path for writing, whose content is uploaded to `url` if the block ends without an error.

    >>> with Upload("memory://bucket/a.txt") as path:
    ...     _ = path.write_text("kept")
    >>> sizes_at("memory://bucket/a.txt")
    [4]
    """

    def __init__(self, url: str, *, overwrite: bool = False, options: Options | None = None) -> None:
        self.url, self.options = url, options
        refuse_there(url, overwrite=overwrite, options=options)
        self._folder = TemporaryDirectory(prefix=UPLOADS)
        self.path = Path(self._folder.name) / shown(url).rstrip("/").rpartition("/")[2]

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None:
                stored_at(self.url, self.path, self.options)
        finally:
            self._folder.cleanup()
