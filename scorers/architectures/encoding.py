"""Architectures as choices at positions, and as the 0/1 features that a predictor reads.

An architecture takes one choice at each position of its space: an operation on an edge of a cell, a block in a layer of
a chain. Its encoding is one-hot per position (Luo et al., "Accuracy Prediction with Non-neural Model for Neural
Architecture Search", arXiv 2007.04785, section 3.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

Rows = Int64[np.ndarray, " n"]
"""Architectures by number: row of the list, or for a space that is not listed its choices as a mixed-radix number."""
Choices = Int64[np.ndarray, "n positions"]
"""Number of the choice at each position."""
Features = UInt8[np.ndarray, "n features"]
Alive = Bool[np.ndarray, " features"]
"""True for each choice that is still in the space: pruning removes features."""

LISTED = 1 << 20
"""Most architectures that `ArchitectureSpace.product` lists."""


@dataclass(frozen=True)
class Position:
    """A place of an architecture and its choices.

    With `silent`, the first choice has no feature of its own: it shows as zeros (no edge, no such node).
    """

    name: str
    choices: tuple[str, ...]
    silent: bool = False


@dataclass(frozen=True, eq=False)
class ArchitectureSpace:
    """The architectures of a search.

    `listed` are all of them; None where every combination is one and they are too many to list. `keys` marks isomorphic
    ones: rows of one key are the same network, and count once. `allowed` marks features that are in the space from the
    start.
    """

    positions: tuple[Position, ...]
    allowed: Alive
    listed: Choices | None = None
    keys: Int64[np.ndarray, " n"] | None = None

    @classmethod
    def product(
        cls, positions: Sequence[Position], *, forbidden: Mapping[str, Sequence[str]] | None = None
    ) -> "ArchitectureSpace":
        """Every combination of choices, without `forbidden` choices by position; listed up to `LISTED` of them."""
        space = cls(tuple(positions), np.ones(sum(len(p.choices) - p.silent for p in positions), dtype=bool))
        for name, choices in (forbidden or {}).items():
            for choice in choices:
                space.allowed[space.features.index(f"{name}={choice}")] = False
        if space.size > 2**62:
            raise ValueError(f"{space.size:.3g} combinations are more than row numbers can count; use fewer positions")
        return space if space.count(space.allowed) > LISTED else space.having(space.all_alive(space.allowed))

    def having(self, listed: Choices, keys: Int64[np.ndarray, " n"] | None = None) -> "ArchitectureSpace":
        """The same positions with these architectures alone; raises ValueError for choices that no position has."""
        sizes = np.array([len(position.choices) for position in self.positions])
        bad = np.argwhere((listed < 0) | (listed >= sizes))
        if len(bad):
            row, place = bad[0]
            position = self.positions[place]
            raise ValueError(
                f"row {row}, {position.name}: there is no choice {listed[row, place]}; "
                f"there are {', '.join(f'{n} {c}' for n, c in enumerate(position.choices))}"
            )
        return ArchitectureSpace(self.positions, self.allowed, listed, keys)

    def __len__(self) -> int:
        """Rows; raises TypeError where they are not listed."""
        if self.listed is None:
            raise TypeError(f"the {self.size} architectures of this space are not listed")
        return len(self.listed)

    @cached_property
    def size(self) -> int:
        """Combinations of choices, whether they are in the space or not."""
        return prod(len(position.choices) for position in self.positions)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """`position=choice` of each feature."""
        return tuple(f"{p.name}={choice}" for p in self.positions for choice in p.choices[int(p.silent) :])

    @cached_property
    def group(self) -> Int64[np.ndarray, " features"]:
        """Position of each feature."""
        sizes = [len(position.choices) - position.silent for position in self.positions]
        return np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)

    @cached_property
    def first(self) -> Int64[np.ndarray, " positions"]:
        """Feature of each position's choice 0; one before its first feature where that choice is silent."""
        silent = np.array([position.silent for position in self.positions], dtype=np.int64)
        return np.searchsorted(self.group, np.arange(len(self.positions))).astype(np.int64) - silent

    @cached_property
    def weights(self) -> Int64[np.ndarray, " positions"]:
        """Weight of each position's choice in a mixed-radix number, 1 for the last position."""
        sizes = [len(position.choices) for position in self.positions]
        return np.array([prod(sizes[place + 1 :]) for place in range(len(sizes))], dtype=np.int64)

    @cached_property
    def groups_with_silence(self) -> Bool[np.ndarray, " positions"]:
        """Mask of the positions that keep a choice even if pruning removes all their features."""
        return np.array([position.silent for position in self.positions], dtype=bool)

    def encode(self, choices: Choices) -> Features:
        """One-hot features."""
        features = np.zeros((len(choices), len(self.features)), dtype=np.uint8)
        rows, places = np.nonzero(choices >= self.groups_with_silence)
        features[rows, (choices + self.first)[rows, places]] = 1
        return features

    def choices_of(self, rows: Rows) -> Choices:
        """Choices of the architectures of these rows."""
        if self.listed is not None:
            return np.asarray(self.listed[rows])
        sizes = np.array([len(position.choices) for position in self.positions], dtype=np.int64)
        return np.asarray(rows[:, None] // self.weights % sizes)

    def rows_of(self, choices: Choices) -> Rows:
        """Rows of these choices, -1 where the space has no such architecture."""
        numbers = (choices * self.weights).sum(axis=1)
        if self.listed is None:
            return np.where(self.are_alive(choices, self.allowed), numbers, -1)
        sorted_numbers, rows = self._by_number
        places = np.minimum(np.searchsorted(sorted_numbers, numbers), len(rows) - 1)
        return np.where(sorted_numbers[places] == numbers, rows[places], -1).astype(np.int64)

    @cached_property
    def _by_number(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.listed is not None
        numbers = (self.listed * self.weights).sum(axis=1)
        rows = np.argsort(numbers, kind="stable").astype(np.int64)
        return numbers[rows], rows

    def keys_of(self, rows: Rows) -> Int64[np.ndarray, " n"]:
        """Equal numbers for the same network."""
        return rows if self.keys is None else self.keys[rows]

    def are_alive(self, choices: Choices, alive: Alive) -> Bool[np.ndarray, " n"]:
        """Whether every choice is alive."""
        padded = np.concatenate([alive, [True]])
        places = np.where(choices >= self.groups_with_silence, choices + self.first, len(alive))
        return np.asarray(padded[places].all(axis=1))

    def alive_choices(self, alive: Alive) -> list[Int64[np.ndarray, " choices"]]:
        """Choices left at each position."""
        left = []
        for place, position in enumerate(self.positions):
            numbers = np.arange(len(position.choices), dtype=np.int64)
            features = numbers + self.first[place]
            left.append(numbers[(numbers < int(position.silent)) | alive[np.maximum(features, 0)]])
        return left

    def count(self, alive: Alive) -> int:
        """Combinations of the choices left, listed or not."""
        return prod(len(choices) for choices in self.alive_choices(alive))

    def all_alive(self, alive: Alive) -> Choices:
        """Every combination of the choices left."""
        grids = np.meshgrid(*self.alive_choices(alive), indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=1).astype(np.int64)

    def candidates(self, alive: Alive, limit: int, generator: np.random.Generator) -> Rows:
        """Rows whose choices are all left, in random order: all of them, or `limit` draws where they are not listed."""
        left = alive & self.allowed
        if self.listed is not None:
            rows = np.flatnonzero(self.are_alive(self.listed, left)).astype(np.int64)
            return generator.permutation(rows)
        if self.count(left) <= limit:
            return generator.permutation(self.rows_of(self.all_alive(left)))
        drawn = [generator.choice(choices, limit) for choices in self.alive_choices(left)]
        return self.rows_of(np.stack(drawn, axis=1).astype(np.int64))

    def describe(self, row: int) -> dict[str, str]:
        """Choice at each position, in words."""
        choices = self.choices_of(np.array([row], dtype=np.int64))[0]
        return {position.name: position.choices[c] for position, c in zip(self.positions, choices, strict=True)}

    def kept(self, alive: Alive) -> dict[str, list[str]]:
        """Choices left at each position, in words."""
        numbers = self.alive_choices(alive)
        return {p.name: [p.choices[c] for c in left] for p, left in zip(self.positions, numbers, strict=True)}


def choice_numbers(names: Shaped[np.ndarray, " n"], position: Position) -> Int64[np.ndarray, " n"]:
    """Numbers of choices given by name, all of them, or by number, all of them.

    Names come first: if digits name the choices, a column of these digits holds names. Raises ValueError that names
    position, row and the known choices.
    """
    texts, there = list(map(str, names.tolist())), ", ".join(position.choices)
    by_name = {choice: number for number, choice in enumerate(position.choices)}
    by_number = {str(number): number for number in range(len(position.choices))}
    readings = [np.array([known.get(text, -1) for text in texts], dtype=np.int64) for known in (by_name, by_number)]
    for found in readings:
        if (found >= 0).all():
            return found
    neither = np.flatnonzero((readings[0] < 0) & (readings[1] < 0))
    if len(neither):
        raise ValueError(
            f"{position.name}: unknown choice {texts[neither[0]]!r} at row {neither[0]}; there are {there}"
        )
    no_name, no_number = (int(np.flatnonzero(found < 0)[0]) for found in readings)
    raise ValueError(
        f"{position.name}: {texts[no_name]!r} at row {no_name} is the number of a choice and {texts[no_number]!r} at "
        f"row {no_number} a name; a column holds names or numbers, not both (names: {there})"
    )
