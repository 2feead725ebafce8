"""Findings that may invalidate the answer, for a place beside it: first those that concern the recommended subset."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secateur.pipelines.pages.report import Report

BEFORE, OTHERS = "Before you rely on this:", "Of other selections:"
LOSS = frozenset({"lost class", "lost label"})
"""Kinds of findings that concern a single selection."""
GRAVE = frozenset({"leaked", "weak model", "learned by heart"})
"""Kinds of findings that concern all selections."""

Alert = tuple[str, str]
"""A heading for the concerned selections, and the sentence, without a full stop."""


def alerts_of(report: Report, findings: Sequence[Mapping[str, Any]]) -> list[Alert]:
    """Warnings about the answer, in the order of the findings; at the end, losses of selections other than the
    recommended one.

    A loss concerns the answer only at the recommended budget. Without a recommendation, all losses concern it.
    """
    answer, effects = report.recommendation, report.by_class
    chosen = answer.selection if answer else None
    losing = effects.lost if effects else {}

    def concerns(finding: Mapping[str, Any]) -> bool:
        own, arm = finding.get("selection", ""), (chosen or "").rpartition("@")[0]
        return chosen is None or own == chosen or (chosen in losing and own.rpartition("@")[0] == arm)

    grave = [finding for finding in findings if finding["kind"] in GRAVE | LOSS]
    ahead = [finding for finding in grave if finding["kind"] in GRAVE or concerns(finding)]
    others = [finding for finding in grave if finding not in ahead]
    return [*said_ahead(ahead, chosen), *said_of_others(others, losing, chosen)]


def said_ahead(findings: Sequence[Mapping[str, Any]], chosen: str | None) -> Iterator[Alert]:
    """Warnings about all selections, and about the recommended one."""
    for finding in findings:
        own = finding["kind"] in LOSS and chosen is not None
        yield BEFORE, f"the recommended subset: {finding['text']}" if own else finding["text"]


def said_of_others(
    findings: Sequence[Mapping[str, Any]], losing: Mapping[str, Any], chosen: str | None
) -> Iterator[Alert]:
    """One warning about all other selections: the first finding in full, after a note on the recommended selection, and
    the names of the others."""
    if not findings:
        return
    finding, *more = findings
    word = finding["kind"].partition(" ")[2]
    first = f"The recommended subset loses no {word}. " if chosen not in losing else ""
    names = ", ".join(one["selection"].replace("@", " at ") for one in more)
    yield f"{first}{OTHERS}", finding["text"] + (f"; others that lose one: {names}" if more else "")
