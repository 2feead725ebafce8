"""The cost of removing each token of a prompt.

>>> token_loss(np.float64([0.5, 0.2, 0.6]), np.array([False, False]))
array([ 0.3, -0.1], dtype=float32)
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64

from secateur.scorers.contract import scorer

ALWAYS = np.float32(1e6)
"""Score of a token that must stay."""


@scorer(
    unit="token",
    high_means="more important",
    view="prompts with one token left out each, examples with labels",
    paper="PromptQuine, arXiv 2506.17930, the baseline of attribution: leave one out",
)
def token_loss(
    margins: Float64[np.ndarray, " prompts"], protected: Bool[np.ndarray, " tokens"]
) -> Float32[np.ndarray, " tokens"]:
    """Margin of the whole prompt minus the margin without the token; protected tokens score above all others.

    `margins` are of the whole prompt, then of the prompt without each of its tokens. A margin is finer than accuracy,
    which most single tokens do not change.
    """
    return np.where(protected, ALWAYS, (margins[0] - margins[1:]).astype(np.float32)).astype(np.float32)
