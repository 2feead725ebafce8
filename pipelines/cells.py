"""The grid of a study: selections, each at its budgets, times seeds. One cell is one partition."""

from dataclasses import dataclass

KD = "+kd"
"""Ends the name of a selection's twin, trained on the same samples with knowledge distillation."""
OWN = "own"
"""Stands for the budget of an in-training selection that goes by its own settings."""


@dataclass(frozen=True, order=True)
class Cell:
    """One selection (`name@keep`, or `full`) and one seed."""

    selection: str
    seed: int

    @classmethod
    def parse(cls, partition: str) -> "Cell":
        """From Dagster's key, which joins the dimensions in alphabetical order: `seed|selection`."""
        seed, selection = partition.split("|", maxsplit=1)
        return cls(selection, int(seed))

    def __str__(self) -> str:
        return f"{self.seed}|{self.selection}"

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
    def plain(self) -> "Cell":
        """The cell of the same samples and seed without a teacher."""
        return Cell(self.name.removesuffix(KD) + self.selection.removeprefix(self.name), self.seed)


def selection_key(name: str, keep: float | str) -> str:
    """Partition key of a selection at a budget: a count is digits alone, a fraction is not."""
    return f"{name}@{keep}"
