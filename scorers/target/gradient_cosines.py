"""Cosines of the last layer's gradients for rows of a pool and of a target, without ever storing a gradient.

With the last layer's input h, the gradient of a row's loss by its weight and bias is the outer
product of e = softmax - one-hot (see the signal `error` for other tasks) and [h, 1]. The dot product of two outer
products is the product of two dot products, (e·e') ([h, 1]·[h', 1]), so the cosine of two gradients is the cosine of
their errors times that of their features. That is LESS for the last layer alone: Xia et al., "LESS: Selecting
Influential Data for Targeted Instruction Tuning", ICML 2024 (arXiv 2402.04333), without its step towards Adam's
direction and its random projection. With dot products, rows of large loss would be similar to everything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from secateur.scorers.target.cosines import WORKSPACE, Cosines, unit_rows


@dataclass(frozen=True)
class Factors:
    """Factors of the gradients of rows at one checkpoint: errors `[n, width]` and features `[n, d]`, floats, in memory
    or mapped; the features have a column of ones where the layer has a bias."""

    errors: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class GradientCosines(Cosines):
    """Means over checkpoints of the cosines between `Factors` of the pool and of the target."""

    pool: Sequence[Factors]
    target: Sequence[Factors]

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the pool."""
        return int(self.pool[0].errors.shape[0])

    @property
    def queries(self) -> int:  # type: ignore[override]
        """Rows of the target."""
        return int(self.target[0].errors.shape[0])

    @property
    def step(self) -> int:
        """See `Cosines`; factors themselves fit in the workspace, too."""
        widest = int(max(factors.errors.shape[1] + factors.features.shape[1] for factors in self.pool))
        return max(1, WORKSPACE // (4 * max(self.queries, widest)))

    def blocks(self, step: int) -> Iterator[Float32[np.ndarray, "queries b"]]:
        """See `Cosines`."""
        rights = [(unit_rows(each.errors), unit_rows(each.features)) for each in self.target]
        for start in range(0, self.rows, step):
            rows = slice(start, start + step)
            total = np.zeros((self.queries, min(step, self.rows - start)), np.float32)
            for one, (errors, features) in zip(self.pool, rights, strict=True):
                product = errors @ unit_rows(np.asarray(one.errors[rows])).T
                product *= features @ unit_rows(np.asarray(one.features[rows])).T
                total += product
            yield total / np.float32(len(rights))
