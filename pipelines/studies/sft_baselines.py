"""Baselines of every selection of fine-tuning data: the longest rows first, and random rows balanced by source.

Independent studies find both hard to beat (Xia et al. 2024, arXiv 2410.09335; Ivison et al. 2025, arXiv 2503.01807).
"""

from collections.abc import MutableMapping
from typing import Any

from secateur.pipelines.studies.scores import Score
from secateur.pipelines.studies.selection import ClassShares, Selection

LONGEST, SOURCES, LENGTH = "longest_first", "source_balanced", "response_tokens"
"""Names of two selections, and of the score that the first of them reads."""


def add_baselines(
    scores: MutableMapping[str, Any], selections: MutableMapping[str, Selection], *, by_source: bool
) -> None:
    """Add the baselines that a study does not define itself; `by_source` tells whether rows have a source."""
    scores.setdefault(LENGTH, Score(scorer=LENGTH))
    longest = Selection(selector="top", score=LENGTH, settings={"end": "high"})
    selections.setdefault(LONGEST, longest)
    if by_source:
        selections.setdefault(SOURCES, Selection(selector="uniform_random", classes=ClassShares(policy="balanced")))
