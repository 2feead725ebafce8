"""Commands about other units than samples: `prune` runs trials of a study, `apply` a mask on a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import AsJson, ManifestPath, StudyName, find_study, out, say, table_of, tell
from secateur.pipelines.commands.studies import report_of, show_report
from secateur.pipelines.commands.trials import Again, Keeps, Seeds, bars, trials_of
from secateur.pipelines.storage.home import home

if TYPE_CHECKING:
    pass

Arms = Annotated[list[str] | None, typer.Option("--arm", metavar="NAME", help="Only this arm; may be repeated.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the pruned checkpoint goes.")]


def experiments(as_json: AsJson = False) -> None:
    """List what can be pruned besides samples: experiments by name, their arms and settings."""
    from secateur.trainers.experiments.contract import experiments as every

    found = [
        {
            "experiment": name,
            "unit": kind.unit,
            "arms": list(kind.arms),
            "references": list(kind.references),
            "settings": list(kind.settings.model_fields),
            "claim": kind.claim,
            "paper": kind.paper,
        }
        for name, kind in sorted(every().items())
    ]

    def show() -> None:
        names = ("experiment", "unit", "arms", "settings")
        told = ([one[name] for name in names] for one in found)
        joined = [[", ".join(part) if isinstance(part, list) else part for part in line] for line in told]
        out.print(table_of(names, joined))
        for one in found:
            say(f"{one['experiment']}: {one['claim']} ({one['paper']})")

    tell({"experiments": found}, as_json, show)


def prune(
    study: StudyName,
    arm: Arms = None,
    keep: Keeps = None,
    seed: Seeds = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Prune weights, channels, deltas, heads or prompt tokens by the arms of a study of `kind: pruning`.

    What was run before of the same inputs is not run again. With everything run the comparison with random is made.
    """
    import dagster as dg

    from secateur.pipelines.materialise import instance_at, run_units
    from secateur.pipelines.pages.words import number
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.files import StudyError

    file, store = find_study(study), Store(home() / "assets")
    if file.pruning is None:
        raise StudyError(file.error or f"{file.name} is no study of `kind: pruning`: use secateur run")
    trials = trials_of(file.pruning, arm, keep, seed)
    whole = len(trials) == len(list(file.pruning.trials))
    with instance_at(home()) as instance, bars() as progress:
        run_units(file, store.root, instance, progress, trials=None if whole else trials, again=again)
    if whole:
        report = report_of(store, file)
        tell(report, as_json, lambda: show_report(report))
        return
    metric = file.pruning.declared.metrics[0]
    found: list[dict[str, Any]] = []
    for trial in trials:
        record = store.load(dg.AssetKey([file.name, "pruned"]), trial)["outcome"]
        manifest = store.place(dg.AssetKey([file.name, "manifest"]), trial)
        found.append(
            {"arm": trial.selection, "seed": trial.seed}
            | {name: record[name] for name in ("metrics", "kept", "of", "seconds")}
            | {"manifest": str(manifest) if record["kept"] is not None else None}
        )

    def show() -> None:
        lines = [
            (
                one["arm"],
                one["seed"],
                number(one["metrics"][metric.name], metric),
                one["kept"],
                one["of"],
                one["seconds"],
            )
            for one in found
        ]
        out.print(table_of(("arm", "seed", metric.title, "kept", "of", "seconds"), lines, right=range(1, 6)))
        say(f"manifests in {store.place(dg.AssetKey([file.name, 'manifest']))}/ARM/SEED")

    tell({"study": file.name, "arms": found}, as_json, show)


def apply(path: ManifestPath, checkpoint: Path, output: Output, as_json: AsJson = False) -> None:
    """Set the weights that a manifest does not keep to zero in a safetensors checkpoint of the model it was made for.

    Tensors are read one by one; those that the manifest does not name are copied.
    """
    from secateur.pipelines.manifests.masks import UnitManifest, write_masked

    kept = UnitManifest.load(path).kept
    write_masked(checkpoint, kept, output)
    answer = {"output": str(output), "kept": kept.count, "of": kept.of, "tensors": len(kept.groups)}
    say_so = f"{kept.count:,} of {kept.of:,} {kept.unit}s stay in {len(kept.groups)} tensors of {output}"
    tell(answer, as_json, lambda: say(say_so))
