"""Totals of selections in their budgets, for studies with groups, quotas or budgets of a column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from secateur.pipelines.pages.names import title_of
from secateur.pipelines.pages.words import Table
from secateur.pipelines.runs.kept_rows import ROWS, Spent
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.own_scores import plain_budget
from secateur.pipelines.studies.samples import Study


@dataclass(frozen=True)
class Come:
    """Totals of a selection at a budget, over its seeds."""

    selection: Annotated[str, Field(description="its key, name@budget")]
    limit: Annotated[float, Field(description="largest sum over the kept rows")]
    totals: Annotated[list[float], Field(description="their sum, by seed; never above the limit")]
    left: Annotated[float, Field(description="largest rest of the limit over seeds, into which no group or row fits")]
    groups: Annotated[list[int] | None, Field(description="groups that stay, by seed; null without columns.group")]


@dataclass(frozen=True)
class Budgets:
    """The unit of budgets, the column of groups, and the totals of every selection."""

    unit: Annotated[str, Field(description="rows, or the column of the budgets")]
    whole: Annotated[float, Field(description="sum over all training rows")]
    group: Annotated[str | None, Field(description="column whose equal values stay together")]
    kept: list[Come]

    @property
    def sentences(self) -> Iterator[str]:
        """Explanations of the numbers."""
        if self.group is not None:
            yield (
                f"Rows of equal {self.group} stay or go together: groups are taken in a selection's order, each if it "
                "still fits the budget, and so are those of the random baselines."
            )
        if self.unit != ROWS:
            yield (
                f"Budgets are of {self.unit}, of which all training rows have {self.whole:,.15g}: no selection has "
                "more than its budget, and skips rows that no longer fit."
            )

    def table(self, study: Study) -> Table:
        """A line for each selection at each budget; numbers that differ between seeds as a range."""
        of_groups = ["groups"] if self.group is not None else []
        lines = [[study.arm, "budget", f"{self.unit} at most", f"{self.unit} kept", "left", *of_groups]]
        for one in self.kept:
            trial = Trial(one.selection, 0)
            budget = plain_budget({self.unit: trial.keep} if self.unit != ROWS else trial.keep)
            groups = [span(one.groups)] if one.groups is not None else []
            lines.append(
                [
                    title_of(study, trial.name),
                    budget,
                    f"{one.limit:,.15g}",
                    span(one.totals),
                    f"{one.left:,.15g}",
                    *groups,
                ]
            )
        return lines


def span(numbers: Sequence[float]) -> str:
    """One number, or the minimum and maximum of several."""
    least, most = min(numbers), max(numbers)
    return f"{least:,.15g}" if least == most else f"{least:,.15g} to {most:,.15g}"


def budgets_of(study: Study, spent: Mapping[Trial, Spent]) -> Budgets | None:
    """Totals of trials; None if all selections keep an exact number of single rows."""
    static = [each for each in study.selections.values() if not each.in_training]
    if not spent or all(study.by_rows(each) for each in static):
        return None
    first = next(iter(spent.values()))
    kept = []
    for selection in dict.fromkeys(trial.selection for trial in spent):
        own = [one for trial, one in sorted(spent.items()) if trial.selection == selection]
        totals, limit = [one.total for one in own], own[0].limit
        groups = [one.groups for one in own if one.groups is not None] or None
        kept.append(Come(selection, limit, totals, max(limit - total for total in totals), groups))
    return Budgets(first.unit, first.whole, first.group, kept)
