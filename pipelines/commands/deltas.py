"""The command `secateur deltas`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import AsJson, bar, resumable, say, table_of, tell

if TYPE_CHECKING:
    from secateur.pipelines.deltas.sources import DeltaSource

SHOWN = 20
"""Most tensors in the table; the JSON and manifest.json list all."""
TUNED = "Fine-tuned checkpoint of the same architecture, or the folder of a LoRA adapter of BASE."
RescaleBy = Annotated[
    str | None,
    typer.Option(
        help="Divide by: dare (keep), none, moments, bound, least_bound, search, or a number q. Default: dare for "
        "random, else none.",
        show_default=False,
    ),
]
Score = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Judges checkpoints of a rescaling by search: called with a checkpoint's folder, higher is better.",
        show_default=False,
    ),
]


def deltas(
    base: Annotated[
        Path,
        typer.Argument(
            metavar="BASE", help="Checkpoint before fine-tuning: file, index or folder.", show_default=False
        ),
    ],
    tuned: Annotated[Path, typer.Argument(metavar="TUNED", help=TUNED, show_default=False)],
    keep: Annotated[float, typer.Option(help="Share of the delta that stays, in (0, 1].", show_default=False)],
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)],
    by: Annotated[str, typer.Option(help="Entries that stay: random (DARE), magnitude or wanda.")] = "random",
    over: Annotated[str, typer.Option(help="Highest scores of each tensor, of each row, or of all.")] = "tensor",
    each: Annotated[bool, typer.Option("--each", help="Draw each entry by itself, without an exact count.")] = False,
    rescale: RescaleBy = None,
    eta: Annotated[float | None, typer.Option(help="Of bound and least_bound.", show_default=False)] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Recorded inputs of layers, for wanda and a q by layer.", show_default=False)
    ] = None,
    score: Score = None,
    draws: Annotated[int, typer.Option(min=1, help="Random masks that search judges each q by.")] = 4,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Prune these tensors alone; * is anything.", show_default=False),
    ] = None,
    leave: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Take these from TUNED as they are.", show_default=False)
    ] = None,
    factors: Annotated[bool, typer.Option("--factors", help="Prune an adapter's factors, not their product.")] = False,
    seed: Annotated[int, typer.Option(help="Of the draw and of ties.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prune a fine-tuning delta: keep a share of TUNED - BASE, rescale it, add it to BASE again.

    Checkpoints are safetensors files, an index of several, or a folder with either; they are streamed.
    """
    from secateur.pipelines.deltas.q_search import QSearch
    from secateur.pipelines.manifests.deltas import prune_deltas
    from secateur.trainers.passes.layer_inputs import load_inputs

    choice = choice_of(keep, by, over, each, rescale, eta, seed)
    source = source_of(base, tuned, factors, {"only": only or [], "leave": leave or []})
    with bar("checkpoints, then tensors" if score else "tensors") as progress, resumable(score is not None):
        recorded, search = load_inputs(inputs) if inputs else None, QSearch.by(score, draws) if score else None
        pruned = prune_deltas(
            source, target, choice, inputs=recorded, search=search, overwrite=overwrite, progress=progress
        )
    answer: dict[str, Any] = {
        "path": str(target),
        "kept": pruned.kept,
        "of": pruned.of,
        "made_for": source.made_for,
        "tensors": {name: {"entries": t.entries, "kept": t.kept, "q": t.q} for name, t in pruned.tensors.items()},
        "copied": list(pruned.copied),
    } | ({"search": asdict(pruned.found) | {"score": score, "draws": draws}} if pruned.found else {})
    tell(answer, as_json, lambda: show(answer))


def source_of(base: Path, tuned: Path, factors: bool, named: dict[str, list[str]]) -> "DeltaSource":
    """The delta of a checkpoint or an adapter; raises ValueError for factors of a folder that is no adapter."""
    from secateur.pipelines.deltas.files import Checkpoint
    from secateur.pipelines.deltas.sources import CONFIG, AdapterDelta, FactorDelta, TunedDelta

    adapter = (tuned / CONFIG).is_file()
    if factors and not adapter:
        raise ValueError(f"--factors is for LoRA adapters, and {tuned} holds no {CONFIG}: leave it out")
    if factors:
        return FactorDelta.of(tuned, **named)
    if adapter:
        return AdapterDelta.of(Checkpoint.read(base), tuned, **named)
    return TunedDelta.of(Checkpoint.read(base), Checkpoint.read(tuned), **named)


def show(answer: dict[str, Any]) -> None:
    """Print the summary of a pruned delta."""
    from secateur.pipelines.commands.shell import out

    tensors = answer["tensors"]
    say(answer["path"])
    kept = f"{answer['kept']:,} of {answer['of']:,} entries of {len(tensors):,} tensors kept"
    say(f"{kept}; {len(answer['copied']):,} tensors copied")
    if found := answer.get("search"):
        end = "an end of the range, so the best may lie beyond" if found["at_bound"] else "within the range"
        say(f"q = {found['q']:.4g}, the best of {len(found['tried'])} values by {found['score']}, {end}")
    lines = [(name, f"{t['kept']:,}", f"{t['entries']:,}", f"{t['q']:.4g}") for name, t in tensors.items()]
    out.print(table_of(("tensor", "kept", "of", "q"), lines[:SHOWN], right=(1, 2, 3)))
    if len(lines) > SHOWN:
        say(f"… {len(lines) - SHOWN:,} more in manifest.json")


def choice_of(keep: float, by: str, over: str, each: bool, rescale: str | None, eta: float | None, seed: int) -> Any:
    """The choice from the options; raises ValueError that names the option and its possible values."""
    from typing import get_args

    from secateur.pipelines.deltas.stream import DeltaChoice, Over, Rescale, Select
    from secateur.pipelines.studies.rejections import require

    require(by, dict.fromkeys(get_args(Select)), "--by")
    require(over, dict.fromkeys(get_args(Over)), "--over")
    q: Any = rescale
    if rescale is not None and rescale not in get_args(Rescale):
        try:
            q = float(rescale)
        except ValueError as error:
            raise ValueError(f"--rescale {rescale}: give a number or one of {', '.join(get_args(Rescale))}") from error
    return DeltaChoice(keep, by, over, each, q, eta, seed)  # type: ignore[arg-type]
