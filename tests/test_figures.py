"""Tables of measured numbers on pages have the command that makes them, in their own section."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS, FENCE

NUMBER = re.compile(r"\d\.\d|±|\d ?%")
COMMAND = re.compile(r"^Command: .*`|^(\$ .*)?\b(python|secateur|make) |`(python benchmarks/|secateur )", re.MULTILINE)
BELOW_ZERO = re.compile(r"[−-]0\.0+\b(?!\.)")  # noqa: RUF001
BOUNDS = {("data.md", "| step | holds |")}
"""Tables of limits that the code sets, which nobody measured."""


def sections(text: str) -> Iterator[str]:
    """Parts of a page between headings; a `#` in a block of code is none."""
    part: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            yield "\n".join(part)
            part = []
        part.append(line)
    yield "\n".join(part)


def measured(section: str) -> Iterator[str]:
    """The heads of its tables in which a quarter of the cells, and four at least, are measured numbers."""
    plain = re.sub(r"^```.*?^```", "", section, flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n?)+", plain, re.MULTILINE):
        head, *rows = table.splitlines()
        cells = [cell for row in rows[1:] for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        numbers = sum(bool(NUMBER.search(cell)) and "`" not in cell for cell in cells)
        if numbers >= 4 and 4 * numbers > len(cells):
            yield head


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_tables_of_measured_numbers_have_a_command(page: Path) -> None:
    lacking = [
        head
        for section in sections(page.read_text())
        for head in measured(section)
        if (page.name, head) not in BOUNDS and not COMMAND.search(section)
    ]
    assert not lacking


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_zero_has_no_minus_sign(page: Path) -> None:
    """A difference that rounds to zero from below is 0.0."""
    assert not BELOW_ZERO.findall(FENCE.sub("", page.read_text()))


def test_a_zero_with_a_minus_sign_is_found() -> None:
    assert len(BELOW_ZERO.findall("| −0.0 | -0.00 ± 0.1 |")) == 2  # noqa: RUF001
    assert not BELOW_ZERO.search("| −0.04 | 0.0 | +0.0 | alpha-0.0.1 |")  # noqa: RUF001


def test_tables_without_a_command_are_found() -> None:
    table = "## A\n| arm | % |\n|---|---|\n| a | 1.0 ± 0.2 |\n| b | 2.5 |\n| c | 3% |\n| d | 4.1 |\n"
    assert list(measured(table)) == ["| arm | % |"]
    assert not COMMAND.search(table)
    assert COMMAND.search(f"{table}\nCommand: `secateur run digits`\n")
    assert [len(list(measured(part))) for part in sections(f"x\n{table}## B\n```\n# c\n```\n{table}")] == [0, 1, 0, 1]
    assert sum(len(list(measured(part))) for page in DOCUMENTS for part in sections(page.read_text())) > 40
