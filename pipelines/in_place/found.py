"""Open a view of a selection on data: detect the format, find the kept rows, refuse changed files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import Address, AddressError, Options, folder_of, is_url, refuse_secret, shown
from secateur.pipelines.files.contents import remembered
from secateur.pipelines.in_place.contract import Data, Reader
from secateur.pipelines.in_place.kept import Kept, refuse_changed, rows_in, told_in
from secateur.pipelines.in_place.view import InPlace
from secateur.pipelines.manifests.document import DOCUMENT
from secateur.pipelines.manifests.kept_rows import SCORE
from secateur.pipelines.manifests.manifest import Manifest
from secateur.scorers.contract import discover, rows_text


@cache
def readers() -> Mapping[str, type[Reader]]:
    """Formats by name, each declared in the file of its name."""
    import secateur.pipelines.in_place as room

    return {
        name: kind
        for name, kind in discover(room, type).items()
        if issubclass(kind, Reader) and kind.__dict__.get("kind")
    }


def reader_of(data: Address | Sequence[Address], options: Options | None = None) -> Reader:
    """The reader of data at a path, glob, folder or URL; SourceError for an unknown format."""
    for kind in readers().values():
        try:
            found = kind.found(data, options)
        except (AddressError, OSError) as error:
            raise SourceError(f"data: {error}") from error
        if found is not None:
            return kind(found)
    said = shown(data) if isinstance(data, str | Path) else ", ".join(map(shown, data))
    raise SourceError(f"data: {said} is none of {', '.join(readers())}: name the files, or their folder")


def view_of(
    kept: Any,
    data: Address | Sequence[Address] | None,
    *,
    key: str = "",
    columns: Sequence[str] | None = None,
    options: Options | None = None,
    verify: bool = True,
) -> InPlace:
    """See `secateur.in_place`."""
    for address in (kept, *([data] if isinstance(data, str | Path) else data or ())):
        if isinstance(address, str):
            refuse_secret(address)
    if isinstance(kept, str | Path) and not is_manifest(kept):
        if key:
            raise SourceError("key: a saved file says which rows are kept by their numbers: leave it out")
        return opened(kept, data, columns=columns, options=options, verify=verify)
    if data is None:
        raise SourceError("data: name the files, or their folder, that rows are kept of")
    manifest = Manifest.load(kept) if isinstance(kept, str | Path) else kept
    reader = reader_of(data, options)
    with known_files(reader.data):
        if not isinstance(manifest, Manifest):
            return InPlace.of(reader, Kept.at(of_list(manifest, reader, key), reader.starts, None, {}), columns)
        rows = manifest.selection
        scores = {name: rows.table[name].to_numpy() for name in rows.table.columns if name.startswith(SCORE)}
        found = of_manifest(manifest, reader, key)
        return InPlace.of(reader, Kept.at(found, reader.starts, rows.weights, of_told(manifest), scores), columns)


def is_manifest(path: Address) -> bool:
    """Whether a path is that of a manifest: its folder or its manifest.json."""
    return not is_url(path) and (Path(path).is_dir() or Path(path).name == DOCUMENT)


def known_files(data: Data) -> Any:
    """Within the block, do not read again files that were read whole before and did not change."""
    cache = Path(os.environ.get("SECATEUR_CACHE") or Path.home() / ".cache" / "secateur")
    names = xxhash.xxh3_64_hexdigest("\n".join([data.folder.path, *data.names]).encode())
    return remembered(cache / "in_place" / names)


def opened(
    path: Address,
    data: Address | Sequence[Address] | None,
    *,
    columns: Sequence[str] | None,
    options: Options | None,
    verify: bool,
) -> InPlace:
    """The view of a saved file on its unchanged data; SourceError that names the first changed file."""
    parent, _, name = str(path).replace(os.sep, "/").rpartition("/")
    stored = folder_of(parent or ("/" if str(path).startswith("/") else "."), options).at(name)
    if stored.size() is None:
        raise SourceError(f"there is no file {shown(path)}, and no manifest")
    with stored.open() as stream:
        told = told_in(stream, shown(path))
        stream.seek(0)
        kept = rows_in(stream, told, shown(path))
    if told.kind not in readers():
        raise SourceError(f"{shown(path)} keeps rows of {told.kind}, which this version does not read")
    if data is None:
        beside = told.data if is_url(told.data) or is_url(path) else os.path.join(parent, told.data)
        folder = folder_of(beside if is_url(beside) else os.path.normpath(beside), options)
    else:
        folder = reader_of(data, options).data.folder
    names = tuple(seal.name for seal in told.shards)
    with known_files(Data(folder, names)):
        refuse_changed(folder, [*told.shards, *told.besides], contents=verify)
    reader = readers()[told.kind](Data(folder, names, told.version))
    if list(reader.shards) != list(names):  # a folder's reader lists all its shards
        numbers = np.array([list(reader.shards).index(name) for name in names], np.int64)
        kept = Kept(numbers[kept.shard], kept.row, kept.weights, kept.of)
    return InPlace(reader, kept, told, columns)


def of_manifest(manifest: Manifest, reader: Reader, key: str) -> np.ndarray:
    """Row of each sample that a manifest keeps, counted over all shards, int64, aligned with its table."""
    rows, own = manifest.selection, manifest.provenance.columns.get("id")
    by = key or (reader.key or (own if isinstance(own, str) else "")) if "id" in rows.table.columns else key
    if by:
        if "id" not in rows.table.columns:
            raise SourceError(f"key: the manifest has no ids to look up in {by!r}: give the study columns: {{id: …}}")
        return by_key(rows.table["id"].to_list(), reader, by)
    folders = [Path(reader.data.folder.path), *Path(reader.data.folder.path).parents, Path.cwd()]
    return rows.located_in(reader.as_file(), rows.columns_read(), folders)[0]


def of_told(manifest: Manifest) -> dict[str, str]:
    """Entries of a saved file about a manifest."""
    made = manifest.provenance
    return {"manifest": manifest.declaration.root, "dataset": made.dataset, "selection": made.selection}


def of_list(kept: Any, reader: Reader, key: str) -> np.ndarray:
    """Rows, counted over all shards, of a list or array of row numbers or, with texts or a `key`, of ids."""
    values = kept.to_list() if hasattr(kept, "to_list") else kept.tolist() if hasattr(kept, "tolist") else list(kept)
    if key or any(isinstance(value, str) for value in values):
        if not (by := key or reader.key):
            raise SourceError("key: name the column that holds these ids")
        return by_key([str(value) for value in values], reader, by)
    if values and not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        raise SourceError("kept: row numbers are whole numbers from 0, ids are texts; a mask is np.flatnonzero(mask)")
    return np.asarray(values, np.int64)


def by_key(ids: Sequence[str], reader: Reader, name: str) -> np.ndarray:
    """Row of each id among those of the data; SourceError for an id that is missing, or occurs at several rows."""
    there = [str(value) for value in reader.keys(name)]
    places = {value: row for row, value in enumerate(there)}
    if len(places) < len(there):
        first = next(value for row, value in enumerate(there) if places[value] != row)
        twice = np.flatnonzero(np.array([value == first for value in there]))
        raise SourceError(f"key: {rows_text(twice)} have one id {first!r} in {name!r}: ids are those of one row each")
    if missing := [value for value in ids if value not in places]:
        raise SourceError(
            f"key: {len(missing)} of {len(ids)} kept ids are not in {name!r} of {reader.data.folder.address}, "
            f"{missing[0]!r} for one; the data have ids such as {there[0]!r}"
            if there
            else f"key: {reader.data.folder.address} has no rows"
        )
    return np.array([places[value] for value in ids], np.int64)
