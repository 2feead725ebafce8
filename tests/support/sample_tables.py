"""Tables of samples that tests make of data sets, as a study's own has them."""

from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import content_hashes


def samples_table(rows: Any, columns: Columns) -> pl.DataFrame:
    """`row`, `content_hash` and, of classes, `label`."""
    hashes = content_hashes(rows, columns)
    table = pl.DataFrame({"row": np.arange(len(hashes), dtype=np.int64), "content_hash": hashes})
    if columns.target not in (None, "class"):
        return table
    labels = list(rows[columns.labels[0]])
    names = sorted(set(labels), key=str)
    numbers = labels if all(isinstance(label, int) for label in labels) else [names.index(label) for label in labels]
    return table.with_columns(label=pl.Series(numbers, dtype=pl.Int64))
