"""Where studies are: the folder of those that ship, and the user's; nothing of them is read here."""

import os
from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parent / "shipped"
LISTING: Final = SHIPPED / "listing.json"
"""What `secateur studies` says of the studies that ship; docs/reference_pages.py writes it."""


def shipped_files() -> dict[str, Path]:
    """Files of the studies that ship by the studies' names, which are the files'."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def own_folder() -> Path:
    """The user's folder: SECATEUR_STUDIES, or `studies` below the working directory."""
    return Path(os.environ.get("SECATEUR_STUDIES", "studies"))


def files_in(folder: Path) -> list[Path]:
    """What may be studies in a folder, in alphabetical order."""
    return sorted(folder.glob("*.y*ml"))
