"""Findings because of which the answer may be wrong, which stand beside it: first those that concern what is
recommended.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secateur.pipelines.pages.report import Report

BEFORE, OTHERS = "Before you rely on this:", "Of other selections:"
LOSS = frozenset({"lost class", "lost label"})
"""Kinds of findings that are about one selection."""
GRAVE = frozenset({"leaked", "weak model", "learned by heart"})
"""Kinds of findings that are about all of them."""

Alert = tuple[str, str]
"""Whom it concerns, and the sentence, without a full stop."""


def alerts_of(report: Report, findings: Sequence[Mapping[str, Any]]) -> list[Alert]:
    """What to know before the answer is relied on, in the order of the findings; behind it, and named so, what other
    selections lose than the one that is recommended.

    A selection is concerned at the budget that is recommended alone. Where nothing is recommended, all are.
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
    """Of everything, and of what is recommended."""
    for finding in findings:
        own = finding["kind"] in LOSS and chosen is not None
        yield BEFORE, f"the recommended subset: {finding['text']}" if own else finding["text"]


def said_of_others(
    findings: Sequence[Mapping[str, Any]], losing: Mapping[str, Any], chosen: str | None
) -> Iterator[Alert]:
    """Of selections that are not recommended, in one sentence: the first in full, behind what is true of the one that
    is recommended, and the names of the others."""
    if not findings:
        return
    finding, *more = findings
    word = finding["kind"].partition(" ")[2]
    first = f"The recommended subset loses no {word}. " if chosen not in losing else ""
    names = ", ".join(one["selection"].replace("@", " at ") for one in more)
    yield f"{first}{OTHERS}", finding["text"] + (f"; others that lose one: {names}" if more else "")
