"""MDS shards of MosaicML in place: StreamingDataset takes no list of rows; its reader of a shard reads single rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import Address, Folder, Options, folder_of
from secateur.pipelines.in_place.contract import Data, Item, ItemReader

INDEX = "index.json"


def index_in(folder: Folder, key: str) -> dict[str, Any] | None:
    """The index.json of a folder if it is a JSON object with a key, else None."""
    if folder.store is not None or not (path := Path(folder.path, INDEX)).is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return None
    return found if isinstance(found, dict) and key in found else None


class Mds(ItemReader):
    """A folder of MDS; shards are uncompressed files. Columns of pickles are refused: they may run code."""

    kind: ClassVar[str] = "mds"

    @classmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """A folder whose index.json lists shards."""
        if not isinstance(data, str | Path) or index_in(folder := folder_of(data, options), "shards") is None:
            return None
        return Data(folder)

    @cached_property
    def _told(self) -> list[dict[str, Any]]:
        found = (index_in(self.data.folder, "shards") or {"shards": []})["shards"]
        for told in found:
            name = told["raw_data"]["basename"]
            if told["format"] != "mds":
                raise SourceError(f"{self.data.folder.address}: {name} is of format {told['format']}, not mds")
            if not Path(self.data.folder.path, name).is_file():
                raise SourceError(f"{self.data.folder.address}: {name} is not there, perhaps packed: unpack it first")
        return list(found)

    @property
    def shards(self) -> Sequence[str]:
        return [told["raw_data"]["basename"] for told in self._told]

    @property
    def rows(self) -> np.ndarray:
        return np.array([told["samples"] for told in self._told], np.int64)

    @property
    def besides(self) -> Sequence[str]:
        return [INDEX]

    def item(self, shard: int, row: int) -> Item:
        found: Item = self.opened(shard, lambda: self._reader(shard))[row]
        return found

    def _reader(self, shard: int) -> Any:
        try:
            from streaming.base.format import reader_from_json
        except ImportError as error:
            raise SourceError(
                f"{self.data.folder.address} is of MDS: pip install mosaicml-streaming, in an environment of its own, "
                f"for it needs older numpy and transformers ({error})"
            ) from error
        reader = reader_from_json(self.data.folder.path, None, self._told[shard])
        try:
            reader.validate(allow_unsafe_types=False)
        except ValueError as error:
            raise SourceError(f"{self.data.folder.address}: {error}") from error
        return reader
