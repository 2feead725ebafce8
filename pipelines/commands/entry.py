"""The entry point, which loads the commands; it handles Ctrl-C from the first moment, with one sentence."""

import sys


def main() -> None:
    """`secateur`: load `secateur.pipelines.commands.main`, which takes a moment, and run it."""
    loaded = False
    try:
        from secateur.pipelines.commands.main import main as run

        loaded = True
        run()
    except KeyboardInterrupt:
        sys.stderr.write(f"error: interrupted{'' if loaded else ' before the command began'}\n")
        raise SystemExit(130) from None  # shell.py's INTERRUPTED; shell.py may not be loaded yet
