"""Cells of a table on a page: their sort keys and colours."""

import re
from dataclasses import dataclass

from secateur.pipelines.pages.words import LOST, Table

NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell of a table on the page: its text, its numeric sort key, if any, and its colour."""

    text: str
    order: str = ""
    mood: str = ""
    """good, bad, or empty."""


def cells(table: Table) -> list[list[Cell]]:
    """Cells of a table without its header. A column with numbers in at least half of its non-empty cells sorts by the
    first number of each cell.
    """
    _, *lines = table
    columns = [[NUMBER.search(cell) for cell in column] for column in zip(*lines, strict=True)]
    filled = [[cell for cell in column if cell] for column in zip(*lines, strict=True)]
    numbers = [2 * sum(map(bool, found)) >= max(1, len(texts)) for found, texts in zip(columns, filled, strict=True)]
    return [
        [
            Cell(text, found[0].replace(",", "") if found and number else "", mood_of(text))
            for text, found, number in zip(line, matches, numbers, strict=True)
        ]
        for line, matches in zip(lines, zip(*columns, strict=True), strict=True)
    ]


def mood_of(text: str) -> str:
    """The colour of a cell, by whether it reports a better or worse result."""
    return "good" if text.startswith(("better", "shown")) else "bad" if text.startswith(("worse", LOST)) else ""


def numeric(table: Table) -> list[bool]:
    """Whether each column sorts by numbers at the start of its cells, and is therefore right-aligned."""
    columns = zip(*cells(table), strict=True) if len(table) > 1 else [()] * len(table[0])
    return [
        any(cell.order for cell in column)
        and all(NUMBER.match(cell.text.lstrip(f"{LOST} ")) for cell in column if cell.order)
        for column in columns
    ]
