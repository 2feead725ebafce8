"""Cells of a table on a page: what they are sorted by, and how they are coloured."""

import re
from dataclasses import dataclass

from secateur.pipelines.pages.words import LOST, Table

NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell of a table on the page: its text, the number that it is sorted by, if any, and how it is coloured."""

    text: str
    order: str = ""
    mood: str = ""
    """good, bad, or nothing."""


def cells(table: Table) -> list[list[Cell]]:
    """Lines of a table below its header. Where at least half of a column's cells hold a number, the first one in each
    is what the column is sorted by.
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
    """Whether a cell says that something did better or worse."""
    return "good" if text.startswith(("better", "shown")) else "bad" if text.startswith(("worse", LOST)) else ""


def numeric(table: Table) -> list[bool]:
    """Which columns are sorted by the numbers that their cells begin with, and so are written to the right."""
    columns = zip(*cells(table), strict=True) if len(table) > 1 else [()] * len(table[0])
    return [
        any(cell.order for cell in column)
        and all(NUMBER.match(cell.text.lstrip(f"{LOST} ")) for cell in column if cell.order)
        for column in columns
    ]
