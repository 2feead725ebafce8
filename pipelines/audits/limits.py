"""Limits of an audit, for jobs that fail where data have become worse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from secateur.pipelines.audits.auditing import Audited

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


def exceeded(audit: Audited, limits: Mapping[str, Limit]) -> list[str]:
    """A sentence for each limit, by `leaks`, `duplicates`, `conflicts` or `wrong_labels`, that an audit exceeds, or
    whose number it does not know."""
    told = []
    for name, limit in limits.items():
        count, of = counted(audit, name)
        if count is None:
            told.append(f"how many {name.replace('_', ' ')} there are is not known: {audit.unlooked or 'see reason'}")
            continue
        if not limit.allows(count, of):
            words = name.replace("_", " ")
            told.append(f"{count:,.0f} {words} of {of:,} rows exceed the limit of {limit}")
    return told


def counted(audit: Audited, name: str) -> tuple[float | None, int]:
    """How much was found, and of how many rows."""
    train = len(audit.rows.splits[0])
    counts: dict[str, tuple[float | None, int]] = {
        "leaks": (float(audit.leaks), len(audit.rows) - train),
        "duplicates": (float(audit.duplicates), train),
        "conflicts": (float(audit.conflicts), train),
        "wrong_labels": (audit.wrong_labels, train),
    }
    return counts[name]
