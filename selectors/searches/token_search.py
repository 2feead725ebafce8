"""Searches over token masks of a prompt: PromptQuine's evolution, its two hill climbings, and random masks.

"Evolving Prompts In-Context" (Wang et al., ICML 2025, arXiv 2506.17930). A proposal is a bool mask over the tokens of
one prompt, True stays; order never changes and tokens only ever leave. All are `AskTell`: `ask` for masks, evaluate
them, `tell` their fitness. An archive keeps all evaluated masks; a second ranking on other examples chooses among a few
of the best, because the fitness of a mask on a handful of examples is mostly luck.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from secateur.selectors.searches.contract import Fitness

Mask = Bool[np.ndarray, " tokens"]
Masks = Bool[np.ndarray, "n tokens"]
Key = Callable[[np.ndarray], Hashable]
"""From a mask to a key that is equal for the same prompt: its text, where tokens merge anew."""


class TokenSearch(ABC):
    """Common part of searches: proposals keep all protected tokens, at most `longest` in all; randomness is private."""

    def __init__(self, prunable: Mask, *, longest: int | None = None, seed: int = 0, key: Key | None = None) -> None:
        """`prunable` marks the tokens that may leave; raises ValueError for more protected tokens than `longest`."""
        self.prunable = prunable
        self.longest = len(prunable) if longest is None else longest
        protected = int(np.count_nonzero(~prunable))
        if not max(1, protected) <= self.longest <= len(prunable):
            raise ValueError(
                f"at most {self.longest} of {len(prunable)} tokens are to stay, and {protected} are protected: "
                "protect fewer or keep more"
            )
        self.generator = np.random.default_rng(seed)
        self.key: Key = key or (lambda mask: mask.tobytes())
        self.archive: list[tuple[np.ndarray, float]] = []
        self._waiting: deque[np.ndarray] = deque()

    @abstractmethod
    def propose(self, count: int) -> list[np.ndarray]:
        """At most `count` masks; none when nothing is left to try, or while the search waits for fitness."""

    def learn(self, mask: Mask, fitness: float) -> None:  # noqa: B027 - random masks learn nothing
        """Take in one evaluation."""

    def ask(self, count: int) -> Masks:
        """At most `count` masks to evaluate; raises ValueError for a count below 1."""
        if count < 1:
            raise ValueError(f"asked for {count} masks, must be at least 1")
        masks = self.propose(count)
        self._waiting.extend(masks)
        return np.array(masks, dtype=np.bool_).reshape(len(masks), len(self.prunable))

    def tell(self, masks: Masks, fitness: Fitness) -> None:
        """Take in the fitness of masks, higher is better, in the order in which `ask` gave them.

        Raises ValueError for masks that were not asked for, told already or told in another order, and for NaN.
        """
        if len(masks) != len(fitness):
            raise ValueError(f"{len(masks)} masks came with {len(fitness)} numbers of fitness")
        if not np.isfinite(fitness).all():
            raise ValueError(
                f"fitness is NaN or infinite for mask {int(np.argmin(np.isfinite(fitness)))} of those given"
            )
        for mask, value in zip(masks, fitness.tolist(), strict=True):
            if not self._waiting or not np.array_equal(self._waiting[0], mask):
                raise ValueError("tell() got a mask that ask() did not give next, or got it before")
            self.archive.append((self._waiting.popleft(), value))
            self.learn(mask, value)

    def start(self, share: float = 0.0) -> np.ndarray:
        """As full a mask as the budget allows, or one without a random `share` of the prunable tokens."""
        mask = np.ones(len(self.prunable), dtype=np.bool_)
        places = np.flatnonzero(self.prunable)
        gone = max(len(mask) - self.longest, min(round(share * len(places)), len(places) - 1))
        mask[self.generator.choice(places, gone, replace=False)] = False
        return mask

    def elites(self, *, share: float = 0.1, most: int = 20) -> Masks:
        """Masks of the archive at or above the `1 - share` quantile of fitness, each prompt once, at most `most`.

        The fittest come first, among equals the shorter ones; only those within the budget count.
        """
        fits = [(mask, value) for mask, value in self.archive if mask.sum() <= self.longest]
        if not fits:
            return np.empty((0, len(self.prunable)), dtype=np.bool_)
        least = np.quantile([value for _, value in fits], 1 - share)
        best = sorted((one for one in fits if one[1] >= least), key=lambda one: (-one[1], int(one[0].sum())))
        once = {self.key(mask): mask for mask, _ in reversed(best)}
        chosen = [mask for mask, _ in best if once[self.key(mask)] is mask]
        return np.stack(chosen[:most])


class RandomMasks(TokenSearch):
    """Masks of a random number of tokens within the budget, each prompt once."""

    def __init__(self, prunable: Mask, *, longest: int | None = None, seed: int = 0, key: Key | None = None) -> None:
        super().__init__(prunable, longest=longest, seed=seed, key=key)
        self._seen: set[Hashable] = set()

    def propose(self, count: int) -> list[np.ndarray]:
        """See `TokenSearch.propose`; gives up on a new prompt after 64 draws in vain."""
        found: list[np.ndarray] = []
        least, places = int(np.count_nonzero(~self.prunable)), np.flatnonzero(self.prunable)
        for _ in range(count):
            for _ in range(64):
                kept = int(self.generator.integers(max(1, least), self.longest + 1))
                mask = ~self.prunable
                mask[self.generator.choice(places, kept - least, replace=False)] = True
                if (key := self.key(mask)) not in self._seen:
                    self._seen.add(key)
                    found.append(mask)
                    break
        return found


class TokenEvolution(TokenSearch):
    """PromptQuine's loop: tournaments, one to four tokens leave, the youngest survive (section 3 and algorithm 1).

    `form` "GGA" evaluates the children of a generation together; "SSGA" lets a child be a parent at once. A population
    begins with `population` masks as full as the budget allows; `begin` "pruned" takes at least a share between 1/20
    and 1/5 out of each. A child whose prompt the population has already is lost. Of the last `offspring` members the
    best `population` survive a generation. It ends when the mean length of the population is `shortest` or less.
    """

    def __init__(
        self,
        prunable: Mask,
        *,
        longest: int | None = None,
        seed: int = 0,
        key: Key | None = None,
        form: Literal["GGA", "SSGA"] = "GGA",
        begin: Literal["full", "pruned"] = "full",
        population: int = 30,
        offspring: int = 50,
        shortest: int = 1,
    ) -> None:
        super().__init__(prunable, longest=longest, seed=seed, key=key)
        if population < 1 or offspring < 1:
            raise ValueError(f"population {population} and offspring {offspring} must be at least 1")
        self.form, self.begin = form, begin
        self.size, self.offspring, self.shortest = population, offspring, shortest
        self.members: list[tuple[np.ndarray, float]] = []
        self.to_start = population
        self.slots = offspring
        self.children: list[tuple[np.ndarray, float]] = []

    def propose(self, count: int) -> list[np.ndarray]:
        """See `TokenSearch.propose`."""
        if self.to_start:
            shares = np.linspace(1 / 20, 1 / 5, 10) if self.begin == "pruned" else np.zeros(1)
            count = min(count, self.to_start)
            self.to_start -= count
            return [self.start(float(self.generator.choice(shares))) for _ in range(count)]
        if self._waiting and (self.form == "SSGA" or self.slots == 0 or len(self.members) < self.size):
            return []
        if self.form == "SSGA":
            count = 1
        found: list[np.ndarray] = []
        for _ in range(20 * self.offspring):  # where nothing is left to drop there are no new children
            if self.slots == 0 and not self._waiting and not found:
                self.survive()
            if len(found) == count or self.slots == 0 or self.finished():
                break
            self.slots -= 1
            if (child := self.child(found)) is not None:
                found.append(child)
        return found

    def child(self, siblings: list[np.ndarray]) -> np.ndarray | None:
        """The winner of a tournament without one to four tokens; None where the population has this prompt already."""
        draws = self.generator.integers(0, len(self.members), max(1, int(0.2 * len(self.members))))
        parent = max((self.members[draw] for draw in draws), key=lambda member: member[1])[0]
        places = np.flatnonzero(parent & self.prunable)
        possible = min(4, len(places) if (~self.prunable).any() else len(places) - 1)
        if possible < 1:
            return None
        mask = parent.copy()
        mask[self.generator.choice(places, int(self.generator.integers(1, possible + 1)), replace=False)] = False
        there = [*(member for member, _ in [*self.members, *self.children]), *self._waiting, *siblings]
        return None if self.key(mask) in {self.key(other) for other in there} else mask

    def learn(self, mask: Mask, fitness: float) -> None:
        """See `TokenSearch.learn`."""
        grown = self.form == "SSGA" or len(self.archive) <= self.size
        (self.members if grown else self.children).append((mask, fitness))

    def survive(self) -> None:
        """End a generation: the fittest of the youngest `offspring` members survive, in order of age."""
        self.members += self.children
        self.children, self.slots = [], self.offspring
        young = self.members[-max(self.offspring, self.size) :]
        order = sorted(range(len(young)), key=lambda place: -young[place][1])[: self.size]
        self.members = [young[place] for place in sorted(order)]

    def finished(self) -> bool:
        """Whether the mean length of the population is `shortest` or less."""
        return float(np.mean([mask.sum() for mask, _ in self.members])) <= self.shortest


class ThresholdAccepting(TokenSearch):
    """TAPruning: first-choice hill climbing that accepts a little less (section 3.1).

    It drops tokens one at a time, left to right or `shuffled`. A token comes back where the fitness falls below
    `threshold` times the best so far. The search ends after a sweep that dropped nothing; while more than `longest` are
    left, it lowers the threshold instead. Fitness must not be negative: a ratio of negative numbers has no meaning.
    """

    def __init__(
        self,
        prunable: Mask,
        *,
        longest: int | None = None,
        seed: int = 0,
        key: Key | None = None,
        threshold: float = 0.96,
        shuffled: bool = False,
    ) -> None:
        super().__init__(prunable, longest=longest, seed=seed, key=key)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold} is not within 0 … 1")
        self.threshold, self.lowering, self.shuffled = threshold, threshold, shuffled
        self.current = np.ones(len(prunable), dtype=np.bool_)
        self.best = -1.0
        self.sweep: list[int] = []
        self.dropped = -1

    def propose(self, count: int) -> list[np.ndarray]:
        """See `TokenSearch.propose`: one mask, since the next depends on its fitness."""
        if self._waiting:
            return []
        if self.best < 0:
            return [self.current.copy()]
        while not self.sweep:
            if self.dropped == 0:
                if self.current.sum() <= self.longest:
                    return []
                self.threshold *= self.lowering if self.threshold > 1e-6 else 0.0
            self.begin_sweep()
            if not self.sweep:
                return []
        mask = self.current.copy()
        mask[self.sweep[0]] = False
        return [mask]

    def begin_sweep(self) -> None:
        """List all tokens that could go, in their order; the last token of a prompt stays."""
        places: Int64[np.ndarray, " places"] = np.flatnonzero(self.current & self.prunable)
        if self.shuffled:
            places = self.generator.permutation(places)
        self.sweep, self.dropped = places.tolist() if self.current.sum() > 1 else [], 0

    def learn(self, mask: Mask, fitness: float) -> None:
        """See `TokenSearch.learn`."""
        if fitness < 0:
            raise ValueError(f"fitness {fitness} is negative: threshold accepting compares ratios, use accuracy")
        if self.best >= 0:
            self.sweep.pop(0)
            if not self.accepts(fitness):
                return
            self.dropped += 1
            self.current = mask.copy()
            if self.current.sum() == 1:
                self.sweep = []
        self.best = max(self.best, fitness)

    def accepts(self, fitness: float) -> bool:
        """Whether a token may stay away at this fitness."""
        return fitness >= self.threshold * self.best


class HillClimbing(ThresholdAccepting):
    """The authors' SAHCPruner: a token stays away only where the fitness rises above the best so far.

    Sweeps and their end are those of threshold accepting. The authors' name stands for steepest ascent, but their code
    takes the first token whose removal helps. Where a sweep dropped nothing and more than `longest` are left, it goes
    on as threshold accepting (ours; the authors have no budget).
    """

    def __init__(
        self,
        prunable: Mask,
        *,
        longest: int | None = None,
        seed: int = 0,
        key: Key | None = None,
        shuffled: bool = False,
    ) -> None:
        super().__init__(prunable, longest=longest, seed=seed, key=key, threshold=1.0, shuffled=shuffled)
        self.lowering = 0.96

    def accepts(self, fitness: float) -> bool:
        """See `ThresholdAccepting.accepts`."""
        return fitness > self.best if self.threshold == 1.0 else super().accepts(fitness)
