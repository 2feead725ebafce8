"""Names of class folders that no file system, and no reader of image folders, misreads.

Class names come from data and may be anything: paths, devices of Windows, two spellings of one word, names of splits.
"""

import re
import unicodedata
from collections.abc import Mapping

from secateur.pipelines.files.latin_letters import latin

LONGEST = 100
"""Bytes; file systems allow 255, tar headers 100."""
DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:[. ].*)?", re.IGNORECASE)
SPLITS = re.compile(
    r"(?:^|[-._ 0-9])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?=$|[-._ 0-9])"
)
"""Words by which `datasets` recognises splits: it would read a class of such a name as one."""


def folder_names(classes: Mapping[int, str | None]) -> dict[int, str]:
    """A folder name for each class, by label: its own name, or its number and the plain characters of its name.

    Own names are used if every one of them is safe and all stay distinct on any file system. Otherwise all get numbers,
    so they sort by label: readers of image folders number classes by the order of their folders.
    """
    own = {label: unicodedata.normalize("NFC", name or "") for label, name in classes.items()}
    labels = sorted(own)
    spellings = {fold(name) for name in own.values()}
    if len(spellings) == len(own) and all(is_safe(name) for name in own.values()):
        return own
    width = len(str(max(labels, default=0)))
    return {label: f"{label:0{width}d}{_plain(own[label])}" for label in labels}


def is_safe(name: str) -> bool:
    """Whether a name means one plain folder on Linux, macOS and Windows, and a class to readers of image folders."""
    return bool(
        name
        and len(name.encode("utf-8", "surrogatepass")) <= LONGEST
        and name[0] not in ". _~"
        and name[-1] not in ". "
        and not re.search(r'[<>:"/\\|?*\[\]{}%]', name)
        and all(unicodedata.category(letter)[0] not in "CZ" or letter == " " for letter in name)
        and not DEVICES.fullmatch(name)
        and not SPLITS.search(name.lower())
    )


def fold(name: str) -> str:
    """The form of a name in which names are equal that a file system may take for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _plain(name: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", latin(name))[:40].strip("-")
    return f"_{words}" if words and not SPLITS.search(f"_{words.lower()}") else ""
