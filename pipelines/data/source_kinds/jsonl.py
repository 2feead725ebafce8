"""JSON lines."""

import json
from pathlib import Path
from typing import Any, Literal

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.files import SourceError, names_of
from secateur.pipelines.data.source_kinds.tables import TableSource


class Jsonl(TableSource):
    """JSON lines: one object per line."""

    reader = "json"
    kind: Literal["jsonl"]

    def check(self, files: dict[str, list[Path]], columns: Columns) -> dict[str, Any]:
        """Every split has a row."""
        for split, paths in files.items():
            if not any(has_rows(path) for path in paths):
                raise SourceError(f"source.{split}: no rows in {names_of(paths)}")
        return {}

    def fault(self, path: Path) -> str:
        """The first line that is no JSON object."""
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip() and not isinstance(json.loads(line), dict):
                        return f"{path} line {number}: not a JSON object"
                except json.JSONDecodeError as error:
                    return f"{path} line {number}: {error.msg} at character {error.pos}"
        return ""


def has_rows(path: Path) -> bool:
    """Whether a line of the file is not empty."""
    with path.open("rb") as lines:
        return any(line.strip() for line in lines)
