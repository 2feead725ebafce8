"""The command `secateur prompts`: an in-context prompt with tokens taken out by search."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.heads import ModelName
from secateur.pipelines.commands.shell import AsJson, bar, out, say, table_of, tell

if TYPE_CHECKING:
    from secateur.trainers.pruning.kept import Kept

Examples = Annotated[
    Path,
    typer.Option(
        metavar="FILE.jsonl", help="Objects with a text per placeholder and `label`, or `answer`.", show_default=False
    ),
]
JUDGES, REWARDS = ("exact", "contains", "number", "words"), ("accuracy", "margin")


def prompts(
    model: ModelName,
    prompt: Annotated[
        Path, typer.Argument(metavar="PROMPT", help="Text file with the prompt and placeholders such as {text}.")
    ],
    examples: Examples,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A word that stands for a label, of one token or several; repeatable.", show_default=False),
    ] = None,
    per_token: Annotated[
        bool, typer.Option("--per-token", help="Compare labels by the mean over their tokens, not the sum.")
    ] = False,
    generate: Annotated[
        int | None,
        typer.Option(min=1, metavar="TOKENS", help="Let the model write, and judge it by the examples' `answer`."),
    ] = None,
    judge: Annotated[
        str, typer.Option(help="Of what was written: exact, contains, number (the last one), words (recalled).")
    ] = "exact",
    stop: Annotated[str, typer.Option(help="Text that ends what is written.", show_default="a new line")] = "\n",
    keep: Annotated[float, typer.Option(help="Largest share of the prompt's tokens that may stay.")] = 0.8,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="random, gga, ssga, threshold_accepting, hill_climbing, attribution; repeatable.", show_default="all"
        ),
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Forward passes of each method.")] = 4000,
    fitness: Annotated[int, typer.Option(min=1, help="Examples that guide a search.")] = 16,
    rerank: Annotated[int, typer.Option(min=1, help="Examples that the best are ranked again on.")] = 100,
    elites: Annotated[int, typer.Option(min=1, help="How many are ranked again.")] = 10,
    test: Annotated[int | None, typer.Option(min=1, help="Examples to test on.", show_default="all others")] = None,
    reward: Annotated[str, typer.Option(help="What guides a search: accuracy, or margin (the paper's reward).")] = (
        "accuracy"
    ),
    protect: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Text of the prompt that stays.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search and of the split of examples.")] = 0,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the best pruned prompt here.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the tokens of the best pruned prompt as a manifest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prune the tokens of an in-context prompt, and test it beside the whole prompt and random masks.

    Which prompt is written is decided by the method asked for first; random masks are run beside it anyway.
    """
    if not prompt.is_file():
        raise ValueError(f"{prompt}: there is no such file")
    if not 0 < keep <= 1:
        raise ValueError(f"--keep {keep} is not within 0 … 1")
    if not label and not generate:
        raise ValueError("name the labels (--label, two or more), or let the model write its answers (--generate 32)")
    for name, value, known in (("--judge", judge, JUDGES), ("--reward", reward, REWARDS)):
        if value not in known:
            raise ValueError(f"{name} {value}: there are {', '.join(known)}")
    with bar("loading libraries"):
        from secateur.pipelines.files.whole_files import write_bytes
        from secateur.trainers.experiments.prompt_pruning import PromptPruning

    arms = list(dict.fromkeys([*(method or PromptPruning.arms), "random"]))
    if strange := [arm for arm in arms if arm not in PromptPruning.arms]:
        raise ValueError(f"--method {strange[0]}: there are {', '.join(PromptPruning.arms)}")
    experiment = PromptPruning(
        model=model,
        template=prompt.read_text(encoding="utf-8").removesuffix("\n"),
        verbalisers=label or [],
        per_token=per_token,
        generate=generate,
        judge=judge,  # type: ignore[arg-type]
        stop=stop,
        reward=reward,  # type: ignore[arg-type]
        examples=str(examples),
        protect=protect or [],
        passes=passes,
        fitness_examples=fitness,
        rerank_examples=rerank,
        elites=elites,
        test_examples=test,
    )
    outcomes = run_arms(experiment, arms, keep, seed)
    pruned = outcomes[arms[0]].outcome.facts["prompt"]
    if target is not None:
        write_bytes(target, pruned.encode(), overwrite=True)
    if manifest is not None:
        write_manifest(manifest, experiment, prompt, arms[0], outcomes[arms[0]].kept, keep=keep, seed=seed)
    answers = [
        {"method": arm, **one.outcome.metrics, "prompt": one.outcome.facts["prompt"]} for arm, one in outcomes.items()
    ]
    answer = {"model": model, "keep": keep, "seed": seed, "prompts": answers}
    tell(answer, as_json, lambda: show_prompts(answers, pruned))


def show_prompts(answers: list[dict[str, Any]], chosen: str) -> None:
    """What each method came to, and the prompt of the first."""
    lines = [
        (
            one["method"],
            f"{100 * one['accuracy']:.1f}",
            f"{100 * one.get('unranked', one['accuracy']):.1f}",
            f"{one['length']:.0f}",
        )
        for one in answers
    ]
    out.print(table_of(("method", "accuracy %", "not ranked again %", "tokens"), lines, right=(1, 2, 3)))
    say(chosen)


def run_arms(experiment: Any, arms: list[str], keep: float, seed: int) -> dict[str, Any]:
    """What the whole prompt and each method came to."""
    from secateur.scorers.contract import naming

    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch)
        with bar("loading the model and the examples") as progress:
            experiment.prepare(seed, prepared, progress)
        outcomes = {}
        for arm, share in {"full": 1.0, **dict.fromkeys(arms, keep)}.items():
            with naming(arm), bar(f"passes of {arm}") as progress:
                outcomes[arm] = experiment.run(arm, share, seed, prepared, progress)
    return outcomes


def write_manifest(
    folder: Path, experiment: Any, prompt: Path, method: str, kept: "Kept", *, keep: float, seed: int
) -> None:
    """The tokens that a method kept, as a manifest of this template and tokenizer."""
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.manifests.masks import Masks
    from secateur.pipelines.manifests.provenance import Provenance

    provenance = Provenance(
        dataset=prompt.name,
        revision=kept.made_for,
        selection=method,
        selector=f"prompt_pruning.{method}",
        selector_version=experiment.version,
        settings={
            "model": Path(experiment.model).name,
            "passes": experiment.passes,
            "protect": experiment.protect,
            "examples": [experiment.fitness_examples, experiment.rerank_examples, experiment.test_examples],
        },
        keep=keep,
        budget=kept.count,
        seed=seed,
    )
    Manifest.write(folder, Masks.of(kept), provenance)
