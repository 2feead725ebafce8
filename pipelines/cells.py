"""The grid of a study: selections, each at its budgets, times seeds. One cell is one partition."""

from dataclasses import dataclass


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
        """The budget as the study gives it; 1.0 for `full`."""
        _, at, text = self.selection.rpartition("@")
        return 1.0 if not at else int(text) if text.isdigit() else float(text)


def selection_key(name: str, keep: float) -> str:
    """Partition key of a selection at a budget: a count is digits alone, a fraction is not."""
    return f"{name}@{keep!r}"
