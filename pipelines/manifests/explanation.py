"""The result of `explain` for one sample: standing, score, stratum, neighbour, and all of it together."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Standing:
    """The rank of a sample among `count` by a score.

    `rank` 1 is the highest score; equal scores share the best of their ranks. `percentile` is the share of samples
    below it, with half of the equal ones, 0 … 100.
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
    """A sample's score and its standing; `within` names the reference: all samples, or the kept ones."""

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
    """The values that a selection compared, where they are not the sample's own score among all.

    `value` is the mean score of the sample's `group` of `samples` samples or, without groups, the sample's own score.
    `lowest` and `highest` are the range over the kept groups, or samples, of the same `quota` where there are quotas
    (`source web`); None where none is kept, or the study's files are missing.
    """

    value: float
    lowest: float | None
    highest: float | None
    group: str | None
    samples: int
    quota: str | None


@dataclass(frozen=True)
class Stratum:
    """A stratum of coverage-centric selection: its range of the score, its samples and its quota of them."""

    number: int
    of: int
    score: str
    low: float
    high: float
    samples: int
    quota: int


@dataclass(frozen=True)
class Near:
    """The nearest sample of some kind: its place in the user's data (see `Place`), its Euclidean distance in the
    embeddings, its class.
    """

    row: int
    distance: float
    label: str
    kept: bool
    file: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Explanation:
    """All known facts of the decision on one sample; unknown ones are None, and `unknown` gives the reasons.

    `row` is the row in the user's `file`, from 0, `path` the path of a picture: see `Place`. `equal_rows` are rows, or
    `FILE:ROW` where there are several files.
    """

    row: int
    kept: bool
    sentence: str
    label: str | None
    """The target, formatted by its task."""
    group: str | None
    """The sample's stratum; its class where targets are classes."""
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
    """The sample's id in the user's column of ids, where the study names one."""
    shown_in: tuple[int, ...] | None = None
    """Epochs of a selection in training that showed the sample; twice where an epoch showed it twice."""
    unknown: tuple[str, ...] = ()

    def answer(self) -> dict[str, Any]:
        """JSON-able data."""
        return asdict(self)
