"""Run a study of units in this process, whole or some of its cells: what the shell does, and the UI by clicking."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from secateur.pipelines.cells import Cell
from secateur.pipelines.definitions import build
from secateur.pipelines.progress import Progress
from secateur.pipelines.run import blocks, execute
from secateur.pipelines.store import Store
from secateur.pipelines.study_file import StudyError, StudyFile


def run_units(
    file: StudyFile,
    root: Path,
    instance: dg.DagsterInstance,
    progress: Progress | None = None,
    *,
    cells: Sequence[Cell] | None = None,
    again: bool = False,
) -> None:
    """Prepare the seeds and run the cells, all by default; what was run before of the same inputs is left alone.

    With all cells the report is made, too. `again` runs everything anew. Raises the first error of a step.
    """
    study = file.pruning
    if study is None:
        raise StudyError(f"{file.name} is no study of `kind: pruning`")
    store, wanted = Store(root), list(study.cells if cells is None else cells)
    seeds = sorted({cell.seed for cell in wanted})
    prepared, pruned = dg.AssetKey([study.name, "prepared"]), dg.AssetKey([study.name, "pruned"])
    if again:
        for seed in seeds if cells is None else ():
            forget(store, dg.AssetKey([study.name, "prepared_record"]), Cell("", seed))
        for cell in wanted:
            forget(store, pruned, cell)
    job = build([file], root, progress=progress).resolve_implicit_global_asset_job_def()
    for seed in seeds:
        execute(job, instance, [prepared], [Cell("", seed)])
    for block in blocks(wanted, study):
        execute(job, instance, [pruned], block)
    if len(wanted) == len(list(study.cells)):
        execute(job, instance, [dg.AssetKey([study.name, "report"])])


def forget(store: Store, key: dg.AssetKey, cell: Cell) -> None:
    """Remove the record by which a cell would be taken for done."""
    path = store.find(key, cell)
    if path is not None:
        path.unlink()
