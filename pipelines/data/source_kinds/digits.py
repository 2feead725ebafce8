"""Handwritten digits that need no download."""

from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import BundledSource, Splits


class Digits(BundledSource):
    """The 1,797 handwritten digits in scikit-learn's wheel: columns `image` (8 by 8, grey) and `label`."""

    kind: Literal["digits"]

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The pictures; a digest of their pixels and labels."""
        import datasets
        from PIL import Image
        from sklearn.datasets import load_digits

        digits = load_digits()
        # 0 … 16 spread over 0 … 255: one to one, and visible as a picture.
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        names = [str(name) for name in digits.target_names]
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
        data = {"image": [Image.fromarray(picture) for picture in pixels], "label": digits.target.tolist()}
        revision = xxhash.xxh3_128_hexdigest(pixels.tobytes() + digits.target.astype("<i8").tobytes())
        rows = datasets.Dataset.from_dict(data, features=features)
        return {"train": self.divided(rows, digits.target.astype(np.int64))}, revision
