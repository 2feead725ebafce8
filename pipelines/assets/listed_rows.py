"""Selections by manifests in a study that trains: audits write such manifests, and so do studies."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.studies.samples import Study
from secateur.selectors.draws.ranks import Keep

Masks = Mapping[str, Keep]
"""Keep masks of manifests over the training samples, bool `[n]`, by selection."""


def listed_rows(study: Study, base: Path, hashes: pl.Series) -> dict[str, Keep]:
    """Keep masks of all selections with a manifest, over the samples with these content hashes.

    Raises SourceError, with the key, for a manifest that is unreadable or belongs to other data.
    """
    return {name: mask_of(study, name, base / path.expanduser(), hashes) for name, path in study.manifests.items()}


def mask_of(study: Study, name: str, path: Path, hashes: pl.Series) -> Keep:
    """Keep mask of one manifest."""
    what = f"{study.name}: selections.{name}.manifest"
    if not path.exists():
        raise SourceError(f"{what}: there is no folder {path}; secateur audit DATA --write DIR writes manifests there")
    try:
        manifest = Manifest.load(path)
        located = manifest.locate(hashes)
    except ManifestError as error:
        raise SourceError(f"{what}: {error}{other_columns(study, path)}") from error
    mask = np.zeros(len(hashes), np.bool_)
    mask[located] = True
    return mask


def other_columns(study: Study, path: Path) -> str:
    """A sentence for a manifest whose columns differ from the study's, so that no row matches; empty if they agree."""
    try:
        made_of = Manifest.load(path, verify=False).provenance.columns
    except ManifestError:
        return ""
    own = study.columns.model_dump(mode="json", exclude_none=True) if study.columns else {}
    theirs, mine = ({key: one for key, one in columns.items() if key in ROLES} for columns in (made_of, own))
    if theirs == mine:
        return ""
    told = [", ".join(f"{key} {value}" for key, value in columns.items()) for columns in (theirs, mine)]
    return (
        f". It was made of {told[0]}, and the study reads {told[1]}: audit the data by the same columns, or the study "
        f"itself (secateur audit {study.name})"
    )


ROLES = ("text", "image", "features", "label", "target")
"""Columns of the content hash."""
