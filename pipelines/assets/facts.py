"""Metadata of results for the UI, beside their pictures: the trial, and rounded numbers."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from secateur.pipelines.runs.findings import listed_in_markdown
from secateur.pipelines.studies.grid import Trial

DIGITS = 4
"""Significant digits of a real number."""
SHOWN = 5
"""Number of findings shown without a click."""


def tidy(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same facts, with floats rounded by `rounded`."""
    return {name: rounded(value) if isinstance(value, float) else value for name, value in facts.items()}


def rounded(value: float) -> float:
    """A number to four significant digits, or to an integer if its integer part has more.

    >>> rounded(0.8333333333), rounded(12345.678), rounded(1.0)
    (0.8333, 12346.0, 1.0)
    """
    return float(f"{value:.{DIGITS}g}") if abs(value) < 10**DIGITS else float(f"{value:.0f}")


def facts_of_trial(trial: Trial) -> dict[str, Any]:
    """Selection, budget and seed of a trial; without a budget for a selection that has none."""
    _, at, budget = trial.selection.rpartition("@")
    return {"selection": trial.name, **({"budget": budget} if at else {}), "seed": trial.seed}


def told_of(findings: list[dict[str, Any]]) -> dict[str, Any]:
    """Findings, the most severe first: a few lines of text, and if there are more, all of them behind a click."""
    if not findings:
        return {"findings": "nothing to report"}
    first = {f"finding {place}": one["text"] for place, one in enumerate(findings[:SHOWN], start=1)}
    more = {"all findings": dg.MetadataValue.md(listed_in_markdown(findings))} if len(findings) > SHOWN else {}
    return {"findings": len(findings), **first, **more}
