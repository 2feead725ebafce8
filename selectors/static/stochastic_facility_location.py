"""Facility location by stochastic greedy: each pick is the best of a random sample.

Mirzasoleiman et al., "Lazier Than Lazy Greedy", AAAI 2015, Algorithm 1.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from secateur.selectors.contract import selector
from secateur.selectors.draws.embedded import Embeddings, first_highest, memory_of_unit_rows
from secateur.selectors.draws.ranks import Ids, Keep, random_keys
from secateur.selectors.static.facility_location import Coverage


def candidates_per_pick(count: int, budget: int, epsilon: float) -> int:
    """Sample size `count / budget * ln(1 / epsilon)` of the paper, rounded up; ValueError for epsilon outside (0, 0.5].

    An epsilon near 1 makes samples of one, that is, random selection.
    """
    if not 0 < epsilon <= 0.5:
        raise ValueError(f"epsilon is the loss of the guarantee, within (0, 0.5], got {epsilon}")
    return math.ceil(count / budget * -math.log(epsilon))


@selector(
    paper="Mirzasoleiman et al., AAAI 2015, Algorithm 1 (arXiv 1409.7938)",
    draws=True,
    by_id=True,
    memory=memory_of_unit_rows,
)
def stochastic_facility_location(
    embeddings: Embeddings,
    budget: int,
    *,
    epsilon: Annotated[float, Field(gt=0, le=0.5)] = 0.01,
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Keep adding the sample of greatest gain in coverage among `n / budget * ln(1 / epsilon)` random ones.

    In expectation within 1 - 1/e - epsilon of the optimum, for `n * ln(1 / epsilon)` gains in all. Coverage as in
    `facility_location`.

    >>> points = np.float32([[1, 0], [0.98, 0.2], [0.9, 0.4], [0, 1], [0.2, 0.98], [-1, 0]])
    >>> stochastic_facility_location(points, 3, seed=0).nonzero()[0]
    array([2, 4, 5])
    """
    coverage = Coverage(embeddings)
    keys = random_keys(len(embeddings) if ids is None else ids, seed)
    numbers = np.random.default_rng(seed)
    size = candidates_per_pick(len(embeddings), budget, epsilon)
    for _ in range(budget):
        left = np.flatnonzero(~coverage.keep)
        some = numbers.choice(left, min(size, len(left)), replace=False, shuffle=False)
        coverage.add(int(some[first_highest(coverage.gains(some), keys[some])]))
    return coverage.keep
