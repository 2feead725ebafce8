"""What several tests of manifests and exports need: a manifest of any data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from sample_tables import samples_table

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows

ManifestOf = Callable[..., Manifest]


@pytest.fixture
def manifest_of(tmp_path: Path) -> ManifestOf:
    """Write a manifest that keeps some rows of a data set, in `<tmp_path>/m`."""

    def write(
        data: datasets.Dataset,
        columns: dict[str, Any],
        rows: Sequence[int],
        *,
        weights: np.ndarray | None = None,
        label_names: Sequence[str] | None = None,
        **told: Any,
    ) -> Manifest:
        keep = np.isin(np.arange(len(data)), rows)
        known = {
            "dataset": "samples", "revision": "r1", "selection": "some", "selector": "top", "selector_version": "1",
            "settings": {"end": "high"}, "keep": len(rows), "budget": len(rows), "seed": 0, "columns": columns,
        }  # fmt: skip
        samples = samples_table(data, Columns(**columns))
        names = label_names or getattr(data.features[columns["label"]], "names", None)
        kept = Rows.chosen(samples, keep, weights=weights, label_names=names)
        return Manifest.write(tmp_path / "m", kept, Provenance(**(known | told)))

    return write
