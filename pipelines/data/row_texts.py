"""The words of rows, one text each: of a column of texts, of a prompt and its completion, of a conversation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import SplitRows


@dataclass(frozen=True)
class RowTexts(Sequence[str]):
    """Texts by row number: an index reads one row, iteration reads in batches.

    Parts of a prompt, its completion, and the turns of a conversation stand on lines of their own; missing parts are
    left out.
    """

    rows: SplitRows
    names: tuple[str, ...]
    """Columns."""
    spoken: bool
    """Whether the one column holds conversations."""

    @classmethod
    def of(cls, rows: SplitRows, columns: Columns) -> "RowTexts":
        """Of the input columns, which hold texts."""
        return cls(rows, columns.texts, columns.messages is not None)

    @cached_property
    def _dataset(self) -> Any:
        return self.rows.dataset()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        cells = self._dataset[row]
        return self._joined([cells[name] for name in self.names])

    def __iter__(self) -> Iterator[str]:
        for table in self.rows.batches(self.names):
            for cells in zip(*(table[name].to_pylist() for name in self.names), strict=True):
                yield self._joined(cells)

    def _joined(self, cells: Sequence[str | None]) -> str:
        if self.spoken:
            from secateur.trainers.modalities.rendering import messages_in

            return "\n".join(message["content"] for message in messages_in(cells[0] or ""))
        return "\n".join(cell for cell in cells if cell)
