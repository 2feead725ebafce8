"""The page of an audit: what was found, what it means, pairs side by side, and twenty of each kind to be marked."""

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
"""Pairs of a finding beside those that are drawn, groups of one, rows of a group, and labels that the page shows."""
LONGEST, SHORT = 1500, 240
"""Characters of a text that the page embeds, and that stand there before somebody opens it."""
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
"""Findings that are shown with their rows, and the title of each."""
ASKED = {
    **{f"{kind}{by}": "Is it a copy?" for kind in NEAR for by in ("", BY_EMBEDDINGS)},
    "wrong labels": "Is the given label wrong?",
}
"""The question about a row that was drawn, by kind."""


@dataclass(frozen=True)
class Side:
    """A row as the page shows it."""

    place: str
    given: str
    text: str = ""
    source: str = ""
    """A picture as an address that is the picture itself."""

    @property
    def short(self) -> str:
        """The text's beginning."""
        return one_line(self.text, SHORT)


@dataclass(frozen=True)
class Shown:
    """A row, alone or beside another, and what is said of it."""

    left: Side
    right: Side | None
    line: Mapping[str, Any]
    """Of the table of findings."""

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
    """Copies of each other, the row that would stay first, `count` in all."""

    number: int
    count: int
    rows: Sequence[Shown]


@dataclass(frozen=True)
class Section:
    """Rows of one finding: those to be marked, others, or groups."""

    name: str
    kind: str
    title: str
    text: str
    ask: str
    drawn: Sequence[Shown] = ()
    others: Sequence[Shown] = ()
    groups: Sequence[Group] = ()
    more: int = 0
    """Groups or rows that the tables hold and the page does not."""


@dataclass(frozen=True)
class AuditPage:
    """All that the page says."""

    audit: Audited
    precisions: Sequence[Precision] = ()
    samples: bool = True
    command: str = "secateur audit … --marks marks.csv"
    """How marks are read."""
    sides: dict[int, Side] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What was audited."""
        return self.audit.rows.name

    @property
    def verdict(self) -> str:
        """How much was found, in a sentence."""
        count = len(self.audit.findings)
        sizes = ", ".join(f"{size:,} of {name}" for name, size in self.audit.sizes.items())
        return f"{count or 'No'} finding{'' if count == 1 else 's'} in rows: {sizes}."

    @property
    def meaning(self) -> list[str]:
        """What copies mean, how many findings are right, and why labels were not looked at, in sentences."""
        told = [*self.audit.meaning, *(one.sentence for one in self.precisions)]
        why = self.audit.unlooked
        return [*told, f"Labels were not looked at: {why}"] if why else told

    @cached_property
    def sections(self) -> list[Section]:
        """Findings with their rows, in their order."""
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
        """Lines as the page shows them."""
        wanted = [*lines["at"].to_list(), *lines["other_at"].drop_nulls().to_list()]
        self.look(np.unique([row for row in wanted if row not in self.sides]).astype(np.int64))
        return [
            Shown(self.sides[line["at"]], None if line["other_at"] is None else self.sides[line["other_at"]], line)
            for line in lines.iter_rows(named=True)
        ]

    def look(self, rows: np.ndarray) -> None:
        """Remember what rows hold."""
        audited = self.audit.rows
        given = audited.given(rows)
        held = audited.held(rows) if self.samples else [None] * len(rows)
        for place, row in enumerate(audited.at(rows).iter_rows(named=True)):
            where = row.get("path") or f"{row['file']}: {row['row']}"
            side = Side(f"{row['part']}, {where}", one_line(given[place]), *view(audited.kind, held[place]))
            self.sides[int(rows[place])] = side

    @property
    def measures(self) -> Table:
        """How copies were told, by measure."""
        lines = [[each.measure, f"{each.threshold:.3g}", each.reason] for each in self.audit.copies.measures]
        return [["measure", "from a similarity of", "why"], *lines]

    @property
    def embedded(self) -> int:
        """Samples that the page shows."""
        return sum(bool(side.text or side.source) for side in self.sides.values())

    def html(self) -> str:
        """The page, which needs no other file and asks nothing of any host."""
        sections = self.sections  # which look at rows
        template = templates(keys=keys_of).get_template("audit.html.jinja")
        return template.render(page=self, sections=sections, marked=MARKED, policy=POLICY, library=library())


def view(kind: str, held: Any) -> Iterator[str]:
    """A text and a picture of what a row holds; one of them is empty."""
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
    """What a mark of a row is kept by, as a CSV of marks has it."""
    from secateur.pipelines.audits.marking import KEYS

    return ["" if line[name] is None else str(line[name]) for name in KEYS]
