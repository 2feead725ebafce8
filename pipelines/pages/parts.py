"""The parts of a report's page, in the order of their questions: each has sentences, pictures and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secateur.pipelines.files.shown_text import in_markdown
from secateur.pipelines.pages.groups import Grouped
from secateur.pipelines.pages.plots import inline
from secateur.pipelines.pages.suspects import Suspects
from secateur.pipelines.pages.words import Table, as_text, text_table


@dataclass(frozen=True)
class Part:
    """A part of the page, which omits empty ones; `name` is the fragment of its links."""

    name: str
    title: str
    sentences: Sequence[str] = ()
    link: tuple[str, str] = ("", "")
    """Relative path of another page, and its title; empty without one."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """SVG by name."""
    narrow: Mapping[str, bytes] = field(default_factory=dict)
    """Variants for narrow screens of some of the pictures."""
    tables: Sequence[tuple[str, Table]] = ()
    """Captions and tables."""
    findings: Sequence[Mapping[str, Any]] = ()
    groups: Grouped = field(default_factory=Grouped)
    """Groups of the findings."""
    suspects: Suspects | None = None
    folded: bool = False
    """Whether it is collapsed until a click."""

    def __bool__(self) -> bool:
        """Whether the part has content."""
        full = any(len(table) > 1 for _, table in self.tables)
        return bool(self.pictures or self.findings or full or self.suspects or self.sentences)

    def markdown(self, *, inside: bool) -> str:
        """The part as Markdown without HTML; pictures are inline, or files beside it."""
        blocks = [f"## {self.title}"]
        blocks += [as_text(text) for text in self.sentences]
        if self.link[0] and not inside:
            blocks += [f"[{as_text(self.link[1])}]({self.link[0]})"]
        blocks += [inline(svg, name) if inside else f"![{name}](<{name}.svg>)" for name, svg in self.pictures.items()]
        listed = [f"{place}. {in_markdown(each['text'])}" for place, each in enumerate(self.findings, start=1)]
        blocks += ["\n".join(listed)] if listed else []
        for caption, table in self.tables:
            if len(table) > 1:
                blocks += [f"**{as_text(caption)}**", text_table(table)]
        if self.suspects:
            blocks += [text_table(suspects_table(self.suspects))]
        return "\n\n".join(blocks)


def suspects_table(suspects: Suspects) -> Table:
    """Places, targets and scores of the samples to inspect."""
    names = list(suspects.listed[0].scores)
    lines = [
        [one.place, one.given, predicted_text(one.predicted, one.certainty), *(f"{one.scores[n]:.4g}" for n in names)]
        for one in suspects.listed
    ]
    return [["row", "given", "predicted", *names], *lines]


def predicted_text(predicted: str, certainty: float | None) -> str:
    """A prediction with its certainty."""
    return predicted if certainty is None else f"{predicted} ({certainty:.0%})"
