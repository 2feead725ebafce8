"""Versions of the libraries whose numbers enter a selection."""

from functools import cache
from importlib import metadata

LIBRARIES = ("accelerate", "datasets", "faiss-cpu", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "torch")


@cache
def library_versions() -> dict[str, str]:
    """Versions of secateur and of the installed libraries whose numbers enter a selection; read-only."""
    installed = {"secateur": metadata.version("secateur")}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
