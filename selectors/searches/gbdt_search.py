"""GBDT-NAS and GBDT-NAS-S3: search guided by a boosted-tree predictor (Luo et al., "Accuracy Prediction with Non-neural
Model for Neural Architecture Search", arXiv 2007.04785).
"""

import numpy as np

from secateur.scorers.architectures.accuracy_predictor import Accuracies, AccuracyPredictor, PredictorSettings
from secateur.scorers.architectures.encoding import ArchitectureSpace, Choices, Rows
from secateur.selectors.searches.choice_pruning import PruningSettings, prune
from secateur.selectors.searches.contract import ArchitectureSearch


class GbdtSearch(ArchitectureSearch):
    """`initial` random architectures, then rounds of the `per_round` unseen ones with the best predictions.

    Each round fits the predictor to everything evaluated so far, without failed networks, and ranks every architecture
    of the space, or `candidates` random ones where the space is not listed. With `pruning` (S3) each fit also removes
    choices, and candidates come from the rest; when it is used up, there are no more proposals. Where accuracies are
    clipped, a second fit, to ranks, gives the contributions of choices: a clipped pool cannot distinguish a harmful
    choice from one that is only never among the best.

    `explore` is the random share of each round (0 in the paper): small rounds of the best predictions alone can stay
    around one place for good.
    """

    def __init__(
        self,
        space: ArchitectureSpace,
        *,
        initial: int = 100,
        per_round: int = 50,
        candidates: int = 5_000,
        predictor: PredictorSettings = PredictorSettings(),  # noqa: B008 - frozen
        pruning: PruningSettings | None = None,
        explore: float = 0.0,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        if min(initial, per_round, candidates) < 1 or initial < 2:
            raise ValueError(
                f"a search needs 2 initial architectures and 1 per round, got {initial}, {per_round}, {candidates}"
            )
        if not 0 <= explore < 1:
            raise ValueError(f"explore is a share of each round in [0, 1), got {explore}")
        super().__init__(space, seed=seed)
        self.guided = per_round - round(explore * per_round)
        self.initial, self.per_round, self.candidates = initial, per_round, candidates
        self.settings, self.pruning, self.seed, self.threads = predictor, pruning, seed, threads
        self.alive = space.allowed.copy()
        self.rounds = 0
        self.queue: list[int] = []

    def propose(self, count: int) -> Rows:
        """Random rows first, then the current round's; raises RuntimeError if evaluations of the last are missing."""
        if len(self.asked) < self.initial:
            drawn = self.draw(min(count, self.initial - len(self.asked)))
            if len(drawn):
                return drawn
        if not self.queue:
            if self._waiting:
                raise RuntimeError(f"{len(self._waiting)} evaluations are not told yet; a round needs all of them")
            self._next_round()
        now, self.queue = self.queue[:count], self.queue[count:]
        return np.array(now, dtype=np.int64)

    def _next_round(self) -> None:
        rows, fitness = np.array(self.rows, dtype=np.int64), np.array(self.fitness)
        taught = self.settings.trained_on(fitness)
        if taught.sum() < 2:
            self.queue = self.draw(self.per_round, self.alive).tolist()
            return
        choices = self.space.choices_of(rows[taught])
        fitted = AccuracyPredictor.fit(
            self.space, choices, fitness[taught], self.settings, seed=self.seed + self.rounds, threads=self.threads
        )
        if self.pruning:
            whole = self._fitted_to_ranks(choices, fitness[taught]) if self.settings.clipped else fitted
            self.alive = prune(whole, choices, self.alive, self.pruning)
        self.rounds += 1
        candidates = self.space.candidates(self.alive, self.candidates, self.generator)
        predicted = fitted.predict(self.space.choices_of(candidates), threads=self.threads)
        # Candidates come in random order, so equal predictions do not favour the first rows of a table.
        best = candidates[np.argsort(-predicted, kind="stable")]
        guided = self.fresh(best, self.guided)
        self.queue = self.fresh(np.concatenate([guided, candidates]), self.per_round).tolist()

    def _fitted_to_ranks(self, choices: Choices, accuracies: Accuracies) -> AccuracyPredictor:
        """A predictor of ranks, as shares of the pool."""
        from scipy.stats import rankdata

        ranks = np.asarray(rankdata(accuracies) / len(accuracies), dtype=np.float64)
        settings = self.settings.model_copy(update={"clipped": False, "failed_below": None})
        seed = self.seed + self.rounds
        return AccuracyPredictor.fit(self.space, choices, ranks, settings, seed=seed, threads=self.threads)
