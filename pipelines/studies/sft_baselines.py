"""What always stands beside selections of fine-tuning data: the longest first, and random rows of all sources alike;
and budgets of completion tokens.

Independent studies find both hard to beat (Xia et al. 2024, arXiv 2410.09335; Ivison et al. 2025, arXiv 2503.01807).
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from secateur.pipelines.studies.scores import Score
from secateur.pipelines.studies.selection import ClassShares, Selection

LONGEST, SOURCES, LENGTH = "longest_first", "source_balanced", "response_tokens"
"""Names of two selections, and of the score that one of them reads."""


def add_baselines(
    scores: MutableMapping[str, Any], selections: MutableMapping[str, Selection], *, by_source: bool
) -> None:
    """Add what a study does not have under these names; `by_source` says whether rows have a source."""
    scores.setdefault(LENGTH, Score(scorer=LENGTH))
    longest = Selection(selector="top", score=LENGTH, settings={"end": "high"})
    selections.setdefault(LONGEST, longest)
    if by_source:
        selections.setdefault(SOURCES, Selection(selector="uniform_random", classes=ClassShares(policy="balanced")))


def refuse_tokens(task: str, keep: Sequence[int | float], selections: Mapping[str, Selection]) -> None:
    """Raise ValueError where budgets cannot be of tokens."""
    if task != "sft":
        raise ValueError(f"keep: task {task} learns no tokens; write keep as shares or counts of rows")
    if amounts := [each for each in keep if isinstance(each, int)]:
        raise ValueError(
            f"keep: {{tokens: {amounts[0]}}} is a count, and a study that trains has shares of all tokens, such as 0.3"
        )
    for name, selection in selections.items():
        if selection.in_training and selection.budget == "study":
            raise ValueError(
                f"selections.{name}: {selection.selector} counts rows of an epoch, no tokens; leave it out"
            )
