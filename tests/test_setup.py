"""`make setup` names each step before it takes minutes."""

import os
import subprocess
from pathlib import Path

import pytest
from documents import ROOT

STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$STEPS"
case "$*" in "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip";; esac
{fault}
"""
"""Stands for Python and pip, which would download gigabytes: notes its arguments."""


def setup(folder: Path, *, gpu: str = "", fault: str = "") -> "tuple[subprocess.CompletedProcess[str], list[str]]":
    """`make setup` into a folder: the process, and the commands that it ran."""
    python, steps = folder / "python3", folder / "steps"
    python.write_text(STUB.format(fault=fault))
    python.chmod(0o755)
    command = ["make", "--directory", str(ROOT), "--no-print-directory", "setup", f"PYTHON={python}"]
    command += [f"VENV={folder / 'venv'}", f"HAS_GPU={gpu}"]
    plain = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain | {"STEPS": str(steps)})
    return done, steps.read_text().splitlines()


@pytest.mark.parametrize("gpu", ["", "/usr/bin/nvidia-smi"])
def test_setup_prints_a_line_for_each_step(gpu: str, tmp_path: Path) -> None:
    done, steps = setup(tmp_path, gpu=gpu)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    named = ["venv", "pip installs", "pip downloads", *(["faiss-gpu"] if gpu else []), "compiles", "source "]
    assert len(lines) == len(named)
    assert all(word in line for word, line in zip(named, lines, strict=True)), lines
    assert len(steps) == 5 + 2 * bool(gpu)  # two for a GPU; the first asks for Python's version
    assert (tmp_path / "venv" / ".ready").exists()
    assert setup(tmp_path, gpu=gpu)[0].stdout == "make: Nothing to be done for 'setup'.\n"


def test_a_failed_step_ends_the_setup(tmp_path: Path) -> None:
    fault = 'case "$*" in *editable*) echo "no network" >&2; exit 1;; esac'
    done, _ = setup(tmp_path, fault=fault)
    assert done.returncode != 0
    assert "no network" in done.stderr
    assert "pip downloads" in done.stdout.splitlines()[-1]
    assert not (tmp_path / "venv" / ".ready").exists()
