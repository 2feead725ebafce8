"""Samples by the user's names, a file and row or a picture's path, and by a study's numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from secateur.pipelines.data.lazy import pl
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.origin import Origin


@dataclass(frozen=True)
class Place:
    """A sample's place in the user's data: the file's name, the row in it from 0, and the path of a picture.

    `file` is None where samples lie in no file; `row` is then the number of the training sample.
    """

    file: str | None
    row: int
    path: str | None = None
    id: str | None = None
    """The sample's id in the user's column of ids, where the study names one."""

    def __str__(self) -> str:
        where = f"row {self.row}" + (f" of {self.file}" if self.file is not None else "")
        where += f", id {self.id}" if self.id is not None else ""
        return f"{self.path} ({where})" if self.path else where


@dataclass(frozen=True)
class Places:
    """Samples in `table`, with the columns `row`, `file`, `file_row` and perhaps `path`: all `count` training samples,
    or, not `whole`, the kept ones alone.
    """

    table: pl.DataFrame
    origin: Origin
    count: int
    whole: bool

    def place(self, row: int) -> Place:
        """A training sample's place in the user's data."""
        if not self.origin.files:
            return Place(None, row)
        found = row if self.whole else int(np.searchsorted(self.table["row"].to_numpy(), row))
        if found >= self.table.height or self.table["row"][found] != row:
            file = int(np.searchsorted(self.origin.starts, row, side="right")) - 1
            return Place(self.origin.files[file].name, row - int(self.origin.starts[file]))
        path, own = (self.table[name][found] if name in self.table.columns else None for name in ("path", "id"))
        file = self.origin.files[self.table["file"][found]].name
        return Place(file, self.table["file_row"][found], path or None, own)

    def named(self, row: int) -> int | str:
        """A training sample in a list: its row where there is one file, else `FILE:ROW`."""
        place = self.place(row)
        return place.row if len(self.origin.files) <= 1 else f"{place.file}:{place.row}"

    def find(self, text: str) -> int:
        """The training sample for a row, `FILE:ROW`, a picture's path, `id:ID`, or an id of the user's that is no row.

        Raises ManifestError where there is none, or more than one.
        """
        if (own := self._of_id(text)) is not None:
            return own
        file, row = self._file_and_row(text)
        if row is None:
            return self._of_path(text)
        if not self.origin.files:
            if not 0 <= row < self.count:
                raise ManifestError(f"there is no row {row}: rows are 0 … {self.count - 1}")
            return row
        size = self.origin.files[file].rows
        if not 0 <= row < size:
            raise ManifestError(
                f"there is no row {row}: rows of {self.origin.files[file].name} are 0 … {size - 1}, a header not "
                "counted"
            )
        if self._all:
            return int(self.origin.starts[file]) + row
        found = self.table.filter((pl.col("file") == file) & (pl.col("file_row") == row))["row"]
        if len(found):
            return int(found[0])
        raise ManifestError(f"{self.origin.shown(file, row)} {self._why_absent}")

    def _of_id(self, text: str) -> int | None:
        """The sample with a user's id, None if there is none; raises ManifestError for `id:` and an unknown id."""
        name = text.removeprefix("id:")
        if "id" not in self.table.columns or (name == text and re.fullmatch(r"-?[0-9]{1,18}", text)):
            return None
        found = self.table["row"].filter(self.table["id"] == name)
        if not len(found) and name != text:
            raise ManifestError(self._no_such_id(name))
        return int(found[0]) if len(found) else None

    def _no_such_id(self, name: str) -> str:
        """The message for an unknown id, with an example of a known one."""
        some = f"; there are ids such as {self.table['id'][0]!r}" if self.table.height else ""
        if self.whole:
            return f"no training sample has the id {name!r}{some}"
        return (
            f"no kept sample has the id {name!r}{some}; whether a training sample has it is known only where the "
            "study's assets are: set SECATEUR_HOME to where it ran"
        )

    @property
    def _all(self) -> bool:
        """Whether every row of the files is a training sample, so that its number follows from file and row."""
        return int(self.origin.starts[-1]) == self.count

    @property
    def _why_absent(self) -> str:
        if not self.whole:
            return (
                "is not kept, and whether it is a training sample at all is known only where the study's assets are: "
                "set SECATEUR_HOME to where it ran"
            )
        left = ", ".join(f"{policy} left out {rows}" for policy, rows in self.origin.dropped.items() if rows)
        return (
            "is no training sample: it is held out for testing, or left out by limit or a policy of data "
            f"({left or 'none left out any'})"
        )

    def _file_and_row(self, text: str) -> tuple[int, int | None]:
        """Number of a file and row in it; no row where the text has none."""
        if re.fullmatch(r"-?[0-9]{1,18}", text):
            if len(self.origin.files) > 1:
                shown = ", ".join(self._names[:5])
                raise ManifestError(
                    f"{len(self._names)} files have a row {text}: name one as FILE:ROW (files: {shown}"
                    f"{', …' if len(self._names) > 5 else ''})"
                )
            return 0, int(text)
        match = re.fullmatch(r"(?s:(?P<file>.+)):(?P<row>[0-9]{1,18})", text)
        if match is None or not self._files(match["file"]):
            return 0, None
        files = self._files(match["file"])
        if len(files) > 1:
            raise ManifestError(
                f"{match['file']!r} means {len(files)} files: {', '.join(self._names[f] for f in files[:5])}"
            )
        return files[0], int(match["row"])

    @cached_property
    def _names(self) -> list[str]:
        return [file.name for file in self.origin.files]

    def _files(self, name: str) -> list[int]:
        """Files with a name, or whose path ends in it."""
        same = [place for place, own in enumerate(self._names) if own == name]
        ends = [place for place, own in enumerate(self._names) if own.endswith(f"/{name}") or name.endswith(f"/{own}")]
        return same or ends

    def _of_path(self, text: str) -> int:
        if "path" in self.table.columns:
            paths = self.table["path"]
            for chosen in (paths == text, paths.str.ends_with(f"/{text}")):
                rows = self.table["row"].filter(chosen)
                if len(rows) > 1:
                    raise ManifestError(f"{len(rows)} samples have the path {text!r}: name one as FILE:ROW")
                if len(rows):
                    return int(rows[0])
            absolute = self.table.filter((paths != "") & pl.lit(text).str.ends_with("/" + pl.col("path")))["row"]
            if len(absolute) == 1:
                return int(absolute[0])
            raise ManifestError(f"no {'training sample' if self.whole else 'kept sample'} has the path {text!r}")
        if "id" in self.table.columns:
            raise ManifestError(
                f"{self._no_such_id(text)}; and it is neither a row nor FILE:ROW of {', '.join(self._names[:5])}"
            )
        raise ManifestError(
            f"{text!r} is neither a row nor FILE:ROW of the files {', '.join(self._names[:5]) or 'of the manifest'}"
        )
