"""Diabetes patients that need no download."""

from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import BundledSource, Splits


class Diabetes(BundledSource):
    """The 442 patients in scikit-learn's wheel: ten measurements `age` … `s6`, and `progression` after a year."""

    kind: Literal["diabetes"]

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The measurements in the units of the paper (Efron et al. 2004); a digest of them."""
        import datasets
        from sklearn.datasets import load_diabetes

        table = load_diabetes(scaled=False)
        values = dict(zip(table.feature_names, table.data.T.tolist(), strict=True))
        revision = xxhash.xxh3_128_hexdigest(table.data.astype("<f8").tobytes() + table.target.astype("<f8").tobytes())
        rows = datasets.Dataset.from_dict(values | {"progression": table.target.tolist()})
        return {"train": self.divided(rows, table.target.astype(np.float64)[:, None])}, revision
