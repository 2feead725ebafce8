"""The folder of all results, and its layout."""

import json
import os
from pathlib import Path

from secateur.pipelines.files.whole_files import write_bytes

LAYOUT = 2
"""Grows whenever a version of secateur changes the places or the contents of files."""
MARK = "layout.json"
ASSETS = "assets"
"""The folder of every home with results; homes of the first layout have it and no mark."""


class HomeError(ValueError):
    """A home of another layout; the text gives the remedy."""


def home() -> Path:
    """SECATEUR_HOME, or `.secateur` below the working directory, which need not exist.

    Raises HomeError for a home of another version of secateur, before anything in it is read.
    """
    folder = Path(os.environ.get("SECATEUR_HOME", ".secateur")).absolute()
    # In this order: a concurrent process marks the home before it makes the folder.
    used = (folder / ASSETS).exists()
    if (folder / MARK).exists():
        try:
            fits = json.loads((folder / MARK).read_text()) == {"layout": LAYOUT}
        except ValueError:
            fits = False
    else:
        fits = not used
    if not fits:
        raise HomeError(
            f"{folder} was written by another version of secateur, whose files this one does not read: move it away, "
            "or name another folder by SECATEUR_HOME"
        )
    return folder


def marked_home() -> Path:
    """`home` for writers: made if it does not exist, and marked with its layout."""
    folder = home()
    if not (folder / MARK).exists():
        write_bytes(folder / MARK, (json.dumps({"layout": LAYOUT}) + "\n").encode(), overwrite=True)
    return folder
