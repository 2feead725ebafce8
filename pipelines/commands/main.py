"""`secateur` on the command line: what commands there are, and how each ends.

Bodies are in the files beside this one, which load the pipeline when they run and not before: `secateur --help` answers
at once.
"""

import traceback
import warnings
from collections.abc import Callable

import typer

from secateur.pipelines.commands.deltas import deltas
from secateur.pipelines.commands.experiments import experiments
from secateur.pipelines.commands.export import export
from secateur.pipelines.commands.heads import heads
from secateur.pipelines.commands.init import init
from secateur.pipelines.commands.manifests import apply, diff, explain, verify
from secateur.pipelines.commands.prompts import prompts
from secateur.pipelines.commands.shell import FAILED, INTERRUPTED, MISTAKE, complain
from secateur.pipelines.commands.studies import run, score, select, studies, ui

START, STUDIES, MANIFESTS = "Start here", "Studies", "Manifests"
EXIT_CODES = (
    "[bold]Exit codes:[/] 0 done, or yes · 1 the answer is no (a manifest is not sound, two manifests differ) · "
    "2 a mistake in what was asked, told in one sentence · 3 a failure that is nobody's mistake · 130 interrupted."
)

app = typer.Typer(
    help="Prune training sets: score samples, keep the ones worth keeping, and say whether that beat random.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def add(panel: str, body: Callable[..., None], *examples: str, name: str | None = None) -> None:
    """Offer a command, by default of its function's name, in a panel of the help, with examples below its own help."""
    shown = "\n\n".join(f"  [cyan]{example}[/]" for example in examples)
    app.command(name, rich_help_panel=panel, epilog=f"[bold]Examples[/]\n\n{shown}")(body)


MANIFEST = ".secateur/assets/digits/manifest/hardest@0.1/0"
MASKS = "digits_random_pruning"
MASK = f".secateur/assets/{MASKS}/manifest/er@0.03/0"
SHARDS = "--to webdataset --study digits --set shard_rows=1000 -o shards"

add(START, init, "secateur init tickets.csv", "secateur init pictures/ -o studies/pets.yaml --keep 0.2")
add(START, studies, "secateur studies --json")
add(START, ui, "secateur ui --port 3001")
add(
    STUDIES,
    run,
    "secateur run digits",
    "secateur run digits --selection hardest --seed 0",
    "secateur run studies/tickets.yaml --json",
)
add(STUDIES, run, "secateur prune digits_pdp", f"secateur prune {MASKS} --selection er --keep 0.03", name="prune")
add(STUDIES, score, "secateur score digits", "secateur score digits --again")
add(STUDIES, select, "secateur select digits", "secateur select digits --selection hardest --keep 0.1")
add(STUDIES, experiments, "secateur experiments --json")
add(
    STUDIES,
    deltas,
    "secateur deltas base/ tuned/ --keep 0.1 -o pruned",
    "secateur deltas base/ adapter/ --keep 0.01 -o pruned --json",
)
add(STUDIES, heads, "secateur heads model/ --haystack essays.txt --length 2000 -o heads.json")
add(STUDIES, prompts, "secateur prompts model/ prompt.txt --examples reviews.jsonl --label ' great' --label ' bad'")
add(MANIFESTS, verify, f"secateur verify {MANIFEST}")
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
    """Entry point: a mistake and Ctrl-C become one sentence and exit codes 2 and 130, others a traceback and 3."""
    warnings.filterwarnings(
        "ignore", module=r"secateur\.pipelines\.|dagster", message=".*is currently in (beta|preview)"
    )
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            complain("interrupted; what is done stays: the same command again goes on from there")
        raise
    except (OSError, ValueError) as error:  # errors of ours are ValueErrors
        complain(error)
        raise SystemExit(MISTAKE) from error
    except Exception as error:
        traceback.print_exc()
        complain("this is no mistake of yours that we know of; the lines above say where it broke")
        raise SystemExit(FAILED) from error
