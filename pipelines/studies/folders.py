"""Folders of studies: the shipped ones and the user's. This module reads no file."""

import os
from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parent / "shipped"
LISTING: Final = SHIPPED / "listing.json"
"""The entries of `secateur studies` for shipped studies; docs/reference_pages.py writes it."""


def shipped_files() -> dict[str, Path]:
    """Files of the shipped studies by study name, which is the file's stem."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def own_folder() -> Path:
    """The user's folder: SECATEUR_STUDIES, or `studies` below the working directory."""
    return Path(os.environ.get("SECATEUR_STUDIES", "studies"))


def files_in(folder: Path) -> list[Path]:
    """Candidate study files in a folder, in alphabetical order."""
    return sorted(folder.glob("*.y*ml"))
