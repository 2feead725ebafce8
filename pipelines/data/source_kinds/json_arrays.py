"""Files of one JSON array, common for instruction data, read as JSON lines: one object after the other."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur.pipelines.data.source_kinds.files import SourceError

LONGEST = 1 << 26
"""Most characters of an object."""
ENDINGS = (".json", ".json.gz")
SPACE = " \t\r\n"
BREAKS = str.maketrans("\r\n", "  ")


def lines_of(path: Path, stream: Any, size: int) -> Iterator[bytes]:
    """The bytes of a file of JSON lines, `size` of them at once; for an array in a `.json` file, its objects in lines.

    Line breaks between the values of an object become spaces; its other characters stay. A `.json` file that begins
    with another character than `[` holds JSON lines. Raises SourceError, with the row, for an array that breaks off,
    for values that are no objects, and for text behind the array.
    """
    data = stream.read(size)
    head = data.removeprefix(codecs.BOM_UTF8).lstrip()
    if path.name.lower().endswith(ENDINGS) and head.startswith(b"["):
        yield from Array(path, stream, size, head[1:]).lines()
        return
    while data:
        yield data
        data = stream.read(size)


class Array:
    """The objects of an array in a stream behind its opening bracket. Reads `size` bytes at once, or as many as are
    held of a longer object."""

    def __init__(self, path: Path, stream: Any, size: int, head: bytes) -> None:
        self.path, self.stream, self.size = path, stream, size
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.parse = json.JSONDecoder().raw_decode
        self.row = self.at = 0
        self.text = self._decoded(head)

    def lines(self) -> Iterator[bytes]:
        """Whole lines, one per object, about `size` bytes of them at once."""
        lines: list[str] = []
        held = 0
        for each in self._objects():
            lines.append(each.translate(BREAKS) + "\n")
            held += len(lines[-1])
            if held >= self.size:
                yield "".join(lines).encode()
                lines, held = [], 0
        yield "".join(lines).encode()

    def _objects(self) -> Iterator[str]:
        """The characters of each object, up to the end of the array and of the file."""
        if (sign := self._sign()) != "]":
            yield self._object()
            while (sign := self._sign()) == ",":
                self.at += 1
                yield self._object()
        if sign != "]":
            raise self._fault("a comma is missing before it" if sign else None)
        self.at += 1
        if self._sign():
            raise SourceError(f"{self.path}: something follows the end of the array, after row {self.row - 1}")

    def _sign(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self._more():
                return ""

    def _object(self) -> str:
        """The characters of the object that begins here."""
        if (sign := self._sign()) != "{":
            raise self._fault(f"not a JSON object, but {self.text[self.at : self.at + 20]!r}" if sign else None)
        while True:
            try:
                end = self.parse(self.text, self.at)[1]
            except json.JSONDecodeError as error:
                # The parser cannot tell an unfinished object from a broken one.
                if len(self.text) - self.at > LONGEST:
                    raise self._fault(f"longer than {LONGEST >> 20} MiB, or {error.msg}") from error
                if not self._more():
                    raise self._fault(f"{error.msg} ({error.pos - self.at} characters on)") from error
            except RecursionError as error:
                raise self._fault("a value is nested too deeply to be read") from error
            else:
                found, self.at, self.row = self.text[self.at : end], end, self.row + 1
                return found

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        data = self.stream.read(max(self.size, len(self.text) - self.at))
        self.text, self.at = self.text[self.at :] + self._decoded(data), 0
        return bool(data)

    def _decoded(self, data: bytes) -> str:
        try:
            return self.decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise self._fault(f"a byte that is no UTF-8 ({error.reason})") from error

    def _fault(self, reason: str | None) -> SourceError:
        return SourceError(f"{self.path} row {self.row}: {reason or 'the file ends before its array does'}")
