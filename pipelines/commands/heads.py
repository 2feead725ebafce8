"""The command `secateur heads`: which heads of a language model copy out of its context."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import AsJson, bar, out, say, table_of, tell

if TYPE_CHECKING:
    import numpy as np

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A causal model of transformers: a folder, or a name on the hub.")
]


def heads(
    model: ModelName,
    haystack: Annotated[
        Path, typer.Option(metavar="FILE", help="Text to hide the needle in, UTF-8.", show_default=False)
    ],
    needle: Annotated[str | None, typer.Option(help="The sentence to hide; one of our own if left out.")] = None,
    question: Annotated[str | None, typer.Option(help="What asks for the needle; goes with --needle.")] = None,
    length: Annotated[list[int] | None, typer.Option(metavar="TOKENS", help="Tokens of a prompt; repeatable.")] = None,
    depths: Annotated[int, typer.Option(min=1, help="Places of the needle in each length.")] = 10,
    new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 50,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Heads above this score are listed.")] = 0.1,
    chat: Annotated[bool, typer.Option(help="Put the prompt into the tokenizer's chat template.")] = False,
    revision: Annotated[str | None, typer.Option(help="Of a model on the hub.")] = None,
    mask: Annotated[
        int | None,
        typer.Option(min=1, help="Mask this many: the highest, and as many others, and measure the recall again."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write scores here, a picture beside.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write what stays beside the highest as a manifest; goes with --mask."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score attention heads by how often they copy a hidden sentence, and list the retrieval heads.

    A model that finds the needle in no run has no scores to give: that ends with exit code 2 and says so.
    """
    if (needle is None) != (question is None):
        raise ValueError("--needle and --question go together: give both, or none for ours")
    if target is not None and target.suffix != ".json":
        raise ValueError(f"--out {target}: the scores are JSON, name a file that ends in .json")
    if manifest is not None and mask is None:
        raise ValueError("--manifest goes with --mask, which says how many heads go")
    if not haystack.is_file():
        raise ValueError(f"--haystack {haystack}: there is no such file")
    with bar("loading libraries"):
        from secateur.selectors.masks.without_highest_heads import without_top
        from secateur.trainers.experiments.head_pruning import NEEDLE, QUESTION, HeadPruning

    experiment = HeadPruning(
        model=model,
        revision=revision,
        haystack=str(haystack),
        needle=needle or NEEDLE,
        question=question or QUESTION,
        chat=chat,
        lengths=length or [500, 1000, 2000],
        depths=depths,
        new_tokens=new_tokens,
        threshold=threshold,
    )
    causal, (scores, answer) = loaded_and_scored(experiment, model, mask)
    if target is not None:
        write(target, answer)
    if manifest is not None:
        write_manifest(manifest, experiment, causal, without_top(scores, mask or 0), model)
    tell(answer, as_json, lambda: show_heads(answer, threshold, mask))


def show_heads(answer: dict[str, Any], threshold: float, mask: int | None) -> None:
    """The heads that score highest, the recall, and what it is without them."""
    lines = [(one["layer"], one["head"], f"{one['score']:.3f}") for one in answer["retrieval_heads"]]
    out.print(table_of(("layer", "head", "score"), lines[:30], right=range(3)))
    say(
        f"{len(lines)} of {answer['heads']} heads score above {threshold}; "
        f"recall {100 * answer['recall']:.1f}% over {answer['runs']} runs"
    )
    for name, recall in answer.get("masked", {}).items():
        say(
            f"recall with {mask} heads masked, {name}: {100 * recall:.1f}%"
            if recall is not None
            else f"{name}: too few"
        )


def loaded_and_scored(experiment: Any, model: str, mask: int | None) -> tuple[Any, tuple["np.ndarray", dict[str, Any]]]:
    """The model, and what `scored` makes of it."""
    with bar("loading the model"):
        causal = experiment.load(Path())
    return causal, scored(experiment, causal, model, mask)


def scored(experiment: Any, causal: Any, model: str, mask: int | None) -> tuple["np.ndarray", dict[str, Any]]:
    """Scores of all heads; the same as JSON with a list of those above the threshold and what masking comes to."""
    import numpy as np

    from secateur.scorers.networks.retrieval_heads import retrieval_heads

    with bar("prompts run, to score the heads") as progress:
        retrievals, recalls = experiment.runs(causal, 0, "score", progress)
    scores = retrieval_heads(retrievals, recalls)
    order = np.argsort(-scores.ravel(), kind="stable")
    listed = [divmod(int(at), scores.shape[1]) for at in order if scores.ravel()[at] > experiment.threshold]
    answer: dict[str, Any] = {
        "model": model,
        "runs": len(recalls),
        "recall": round(float(recalls.mean()), 6),
        "heads": int(scores.size),
        "share_above_threshold": len(listed) / scores.size,
        "retrieval_heads": [{"layer": at[0], "head": at[1], "score": round(float(scores[at]), 6)} for at in listed],
        "scores": [[round(float(score), 6) for score in row] for row in scores],
    }
    if mask is not None:
        answer["masked"] = {"none": recall_without(experiment, causal, np.ones(scores.shape, dtype=np.bool_))}
        answer["masked"] |= masked_recalls(experiment, causal, scores, mask)
    return scores, answer


def masked_recalls(experiment: Any, causal: Any, scores: "np.ndarray", count: int) -> dict[str, float | None]:
    """Recall with the highest heads masked and with as many others; none where there are fewer others."""
    import numpy as np

    from secateur.selectors.masks.without_highest_heads import without_top
    from secateur.selectors.masks.without_other_heads import PLACES, others_of, without

    if count >= scores.size:
        raise ValueError(f"--mask {count}: the model has {scores.size} heads, mask fewer")
    recalls: dict[str, float | None] = {"retrieval": recall_without(experiment, causal, without_top(scores, count))}
    for control in PLACES:
        others = others_of(scores, count, control, experiment.threshold)
        enough = len(others) >= count
        keep = without(scores, others, count, np.random.default_rng(0)) if enough else None
        recalls[control] = None if keep is None else recall_without(experiment, causal, keep)
    return recalls


def recall_without(experiment: Any, causal: Any, keep: "np.ndarray") -> float:
    """Mean recall over the test prompts with only these heads."""
    from secateur.scorers.contract import naming
    from secateur.trainers.pruning.masked_heads import masked_heads

    masked = f"{int((~keep).sum())} heads masked"
    with masked_heads(causal.model, keep), naming(masked), bar(f"prompts run, {masked}") as progress:
        _, recalls = experiment.runs(causal, 0, "test", progress)
    return round(float(recalls.mean()), 6)


def write_manifest(folder: Path, experiment: Any, causal: Any, keep: "np.ndarray", model: str) -> None:
    """The heads that stay, as a manifest of this very model."""
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.manifests.masks import Masks
    from secateur.pipelines.manifests.provenance import Provenance
    from secateur.trainers.pruning.masked_heads import kept_heads

    kept = kept_heads(causal.model, keep, {"how": "zero", "decoding_only": False})
    provenance = Provenance(
        dataset=Path(model).name,
        revision=experiment.revision or "",
        selection="retrieval",
        selector="head_pruning.retrieval",
        selector_version=experiment.version,
        settings={"lengths": experiment.lengths, "depths": experiment.depths, "needle": experiment.needle},
        keep=kept.count,
        budget=kept.count,
        seed=0,
    )
    Manifest.write(folder, Masks.of(kept), provenance)


def write(target: Path, answer: dict[str, Any]) -> None:
    """The scores as JSON and the heat map beside, each whole or not at all."""
    import numpy as np

    from secateur.pipelines.files.whole_files import write_bytes
    from secateur.trainers.experiments.head_pruning import score_map

    write_bytes(target, json.dumps(answer, indent=2, allow_nan=False).encode(), overwrite=True)
    write_bytes(target.with_suffix(".svg"), score_map({0: np.array(answer["scores"])}), overwrite=True)
