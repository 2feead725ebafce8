"""The job `export` of the UI: exports a selection from the launchpad, without a shell."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.assets.sentences import Sentence
from secateur.pipelines.exports.registry import export, exporters
from secateur.pipelines.exports.source import described, training_rows, with_report
from secateur.pipelines.files.whole_files import inside, refuse_existing
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.rejections import checked, require
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Progress

WITHOUT_SAMPLES = ("indices", "text", "bitmap", "card")
"""Formats without samples, for which the source need not be read."""


def export_jobs(files: list[StudyFile], root: Path, name: str = "export") -> list[dg.JobDefinition]:
    """The job, if there is a study of samples to export from; it writes below `exports` beside `root`."""
    studies = {file.name: file for file in files if isinstance(file.study, Study | Choice)}
    return [export_job(studies, root, name)] if studies else []


def export_config(studies: dict[str, StudyFile]) -> type[dg.Config]:
    """The launchpad's form, with studies and formats as choices; the job checks the rest before any work."""
    # Dagster treats enums of one name as the same one, even if a process builds definitions twice.
    own = digest_of(studies=sorted(studies))[:8]
    names = Enum(f"ExportedStudy_{own}", {name: name for name in sorted(studies)})
    formats = Enum("ExportFormat", {name: name for name in exporters()})
    told = "; ".join(f"{name}: {one.summary}" for name, one in exporters().items())
    fields: dict[str, Any] = {
        "study": (names, Field(description="the study of the selection")),
        "selection": (
            str,
            Field(description="name of a selection of the study, or full; or with its budget, as band@tokens=2000000"),
        ),
        "keep": (
            float | None,
            Field(default=None, gt=0, description="one of the study's budgets; optional if it has only one"),
        ),
        "seed": (int, Field(default=0, ge=0, description="number of the repetition")),
        "epoch": (int | None, Field(default=None, ge=0, description="of a selection in training: its epoch, from 0")),
        "format": (formats, Field(description=told)),
        "settings": (dict[str, Any], Field(default={}, description="settings of the format, such as shard_rows")),
        "target": (str, Field(default="", description="name below the folder of exports; if empty, a generated one")),
        "overwrite": (bool, Field(default=False, description="replace an earlier export of that name")),
    }
    return create_model("ExportConfig", __base__=dg.Config, **fields)


def export_job(studies: dict[str, StudyFile], root: Path, name: str) -> dg.JobDefinition:
    """A job of one step: check, read, write, log the path."""
    Config = export_config(studies)
    store = Store(root)

    @dg.op(
        name=f"{name}_selection",
        description="Write the samples that a selection keeps in a format that other tools read. The output "
        "appears whole or not at all, below the folder of exports.",
        out=dg.Out(dg.Nothing),
    )
    def export_selection(
        context: dg.OpExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_progress: dg.ResourceParam[ProgressDisplay],
    ) -> None:
        chosen: Any = config
        file = studies[chosen.study.value]
        try:
            asked = Asked.of(file, chosen, store)
            told = secateur_progress.start(context, f"export to {asked.to}")  # type: ignore[arg-type]
            manifest, written = write(asked, file, root, told, context.log.warning)
        except (OSError, ValueError) as error:
            raise Sentence(str(error)) from error
        metadata = described(written, asked.to, manifest) | {"path": dg.MetadataValue.path(written.resolve())}
        context.add_output_metadata(metadata)
        # The manifest's page in the UI then shows the export's path.
        key = dg.AssetKey([file.name, file.study.manifests_of(asked.trial)])  # type: ignore[union-attr]
        context.log_event(dg.AssetObservation(asset_key=key, partition=str(asked.trial), metadata=metadata))

    @dg.job(name=name, description="Export a selection: choose it, the format and a name for it.")
    def export_graph() -> None:
        export_selection()

    return export_graph


@dataclass(frozen=True)
class Asked:
    """The launchpad's request, checked: a trial and its manifest's folder, a format, its settings, the target."""

    trial: Trial
    folder: Path
    to: str
    settings: dict[str, Any]
    target: Path
    overwrite: bool
    epoch: int | None = None

    @classmethod
    def of(cls, file: StudyFile, config: Any, store: Store) -> "Asked":
        """Check a form before any work; raises ValueError with its error."""
        assert isinstance(file.study, Study | Choice)
        to = config.format.value
        checked(exporters()[to].settings, config.settings, f"format {to}")
        trial = trial_of(file.study, config.selection, config.keep, config.seed)
        asset = file.study.manifests_of(trial)
        folder = store.find(dg.AssetKey([file.study.name, asset]), trial)
        if folder is None:
            raise ValueError(f"{file.study.name}/{asset} has no partition {trial} yet: materialise it, then export it")
        manifest = at(Manifest.load(folder, verify=False), config.epoch)
        at_epoch = "" if config.epoch is None else f"/epoch-{config.epoch}"
        made_up = (
            f"{file.study.name}/{trial.selection}/{trial.seed}{at_epoch}/{to}{exporters()[to].suffix_for(manifest)}"
        )
        target = inside(store.root.parent / "exports", config.target or made_up)
        refuse_existing(target, overwrite=config.overwrite, option="overwrite: true")
        return cls(trial, folder, to, config.settings, target, config.overwrite, config.epoch)


def at(manifest: Manifest, epoch: int | None) -> Manifest:
    """A manifest, restricted to `epoch` unless that is None."""
    return manifest if epoch is None else manifest.at(epoch)


def write(
    asked: Asked, file: StudyFile, root: Path, told: Progress, warn: Callable[[str], None]
) -> tuple[Manifest, Path]:
    """Write the export; reads the source only for formats with samples."""
    manifest = at(Manifest.load(asked.folder, verify=True), asked.epoch)
    written = export(
        manifest,
        asked.to,
        asked.target,
        dataset=None if asked.to in WITHOUT_SAMPLES else training_rows(file, root, asked.to),
        settings=with_report(asked.to, asked.settings, manifest, root),
        overwrite=asked.overwrite,
        progress=told,
        warn=warn,
    )
    assert isinstance(written, Path)  # the target is a local path below the home
    return manifest, written


def trial_of(study: Study | Choice, selection: str, keep: float | None, seed: int) -> Trial:
    """The study's trial; raises ValueError, with the known values, for an unknown selection, budget or seed."""
    found: dict[str, list[Trial]] = {key: [Trial(key, seed)] for key in study.selection_keys}
    for key in study.selection_keys:
        if Trial(key, seed).name != key:
            found.setdefault(Trial(key, seed).name, []).append(Trial(key, seed))
    require(selection, found, "selection")
    if seed >= study.seeds:
        raise ValueError(f"seed: the study has the seeds 0 … {study.seeds - 1}, got {seed}")
    trials = [trial for trial in found[selection] if keep is None or trial.budget == keep]
    if len(trials) != 1:
        budgets = ", ".join(str(trial.budget) for trial in found[selection])
        raise ValueError(f"keep: {selection} has the budgets {budgets}; name one, got {keep}")
    return trials[0]
