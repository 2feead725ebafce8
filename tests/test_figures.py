"""Tables of measured numbers on pages have the command that makes them, directly before or after them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS, FENCE

NUMBER = re.compile(r"\d\.\d|±|\d ?%")
LINE = re.compile(r"^Command: .*`|^(\$ .*)?\b(python|secateur|make) ", re.MULTILINE)
COMMAND = re.compile(rf"{LINE.pattern}|`(python benchmarks/|secateur )", re.MULTILINE)
BLOCK = re.compile(
    r"^```.*?^```$|^<!-- ([^\n]+) -->\n.*?^<!-- end of \1 -->$|^(?:(?!```)[^\n]+\n?)+",
    re.DOTALL | re.MULTILINE,
)
"""A fence, a generated part, or a paragraph."""
COMMENT = re.compile(r"<!--[^\n]*-->")
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


def lacking(section: str) -> Iterator[str]:
    """Heads of a section's measured tables without a command in the block before or after, or in a `Command:` line or
    console block before the next table.

    Tables that one command writes, between `<!-- name -->` and `<!-- end of name -->`, are one block; tables without
    text between them have one command.
    """
    blocks = [found[0].strip() for found in BLOCK.finditer(section) if not COMMENT.fullmatch(found[0].strip())]
    tables = [bool(re.search(r"^\|", FENCE.sub("", block), re.MULTILINE)) for block in blocks]
    for at, block in enumerate(blocks):
        if tables[at]:
            first = next(one for one in range(at, -1, -1) if one == 0 or not tables[one - 1])
            last = next(one for one in range(at + 1, len(blocks) + 1) if one == len(blocks) or not tables[one])
            end = next((one for one in range(last, len(blocks)) if tables[one]), len(blocks))
            near = blocks[max(first - 1, 0) : min(last + 1, end)]
            if not any(map(COMMAND.search, near)) and not any(map(LINE.search, blocks[last:end])):
                yield from measured(block)


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
    heads = [head for section in sections(page.read_text()) for head in lacking(section)]
    assert not [head for head in heads if (page.name, head) not in BOUNDS]


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
    command = "Command: `secateur run digits`\n"
    for text, heads in [
        (table, 1),
        (f"{table}\n{command}", 0),
        (f"{table}\nText.\n\n{command}", 0),
        (f"{command}\n{table}", 0),
        (f"{command}\nText.\n\n{table}", 1),
        (f"{table}\n{table[5:]}\n{command}", 0),
        (f"{table}\nText.\n\n{table[5:]}\n{command}", 1),
        (f"<!-- x -->\n{table[5:]}\n{table[5:]}<!-- end of x -->\n\n{command}", 0),
        (f"```console\n$ secateur run digits\n```\n\n<!-- x -->\n{table[5:]}\n<!-- end of x -->\n", 0),
    ]:
        assert len(list(lacking(text))) == heads, text
    assert [len(list(measured(part))) for part in sections(f"x\n{table}## B\n```\n# c\n```\n{table}")] == [0, 1, 0, 1]
    assert sum(len(list(measured(part))) for page in DOCUMENTS for part in sections(page.read_text())) > 40
