"""Materialise a whole study in this process: what the shell and the tests do, and the UI does by clicking."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from secateur.pipelines.definitions import build
from secateur.pipelines.progress import Progress
from secateur.pipelines.store import Store
from secateur.pipelines.study_file import StudyError, StudyFile

CELLS = ("subset", "manifest", "trained_model", "evaluation")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class UnusableData(ValueError):
    """Samples that no model can be shown; the text names their rows."""


def prepare_instance(home: Path) -> Path:
    """Dagster's folder below `home`, made with our settings where there is none."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        shutil.copyfile(Path(__file__).with_name("dagster.yaml"), config)
    return folder


@contextmanager
def instance_at(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's own records below `home`, so that the UI shows what was run from the shell."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(prepare_instance(home))
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def run_study(file: StudyFile, root: Path, instance: dg.DagsterInstance, progress: Progress | None = None) -> None:
    """Materialise every asset and every cell.

    Raises the first error of a step, StudyError for a broken study, and UnusableData where the data check finds samples
    that cannot be used, before anything is trained.
    """
    if file.search:
        defs = build([file], root, progress=progress)
        defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, run_config=QUIET)
        return
    if file.study is None:
        raise StudyError(file.error)
    study, defs = file.study, build([file], root, progress=progress)
    job = defs.resolve_implicit_global_asset_job_def()
    every = set(defs.resolve_asset_graph().materializable_asset_keys)
    cells = {dg.AssetKey([study.name, name]) for name in CELLS}
    report = dg.AssetKey([study.name, "report"])
    listed = [str(cell) for cell in study.cells]
    spread = {"dagster/asset_partition_range_start": listed[0], "dagster/asset_partition_range_end": listed[-1]}
    for selection, tags in ((every - cells - {report}, {}), (cells, spread), ({report}, {})):
        try:
            job.execute_in_process(
                instance=instance, asset_selection=sorted(selection), tags=tags, run_config=QUIET, raise_on_error=True
            )
        except dg.DagsterError as error:
            if "data_quality" not in str(error):
                raise
            problems = Store(root).load(dg.AssetKey([study.name, "data_report"]))["problems"]
            raise UnusableData(f"{study.name}: {'; '.join(problems) or error}") from error
