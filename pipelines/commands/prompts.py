"""The command `secateur prompts`: search for tokens of an in-context prompt that can be removed."""

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


PromptFile = Annotated[
    Path, typer.Argument(metavar="PROMPT", help="Text file with the prompt and placeholders such as {text}.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option(help="A word that stands for a label, of one token or several; repeatable.", show_default=False),
]
PerToken = Annotated[
    bool, typer.Option("--per-token", help="Compare labels by the mean over their tokens, not the sum.")
]
Generate = Annotated[
    int | None,
    typer.Option(min=1, metavar="TOKENS", help="Let the model write, and judge it by the examples' `answer`."),
]
JudgedBy = Annotated[
    str, typer.Option(help="Comparison with the output: exact, contains, number (the last one), words (recalled).")
]
Stop = Annotated[str, typer.Option(help="Text that ends the output.", show_default="a new line")]
Keep = Annotated[float, typer.Option(help="Largest share of the prompt's tokens that may stay.")]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="random, gga, ssga, threshold_accepting, hill_climbing, attribution; repeatable.", show_default="all"
    ),
]
Passes = Annotated[int, typer.Option(min=1, help="Forward passes of each method.")]
FitnessSize = Annotated[int, typer.Option(min=1, help="Examples that guide a search.")]
RerankSize = Annotated[int, typer.Option(min=1, help="Examples that the best are ranked again on.")]
Elites = Annotated[int, typer.Option(min=1, help="How many are ranked again.")]
TestSize = Annotated[int | None, typer.Option(min=1, help="Examples to test on.", show_default="all others")]
Reward = Annotated[str, typer.Option(help="Aim of a search: accuracy, or margin (the paper's reward).")]
Protect = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Text of the prompt that stays.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the search and of the split of examples.")]
PrunedFile = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the best pruned prompt here.")
]
KeptFolder = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Write the tokens of the best pruned prompt as a manifest.")
]


def prompts(
    model: ModelName,
    prompt: PromptFile,
    examples: Examples,
    label: Labels = None,
    per_token: PerToken = False,
    generate: Generate = None,
    judge: JudgedBy = "exact",
    stop: Stop = "\n",
    keep: Keep = 0.8,
    method: Methods = None,
    passes: Passes = 4000,
    fitness: FitnessSize = 16,
    rerank: RerankSize = 100,
    elites: Elites = 10,
    test: TestSize = None,
    reward: Reward = "accuracy",
    protect: Protect = None,
    seed: Seed = 0,
    target: PrunedFile = None,
    manifest: KeptFolder = None,
    as_json: AsJson = False,
) -> None:
    """Prune the tokens of an in-context prompt, and test it beside the whole prompt and random masks.

    The first --method decides the written prompt; random masks always run beside it.
    """
    check_options(prompt, keep, judge=judge, reward=reward, answers=bool(label or generate))
    with bar("loading libraries"):
        from secateur.pipelines.files.whole_files import write_bytes
        from secateur.trainers.experiments.prompt_pruning import PromptPruning

    arms = known_arms(method, list(PromptPruning.arms))
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
    answers = [row_of(arm, one.outcome) for arm, one in outcomes.items()]
    answer = {"model": model, "keep": keep, "seed": seed, "prompts": answers}
    tell(answer, as_json, lambda: show_prompts(answers, pruned))


def check_options(prompt: Path, keep: float, *, judge: str, reward: str, answers: bool) -> None:
    """Raise ValueError for impossible options, before anything is loaded."""
    if not prompt.is_file():
        raise ValueError(f"{prompt}: there is no such file")
    if not 0 < keep <= 1:
        raise ValueError(f"--keep {keep} is not within 0 … 1")
    if not answers:
        raise ValueError("name the labels (--label, two or more), or let the model write its answers (--generate 32)")
    for name, value, known in (("--judge", judge, JUDGES), ("--reward", reward, REWARDS)):
        if value not in known:
            raise ValueError(f"{name} {value}: there are {', '.join(known)}")


def known_arms(method: list[str] | None, arms: list[str]) -> list[str]:
    """The requested methods and random masks, each once; raises ValueError for an unknown one."""
    if strange := [one for one in method or () if one not in arms]:
        raise ValueError(f"--method {strange[0]}: there are {', '.join(arms)}")
    return list(dict.fromkeys([*(method or arms), "random"]))


def row_of(arm: str, outcome: Any) -> dict[str, Any]:
    """The outcome of a method, as JSON."""
    return {"method": arm, **outcome.metrics, "prompt": outcome.facts["prompt"]}


def show_prompts(answers: list[dict[str, Any]], chosen: str) -> None:
    """The outcome of each method, and the prompt of the first."""
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
    """Outcomes of the whole prompt and of each method."""
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
