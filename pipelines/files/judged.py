"""Results of a long search or measurement, stored after each step, so that the same command resumes after a stop."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.pipelines.files.whole_files import write_bytes


@dataclass
class Judged:
    """Results by key, stored in a file after each; without `made_of` nothing is stored."""

    file: Path
    made_of: str
    values: dict[str, Any]

    @classmethod
    def read(cls, file: Path, made_of: str) -> "Judged":
        """The stored results of a stopped run of the same work, which `made_of` identifies."""
        try:
            told = json.loads(file.read_bytes()) if made_of else {}
        except (FileNotFoundError, ValueError):  # a file of other content is started anew
            told = {}
        same = isinstance(told, dict) and told.get("made_of") == made_of
        return cls(file, made_of, dict(told.get("values", {})) if same and made_of else {})

    def note(self, key: str, value: Any) -> None:
        """Store one result."""
        self.values[key] = value
        if self.made_of:
            told = {"made_of": self.made_of, "values": self.values}
            write_bytes(self.file, json.dumps(told, indent=1).encode(), overwrite=True)
