"""A file of trainings from which a benchmark goes on: a line of settings, then a line for each training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.pipelines.files.whole_files import new_file


def resumed(file: Path, about: Mapping[str, Any]) -> list[Any]:
    """Content of the lines of trainings, none for a new file, which then holds the settings `about`.

    A line that a kill cut short is removed. Exits if the file holds trainings of other settings.
    """
    header = json.dumps(about)
    first, *lines = file.read_text().splitlines(keepends=True) if file.exists() else [header]
    if json.loads(first) != json.loads(header):
        raise SystemExit(f"{file} holds trainings of {first.strip()}, not of {header}: name another file")
    whole = [line for line in lines if line.endswith("\n")]
    with new_file(file, overwrite=True) as partial:
        partial.write_text(f"{header}\n{''.join(whole)}")
    return [json.loads(line) for line in whole]
