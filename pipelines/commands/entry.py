"""The entry point, which loads the commands; Ctrl-C ends it in one sentence from its first moment on."""

import sys


def main() -> None:
    """`secateur`: what `secateur.pipelines.commands.main` does, which takes a moment to load."""
    try:
        from secateur.pipelines.commands.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; results stay: the same command again makes the rest\n")
        raise SystemExit(130) from None  # shell.py's INTERRUPTED, which may not be loaded yet
