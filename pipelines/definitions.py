"""The code location that Dagster loads: every study that ships and every study of the user's folder."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import dagster as dg

from secateur.pipelines.assets.ad_hoc_selection import ad_hoc_job, ad_hoc_spec
from secateur.pipelines.assets.architectures import search_assets
from secateur.pipelines.assets.data import prepare_asset
from secateur.pipelines.assets.embeddings import embeddings_asset, neighbours_asset
from secateur.pipelines.assets.export_job import export_jobs
from secateur.pipelines.assets.recurring import Recurrence, recurrence
from secateur.pipelines.assets.resources import IO_MANAGER, ProgressDisplay, StoreIOManager
from secateur.pipelines.assets.scores import proxy_asset, score_asset
from secateur.pipelines.assets.scoring_pass import checkpoint_scores_of, scoring_pass_asset
from secateur.pipelines.assets.subsets import manifest_asset, subset_asset
from secateur.pipelines.assets.teacher import teacher_assets
from secateur.pipelines.assets.training import evaluation_asset, report_asset, trained_model_asset
from secateur.pipelines.assets.tuning import tuning_asset
from secateur.pipelines.assets.units import unit_assets
from secateur.pipelines.storage.home import home as home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile, read_studies, study_folders
from secateur.pipelines.studies.samples import Study
from secateur.scorers.contract import Scorer


def study_assets(study: Study, base: Path) -> list[dg.AssetsDefinition]:
    """The assets of one study; relative paths in it start at `base`."""
    return [
        prepare_asset(study, base),
        proxy_asset(study),
        *([embeddings_asset(study, base)] if "embeddings" in study.signals else []),
        *([neighbours_asset(study)] if study.signals - {"embeddings"} else []),
        *([scoring_pass_asset(study)] if checkpoint_scores_of(study) else []),
        *(score_asset(study, name) for name, score in study.scores.items() if isinstance(score.declared, Scorer)),
        *teacher_assets(study, base),
        tuning_asset(study),
        subset_asset(study),
        manifest_asset(study),
        trained_model_asset(study),
        evaluation_asset(study),
        report_asset(study),
    ]


def broken_asset(file: StudyFile) -> dg.AssetsDefinition:
    """Stands for a study that could not be read, shows why and fails when materialised."""

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=dg.AssetKey([file.name, "broken_study"]),
        description=f"This study could not be read:\n\n```\n{file.error}\n```",
        group_name="broken_studies",
        metadata={"error": file.error, "file": dg.MetadataValue.path(file.path)},
        kinds={"yaml"},
    )
    def broken_study() -> None:
        raise dg.Failure(file.error, allow_retries=False)

    return broken_study


def resources_of(root: Path, progress: ProgressDisplay | None = None) -> dict[str, Any]:
    """What assets ask Dagster for, by key: the files below `root`, and who is told of progress."""
    store = Store(root)
    return {
        IO_MANAGER: StoreIOManager(store),
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
    executor: dg.ExecutorDefinition | None = dg.in_process_executor,
    **overrides: Any,
) -> dg.Definitions:
    """Definitions of these studies with their files below `root`; `overrides` replace resources by name.

    `searches` are defined beside these; `export` is the name of the job that hands selections over.
    """
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    searched = {file.study.proxy_from for file in files if file.study and file.study.proxy_from}
    # A search that is nowhere now was run before: what it found is in the store.
    for name in sorted(searched - {file.search.name for file in files if file.search} - set(searches)):
        assets.append(dg.AssetSpec(dg.AssetKey([name, "best_architecture"])).with_io_manager_key(IO_MANAGER))
    again: list[Recurrence] = []
    for file in files:
        base = file.path.parent
        if file.search:
            assets += search_assets(file.search, base)
        elif file.pruning:
            assets += unit_assets(file.pruning)
        elif file.study is None:
            assets.append(broken_asset(file))
        elif file.study.recurring is None:
            assets += study_assets(file.study, base)
        else:
            again.append(recurrence(file.study, base, study_assets(file.study, base)))
            assets += again[-1].assets
    studies = [file.study for file in files if file.study]
    assets += [ad_hoc_spec(study) for study in studies]
    return dg.Definitions(
        assets=assets,
        jobs=[
            *export_jobs(files, root, export),
            *map(ad_hoc_job, studies),
            *(job for each in again for job in each.jobs),
        ],
        schedules=[schedule for each in again for schedule in each.schedules],
        sensors=[sensor for each in again for sensor in each.sensors],
        resources=resources_of(root, progress) | overrides,
        executor=executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build(read_studies(study_folders()), home() / "assets")
