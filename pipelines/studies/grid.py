"""The grid of a study: selections, each at its budgets, times seeds. One trial is one partition."""

from dataclasses import dataclass

KD = "+kd"
"""Ends the name of a selection's twin, trained on the same samples with knowledge distillation."""
OWN = "own"
"""Stands for the budget of an in-training selection that goes by its own settings."""


@dataclass(frozen=True, order=True)
class Trial:
    """One selection (`name@keep`, or `full`) and one seed; with an empty selection, what all of a seed share."""

    selection: str
    seed: int

    @classmethod
    def parse(cls, partition: str) -> "Trial":
        """From Dagster's key, which joins the dimensions in alphabetical order: `seed|selection`, or `seed` alone."""
        seed, _, selection = partition.partition("|")
        return cls(selection, int(seed))

    def __str__(self) -> str:
        return f"{self.seed}|{self.selection}" if self.selection else str(self.seed)

    @property
    def name(self) -> str:
        """Name of the selection, less its budget."""
        return self.selection.rpartition("@")[0] or self.selection

    @property
    def keep(self) -> int | float:
        """The budget as the study gives it; 1.0 for `full` and where a selection goes by its own settings."""
        _, at, text = self.selection.rpartition("@")
        return 1.0 if not at or text == OWN else int(text) if text.isdigit() else float(text)

    @property
    def distilled(self) -> bool:
        """Whether this is the twin that a teacher taught."""
        return self.name.endswith(KD)

    @property
    def plain(self) -> "Trial":
        """The trial of the same samples and seed without a teacher."""
        return Trial(self.name.removesuffix(KD) + self.selection.removeprefix(self.name), self.seed)


def selection_key(name: str, keep: float | str) -> str:
    """Partition key of a selection at a budget: a count is digits alone, a fraction is not."""
    return f"{name}@{keep}"
