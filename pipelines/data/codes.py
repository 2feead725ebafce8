"""Values of a column as numbers."""

from __future__ import annotations

import numpy as np

from secateur.pipelines.data.lazy import pl


def codes_of(values: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """The code of each value, int64 `[n]`, and the distinct values in ascending order, one for each code."""
    distinct = values.unique().sort()
    places = pl.DataFrame({"value": distinct, "place": np.arange(len(distinct))})
    found = pl.DataFrame({"value": values}).join(places, on="value", how="left", maintain_order="left")["place"]
    return found.to_numpy().astype(np.int64), distinct
