"""Regularised evolution of architectures (Real et al., "Regularized Evolution for Image Classifier Architecture
Search", AAAI 2019, arXiv 1802.01548).
"""

import numpy as np

from secateur.scorers.architectures.encoding import ArchitectureSpace, Rows
from secateur.selectors.searches.contract import ArchitectureSearch

ATTEMPTS = 100
"""Mutations tried for one child before a random architecture takes its place."""


class RegularisedEvolution(ArchitectureSearch):
    """The best of a random sample of the population has a child with one changed choice; the oldest member dies.

    Members join one by one, in the order of `tell`. A child that is a known network is drawn again, so that every
    evaluation is of a new one. Raises ValueError for a sample larger than the population.
    """

    def __init__(self, space: ArchitectureSpace, *, population: int = 50, sample: int = 10, seed: int = 0) -> None:
        if not 1 <= sample <= population:
            raise ValueError(f"the sample must be within 1 … {population} (the population), got {sample}")
        super().__init__(space, seed=seed)
        self.population, self.sample = population, sample
        self.members: list[tuple[int, float]] = []

    def propose(self, count: int) -> Rows:
        """Random rows until the first population is complete, then children of the current population."""
        missing = self.population - len(self.asked)
        if missing > 0 or not self.members:
            return self.draw(min(count, max(missing, 1)))
        children: list[int] = []
        keys: set[int] = set()
        for _ in range(count):
            child = self._child(keys)
            if child is None:
                break
            children.append(child)
            keys.add(self._key(child))
        return np.array(children, dtype=np.int64)

    def learn(self, row: int, fitness: float) -> None:
        """Add the newest member and remove the oldest."""
        self.members = [*self.members, (row, fitness)][-self.population :]

    def _key(self, row: int) -> int:
        return int(self.space.keys_of(np.array([row], dtype=np.int64))[0])

    def _child(self, taken: set[int]) -> int | None:
        known = self._seen | taken
        for _ in range(ATTEMPTS):
            drawn = self.generator.choice(len(self.members), min(self.sample, len(self.members)), replace=False)
            parent, _fitness = max((self.members[index] for index in drawn), key=lambda member: member[1])
            child = self._mutate(parent)
            if child >= 0 and self._key(child) not in known:
                return child
        for row in self.draw(len(taken) + 1).tolist():
            if self._key(row) not in taken:
                return int(row)
        return None

    def _mutate(self, parent: int) -> int:
        choices = self.space.choices_of(np.array([parent], dtype=np.int64)).copy()
        place = self.generator.integers(choices.shape[1])
        there = len(self.space.positions[place].choices)
        choices[0, place] = (choices[0, place] + self.generator.integers(1, max(there, 2))) % there
        return int(self.space.rows_of(choices)[0])
