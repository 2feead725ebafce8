"""Pages of the project, the blocks and commands in them, and a shell to run these in."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLLOWED = ("remove-duplicates.md", "find-wrong-labels.md", "prune-a-file.md")
"""Pages whose every block `test_howto.py` follows."""
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def calls_on(text: str) -> list[str]:
    """Calls of secateur in blocks, with a prompt or without, and in the middle of a line."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    shown = [line for block in blocks for line in re.findall(r"^(?:\$ )?secateur (.+)$", block, re.MULTILINE)]
    return [call.partition(" # ")[0].strip() for call in (*shown, *re.findall(r"`secateur ([^`]+)`", text))]


def printed_on(page: Path) -> Iterator[tuple[str, str]]:
    """Commands of a page and what the page says they print."""
    for language, _, block in FENCE.findall(page.read_text()):
        if language != "console":
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            if output.strip():
                yield command.partition(" # ")[0].strip().removeprefix("secateur "), output


def alike(shown: str, printed: str) -> bool:
    """Whether a block of a page is what was printed."""
    lines = [re.escape(line.rstrip()).replace("…", "[^\n]*?") if line != "…" else ".*?" for line in shown.splitlines()]
    text = "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")
    pattern = "\n".join(lines).strip("\n").replace(".*?\n", "(?:.*?\n)??")
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def python(checkout: Path, *words: str) -> str:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
    found = alone | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, *words], cwd=checkout, env=found, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shell(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a command of secateur printed, and how it ended."""
    command = [sys.executable, "-c", "from secateur.pipelines.commands.main import main; main()", *words]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")} | {"COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
