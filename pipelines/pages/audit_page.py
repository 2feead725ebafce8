"""The page of an audit: findings, their meaning, pairs side by side, and twenty rows of each kind to mark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.audits.auditing import Audited
from secateur.pipelines.audits.listed import BY_EMBEDDINGS
from secateur.pipelines.audits.marking import MARKED, NEAR, Precision
from secateur.pipelines.files.data_uris import data_uri
from secateur.pipelines.files.shown_text import one_line, visible
from secateur.pipelines.pages.extremes import encoded
from secateur.pipelines.pages.inlined import POLICY, library
from secateur.pipelines.pages.templates import templates
from secateur.pipelines.pages.words import Table

PAIRS, GROUPS, ROWS, LABELS = 10, 10, 10, 60
"""Limits of the page: pairs of a finding beyond the drawn ones, groups of a finding, rows of a group, and labels."""
LONGEST, SHORT = 1500, 240
"""Characters of an embedded text, and of its preview before a click."""
KINDS = {
    "leaked": "Test rows and benchmarks that training has",
    "near leaked": "Rows nearly the same as a row of training",
    "near leaked by embeddings": "Rows nearly the same as a row of training, by embeddings alone",
    "duplicates": "Equal rows",
    "near duplicates": "Near copies",
    "near duplicates by embeddings": "Near copies by embeddings alone",
    "shared": "Rows that two parts beside training have",
    "near shared": "Rows nearly the same in two parts beside training",
    "near shared by embeddings": "Rows nearly the same in two parts beside training, by embeddings alone",
    "conflicts": "Equal inputs with other labels",
    "wrong labels": "Labels to look at",
}
"""Findings that the page shows with their rows, and the title of each."""
ASKED = {
    **{f"{kind}{by}": "Is it a copy?" for kind in NEAR for by in ("", BY_EMBEDDINGS)},
    "wrong labels": "Is the given label wrong?",
}
"""The question about a drawn row, by kind."""


@dataclass(frozen=True)
class Side:
    """A row on the page."""

    place: str
    given: str
    text: str = ""
    source: str = ""
    """A picture as a data URI."""

    @property
    def short(self) -> str:
        """The beginning of the text."""
        return one_line(self.text, SHORT)


@dataclass(frozen=True)
class Shown:
    """A row, alone or beside another, and its facts."""

    left: Side
    right: Side | None
    line: Mapping[str, Any]
    """The row's line in the table of findings."""

    @property
    def facts(self) -> str:
        """Similarity and measure, in words."""
        alike, measure = self.line["similarity"], self.line["measure"]
        if alike is None:
            return ""
        shown = "over 0.999" if f"{alike:.3f}" == "1.000" and alike < 1 else f"{alike:.3f}"
        return f"similarity {shown}" + (f" by {measure}" if measure else "")


@dataclass(frozen=True)
class Group:
    """Copies of each other, starting with the row to keep; `count` is the size of the whole group."""

    number: int
    count: int
    rows: Sequence[Shown]


@dataclass(frozen=True)
class Section:
    """Rows of one finding: those to mark, others, or groups."""

    name: str
    kind: str
    title: str
    text: str
    ask: str
    drawn: Sequence[Shown] = ()
    others: Sequence[Shown] = ()
    groups: Sequence[Group] = ()
    more: int = 0
    """Groups or rows that only the tables hold."""


@dataclass(frozen=True)
class AuditPage:
    """The content of the page."""

    audit: Audited
    precisions: Sequence[Precision] = ()
    samples: bool = True
    command: str = "secateur audit … --marks marks.csv"
    """The command that reads marks."""
    sides: dict[int, Side] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the audited data."""
        return self.audit.rows.name

    @property
    def verdict(self) -> str:
        """The number of findings, in a sentence."""
        count = len(self.audit.findings)
        sizes = ", ".join(f"{size:,} of {name}" for name, size in self.audit.sizes.items())
        return f"{count or 'No'} finding{'' if count == 1 else 's'} in rows: {sizes}."

    @property
    def meaning(self) -> list[str]:
        """Sentences on the meaning of copies, the precision of findings, and a reason for unchecked labels."""
        told = [*self.audit.meaning, *(one.sentence for one in self.precisions)]
        why = self.audit.unlooked
        return [*told, f"Labels were not looked at: {why}"] if why else told

    @cached_property
    def sections(self) -> list[Section]:
        """Findings with their rows, in order."""
        lines = self.audit.lines
        found = [one for one in self.audit.findings if one["kind"] in KINDS]
        return [
            self.section(one, lines.filter(pl.col("importance") == one["importance"]), f"rows-{place}")
            for place, one in enumerate(found)
        ]

    def section(self, finding: Mapping[str, Any], lines: pl.DataFrame, name: str) -> Section:
        """One finding with its rows."""
        kind = finding["kind"]
        told: dict[str, Any] = {
            "name": name, "kind": kind, "title": f"{KINDS[kind]} ({finding['split']})", "text": finding["text"],
            "ask": ASKED.get(kind, "Is it so?"),
        }  # fmt: skip
        drawn = self.shown(lines.filter("to_mark"))
        if lines["group"].null_count() < len(lines):
            few = lines.filter(pl.col("group") <= GROUPS)
            groups = [
                Group(int(part["group"][0]), int(part["group_rows"][0]), self.shown(part.head(ROWS)))
                for part in few.partition_by("group", maintain_order=True)
            ]
            return Section(**told, drawn=drawn, groups=groups, more=max(0, finding["group_count"] - GROUPS))
        rest = lines.filter(~pl.col("to_mark"))
        count = LABELS if kind == "wrong labels" else PAIRS
        others = self.shown(rest.head(count))
        return Section(**told, drawn=drawn, others=others, more=finding["count"] - len(drawn) - len(others))

    def shown(self, lines: pl.DataFrame) -> list[Shown]:
        """Rows of the page for lines of the table."""
        wanted = [*lines["at"].to_list(), *lines["other_at"].drop_nulls().to_list()]
        self.look(np.unique([row for row in wanted if row not in self.sides]).astype(np.int64))
        return [
            Shown(self.sides[line["at"]], None if line["other_at"] is None else self.sides[line["other_at"]], line)
            for line in lines.iter_rows(named=True)
        ]

    def look(self, rows: np.ndarray) -> None:
        """Load rows into `sides`."""
        audited = self.audit.rows
        given = audited.given(rows)
        held = audited.held(rows) if self.samples else [None] * len(rows)
        for place, row in enumerate(audited.at(rows).iter_rows(named=True)):
            where = row.get("path") or f"{row['file']}: {row['row']}"
            side = Side(f"{row['part']}, {where}", one_line(given[place]), *view(audited.kind, held[place]))
            self.sides[int(rows[place])] = side

    @property
    def measures(self) -> Table:
        """Thresholds of copies, by measure."""
        lines = [[each.measure, f"{each.threshold:.3g}", each.reason] for each in self.audit.copies.measures]
        return [["measure", "from a similarity of", "why"], *lines]

    @property
    def embedded(self) -> int:
        """Number of samples on the page."""
        return sum(bool(side.text or side.source) for side in self.sides.values())

    def html(self) -> str:
        """The page, which needs no other file and sends no request."""
        sections = self.sections  # this loads the rows
        template = templates(keys=keys_of).get_template("audit.html.jinja")
        return template.render(page=self, sections=sections, marked=MARKED, policy=POLICY, library=library())


def view(kind: str, held: Any) -> Iterator[str]:
    """A text and a picture of a row's content; one of them is empty."""
    if held is None:
        yield from ("", "")
    elif kind == "image":
        from secateur.trainers.modalities.decoding import image_or_fault

        found = image_or_fault(held)
        yield from ("", "") if isinstance(found, str) else ("", data_uri(encoded(found.convert("RGB"))))
    elif kind == "features":
        yield from (visible(", ".join(f"{name}={value}" for name, value in held.items()))[:LONGEST], "")
    else:
        yield from (visible(held)[:LONGEST], "")


def keys_of(line: Mapping[str, Any]) -> list[str]:
    """The keys of a row's mark, as in a CSV of marks."""
    from secateur.pipelines.audits.marking import KEYS

    return ["" if line[name] is None else str(line[name]) for name in KEYS]
