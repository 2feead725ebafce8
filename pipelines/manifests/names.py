"""Names of manifest files that commands look for before they load the readers."""

from typing import Final

DOCUMENT: Final = "manifest.json"
