"""The entry point, which loads the commands; it handles Ctrl-C from the first moment, with one sentence."""

import sys


def main() -> None:
    """`secateur`: load `secateur.pipelines.commands.main`, which takes a moment, and run it."""
    try:
        from secateur.pipelines.commands.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; results stay: the same command again makes the rest\n")
        raise SystemExit(130) from None  # shell.py's INTERRUPTED; shell.py may not be loaded yet
