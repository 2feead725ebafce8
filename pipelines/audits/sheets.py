"""Rows for people to check in another program: suspicious labels, and pairs that may be copies, with their contents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.audits.auditing import Audited
from secateur.pipelines.audits.marking import MARKED
from secateur.pipelines.files.shown_text import visible

MOST = 2000
"""Most rows of one kind for a program."""
COPY, OTHER = "copies", "not copies"
"""Answers to the question about a pair."""


@dataclass(frozen=True)
class Held:
    """The contents of a row for a program: a text, or the bytes of a picture with the ending of its file."""

    text: str = ""
    picture: bytes = b""
    ending: str = ""


@dataclass(frozen=True)
class Item:
    """A row to check, or a pair: its place, its contents, its given and its suggested label."""

    finding: str
    facts: dict[str, Any]
    """Columns of the table of findings that are not empty: `split`, `file`, `row`, `other_row`, …"""
    held: Held
    other: Held | None
    given: list[str]
    suggested: list[str]
    score: float | None
    drawn: bool

    @property
    def name(self) -> str:
        """A name, unique in its list and usable for a file; `at` is a number, as a benchmark's name is a path."""
        other = self.facts.get("other_at")
        pair = "" if other is None else f"-{other}"
        words = "-".join(re.findall(r"\w+", f"{self.finding} {self.facts['split']}", re.ASCII))
        return f"{words}-{self.facts['at']}{pair}"


@dataclass(frozen=True)
class Sheets:
    """The data for another program."""

    name: str
    kind: str
    """`text`, `image` or `features`."""
    labels: Sequence[str]
    """Names of classes or labels; none where targets are numbers."""
    several: bool
    """Whether a row may have several labels."""
    suspects: Sequence[Item]
    pairs: Sequence[Item]


def sheets_of(audit: Audited) -> Sheets:
    """Rows with suspicious labels, and pairs, those that were drawn for marking first."""
    rows = audit.rows
    lines = audit.lines.filter(pl.col("finding").is_in(MARKED)).with_row_index("place")
    lines = lines.sort("to_mark", "place", descending=[True, False], maintain_order=True)
    pairs = lines.filter(pl.col("other_at").is_not_null()).group_by("finding", "split", maintain_order=True).head(MOST)
    suspects = lines.filter(pl.col("finding") == "wrong labels").head(MOST)
    classes = rows.task is not None and rows.task.target != "numbers"
    return Sheets(
        name=rows.name,
        kind=rows.kind,
        labels=rows.label_names if classes else (),
        several=rows.task is not None and rows.task.target == "labels",
        suspects=list(items(audit, suspects)),
        pairs=list(items(audit, pairs)),
    )


def items(audit: Audited, lines: pl.DataFrame) -> Iterator[Item]:
    """The rows of some lines."""
    labels = audit.rows.label_names if audit.rows.task is not None and audit.rows.task.target == "labels" else None
    mine = held(audit, lines["at"].to_numpy().astype(np.int64))
    others = lines["other_at"].to_list()
    theirs = iter(held(audit, np.array([row for row in others if row is not None], np.int64)))
    for line, own in zip(lines.iter_rows(named=True), mine, strict=True):
        facts = {name: value for name, value in line.items() if value is not None and name not in OWN}
        yield Item(
            finding=line["finding"],
            facts=facts,
            held=own,
            other=None if line["other_at"] is None else next(theirs),
            given=names_in(line["given"], labels),
            suggested=names_in(line["suggested"], labels),
            score=line["score"],
            drawn=bool(line["to_mark"]),
        )


OWN = ("text", "other_text", "given", "suggested", "to_mark", "score", "place", "importance", "count", "finding")
"""Columns that an item has by another name, or does not need."""


def names_in(shown: str | None, labels: Sequence[str] | None) -> list[str]:
    """A label from the table; for several `labels` the row's own, one by one, as their names may hold commas."""
    if not shown or labels is None:
        return [shown] if shown else []
    pieces, found, start = shown.split(", "), list[str](), 0
    while start < len(pieces):
        ends = (end for end in range(len(pieces), start, -1) if ", ".join(pieces[start:end]) in labels)
        end = next(ends, 0)
        if end:
            found.append(", ".join(pieces[start:end]))
        start = max(end, start + 1)
    return found


def held(audit: Audited, rows: np.ndarray) -> list[Held]:
    """Contents of rows: texts whole, pictures encoded."""
    found = audit.rows.held(rows)
    if audit.rows.kind == "text":
        return [Held(text=visible(one or "")) for one in found]
    if audit.rows.kind == "features":
        return [Held(text=", ".join(f"{name}={value}" for name, value in one.items())) for one in found]
    return [picture(one) for one in found]


def picture(cell: Any) -> Held:
    """A picture in its own encoding, or as PNG where browsers do not know its format; empty for a missing one."""
    import io

    from secateur.trainers.modalities.decoding import decode_image, image_or_fault

    content = (cell or {}).get("bytes")
    path = (cell or {}).get("path")
    if content is None and path and Path(path).is_file():
        content = Path(path).read_bytes()
    for start, ending in ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif")):
        if content and content.startswith(start):
            return Held(picture=content, ending=ending)
    if content is None or isinstance(image_or_fault(cell), str):
        return Held()
    target = io.BytesIO()
    decoded = decode_image(cell)
    assert decoded is not None
    decoded.convert("RGB" if decoded.mode != "L" else "L").save(target, "png")
    return Held(picture=target.getvalue(), ending="png")
