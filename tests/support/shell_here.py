"""The shell command in the process of the tests: one of its own takes longer to load than a small study to run."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

import pytest

from secateur.pipelines.commands import main as cli


def secateur_here(*words: str, **environment: str) -> CompletedProcess[str]:
    """What `secateur WORDS` prints and how it ends, in this process.

    Its streams are files in memory and not those of pytest: Dagster's capture of a step's output and pytest's do not
    get along.
    """
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["secateur", *words])
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as left:
            cli.main()
    return CompletedProcess(words, int(left.value.code or 0), out.getvalue(), errors.getvalue())
