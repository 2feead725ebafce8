"""Columns of a study that trains: of groups that stay together, of budgets and of quotas."""

from secateur.pipelines.data.columns import COMPLETION_TOKENS
from secateur.pipelines.studies.column_budgets import ROWS
from secateur.pipelines.studies.sample_keys import SampleKeys
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.contract import resolve_amount, resolve_keep

TOKENS = "tokens"


class UnitKeys(SampleKeys):
    """Groups, column budgets and quotas of a study of samples."""

    @property
    def group(self) -> str | None:
        """Column of the data that defines groups, kept or dropped as a whole; None if each row is its own group."""
        return self.columns.group if self.columns else None

    @property
    def cost_column(self) -> str | None:
        """Column of each row's cost in a budget: of the data, or of the table of samples for a language model's tokens;
        None if budgets count rows."""
        if self.budget_of == ROWS:
            return None
        return COMPLETION_TOKENS if self.task.kind == "sft" and self.budget_of == TOKENS else self.budget_of

    @property
    def read_besides(self) -> dict[str, str]:
        """Columns of the data for budgets, groups and quotas, each with the key that names it."""
        found = {each.by: f"selections.{name}.by" for name, each in self.selections.items() if each.by is not None}
        if self.cost_column not in (None, COMPLETION_TOKENS):
            found[self.budget_of] = "keep"
        if self.group is not None:
            found.setdefault(self.group, "columns.group")
        return found

    def by_rows(self, selection: Selection) -> bool:
        """Whether a static selection keeps an exact number of single rows."""
        return self.group is None and self.budget_of == ROWS and selection.by is None

    def limit(self, keep: int | float, count: int, whole: float) -> float:
        """Upper bound on the cost of kept rows, from the row count and the sum `whole` of the budget's column."""
        if self.budget_of == ROWS:
            return float(resolve_keep(keep, count))
        return float(resolve_amount({self.budget_of: keep}, count, whole))

    def rows_about(self, keep: int | float, count: int) -> int:
        """Approximate number of rows in a budget; all rows for an amount of a column, which this does not read."""
        return count if self.budget_of != ROWS and isinstance(keep, int) else resolve_keep(keep, count)

    def check_units(self) -> None:
        """Raise ValueError for selections that cannot keep groups whole or follow a budget of a column."""
        if self.columns is None and (self.budget_of != ROWS or any(each.by for each in self.selections.values())):
            raise ValueError(f"keep: the task {self.task.kind} has no columns; write budgets of rows and no quotas")
        amounts = [keep for keep in self.keep if isinstance(keep, int) and self.budget_of != ROWS]
        if amounts and self.refine:
            raise ValueError(
                f"refine: whether a budget between amounts of {self.budget_of} is smaller than what was shown is known "
                "only once it was chosen; write budgets as shares such as 0.3"
            )
        if amounts and self.distillation and self.distillation.tune:
            raise ValueError(
                f"distillation.tune: students are tuned at shares of all rows, and keep names {amounts[0]:,} "
                f"{self.budget_of}; write budgets as shares such as 0.3, or leave tune out"
            )
        for name, selection in self.selections.items():
            where = f"selections.{name}"
            if selection.in_training and self.group is not None:
                raise ValueError(
                    f"{where}: {selection.selector} draws single rows anew in each epoch, which tears apart "
                    f"rows that columns.group keeps together; leave it out, or leave group out"
                )
            if selection.in_training and selection.budget == "study" and self.budget_of != ROWS:
                raise ValueError(
                    f"{where}: {selection.selector} counts rows of an epoch, no {self.budget_of}: write keep as "
                    "shares of rows, as in keep: [0.5], or leave the selection out"
                )
            if selection.classes and selection.classes.floor and not self.by_rows(selection):
                raise ValueError(
                    f"{where}.classes.floor: a floor counts single rows, and here "
                    + ("whole groups stay" if self.group is not None else f"budgets are of {self.budget_of}")
                    + "; leave it out"
                )
