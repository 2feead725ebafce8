"""`secateur` on the command line: the list of commands, and their exit codes.

Bodies are in the files beside this one, which import the pipeline only when they run: `secateur --help` answers at
once.
"""

import atexit
import gc
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from secateur.pipelines.commands.audit import audit
from secateur.pipelines.commands.deltas import deltas
from secateur.pipelines.commands.experiments import experiments
from secateur.pipelines.commands.export import export
from secateur.pipelines.commands.heads import heads
from secateur.pipelines.commands.home import clean
from secateur.pipelines.commands.init import init
from secateur.pipelines.commands.manifests import apply, diff, explain, verify
from secateur.pipelines.commands.pages import open_report
from secateur.pipelines.commands.prompts import prompts
from secateur.pipelines.commands.score import score
from secateur.pipelines.commands.select import select
from secateur.pipelines.commands.shell import FAILED, INTERRUPTED, MISTAKE, STAYS, STOPPED, UNREAD, complain, err
from secateur.pipelines.commands.studies import run, studies, ui
from secateur.pipelines.commands.trust import trust
from secateur.pipelines.files.shown_text import visible
from secateur.pipelines.files.unwritable import chain_of, told

START, STUDIES, MANIFESTS = "Start here", "Studies", "Manifests"
EXIT_CODES = (
    "[bold]Exit codes:[/] 0 done, or yes · 1 the answer is no (something is not sound, two manifests differ) · "
    "2 a mistake in the command or the data, in one sentence · 3 a failure that is nobody's mistake "
    "· 130 interrupted · 143 stopped by SIGTERM."
)


def show_version(asked: bool) -> None:
    """Print the version, if the option is set, and exit."""
    if asked:
        from importlib import metadata

        typer.echo(metadata.version("secateur"))
        raise typer.Exit


app = typer.Typer(
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=show_version)
    ] = False,
) -> None:
    """Prune training sets: score samples, keep the ones worth keeping, and say whether that beat random."""


def add(panel: str, body: Callable[..., None], *examples: str, name: str | None = None) -> None:
    """Add a command, by default with its function's name, to a panel of the help, with examples below its own help."""
    shown = "\n\n".join(f"  [cyan]{example}[/]" for example in examples)
    app.command(name, rich_help_panel=panel, epilog=f"[bold]Examples[/]\n\n{shown}")(body)


MANIFEST = ".secateur/assets/digits/manifest/hardest@0.1/0"
MASKS = "digits_random_pruning"
MASK = f".secateur/assets/{MASKS}/manifest/er@0.03/0"
SHARDS = "--to webdataset --study digits --set shard_rows=1000 -o shards"

add(
    START,
    init,
    "secateur init tickets.csv",
    "secateur init pictures/ -o studies/pets.yaml --keep 0.2",
    "secateur init --example digits",
)
add(
    START,
    audit,
    "secateur audit reviews.csv",
    "secateur audit train/ --test test/ --against leaked_eval/ --json",
    "secateur audit train.csv --test test.csv --max-leaks 0 --max-duplicates 1%",
)
add(START, studies, "secateur studies --json")
add(START, ui, "secateur ui --port 3001", "secateur ui --examples")
add(START, clean, "secateur clean --dry-run", "secateur clean --yes --gone-studies")
add(START, trust, "secateur trust /srv/studies", "secateur trust --remove /srv/studies")
add(
    STUDIES,
    run,
    "secateur run digits",
    "secateur run digits --selection hardest --seed 0",
    "secateur run digits --dry-run",
    "secateur run studies/tickets.yaml --json",
)
add(STUDIES, run, "secateur prune digits_pdp", f"secateur prune {MASKS} --selection er --keep 0.03", name="prune")
add(STUDIES, open_report, "secateur open digits", "secateur open digits --json", name="open")
add(
    STUDIES,
    score,
    "secateur score digits --again",
    "secateur score data.csv --label label --score aum --score forgetting -o scores.parquet",
    "secateur score tickets.csv --label queue --key ticket --score el2n --set el2n.epochs=5 --json",
)
add(
    STUDIES,
    select,
    "secateur select digits --selection hardest --keep 0.1",
    "secateur select prompts.parquet --score pass_rate --end high --keep 0.3 -o kept.parquet",
    "secateur select prompts.csv --score loss --selector band --set low=0.2 --set high=0.8 --keep tokens=2000000",
)
add(STUDIES, experiments, "secateur experiments --json")
add(
    STUDIES,
    deltas,
    "secateur deltas base/ tuned/ --keep 0.1 -o pruned",
    "secateur deltas base/ adapter/ --keep 0.01 -o pruned --json",
)
add(STUDIES, heads, "secateur heads model/ --haystack essays.txt --length 2000 -o heads.json")
add(STUDIES, prompts, "secateur prompts model/ prompt.txt --examples reviews.jsonl --label ' great' --label ' bad'")
add(MANIFESTS, verify, f"secateur verify {MANIFEST}", "secateur verify --home", "secateur verify --home --study digits")
add(MANIFESTS, export, f"secateur export {MANIFEST} --to indices", f"secateur export {MANIFEST} {SHARDS}")
add(
    MANIFESTS,
    apply,
    f"secateur apply {MANIFEST} tickets.csv -o kept.csv",
    f"secateur apply {MASK} model.safetensors -o pruned.safetensors",
    "secateur apply pruned/ base/ --tuned tuned/ -o again",
)
add(MANIFESTS, diff, "secateur diff old/manifest new/manifest --rows")
add(MANIFESTS, explain, f"secateur explain {MANIFEST} 42")


def main() -> None:
    """Entry point: a mistake, a full disk or a signal ends with one sentence and exit code 2, 130 or 143, other
    failures with a traceback and 3.
    """
    warnings.filterwarnings(
        "ignore", module=r"secateur\.pipelines\.|dagster", message=".*is currently in (beta|preview)"
    )
    # Libraries create half a million objects; at Python's default thresholds, garbage collection would take a seventh
    # of the loading time.
    gc.set_threshold(50_000, 10, 10)
    atexit.register(gc.freeze)  # no collection at exit either
    place = Path(os.environ.get("SECATEUR_HOME", ".secateur")).absolute()
    with arrived_signals() as signals:
        try:
            app()
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # the reader of the output, such as head, has closed it
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(UNREAD) from end
            if end.code != INTERRUPTED:
                raise
            code, how = (STOPPED, "stopped") if signal.SIGTERM in signals() else (INTERRUPTED, "interrupted")
            stays = any(STAYS in getattr(error, "__notes__", ()) for error in chain_of(end))
            complain(f"{how}; {STAYS if stays else 'the same command again starts from the beginning'}")
            raise SystemExit(code) from end
        except (OSError, ValueError) as error:  # our errors are ValueErrors
            complain(told(error, place) or error)
            raise SystemExit(MISTAKE) from error
        except Exception as error:
            if text := told(error, place):
                complain(text)
                raise SystemExit(MISTAKE) from error
            err.print(Text(visible(traceback.format_exc())), soft_wrap=True)
            complain("this is no mistake of yours that we know of; the lines above say where it broke")
            raise SystemExit(FAILED) from error


@contextmanager
def arrived_signals() -> Iterator[Callable[[], bytes]]:
    """Yield a function for the signals that arrived in the block, where SIGTERM ends a command like Ctrl-C.

    Dagster installs its own handlers for both while it runs, which do not tell them apart.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def arrived() -> bytes:
        with suppress(BlockingIOError):
            return reader.recv(4096)
        return b""

    try:
        yield arrived
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)
        reader.close()
        writer.close()
