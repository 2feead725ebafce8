"""Random search over architectures: the baseline of every other search."""

from secateur.scorers.architectures.encoding import Rows
from secateur.selectors.searches.contract import ArchitectureSearch


class RandomSearch(ArchitectureSearch):
    """Rows at random, no network twice."""

    def propose(self, count: int) -> Rows:
        """Random unseen rows."""
        return self.draw(count)
