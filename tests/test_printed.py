"""What pages show as printed is printed: each block names its command, and tests run it and compare.

In a block a line `…` stands for any lines, and … within a line for any text, such as seconds.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from documents import DOCUMENTS, FENCE, FOLLOWED, ROOT, alike, calls_on, printed_on, python, shell

TUTORIAL = ROOT / "docs" / "tutorial.md"
CLI = ROOT / "docs" / "cli.md"
MADE = {
    ("tutorial.md", "init pictures"),
    ("tutorial.md", "run pictures"),
    ("tutorial.md", "explain .secateur/assets/pictures"),
    ("tutorial.md", "diff .secateur/assets/pictures"),
    ("README.md", "run digits"),
    ("cli.md", "init train.csv"),
    ("cli.md", "run digits --dry-run"),
    ("cli.md", "explain .secateur/assets/digits"),
    ("cli.md", "diff .secateur/assets/digits"),
    ("select.md", "select prompts.parquet"),
    ("figures-data.md", "run adult"),
}
"""Pages and the beginnings of commands whose output is compared below."""
OF_OTHER_DATA = {
    ("cli.md", "verify --home"): "of a damaged home: test_stored_files.py damages one and compares",
    ("cli.md", "clean"): "of a study with less in it: test_stored_files.py removes that and compares",
    ("audit.md", "audit tickets.csv"): "of a reader's file: test_audit*.py",
    ("prune-hub.md", "init user/name"): "of a hub: test_howto.py compares it at night",
}
"""The same of commands that nobody runs here, and the reason."""
OF_NO_COMMAND = {
    ("cli.md", "blobs/scores/el2n is older than"): "the error of a step in the UI: test_stored_rows.py compares it",
    ("audit-copies.md", "similarity of 0.346"): "an attribute in Python: compared below",
}
"""Beginnings of ```text blocks, which name no command, and the reason."""


def output_of(page: Path, beginning: str) -> tuple[str, str]:
    """The one command of a page that begins so, and its output."""
    ((command, output),) = [each for each in printed_on(page) if each[0].startswith(beginning)]
    return command, output


def compare(page: Path, beginning: str, folder: Path, *, code: int = 0, where: str = "stdout") -> None:
    """Run a command of a page as the page has it, and hold what it prints to the page."""
    command, shown = output_of(page, beginning)
    done = shell(folder, *command.split())
    assert done.returncode == code, done.stderr
    printed = done.stdout if where == "stdout" else done.stderr.splitlines()[-1]  # stages come before
    printed = printed.replace(f"{folder}/", "")
    assert alike(shown, printed), f"{page.name}: `secateur {command}` prints\n{printed}"


def test_every_output_names_its_command_and_is_compared() -> None:
    """A block without a language may be a drawing of folders alone."""
    known = MADE | OF_OTHER_DATA.keys()
    pages = [page for page in DOCUMENTS if page.name not in FOLLOWED]  # those are compared whole in test_howto.py
    found = {(page.name, command) for page in pages for command, _ in printed_on(page)}
    assert not [
        (name, command)
        for name, command in found
        if not any(name == page and command.startswith(beginning) for page, beginning in known)
    ], "compare these here, or say why not"
    assert not [
        (page, beginning)
        for page, beginning in known
        if not any(name == page and command.startswith(beginning) for name, command in found)
    ], "no page shows these"
    texts = {(page.name, text) for page in DOCUMENTS for language, _, text in FENCE.findall(page.read_text())
             if language == "text"}  # fmt: skip
    assert not [
        (name, text)
        for name, text in texts
        if not any(name == page and text.startswith(beginning) for page, beginning in OF_NO_COMMAND)
    ], "name the command that prints it in a ```console block, or say why not"
    assert len(texts) == len(OF_NO_COMMAND), "no page shows one of these"
    bare = {page.name for page in DOCUMENTS if re.search(r"\n\n```\n(?!\S*/|secateur )", page.read_text())}
    assert not bare, "say in the block which command printed it: ```console"


def test_blocks_are_compared_line_by_line() -> None:
    shown = "one 1\n…\nthree … seconds\n"
    assert alike(shown, "one 1\ntwo\ntwo again\nthree 3.5 seconds\n")
    assert alike(shown, "one 1\nthree 3.5 seconds\n")
    assert not alike(shown, "one 1\ntwo\nthree 3.5 minutes\n")
    assert not alike(shown, "one 2\nthree 3 seconds\n")
    assert not alike(shown, "one 1\nthree 3 seconds\nfour\n")


def test_selecting_from_a_file_prints_what_the_page_shows(tmp_path: Path) -> None:
    texts, rates = [f"prompt {row}" for row in range(1000)], [row / 1000 for row in range(1000)]
    rows = pl.DataFrame({"prompt": texts, "pass_rate": rates})
    rows.write_parquet(tmp_path / "prompts.parquet")
    compare(ROOT / "docs" / "select.md", "select prompts.parquet", tmp_path)
    assert len(pl.read_parquet(tmp_path / "kept.parquet")) == 300


def test_a_draft_of_a_leaking_data_set_prints_the_finding_that_the_page_shows(tmp_path: Path) -> None:
    rows = pl.DataFrame({"x": [row * 7 % 100 / 10 for row in range(120)], "label": [row % 3 for row in range(120)]})
    rows.write_csv(tmp_path / "train.csv")
    rows.head(40).write_csv(tmp_path / "test.csv")
    compare(CLI, "init train.csv", tmp_path)


def test_the_threshold_of_the_example_has_the_reason_that_the_page_shows() -> None:
    blocks = FENCE.findall((ROOT / "docs" / "audit-copies.md").read_text())
    example = next(code for language, _, code in blocks if language == "python")
    shown = next(text for language, _, text in blocks if language == "text")
    names: dict[str, Any] = {}
    exec(compile(example, "audit-copies.md", "exec"), names)
    assert shown.split() == names["found"].reason.split()


def test_data_that_nobody_pointed_to_are_named(tmp_path: Path) -> None:
    """A study of public data looks nowhere by itself: the variable is not set here."""
    compare(ROOT / "docs" / "figures-data.md", "run adult", tmp_path, code=2, where="stderr")


def test_the_digits_print_what_pages_show(tmp_path: Path) -> None:
    """One run of the study for the README and the page of the shell."""
    compare(CLI, "run digits --dry-run", tmp_path)
    compare(ROOT / "README.md", "run digits", tmp_path)
    compare(CLI, "explain", tmp_path)
    compare(CLI, "diff", tmp_path, code=1)


def test_the_tutorial_can_be_followed_to_its_end_and_prints_what_it_shows(tmp_path: Path) -> None:
    text = TUTORIAL.read_text()
    made = {words.strip().rpartition("file=")[2]: block for _, words, block in FENCE.findall(text)}
    (tmp_path / "pictures.py").write_text(made["pictures.py"])
    python(tmp_path, "pictures.py")
    shown = {command for command, _ in printed_on(TUTORIAL)}
    assert len(shown) == 4
    for call in dict.fromkeys(calls_on(text)):  # sentences name some again
        words = call.split()
        if call in shown:
            compare(TUTORIAL, call, tmp_path, code=1 if words[0] == "diff" else 0)
        elif words[0] in ("verify", "export"):
            done = shell(tmp_path, *words)
            assert done.returncode == 0, done.stdout + done.stderr
    kept = np.load(tmp_path / "kept.npy")
    assert len(kept) == 428
    assert sum(1 for _ in (tmp_path / "kept").rglob("*.png")) == 428
