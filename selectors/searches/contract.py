"""Selectors that propose, learn how good it was, and propose again: searches over architectures and token masks.

A one-shot selector reads scores and answers once. A search gets its scores on the way: `ask` for proposals, evaluate
them, `tell` their fitness (higher is better), until the budget of evaluations is spent or no proposal is left.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from secateur.scorers.architectures.encoding import Alive, ArchitectureSpace, Rows
from secateur.scorers.contract import rows_text

Fitness = Float64[np.ndarray, " n"]
Proposals = Shaped[np.ndarray, "n *one"]
"""Rows of a space of architectures, int64 `[n]`, or masks of tokens, bool `[n, tokens]`."""


@runtime_checkable
class AskTell(Protocol):
    """A selector that learns from evaluations."""

    def ask(self, count: int) -> Proposals:
        """At most `count` proposals to evaluate; none when there is nothing left."""

    def tell(self, proposals: Proposals, fitness: Fitness, /) -> None:
        """Take in the fitness of proposals that `ask` gave."""


class ArchitectureSearch(ABC):
    """Common part of searches: isomorphic architectures count once, and all randomness is private.

    A subclass proposes in `propose` and, if it needs each evaluation, learns in `learn`.
    """

    def __init__(self, space: ArchitectureSpace, *, seed: int = 0) -> None:
        self.space = space
        self.generator = np.random.default_rng(seed)
        self.asked: list[int] = []
        self.rows: list[int] = []
        self.fitness: list[float] = []
        self._seen: set[int] = set()
        self._waiting: set[int] = set()

    @abstractmethod
    def propose(self, count: int) -> Rows:
        """At most `count` rows of unseen keys, each once."""

    def learn(self, row: int, fitness: float) -> None:  # noqa: B027 - most searches learn from all at once
        """Take in one evaluation."""

    def ask(self, count: int) -> Rows:
        """See `AskTell.ask`: rows, never the same network twice; raises ValueError for a count below 1."""
        if count < 1:
            raise ValueError(f"asked for {count} architectures, must be at least 1")
        rows = self.propose(count)
        self.asked += rows.tolist()
        self._waiting |= set(rows.tolist())
        self._seen |= set(self.space.keys_of(rows).tolist())
        return rows

    def tell(self, rows: Rows, fitness: Fitness) -> None:
        """See `AskTell.tell`; raises ValueError for rows not asked for or told before, and for NaN (rows are named)."""
        if len(rows) != len(fitness):
            raise ValueError(f"{len(rows)} rows came with {len(fitness)} numbers of fitness")
        strange = [row for row in rows.tolist() if row not in self._waiting]
        if strange or len(set(rows.tolist())) < len(rows):
            shown = rows_text(np.array(strange or rows))
            raise ValueError(f"fitness told of {shown}: not asked for, or told already")
        if len(bad := rows[~np.isfinite(fitness)]):
            raise ValueError(f"fitness is NaN or infinite at {rows_text(bad)}: an evaluation failed")
        for row, value in zip(rows.tolist(), fitness.tolist(), strict=True):
            self._waiting.remove(row)
            self.rows.append(row)
            self.fitness.append(value)
            self.learn(row, value)

    def fresh(self, rows: Rows, count: int) -> Int64[np.ndarray, " fresh"]:
        """The first `count` of the rows whose keys are not seen yet, each key once, in their order."""
        keys = self.space.keys_of(rows)
        unseen = rows[~np.isin(keys, np.fromiter(self._seen, np.int64, len(self._seen)))]
        _, first = np.unique(self.space.keys_of(unseen), return_index=True)
        return unseen[np.sort(first)[:count]]

    def draw(self, count: int, alive: Alive | None = None) -> Rows:
        """Random rows of unseen keys; fewer where there are no more."""
        alive = self.space.allowed if alive is None else alive
        found = np.empty(0, dtype=np.int64)
        # Draws from a space that is not listed are with replacement, so few of them may be new.
        for _ in range(1 if self.space.listed is not None else 64):
            more = self.space.candidates(alive, 4 * count + 64, self.generator)
            found = self.fresh(np.concatenate([found, more]), count)
            if len(found) == count:
                break
        return found


@dataclass(frozen=True)
class History:
    """Evaluations in the order of their proposals."""

    rows: Proposals
    fitness: Fitness

    @property
    def best_row(self) -> int:
        """Row of the highest fitness, the earliest of equals."""
        return int(self.rows[np.argmax(self.fitness)])


def search(
    searcher: AskTell,
    evaluate: Callable[[Any], Fitness],
    budget: int,
    *,
    batch: int = 1,
    enough: float = np.inf,
    patience: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """Ask, evaluate and tell until `budget` evaluations are made, one is `enough`, or no proposal is left.

    With `patience` it also ends after so many evaluations in a row without a better one.
    """
    rows: list[np.ndarray] = []
    fitness = [np.empty(0)]
    done, best, risen = 0, -np.inf, 0
    while done < budget:
        asked = searcher.ask(min(batch, budget - done))
        if not len(asked):
            break
        values = evaluate(asked)
        searcher.tell(asked, values)
        rows.append(asked)
        fitness.append(values)
        done += len(asked)
        if progress:
            progress(done, budget)
        if values.max() > best:
            best, risen = values.max(), done
        if best >= enough or (patience is not None and done - risen >= patience):
            break
    return History(np.concatenate(rows) if rows else np.empty(0, dtype=np.int64), np.concatenate(fitness))
