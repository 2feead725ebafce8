"""What `explain` says of one sample: standing, score, stratum, neighbour, and all of it together."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Standing:
    """Where a sample stands among `count` by a score.

    `rank` 1 is the highest score, equal scores share the best of their ranks. `percentile` is the share of samples
    below it, equals counting half, 0 … 100.
    """

    rank: int
    count: int
    percentile: float

    @classmethod
    def of(cls, value: float, values: np.ndarray) -> "Standing":
        """The standing of one of the `values`."""
        higher, equal = int(np.count_nonzero(values > value)), int(np.count_nonzero(values == value))
        lower = len(values) - higher - equal
        return cls(higher + 1, len(values), 100 * (lower + equal / 2) / len(values))


@dataclass(frozen=True)
class ScoreFacts:
    """A sample's score and where it stands; `within` says among whom: all samples, or the kept ones."""

    name: str
    value: float
    high_means: str
    within: str
    overall: Standing
    in_class: Standing | None
    kept_lowest: float
    kept_highest: float


@dataclass(frozen=True)
class Compared:
    """What a selection compared where that is not the sample's own score among all.

    `value` is the mean score of the sample's `group`, which has so many `samples`, or, without groups, its own score;
    `lowest` and `highest` are those of the groups, or samples, that stay, of the same `quota` where there are quotas
    (`source web`); None where nothing of it stays, or the study's files are not there.
    """

    value: float
    lowest: float | None
    highest: float | None
    group: str | None
    samples: int
    quota: str | None


@dataclass(frozen=True)
class Stratum:
    """A stratum of coverage-centric selection: its range of the score, its samples and how many of them it gives."""

    number: int
    of: int
    score: str
    low: float
    high: float
    samples: int
    quota: int


@dataclass(frozen=True)
class Near:
    """The nearest sample of some kind: where the user has it (see `Place`), its Euclidean distance in the embeddings,
    its class.
    """

    row: int
    distance: float
    label: str
    kept: bool
    file: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Everything that is known of one sample's fate; what is not known is None, and `unknown` says why.

    `row` is the row in the user's `file`, from 0, `path` that of a picture: see `Place`. `equal_rows` are rows, or
    `FILE:ROW` where there are several files.
    """

    row: int
    kept: bool
    sentence: str
    label: str | None
    """The target, as its task shows it."""
    group: str | None
    """The stratum that the sample is counted with, which is its class, where targets are classes."""
    weight: float | None
    scores: tuple[ScoreFacts, ...]
    compared: Compared | None = None
    stratum: Stratum | None = None
    class_samples: int | None = None
    class_kept: int | None = None
    nearest_kept: Near | None = None
    nearest: Near | None = None
    equal_rows: tuple[int | str, ...] | None = None
    file: str | None = None
    path: str | None = None
    id: str | None = None
    """The sample's id in the user's own column, where the study names one."""
    shown_in: tuple[int, ...] | None = None
    """Epochs that showed it, of a selection in training; twice where an epoch showed it twice."""
    unknown: tuple[str, ...] = ()

    def answer(self) -> dict[str, Any]:
        """JSON-able data."""
        return asdict(self)
