"""Where everything that runs is kept."""

import os
from pathlib import Path


def home() -> Path:
    """SECATEUR_HOME, or `.secateur` below the working directory."""
    return Path(os.environ.get("SECATEUR_HOME", ".secateur")).absolute()
