"""The code location that Dagster loads: the studies of the user's folder, and shipped ones that ran here.

With SECATEUR_EXAMPLES, which `secateur ui --examples` sets, it has all shipped studies.
"""

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from secateur.pipelines.assets.architectures import search_definitions
from secateur.pipelines.assets.choice import choice_definitions
from secateur.pipelines.assets.export_job import export_jobs
from secateur.pipelines.assets.named import with_leftovers
from secateur.pipelines.assets.resources import IO_MANAGER, ProgressDisplay, StoreIOManager
from secateur.pipelines.assets.running import dead_runs, one_at_a_time
from secateur.pipelines.assets.samples import sample_definitions
from secateur.pipelines.assets.sentences import Sentence
from secateur.pipelines.assets.units import unit_definitions
from secateur.pipelines.files.shown_text import visible
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile, all_studies
from secateur.pipelines.studies.samples import Study

BUILDERS: Mapping[str, Callable[[Any, Path], dg.Definitions]] = {
    "choice": choice_definitions,
    "samples": sample_definitions,
    "search": search_definitions,
    "pruning": unit_definitions,
}
"""Builders of Dagster's definitions from a study and the folder of its relative paths, by kind."""


def broken_asset(file: StudyFile) -> dg.AssetsDefinition:
    """A placeholder for an unreadable study: it shows the reason and fails when materialised."""
    shown = visible(file.error).replace("```", "'''")

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=dg.AssetKey([file.name, "broken_study"]),
        description=f"This study could not be read:\n\n```\n{shown}\n```",
        group_name="broken_studies",
        metadata={"error": file.error, "file": dg.MetadataValue.path(file.path)},
        kinds={"yaml"},
    )
    def broken_study() -> None:
        raise Sentence(file.error)

    return broken_study


def resources_of(root: Path, progress: ProgressDisplay | None = None) -> dict[str, Any]:
    """Resources of the assets by key: the files below `root`, and the display of progress."""
    store = Store(root)
    return {
        IO_MANAGER: StoreIOManager(store, progress),
        "secateur_store": store,
        "secateur_progress": progress or ProgressDisplay(),
    }


def build(
    files: list[StudyFile],
    root: Path,
    *,
    progress: ProgressDisplay | None = None,
    searches: Collection[str] = (),
    export: str = "export",
    own_executor: bool = True,
    **overrides: Any,
) -> dg.Definitions:
    """Definitions of these studies with their files below `root`; `overrides` replace resources by name.

    `searches` are defined beside these; `export` is the name of the job that exports selections. Runs take our
    executor, which keeps two of them from making one study at once, or else that of the project.
    """
    studies = [file.study for file in files if isinstance(file.study, Study)]
    searched = {study.proxy_from for study in studies if study.proxy_from}
    # A search without a file ran before: its result is in the store.
    before = sorted(searched - {file.name for file in files if file.study} - set(searches))
    keys = [dg.AssetKey([name, "best_architecture"]) for name in before]
    return dg.Definitions.merge(
        *(with_leftovers(file, definitions_of(file), root) if file.study else definitions_of(file) for file in files),
        dg.Definitions(
            assets=[dg.AssetSpec(key).with_io_manager_key(IO_MANAGER) for key in keys],
            jobs=export_jobs(files, root, export),
            resources=resources_of(root, progress) | overrides,
            executor=one_at_a_time(root) if own_executor else None,
        ),
    )


def definitions_of(file: StudyFile) -> dg.Definitions:
    """Dagster's definitions of one file, readable or not."""
    if file.study is None:
        return dg.Definitions([broken_asset(file)])
    return BUILDERS[file.study.kind](file.study, file.path.parent)


@dg.definitions
def defs() -> dg.Definitions:
    warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")  # we use beta features
    root = marked_home() / "assets"
    every = bool(os.environ.get("SECATEUR_EXAMPLES"))
    studies = build(all_studies(lambda name: every or (root / name).is_dir()), root)
    return dg.Definitions.merge(studies, dg.Definitions(sensors=[dead_runs]))
