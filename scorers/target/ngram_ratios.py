"""Likelihood ratio of the words of a text in a target and in the pool, by hashed n-grams (DSIR).

Xie et al., "Data Selection for Language Models via Importance Resampling", NeurIPS 2023 (arXiv 2302.03169), section 3,
and its code: lower case, words and runs of punctuation, single ones and pairs, in 10,000 buckets. Buckets are
scikit-learn's (murmur3 in place of the code's sha256), so other n-grams collide; nothing else differs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BUCKETS = 10_000
WORDS = r"\w+|[^\w\s]+"
LEAST = 1e-8
"""Added to probabilities ahead of their logarithm, as in the paper's code."""
ROWS = 8192
"""Texts hashed at once."""


@dataclass(frozen=True)
class NgramRatios:
    """For each text the sum over its n-grams of log p(target) - log p(pool), float64 `[n]`, and their number, int64."""

    sums: Float64[np.ndarray, " n"]
    counts: Int64[np.ndarray, " n"]


def counted(texts: Iterable[str]) -> Iterator["csr_matrix"]:
    """n-grams of texts by bucket, a block of them at once."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing: Any = HashingVectorizer(
        lowercase=True, token_pattern=WORDS, ngram_range=(1, 2), n_features=BUCKETS, norm=None, alternate_sign=False
    )
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == ROWS:
            yield hashing.transform(block)
            block = []
    if block:
        yield hashing.transform(block)


def ngram_ratios(pool: Iterable[str], target: Iterable[str], *, smoothing: float = 1.0) -> NgramRatios:
    """Log importance weights of texts, before any division by their length.

    Each bucket of the target gets `smoothing` more n-grams. Without it (0, as published) an n-gram that a small target
    happens to lack costs 18 nats minus its negative log probability in the pool.
    """
    totals = np.zeros((2, BUCKETS))
    for place, texts in enumerate((pool, target)):
        for block in counted(texts):
            totals[place] += np.asarray(block.sum(axis=0)).ravel()
    totals[1] += smoothing
    logs = np.log(totals / totals.sum(axis=1, keepdims=True) + LEAST)
    sums, counts = [], []
    for block in counted(pool):
        sums.append(np.asarray(block @ (logs[1] - logs[0])).ravel())
        counts.append(np.asarray(block.sum(axis=1)).ravel().astype(np.int64))
    return NgramRatios(np.concatenate(sums), np.concatenate(counts))
