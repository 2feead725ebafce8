"""Files by path, and objects of a store by URL (`s3://`, `gs://`, `memory://`, whatever fsspec knows).

Credentials come from the places where a store's own client looks for them, or from `options` for fsspec's file system.
No message or file contains them, nor those in a URL: see `shown`.
"""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import xxhash

from secateur.pipelines.files.contents import content_of

URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
BLOCK = 1 << 22
"""Bytes per read of an object."""

CHANGES = (
    "ETag",
    "etag",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
    "generation",
    "md5Hash",
    "md5",
    "crc32c",
)
"""Clients' names for the properties that change with an object."""

Options = Mapping[str, Any]
Address = str | Path


class AddressError(ValueError):
    """A path or URL that does not exist; the message names it and the remedy."""


def is_url(address: Address) -> bool:
    """Whether a text is a URL; `C:\\data` and `FILE:3` are not."""
    return isinstance(address, str) and URL.match(address) is not None


def shown(address: Address) -> str:
    """An address without user, password, query and fragment, which may hold a key.

    >>> shown("https://user:secret@host/a.parquet?X-Amz-Signature=secret")
    'https://host/a.parquet'
    """
    text = str(address)
    if not is_url(text):
        return text
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def refuse_secret(address: Address) -> None:
    """Raise AddressError for a URL with a user, a password or a query, as messages and files would contain it.

    A URL that names nothing, such as `s3://`, is an AddressError, too.
    """
    if is_url(address) and not str(address).partition("://")[2].strip("/"):
        raise AddressError(f"{address} names no file: write bucket and key, as in s3://bucket/folder/file.parquet")
    if shown(address) != str(address):
        raise AddressError(
            f"{shown(address)} is given with a user, a password or a query: leave credentials to what the store's "
            "client reads (its environment variables, its own files)"
        )


@dataclass(frozen=True)
class Stored:
    """A file at a path, or an object that `store`, a file system of fsspec, has at its path; `name` is for messages."""

    path: str
    name: str
    store: Any = None

    def size(self) -> int | None:
        """Bytes, or None for a missing file."""
        if self.store is None:
            return os.path.getsize(self.path) if os.path.isfile(self.path) else None
        return int(self.store.info(self.path)["size"]) if self.store.isfile(self.path) else None

    def version(self) -> str:
        """A digest of the store's properties of an object that change with it, so that an unchanged one is not read
        again.

        Empty for a file, and where the store has no such properties.
        """
        if self.store is None:
            return ""
        told = self.store.info(self.path)
        known = {name: str(told[name]) for name in CHANGES if told.get(name) is not None}
        return xxhash.xxh3_128_hexdigest(repr(sorted(known.items())).encode()) if known else ""

    def digest(self) -> str:
        """XXH3-128 of its bytes, 32 hexadecimal digits; a file that did not change is not read again."""
        if self.store is None:
            return content_of(Path(self.path))
        total = xxhash.xxh3_128()
        with self.store.open(self.path, "rb", block_size=BLOCK) as stream:
            while data := stream.read(BLOCK):
                total.update(data)
        return str(total.hexdigest())

    def open(self) -> Any:
        """A stream of its bytes that can seek."""
        if self.store is None:
            return open(self.path, "rb")
        # A forked process has the parent's store without its threads: fsspec makes it a new one.
        store = type(self.store)(*self.store.storage_args, **self.store.storage_options)
        return store.open(self.path, "rb")


@dataclass(frozen=True)
class Folder:
    """A folder, or the common prefix of the names of some objects of a store."""

    path: str
    address: str
    """The address for messages."""
    store: Any = None

    def at(self, name: str) -> Stored:
        """The file at a name, with forward slashes, below it."""
        separator = "" if self.address.endswith("/") else "/"
        path = os.path.join(self.path, name) if self.store is None else f"{self.path.rstrip('/')}/{name}"
        return Stored(path, f"{self.address}{separator}{name}", self.store)

    @cached_property
    def there(self) -> bool:
        """Whether it is an existing folder."""
        return os.path.isdir(self.path) if self.store is None else bool(self.store.isdir(self.path))

    def seen_from(self, folder: Path) -> str:
        """Its path from another folder, with forward slashes; for a store its URL."""
        return self.address if self.store is not None else os.path.relpath(self.path, folder).replace(os.sep, "/")

    def names(self, ending: str = "") -> list[str]:
        """Files directly in it, sorted, without hidden ones."""
        if self.store is None:
            found = [entry.name for entry in os.scandir(self.path) if entry.is_file()]
        else:
            entries = self.store.ls(self.path, detail=True)
            found = [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]
        return sorted(name for name in found if name.endswith(ending) and not name.startswith("."))


def store_of(url: str, options: Options | None = None) -> tuple[Any, str]:
    """The file system of a URL and the path in it; AddressError for one that fsspec does not know, or whose package is
    missing."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url, **(options or {}))
    except (ImportError, ValueError) as error:
        raise AddressError(f"{shown(url)}: {error}") from error
    return store, str(path)


def folder_of(address: Address, options: Options | None = None) -> Folder:
    """The folder at an address, which need not exist."""
    if is_url(address):
        store, path = store_of(str(address), options)
        return Folder(path, shown(address).rstrip("/"), store)
    return Folder(os.path.abspath(Path(address).expanduser()), str(address))


def found_files(
    data: Address | Sequence[Address], ending: str, options: Options | None = None
) -> tuple[Folder, list[str]]:
    """The files with an ending at a path, a glob, a folder, a URL or a list of these, sorted within each.

    Returns their common folder, and their names from there. Raises AddressError where there are none.
    """
    several = [data] if isinstance(data, str | Path) else list(data)
    if len(several) == 1 and (folder := folder_of(several[0], options)).there:
        if names := folder.names(ending):
            return folder, names
        raise AddressError(f"{folder.address}: no file in it ends in {ending}")
    found, store = list[str](), None
    for address in several:
        store, paths = _matches(address, options)
        if not paths:
            raise AddressError(f"there is no file or folder {shown(address)}")
        found += paths
    found = list(dict.fromkeys(found))
    root = os.path.commonpath([os.path.dirname(path) for path in found])
    first = shown(several[0])
    if store is not None:
        address = f"{first.partition('://')[0]}://{root.lstrip('/')}"
    else:
        address = root if os.path.isabs(Path(first).expanduser()) else os.path.relpath(root)
    return Folder(root, address, store), [os.path.relpath(path, root).replace(os.sep, "/") for path in found]


def _matches(address: Address, options: Options | None) -> tuple[Any, list[str]]:
    if is_url(address):
        store, path = store_of(str(address), options)
        found = [path] if store.isfile(path) else store.glob(path)
        return store, sorted(str(each) for each in found)
    path = os.path.abspath(Path(address).expanduser())
    found = [path] if os.path.isfile(path) else glob.glob(path, recursive=True)
    return None, sorted(each for each in found if os.path.isfile(each))
