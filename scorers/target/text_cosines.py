"""Cosines of texts by TF-IDF of hashed words; passes read the texts, and memory never holds all of them.

The weights are those of scikit-learn's `TfidfVectorizer(sublinear_tf=True)` fitted to the pool; a hash puts words into
2²⁰ buckets instead of columns of their own, so that no vocabulary has to be held or cut.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from secateur.scorers.target.cosines import Cosines, unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BUCKETS = 1 << 20
ROWS = 4096
"""Texts hashed at once."""


@dataclass(frozen=True)
class TextCosines(Cosines):
    """Cosines of the texts of a pool to those of a target; each pass iterates over them anew."""

    pool: Iterable[str]
    target: Iterable[str]

    @cached_property
    def _counted(self) -> tuple[int, Float32[np.ndarray, " buckets"]]:
        """Number of texts of the pool, and the inverse document frequency of each bucket, 0 for one without texts."""
        texts, documents = 0, np.zeros(BUCKETS)
        for block in hashed(self.pool, ROWS):
            texts += block.shape[0]
            documents += np.bincount(block.indices, minlength=BUCKETS)
        weights = np.log((1 + texts) / (1 + documents)) + 1
        return texts, np.where(documents > 0, weights, 0).astype(np.float32)

    @cached_property
    def _right(self) -> "csr_matrix":
        from scipy.sparse import vstack

        return vstack([self._weighted(block) for block in hashed(self.target, ROWS)]).tocsr()

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Texts of the pool."""
        return self._counted[0]

    @property
    def queries(self) -> int:  # type: ignore[override]
        """Texts of the target."""
        return int(self._right.shape[0])

    def _weighted(self, block: "csr_matrix") -> Any:
        block.data = (1 + np.log(block.data)) * self._counted[1][block.indices]
        return unit_rows(block)

    def blocks(self, step: int) -> Iterator[Float32[np.ndarray, "queries b"]]:
        """See `Cosines`."""
        columns = self._right.T.tocsr()
        for block in hashed(self.pool, min(step, ROWS)):
            yield (self._weighted(block) @ columns).toarray().T


def hashed(texts: Iterable[str], rows: int) -> Iterator["csr_matrix"]:
    """Counts of the words of two letters or more of texts, by bucket, a block of them at once."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing: Any = HashingVectorizer(n_features=BUCKETS, norm=None, alternate_sign=False, dtype=np.float32)
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == rows:
            yield hashing.transform(block)
            block = []
    if block:
        yield hashing.transform(block)
