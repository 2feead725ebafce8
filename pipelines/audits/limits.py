"""Limits of an audit, for jobs that fail where data have become worse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHARE = re.compile(r"(?P<percent>\d+(\.\d+)?)%|(?P<share>\d*\.\d+)")


@dataclass(frozen=True)
class Limit:
    """How much may be found: a number of rows, or a share of those that are looked at."""

    rows: int | None = None
    share: float | None = None

    @classmethod
    def read(cls, text: str, option: str) -> Limit:
        """`12`, `0.01` or `1%`; raises ValueError for anything else."""
        if text.isdigit():
            return cls(rows=int(text))
        found = SHARE.fullmatch(text)
        share = (float(found["percent"]) / 100 if found["percent"] else float(found["share"])) if found else 2.0
        if share > 1:
            raise ValueError(f"{option} {text}: a number of rows such as 0 or 12, or a share such as 0.01 or 1%")
        return cls(share=share)

    def allows(self, count: float, of: int) -> bool:
        """Whether so many of so many rows may be."""
        return count <= self.rows if self.rows is not None else count <= (self.share or 0.0) * of

    def __str__(self) -> str:
        return f"{self.rows:,} rows" if self.rows is not None else f"{self.share:.2%} of the rows"


def exceeded(answer: Mapping[str, Any], limits: Mapping[str, Limit]) -> list[str]:
    """A sentence for each limit, by `leaks`, `overlap`, `duplicates`, `conflicts` or `wrong_labels`, that an audit
    exceeds, or whose number it does not know; `answer` is the audit's `content`."""
    told = []
    for name, limit in limits.items():
        count, of = counted(answer, name)
        words = name.replace("_", " ")
        if count is None and name == "overlap":
            told.append(
                "overlap was not looked at: it is counted in texts of benchmarks (--against), and not with --exact"
            )
        elif count is None:
            told.append(f"how many {words} there are is not known: {answer['labels_not_looked_at']}")
        elif not limit.allows(count, of):
            one = f"{count:,.0f}" == "1"
            found = f"1 {WORDS[name]}" if one else f"{count:,.0f} {WORDS[name]}s"
            told.append(f"{found} of {of:,} rows exceed{'s' * one} the limit of {limit}")
    return told


WORDS = {
    "leaks": "leak", "overlap": "overlapping text", "duplicates": "duplicate", "conflicts": "conflicting row",
    "wrong_labels": "wrong label",
}  # fmt: skip
"""What each limit counts, in the singular."""


def counted(answer: Mapping[str, Any], name: str) -> tuple[float | None, int]:
    """How much was found, and of how many rows."""
    train, *others = answer["rows"].values()
    if name == "leaks":
        return answer["leaks"], sum(others)
    if name == "overlap":
        # Not of test rows and targets: short ones of one subject share half their words for no reason.
        rows = {part: size for part, size in answer["rows"].items() if part not in ("train", "test", "target")}
        known = answer["contamination"]
        count = sum(known[part]["overlap_13"] for part in rows) if known or not rows else None
        return count, sum(rows.values())
    if name == "wrong_labels":
        labels = answer["wrong_labels"].get("train")
        return (labels["count"] if labels else None), train
    return answer[name], train
