"""Limits of an audit, for jobs that should fail when the data get worse."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SHARE = re.compile(r"(?P<percent>\d+(\.\d+)?)%|(?P<share>\d*\.\d+)")


@dataclass(frozen=True)
class Limit:
    """The largest allowed number of rows, or share of the audited rows; for rows with several labels, of entries, which
    are a row's labels, there or not there."""

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
        """Whether `count` of `of` rows is within the limit."""
        return count <= self.rows if self.rows is not None else count <= (self.share or 0.0) * of

    def said(self, one: str, several: str) -> str:
        """The limit in words, for rows or another unit, called `one` and `several`."""
        if self.rows is None:
            return f"{self.share:.2%} of the {several}"
        return f"{self.rows:,} {one if self.rows == 1 else several}"


BESIDE = ("test", "target")
"""Parts beside training that are not benchmarks."""
WORDS = {
    "leaks": "leak", "overlap": "overlapping text", "duplicates": "duplicate", "conflicts": "conflicting row",
    "wrong_labels": "wrong label",
}  # fmt: skip
"""The unit of each limit, in the singular."""
LACKING = {
    "leaks": "nothing stands beside the training rows that they could leak into (--test, --target or --against)",
    "overlap": "there is no benchmark that training could overlap (--against)",
    "conflicts": "no column of labels is known that could conflict (--label)",
    "wrong_labels": "no column of labels is known that could be wrong (--label)",
}
"""Reason why a limit has nothing to count, by its name."""


def refuse_unmet(limits: Mapping[str, Limit], parts: Iterable[str], *, labelled: bool) -> None:
    """Raise ValueError for a limit that an audit of these parts, by name, cannot check."""
    beside = [name for name in parts if name != "train"]
    met = {
        "leaks": bool(beside), "overlap": any(name not in BESIDE for name in beside), "conflicts": labelled,
        "wrong_labels": labelled,
    }  # fmt: skip
    for name in limits:
        if not met.get(name, True):
            raise ValueError(f"{option_of(name)}: {LACKING[name]}; name it, or leave the limit out")


def option_of(name: str) -> str:
    """The option of a limit."""
    return f"--max-{name.replace('_', '-')}"


def exceeded(answer: Mapping[str, Any], limits: Mapping[str, Limit]) -> list[str]:
    """A sentence for each limit (`leaks`, `overlap`, `duplicates`, `conflicts` or `wrong_labels`) that an audit
    exceeds, or whose number is unknown; `answer` is the audit's `content`.

    A share holds for each part by itself: clean rows of one benchmark do not offset leaks of another.
    """
    told = []
    for name, limit in limits.items():
        parts = counted(answer, name)
        words = name.replace("_", " ")
        if parts is None and name == "overlap":
            told.append("overlap was not looked at: it is counted in texts, and not with --exact")
        elif parts is None:
            why = answer["labels_not_looked_at"] or answer["wrong_labels"]["train"]["reason"]
            told.append(f"how many {words} there are is not known: {why}")
        else:
            if limit.rows is not None:
                parts = {"": (sum(count for count, _ in parts.values()), sum(of for _, of in parts.values()))}
            entries = name == "wrong_labels" and entries_in(answer) is not None
            too_many = {part: some for part, some in parts.items() if not limit.allows(*some)}
            told += [over(name, part, *some, limit, entries=entries) for part, some in too_many.items()]
    return told


def over(name: str, part: str, count: float, of: int, limit: Limit, *, entries: bool = False) -> str:
    """The sentence for a limit that a part, or all parts together, exceed."""
    one = f"{count:,.0f}" == "1"
    found = f"1 {WORDS[name]}" if one else f"{count:,.0f} {WORDS[name]}s"
    units = ("entry", "entries") if entries else ("row", "rows")
    return f"{found} of {of:,}{part and f' {part}'} {units[1]} exceed{'s' * one} the limit of {limit.said(*units)}"


def entries_in(answer: Mapping[str, Any]) -> int | None:
    """Number of entries that wrong labels are counted in; None where they are counted in rows."""
    found: int | None = (answer["wrong_labels"].get("train") or {}).get("entries")
    return found


def counted(answer: Mapping[str, Any], name: str) -> dict[str, tuple[float, int]] | None:
    """The count and the number of rows, or entries, of each part; None if unknown."""
    sizes = dict(answer["rows"])
    train, beside = sizes["train"], [part for part in sizes if part != "train"]
    if name == "leaks":
        return {part: (answer["leaks_by_part"][part], sizes[part]) for part in beside}
    if name == "overlap":
        # Not of test rows and targets: short texts of one subject share half their words by chance.
        known = answer["contamination"]
        rows = [part for part in beside if part not in BESIDE]
        return {part: (known[part]["overlap_13"], sizes[part]) for part in rows} if known else None
    if name == "wrong_labels":
        labels = answer["wrong_labels"].get("train")
        of = entries_in(answer) or train
        return {"train": (labels["count"], of)} if labels and labels["count"] is not None else None
    return {"train": (answer[name], train)}
