"""LitData's chunks in place: its StreamingDataset can skip only whole chunks, but reads any row by its number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import Address, Options, folder_of
from secateur.pipelines.in_place.contract import Data, Item, ItemReader
from secateur.pipelines.in_place.mds import INDEX, index_in


class Litdata(ItemReader):
    """A folder of `litdata.optimize`; its chunks are the shards, items that are not dicts come as `item`.

    Chunks with pickles are refused: they may run code.
    """

    kind: ClassVar[str] = "litdata"

    @classmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """A folder whose index.json lists chunks."""
        if not isinstance(data, str | Path) or index_in(folder := folder_of(data, options), "chunks") is None:
            return None
        return Data(folder)

    @cached_property
    def _index(self) -> dict[str, Any]:
        found = index_in(self.data.folder, "chunks") or {"chunks": [], "config": {}}
        config = found.get("config") or {}
        if any(str(name).startswith("pickle") for name in config.get("data_format") or ()):
            raise SourceError(f"{self.data.folder.address} holds pickles, which may run code: write other types")
        if config.get("item_loader", "PyTreeLoader") != "PyTreeLoader":
            raise SourceError(
                f"{self.data.folder.address} is read by {config['item_loader']}, whose items are no rows: write samples"
            )
        return found

    @property
    def shards(self) -> Sequence[str]:
        return [chunk["filename"] for chunk in self._index["chunks"]]

    @property
    def rows(self) -> np.ndarray:
        return np.array([chunk["chunk_size"] for chunk in self._index["chunks"]], np.int64)

    @property
    def besides(self) -> Sequence[str]:
        return [INDEX]

    def _data_set(self) -> Any:
        try:
            from litdata import StreamingDataset
        except ImportError as error:
            raise SourceError(f"{self.data.folder.address} is of LitData: pip install litdata ({error})") from error
        return StreamingDataset(self.data.folder.path)

    def item(self, shard: int, row: int) -> Item:
        found = self.opened(0, self._data_set)[int(self.starts[shard]) + row]
        return found if isinstance(found, dict) else {"item": found}
