"""The command `secateur heads`: list the heads of a language model that copy out of its context."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import AsJson, bar, caution, out, resumable, say, table_of, tell

if TYPE_CHECKING:
    import numpy as np

    from secateur.pipelines.files.judged import Judged

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A causal model of transformers: a folder, or a name on the hub.")
]


Haystack = Annotated[Path, typer.Option(metavar="FILE", help="Text to hide the needle in, UTF-8.", show_default=False)]
Needles = Annotated[
    list[str] | None, typer.Option(help="The sentence to hide; repeatable; one of our own if left out.")
]
Questions = Annotated[
    list[str] | None, typer.Option(help="Question whose answer is the needle; one for each --needle.")
]
Lengths = Annotated[list[int] | None, typer.Option(metavar="TOKENS", help="Tokens of a prompt; repeatable.")]
Depths = Annotated[int, typer.Option(min=1, help="Places of the needle in each length.")]
NewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Heads above this score are listed.")]
CountedBy = Annotated[
    str, typer.Option(help="A token copied several times counts once, as in the paper, or at all steps.")
]
Chat = Annotated[bool, typer.Option(help="Put the prompt into the tokenizer's chat template.")]
Revision = Annotated[str | None, typer.Option(help="Of a model on the hub.")]
MaskSizes = Annotated[
    list[int] | None,
    typer.Option(
        min=1, help="Mask this many: the highest, and as many others, and measure the recall again; repeatable."
    ),
]
HowMasked = Annotated[str, typer.Option(help="A masked head adds zero, or attends to everything in a uniform way.")]
DecodingOnly = Annotated[
    bool, typer.Option("--decoding-only", help="Mask while the model writes, not while it reads the prompt.")
]
Draws = Annotated[int, typer.Option(min=1, help="Times that as many other heads are drawn.")]
ScoresFile = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write scores here, a picture beside.")
]
KeptFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Write the unmasked heads as a manifest; goes with one --mask."),
]


def heads(
    model: ModelName,
    haystack: Haystack,
    needle: Needles = None,
    question: Questions = None,
    length: Lengths = None,
    depths: Depths = 10,
    new_tokens: NewTokens = 50,
    threshold: Threshold = 0.1,
    count: CountedBy = "once",
    chat: Chat = False,
    revision: Revision = None,
    mask: MaskSizes = None,
    how: HowMasked = "zero",
    decoding_only: DecodingOnly = False,
    draws: Draws = 5,
    target: ScoresFile = None,
    manifest: KeptFolder = None,
    as_json: AsJson = False,
) -> None:
    """Score attention heads by how often they copy a hidden sentence, and list the retrieval heads.

    A model that never finds the needle has no scores; the command then says so and ends with exit code 2. With --out
    the same command resumes after an interruption.
    """
    check_options(haystack, needle, question, how=how, count=count, target=target, manifest=manifest, mask=mask)
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
        how=how,  # type: ignore[arg-type]
        decoding_only=decoding_only,
        threshold=threshold,
        count=count,  # type: ignore[arg-type]
    )
    with bar("loading the model"):
        causal = experiment.load(Path())
    if mask:
        check_masks(causal.model, mask, how)
    noted = notes_of(target, experiment, causal)
    with resumable(target is not None):
        scores, answer = scored(experiment, causal, model, noted)
        if mask:
            answer["masked"] = masked_recalls(experiment, causal, scores, list(dict.fromkeys(mask)), draws, noted)
    if target is not None:
        write(target, answer)
        noted.file.unlink(missing_ok=True)
    if manifest is not None and mask:
        write_manifest(manifest, experiment, causal, without_top(scores, mask[0]), model)
    tell(answer, as_json, lambda: show_heads(answer, threshold))


def check_options(
    haystack: Path,
    needle: list[str] | None,
    question: list[str] | None,
    *,
    how: str,
    count: str,
    target: Path | None,
    manifest: Path | None,
    mask: list[int] | None,
) -> None:
    """Raise ValueError for options that do not go together, before anything is loaded."""
    from secateur.pipelines.files.unwritable import refuse_unwritable

    if len(needle or ()) != len(question or ()):
        raise ValueError("--needle and --question go together: give both equally often, or none for ours")
    if how not in ("zero", "uniform"):
        raise ValueError(f"--how {how}: there are zero and uniform")
    if count not in ("once", "steps"):
        raise ValueError(f"--count {count}: there are once and steps")
    if target is not None and target.suffix != ".json":
        raise ValueError(f"--out {target}: the scores are JSON, name a file that ends in .json")
    refuse_unwritable(target)
    if manifest is not None and len(mask or ()) != 1:
        raise ValueError("--manifest goes with one --mask, which says how many heads go")
    if not haystack.is_file():
        raise ValueError(f"--haystack {haystack}: there is no such file")


def check_masks(model: Any, mask: list[int], how: str) -> None:
    """Raise ValueError for heads that the model lacks or that cannot be masked, before prompts are run."""
    from secateur.trainers.pruning.masked_heads import attention_layers, heads_per_layer, query_projection

    layers = attention_layers(model)
    if max(mask) >= (of := len(layers) * heads_per_layer(model)):
        raise ValueError(f"--mask {max(mask)}: the model has {of} heads, mask fewer")
    for layer in layers:
        if how == "uniform":
            query_projection(layer)


def notes_of(target: Path | None, experiment: Any, causal: Any) -> "Judged":
    """Results that an interrupted run of the same command, model and text stored; none without --out."""
    import xxhash

    from secateur.pipelines.files.judged import Judged
    from secateur.trainers.models.identity import weights_of

    if target is None:
        return Judged(Path(), "", {})
    settings = {
        name: value for name, value in vars(experiment).items() if name not in ("model", "haystack", "training")
    }
    text = xxhash.xxh3_128_hexdigest(Path(experiment.haystack).read_bytes())
    made_of = f"{weights_of(causal.model)} {text} {experiment.version} {json.dumps(settings, sort_keys=True)}"
    return Judged.read(target.with_suffix(".tried.json"), made_of)


def show_heads(answer: dict[str, Any], threshold: float) -> None:
    """The heads with the highest scores, the recall, and the recall without them."""
    lines = [(one["layer"], one["head"], f"{one['score']:.3f}") for one in answer["retrieval_heads"]]
    out.print(table_of(("layer", "head", "score"), lines[:30], right=range(3)))
    say(
        f"{len(lines)} of {answer['heads']} heads score above {threshold}; "
        f"recall {100 * answer['recall']:.1f}% over {answer['runs']} runs"
    )
    if masked := answer.get("masked"):
        rows = [
            (
                one["arm"],
                one["heads"],
                f"{100 * one['recall']:.1f}" + (f" ± {100 * one['half_width']:.1f}" if one["half_width"] else ""),
                f"{100 * min(one['draws']):.1f} … {100 * max(one['draws']):.1f}" if len(one["draws"]) > 1 else "",
                f"{one['as_low']} of {len(one['draws'])}" if "as_low" in one else "",
                f"{one['p_value']:.2g}" if "p_value" in one else "",
            )
            for one in masked
        ]
        head = ("masked", "heads", "recall %, 95%", "lowest … highest", "draws as low", "p")
        out.print(table_of(head, rows, right=range(1, 6)))


def scored(experiment: Any, causal: Any, model: str, noted: "Judged") -> tuple["np.ndarray", dict[str, Any]]:
    """Scores of all heads; also as JSON with a list of those above the threshold."""
    import numpy as np

    if (told := noted.values.get("scores")) is None:
        told = newly_scored(experiment, causal)
        noted.note("scores", told)
    scores = np.array(told["scores"], dtype=np.float32)
    order = np.argsort(-scores.ravel(), kind="stable")
    listed = [divmod(int(at), scores.shape[1]) for at in order if scores.ravel()[at] > experiment.threshold]
    return scores, {
        "model": model,
        "runs": told["runs"],
        "recall": round(told["recall"], 6),
        "ended_at_once": told["ended_at_once"],
        "heads": int(scores.size),
        "share_above_threshold": len(listed) / scores.size,
        "retrieval_heads": [{"layer": at[0], "head": at[1], "score": round(float(scores[at]), 6)} for at in listed],
        "scores": [[round(float(score), 6) for score in row] for row in scores],
    }


def newly_scored(experiment: Any, causal: Any) -> dict[str, Any]:
    """Scores, recall and number of runs; notes where a chat template would help."""
    from secateur.scorers.networks.retrieval_heads import retrieval_heads

    with bar("prompts run, to score the heads") as progress:
        retrievals, recalls = experiment.runs(causal, 0, "score", progress)
    at_once = sum(not run.written.size for run in retrievals)
    hint = ""
    if at_once and not experiment.chat and getattr(causal.tokenizer, "chat_template", None):
        hint = (
            f"the model ended {at_once} of {len(retrievals)} answers before their first word; its tokenizer has a chat "
            "template: try --chat"
        )
    try:
        scores = retrieval_heads(retrievals, recalls, count=experiment.count)
    except ValueError as error:
        raise ValueError(f"{error}; {hint}" if hint else str(error)) from error
    if hint:
        caution(hint)
    told = {"scores": scores.tolist(), "recall": float(recalls.mean()), "runs": len(recalls)}
    return told | {"ended_at_once": at_once}


def masked_recalls(
    experiment: Any, causal: Any, scores: "np.ndarray", counts: list[int], draws: int, noted: "Judged"
) -> list[dict[str, Any]]:
    """Recall with the highest heads masked and with as many others, a row per arm and number of heads."""
    from secateur.trainers.experiments.masked_recall import masks_of, recalls_without, table_of_recalls

    masks = masks_of(scores, counts, draws, experiment.threshold)
    with bar("prompts run, with heads masked") as progress:
        recalls = recalls_without(experiment, causal, masks, progress, dict(noted.values), noted.note)
    return table_of_recalls(masks, recalls)


def write_manifest(folder: Path, experiment: Any, causal: Any, keep: "np.ndarray", model: str) -> None:
    """The kept heads, as a manifest for exactly this model."""
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.manifests.masks import Masks
    from secateur.pipelines.manifests.provenance import Provenance
    from secateur.trainers.pruning.masked_heads import kept_heads

    kept = kept_heads(causal.model, keep, {"how": experiment.how, "decoding_only": experiment.decoding_only})
    provenance = Provenance(
        dataset=Path(model).name,
        revision=experiment.revision or "",
        selection="retrieval",
        selector="head_pruning.retrieval",
        selector_version=experiment.version,
        settings={"lengths": experiment.lengths, "depths": experiment.depths, "needle": experiment.needles},
        keep=kept.count,
        budget=kept.count,
        seed=0,
    )
    Manifest.write(folder, Masks.of(kept), provenance)


def write(target: Path, answer: dict[str, Any]) -> None:
    """Write the scores as JSON and the heat map beside, each whole or not at all."""
    import numpy as np

    from secateur.pipelines.files.whole_files import write_bytes
    from secateur.trainers.experiments.head_pruning import score_map

    write_bytes(target, json.dumps(answer, indent=2, allow_nan=False).encode(), overwrite=True)
    write_bytes(target.with_suffix(".svg"), score_map({0: np.array(answer["scores"])}), overwrite=True)
