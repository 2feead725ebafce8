"""The grid of a study: selections, each at its budgets, times seeds. One trial is one partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote

KD = "+kd"
"""Suffix of a selection's twin, trained on the same samples with knowledge distillation."""
RANDOM = "+random"
"""Suffix of a selection's random baseline, which keeps an equal amount."""
STEPS = "+steps"
"""Suffix of a selection's twin, trained on the same samples for as many steps as the full training takes."""
OWN = "own"
"""Placeholder for the budget of an in-training selection that follows its own settings."""
CURVE: list[int | float] = [0.9, 0.7, 0.5, 0.3, 0.1]
"""Budgets of a study that names none."""


@dataclass(frozen=True, order=True)
class Trial:
    """One selection (`name@keep`, or `full`) and one seed; an empty selection stands for the work shared by a seed."""

    selection: str
    seed: int

    @classmethod
    def parse(cls, partition: str) -> "Trial":
        """Parse Dagster's key, which joins the dimensions in alphabetical order: `seed|selection`, or `seed` alone."""
        seed, _, selection = partition.partition("|")
        return cls(selection, int(seed))

    def __str__(self) -> str:
        return f"{self.seed}|{self.selection}" if self.selection else str(self.seed)

    @property
    def title(self) -> str:
        """The trial's name in messages."""
        return f"{self.selection}, seed {self.seed}" if self.selection else f"seed {self.seed}"

    @property
    def name(self) -> str:
        """Name of the selection, without its budget."""
        return self.selection.rpartition("@")[0] or self.selection

    @property
    def keep(self) -> int | float:
        """The budget of the study's `keep`; 1.0 for `full` and for a selection that follows its own settings.

        Not for a budget of a column, whose key holds no plain number: use `budget`.
        """
        _, at, text = self.selection.rpartition("@")
        return 1.0 if not at or text == OWN else int(text) if text.isdigit() else float(text)

    @property
    def budget(self) -> int | float | str:
        """`keep`, or for an amount of a column its text in the key."""
        text = self.selection.rpartition("@")[2]
        return text if "=" in text else self.keep

    @property
    def distilled(self) -> bool:
        """Whether this is the twin that learns from a teacher."""
        return self.name.endswith(KD)

    @property
    def at_steps(self) -> bool:
        """Whether this is the twin that trains for as many optimiser steps as the full training."""
        return self.name.endswith(STEPS)

    @property
    def plain(self) -> "Trial":
        """The trial of the same samples and seed without a teacher, at the length of the study's `training`."""
        name = self.name.removesuffix(KD).removesuffix(STEPS)
        return Trial(name + self.selection.removeprefix(self.name), self.seed)


def budgets_between(budgets: Sequence[int | float]) -> dict[int | float, int | float]:
    """The midpoint between each budget and the next larger one, by the smaller: shares to four places, or counts.

    >>> budgets_between([0.9, 0.7, 0.6999])
    {0.7: 0.8}
    """
    ordered = sorted(budgets, reverse=True)
    found: dict[int | float, int | float] = {}
    for larger, keep in pairwise(ordered):
        middle = (keep + larger) // 2 if isinstance(keep, int) else round((keep + larger) / 2, 4)
        if keep < middle < larger:
            found[keep] = middle
    return found


def tuned_as(selection: str, between: Mapping[int | float, int | float]) -> str:
    """The key whose tuned settings a selection uses: a midpoint budget uses those of the next smaller budget."""
    trial, below = Trial(selection, 0), {middle: keep for keep, middle in between.items()}
    return selection_key(trial.name, below[trial.keep]) if trial.keep in below else selection


def selection_key(name: str, keep: float | str | Mapping[str, int | float]) -> str:
    """Partition key of a selection at a budget: digits alone for a count, a decimal for a fraction, and the column's
    name in front of an amount of a column.

    >>> selection_key("band", {"tokens": 5000})
    'band@tokens=5000'
    """
    if isinstance(keep, Mapping):
        [(column, amount)] = keep.items()
        keep = f"{quote(column, safe='')}={amount}"
    return f"{name}@{keep}"
