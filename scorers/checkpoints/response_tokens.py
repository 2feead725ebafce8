"""Length of a completion."""

import numpy as np
from jaxtyping import Int64

from secateur.scorers.contract import Scores, scorer


@scorer(
    high_means="longer",
    reads=("target_tokens",),
    view="the samples as they are tokenised; no network reads them",
    paper="Xia et al. 2024, Rethinking Data Selection at Scale for Supervised Fine-Tuning (arXiv 2410.09335)",
)
def response_tokens(completion_tokens: Int64[np.ndarray, " n"]) -> Scores:
    """Number of a sample's completion tokens, with the one that ends it; for a cut sample, of those that are left.

    At equal rows the longest samples take many times as much training: compare at equal tokens (`keep: {tokens: …}`).
    """
    return completion_tokens.astype(np.float32)
