"""The command `secateur prompts`: an in-context prompt with tokens taken out by search."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.pipelines.commands.heads import ModelName
from secateur.pipelines.commands.shell import AsJson, out, say, table_of, tell


def prompts(
    model: ModelName,
    prompt: Annotated[
        Path, typer.Argument(metavar="PROMPT", help="Text file with the prompt and placeholders such as {text}.")
    ],
    examples: Annotated[
        Path,
        typer.Option(metavar="FILE.jsonl", help="Objects with a text per placeholder and `label`.", show_default=False),
    ],
    label: Annotated[
        list[str], typer.Option(help="A word that stands for a label, of one token; repeatable.", show_default=False)
    ],
    keep: Annotated[float, typer.Option(help="Largest share of the prompt's tokens that may stay.")] = 0.8,
    method: Annotated[
        list[str] | None,
        typer.Option(help="random, gga, ssga, threshold_accepting, attribution; repeatable.", show_default="all"),
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Forward passes of each method.")] = 4000,
    protect: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Text of the prompt that stays.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search and of the split of examples.")] = 0,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the best pruned prompt here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prune the tokens of an in-context prompt, and test it beside the whole prompt and random masks.

    Which prompt is written is decided by the method asked for first; random masks are run beside it anyway.
    """
    from secateur.trainers.experiments.prompt_pruning import PromptPruning

    if not prompt.is_file():
        raise ValueError(f"{prompt}: there is no such file")
    if not 0 < keep <= 1:
        raise ValueError(f"--keep {keep} is not within 0 … 1")
    arms = list(dict.fromkeys([*(method or PromptPruning.arms), "random"]))
    if strange := [arm for arm in arms if arm not in PromptPruning.arms]:
        raise ValueError(f"--method {strange[0]}: there are {', '.join(PromptPruning.arms)}")
    experiment = PromptPruning(
        model=model,
        template=prompt.read_text(encoding="utf-8").removesuffix("\n"),
        verbalisers=label,
        examples=str(examples),
        protect=protect or [],
        passes=passes,
    )
    found = pruned(experiment, arms, keep, seed)
    chosen = next(one for one in found if one["method"] == arms[0])
    if target is not None:
        partial = target.with_name(target.name + ".partial")
        partial.write_text(chosen["prompt"], encoding="utf-8")
        partial.replace(target)

    def show() -> None:
        lines = [
            (
                one["method"],
                f"{one['accuracy']:.3f}",
                f"{one.get('unranked', one['accuracy']):.3f}",
                f"{one['length']:.0f}",
            )
            for one in found
        ]
        out.print(table_of(("method", "accuracy", "not ranked again", "tokens"), lines, right=(1, 2, 3)))
        say(chosen["prompt"])

    tell({"model": model, "keep": keep, "seed": seed, "prompts": found}, as_json, show)


def pruned(experiment: Any, arms: list[str], keep: float, seed: int) -> list[dict[str, Any]]:
    """What the whole prompt and each method came to."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch)
        experiment.prepare(seed, prepared, lambda done, of: None)
        outcomes = {"full": experiment.run("full", 1.0, seed, prepared, lambda done, of: None)}
        outcomes |= {arm: experiment.run(arm, keep, seed, prepared, lambda done, of: None) for arm in arms}
    return [{"method": arm, **one.metrics, "prompt": one.facts["prompt"]} for arm, one in outcomes.items()]
