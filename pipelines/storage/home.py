"""Where everything that runs is kept."""

import json
import os
from pathlib import Path

from secateur.pipelines.files.whole_files import write_bytes

LAYOUT = 2
"""Grows whenever a version of secateur puts files elsewhere, or other things into them, than the one before."""
MARK = "layout.json"
ASSETS = "assets"
"""The folder of every home that something ran in; homes of the first layout have it and no mark."""


class HomeError(ValueError):
    """A home of another layout; the text says what to do."""


def home() -> Path:
    """SECATEUR_HOME, or `.secateur` below the working directory, be it there or not.

    Raises HomeError where another version of secateur wrote it, before anything in it is read.
    """
    folder = Path(os.environ.get("SECATEUR_HOME", ".secateur")).absolute()
    # In this order: a process that begins beside this one marks the home before it makes the folder.
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
    """`home`, for whoever writes into it: made where it is not there, and marked with its layout."""
    folder = home()
    if not (folder / MARK).exists():
        write_bytes(folder / MARK, (json.dumps({"layout": LAYOUT}) + "\n").encode(), overwrite=True)
    return folder
