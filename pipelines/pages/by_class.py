"""Tables of each selection's effect on every class, one for each budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from secateur.pipelines.files.shown_text import one_line
from secateur.pipelines.pages.names import budget_of
from secateur.pipelines.pages.words import LOST
from secateur.pipelines.runs.by_class import ByClass, Recalls
from secateur.pipelines.studies.grid import OWN, selection_key

if TYPE_CHECKING:
    from secateur.pipelines.pages.report import Report
    from secateur.pipelines.pages.words import Table

MOST = 30
"""Most classes of a table; report.json has all of them."""
LONGEST = 60
"""Characters of a class's name in a table."""


def class_tables(report: Report) -> list[tuple[str, Table]]:
    """Recall by class at each budget, random and the full set first, the classes with the largest falls on top."""
    found, study = report.by_class, report.study
    if found is None:
        return []
    whole = [name for name in study.references if name in found.recalls]
    groups = [(keep, [selection_key(arm, keep) for arm in study.arms]) for keep in study.keep]
    free = [key for arm in study.unbudgeted for key in (arm, selection_key(arm, OWN))]
    listed = []
    for keep, keys in (*groups, (None, free)):
        if there := [key for key in keys if key in found.recalls]:
            first = "" if keep is None else selection_key(study.baseline, keep)
            at = " without a budget" if keep is None else f" at {budget_of(study, keep)}"
            ordered = sorted(there, key=lambda key, first=first: key != first)  # type: ignore[misc]
            titles = [study.title(key.rpartition("@")[0] or key) for key in [*whole, *ordered]]
            table, left_out = table_of(found, [*whole, *ordered], titles)
            behind = f", the {MOST} of {left_out + MOST} that fall most" if left_out else ""
            listed.append((f"Found of each {found.word}{at}{behind}", table))
    return listed


def table_of(found: ByClass, keys: Sequence[str], titles: Sequence[str]) -> tuple[Table, int]:
    """A table with a line for each class, and the number of omitted classes; falls are relative to the first key."""
    columns = [found.recalls[key] for key in keys]
    order = sorted(range(len(found.names)), key=lambda place: fall(columns, place), reverse=True)
    marked = {(key, one.name) for key in keys for one in found.lost.get(key, ())}
    lines = [[found.word, "test samples", *(f"{title} %" for title in titles)]]
    for place in order[:MOST]:
        name = found.names[place]
        cells = []
        for key, column in zip(keys, columns, strict=True):
            value = column[place]
            shown = "" if value is None else f"{100 * value:.1f}"
            cells.append(f"{LOST} {shown}" if (key, name) in marked else shown)
        lines.append([one_line(name, LONGEST), f"{found.test_samples[place]:,}", *cells])
    return lines, max(0, len(order) - MOST)


def fall(columns: Sequence[Recalls], place: int) -> float:
    """Fall of a class's recall from the first column to the lowest of the others."""
    values = [column[place] for column in columns]
    known = [value for value in values if value is not None]
    return known[0] - min(known) if known else -1.0
