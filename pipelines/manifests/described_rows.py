"""Describe a manifest's table of rows for other readers, and check the table against the description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.data.lazy import pa
from secateur.pipelines.manifests import croissant, kept_rows
from secateur.pipelines.manifests.budgets import check_spent
from secateur.pipelines.manifests.document import ROWS, ManifestError
from secateur.pipelines.manifests.origin import check_places
from secateur.pipelines.manifests.provenance import Declaration


def described(declaration: Declaration[Any], listed: str = "KEPT", *more: croissant.Records) -> dict[str, Any]:
    """The Croissant 1.1 description of the table of rows; `listed` names the rows in it, `more` are further tables."""
    source, seal = declaration.provenance, declaration.files[ROWS]
    what = f"{source.dataset} at revision {source.revision}" if source.revision else source.dataset
    how = f"selection {source.selection} by {source.selector} version {source.selector_version}, seed {source.seed}"
    return croissant.describe(
        name=f"{source.dataset}: {source.selection}",
        description=f"The rows listed are {listed}: {declaration.count} of {declaration.of} {declaration.unit}s of "
        f"{what}, {how}.",
        file=croissant.ParquetFile(ROWS, seal.bytes, seal.sha256),
        columns=tuple(_columns(declaration)),
        derived_from=f"{what}, fingerprint {declaration.fingerprint}",
        generated_by=how,
        agent=" ".join(("secateur", *(version for name, version in source.versions.items() if name == "secateur"))),
        extra={key: value for key in ("license", "url") if (value := getattr(source, key)) is not None},
        more=more,
    )


def _columns(declaration: Declaration[Any]) -> Iterator[croissant.Column]:
    meanings = {
        "row": "Number of the kept row among the training samples, counted from 0.",
        "file": "Place of the sample's file in secateur.payload.origin.files, counted from 0.",
        "file_row": "Row of the sample in its file, counted from 0, a header not counted.",
        "path": "Path of the sample's picture below the folder of the source; empty where it has none.",
        "content_hash": "xxh3-128 of the sample's canonical bytes and target.",
        "label": "Class of the sample.",
        "stratum": "Group that the sample's target falls into: a range of numbers, or its rarest label.",
        "weight": "Weight of the sample in training.",
        "id": "The sample's id in the user's own column.",
        "group": "Samples of equal group stay or go together.",
        "cost": "The sample's part of the budget.",
    }
    for card in declaration.provenance.scores:
        meanings[kept_rows.SCORE + card.name] = (
            f"Score {card.name} version {card.version}: high means {card.high_means}."
        )
    for name in declaration.payload.columns:
        yield croissant.Column(name, kept_rows.croissant_types(name), meanings[name])


def check_table(declaration: Declaration[Any], table: pa.Table) -> None:
    """Raise ManifestError, or ValueError, where a table of rows contradicts its manifest."""
    kept_rows.check(table, declaration.of)
    placed = {name: kept_rows.numbers_of(table[name]) for name in ("file", "file_row") if name in table.column_names}
    check_places(placed, declaration.payload.origin)
    classes = declaration.payload.classes
    check_spent(declaration, table)
    labels = [counted.label for counted in classes]
    if labels != sorted(set(labels)):
        raise ManifestError("its classes are not in ascending order, each once")
    if sum(counted.before for counted in classes) != declaration.of:
        raise ManifestError("its class histogram before does not add up to the number of rows")
    if any(counted.after > counted.before for counted in classes):
        raise ManifestError("its class histogram has more samples after than before")
    after = {counted.label: counted.after for counted in classes if counted.after}
    found, counts = np.unique(kept_rows.numbers_of(table[kept_rows.group_of(table.column_names)]), return_counts=True)
    if after != dict(zip(found.tolist(), counts.tolist(), strict=True)):
        raise ManifestError("its class histogram after differs from the labels of the kept rows")
    if declaration.count == declaration.of and fingerprint(table["content_hash"]) != declaration.fingerprint:
        raise ManifestError("its fingerprint differs from the content hashes, though every row is kept")
