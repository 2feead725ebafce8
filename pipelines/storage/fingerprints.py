"""What a result was made of, as one number: equal inputs need not be worked through again."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.metadata import version
from typing import Any

import numpy as np

from secateur.pipelines.studies.samples import Study
from secateur.trainers.processes import device_of_choice


def fingerprint_of(**parts: Any) -> str:
    """SHA-256 of JSON-able parts and arrays, 64 hexadecimal digits."""
    told = {name: array_digest(part) if isinstance(part, np.ndarray) else part for name, part in parts.items()}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def array_digest(values: np.ndarray) -> str:
    """Type, shape and content."""
    content = hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
    return f"{values.dtype} {values.shape} {content}"


def data_parts(study: Study, source: Mapping[str, Any]) -> dict[str, Any]:
    """What the arrays of a study's data were made of, and what else every training depends on."""
    return {
        "revision": source["revision"],
        "samples": source["samples"],
        "model_settings": source.get("model_settings", {}),
        "data": [
            part.model_dump(mode="json")
            for part in ((study.read_source, study.columns, study.resolved_encoding) if study.columns else ())
        ],
        "task": source["task"],
        "versions": versions(),
        "device": device_of_choice().type,
    }


@cache
def versions() -> dict[str, str]:
    """Versions that decide on the bits of a training; looking one up reads the package's files."""
    return {name: version(name) for name in ("secateur", "torch", "numpy")}


LIBRARIES = ("accelerate", "datasets", "faiss-cpu", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "torch")


def library_versions() -> dict[str, str]:
    """Versions of secateur and of the libraries whose numbers enter a selection, those that are installed."""
    found = {"secateur": metadata.version("secateur")}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
