"""Readable names of arms and references."""

from secateur.pipelines.studies.column_budgets import ROWS
from secateur.pipelines.studies.own_scores import plain_budget
from secateur.pipelines.studies.study import AnyStudy


def title_of(study: AnyStudy, name: str) -> str:
    """The readable name of an arm or reference."""
    return study.title(name)


def other_of(study: AnyStudy, name: str) -> str:
    """A name as the other side of a comparison; a reference with a title in words takes an article."""
    title = title_of(study, name)
    return f"the {title}" if name in study.references and name in study.titles else title


def budget_of(study: AnyStudy, keep: int | float) -> str:
    """A budget of a study in a sentence: `0.3`, `500`, `0.3 of all seconds`, `3,600 seconds`."""
    of = getattr(study, "budget_of", ROWS)
    if of != ROWS:
        return plain_budget({of: keep})
    return str(keep) if isinstance(keep, int) else f"{keep:g}"
