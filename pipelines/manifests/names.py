"""Names of the files of a manifest that a command looks for before it loads what reads them."""

from typing import Final

DOCUMENT: Final = "manifest.json"
