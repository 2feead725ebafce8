"""Materialise a study or parts of it in this process: what the shell and the tests do, and the UI does by clicking."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg

from secateur.pipelines.assets.freshness import Freshness
from secateur.pipelines.assets.resources import ACCELERATOR, ProgressDisplay
from secateur.pipelines.data.sources import load
from secateur.pipelines.definitions import build
from secateur.pipelines.storage.ledger import Ledger
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.grid import Grid, Trial
from secateur.pipelines.studies.samples import Study

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Stage = Literal["scores", "subsets", "models", "everything"]
TARGETS: dict[Stage, tuple[str, ...]] = {
    "scores": (),
    "subsets": ("subset", "manifest"),
    "models": ("subset", "manifest", "trained_model", "evaluation"),
}


class UnusableData(ValueError):
    """Samples that no model can be shown; the text names their rows."""


@dataclass(frozen=True)
class Made:
    """How many assets and trials of assets were made, and how many were fresh already."""

    made: int
    fresh: int


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


def set_pools(instance: dg.DagsterInstance) -> None:
    """Give the pool of the accelerator its default limit, where it has none yet.

    The queue only knows pools that have one: without it the first two runs in the queue would start together.
    """
    instance.event_log_storage.initialize_concurrency_limit_to_default(ACCELERATOR)


def run_study(
    file: StudyFile, root: Path, instance: dg.DagsterInstance, progress: ProgressDisplay | None = None
) -> None:
    """Materialise every asset and every trial anew, be it a study or a search; raises as `materialise` does.

    Arms of a study of units that were run before of the same inputs are not run again.
    """
    if file.pruning:
        run_units(file, root, instance, progress)
        return
    if not file.search:
        materialise(file, root, instance, "everything", progress=progress, again=True)
        return
    defs = build([file], root, progress=progress)
    defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, run_config=QUIET)


def materialise(
    file: StudyFile,
    root: Path,
    instance: dg.DagsterInstance,
    part: Stage,
    *,
    trials: Sequence[Trial] | None = None,
    progress: ProgressDisplay | None = None,
    again: bool = False,
) -> Made:
    """Materialise a part of a study's graph and all that it is made of; what is fresh is left alone unless `again`.

    `trials` are those wanted of subsets and models, all by default. Raises the first error of a step, StudyError for
    a broken study, and UnusableData where the data check finds samples that cannot be used, before anything is trained.
    """
    if file.study is None:
        raise StudyError(file.error or f"{file.name} is no study of samples; it is run as a whole")
    work = Work(file, file.study, root, instance, part, progress)
    fixed, of_trials = work.fixed, work.of_trials
    stale = fixed if again else work.stale(fixed)
    work.run(stale)
    made = len(stale)
    wanted = list(file.study.trials if trials is None else trials)
    todo: dict[tuple[dg.AssetKey, ...], list[Trial]] = {}
    for trial in wanted:
        todo.setdefault(tuple(of_trials if again else work.stale(of_trials, trial)), []).append(trial)
    for keys, alike in todo.items():
        made += len(keys) * len(alike)
        for block in blocks(alike, file.study):
            work.run(keys, block)
    after = work.after_trials if again else work.stale(work.after_trials)
    work.run(after)
    every = len(fixed) + len(of_trials) * len(wanted) + len(work.after_trials)
    return Made(made + len(after), every - made - len(after))


class Work:
    """The graph of one study, and what a part of it needs."""

    def __init__(
        self,
        file: StudyFile,
        study: Study,
        root: Path,
        instance: dg.DagsterInstance,
        part: Stage,
        progress: ProgressDisplay | None,
    ) -> None:
        defs = build([file], root, progress=progress)
        self.job, self.graph = defs.resolve_implicit_global_asset_job_def(), defs.resolve_asset_graph()
        self.study, self.store, self.instance = study, Store(root), instance
        everything = set(self.graph.materializable_asset_keys)
        trials = {key for key in everything if self.graph.get(key).is_partitioned}
        named = {dg.AssetKey([study.name, name]) for name in TARGETS.get(part, ())}
        if part == "scores":
            named = {key for key in everything if key.path[1:2] == ["scores"]}
        targets = everything if part == "everything" else self.with_neighbours(named) & everything
        later = {key for key in targets - trials if self.above(key) & trials}
        self.fixed = sorted(targets - trials - later)
        self.of_trials, self.after_trials = sorted(targets & trials), sorted(later)
        revision = load(study.source, study.columns, file.path.parent, root / ".cache").revision
        self.freshness = Freshness(self.store, study, self.graph, revision)

    def above(self, key: dg.AssetKey) -> set[dg.AssetKey]:
        """Everything that an asset is made of."""
        found: set[dg.AssetKey] = set(dg.AssetSelection.assets(key).upstream().resolve(self.graph))
        return found

    def with_neighbours(self, keys: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
        """Assets with what they are made of, and with what is made in the same steps."""
        found: set[dg.AssetKey] = set()
        wanted = set(keys)
        while wanted != found:
            found = wanted
            selection = dg.AssetSelection.assets(*found).upstream().required_multi_asset_neighbors()
            wanted = found | set(selection.resolve(self.graph))
        return found

    def stale(self, keys: Sequence[dg.AssetKey], trial: Trial | None = None) -> list[dg.AssetKey]:
        """Those of the keys to be made again: not fresh, made of such, or made in one step with such."""
        found = {key for key in keys if not self.freshness.is_fresh(key, trial)}
        while found:
            below = {key for key in keys if found & set(self.graph.get(key).parent_keys)}
            steps = dg.AssetSelection.assets(*(found | below)).required_multi_asset_neighbors().resolve(self.graph)
            more = found | below | (set(steps) & set(keys))
            if more == found:
                break
            found = more
        return sorted(found)

    def run(self, keys: Sequence[dg.AssetKey], trials: Sequence[Trial] = ()) -> None:
        """Materialise assets, or a block of their trials, and note them as made."""
        if not keys:
            return
        try:
            execute(self.job, self.instance, keys, trials)
        except dg.DagsterError as error:
            if "data_quality" not in str(error):
                raise
            problems = self.store.load(dg.AssetKey([self.study.name, "data_report"]))["problems"]
            raise UnusableData(f"{self.study.name}: {'; '.join(problems) or error}") from error
        self.freshness.note(keys, trials or (None,))


def execute(
    job: dg.JobDefinition, instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey], trials: Sequence[Trial] = ()
) -> None:
    """Materialise assets, or a block of their trials, in this process; raises the first error of a step."""
    ends = {"start": trials[0], "end": trials[-1]} if trials else {}
    tags = {f"dagster/asset_partition_range_{end}": str(trial) for end, trial in ends.items()}
    with contextlib.redirect_stdout(sys.stderr):
        job.execute_in_process(
            instance=instance, asset_selection=keys, tags=tags, run_config=QUIET, raise_on_error=True
        )


def blocks(trials: Sequence[Trial], study: Grid) -> Iterator[list[Trial]]:
    """Trials in rectangles of consecutive selections and consecutive seeds, first and last at the corners.

    A range of Dagster's multi-partitions is the rectangle between its two corners.
    """
    spans: list[tuple[list[int], int, int]] = []
    for seeds, place in sorted(_runs(trials, study)):
        if spans and spans[-1][0] == seeds and spans[-1][2] == place - 1:
            spans[-1] = (seeds, spans[-1][1], place)
        else:
            spans.append((seeds, place, place))
    for seeds, first, last in spans:
        names = study.selection_keys[first : last + 1]
        yield [Trial(name, seed) for name in names for seed in seeds]


def _runs(trials: Sequence[Trial], study: Grid) -> Iterator[tuple[list[int], int]]:
    """Consecutive seeds of each selection, with the selection's place."""
    for place, name in enumerate(study.selection_keys):
        run: list[int] = []
        for seed in sorted(trial.seed for trial in trials if trial.selection == name):
            if run and seed != run[-1] + 1:
                yield run, place
                run = []
            run = [*run, seed]
        if run:
            yield run, place


def run_units(
    file: StudyFile,
    root: Path,
    instance: dg.DagsterInstance,
    progress: ProgressDisplay | None = None,
    *,
    trials: Sequence[Trial] | None = None,
    again: bool = False,
) -> None:
    """Prepare the seeds and run the trials, all by default; what was run before of the same inputs is left alone.

    With all trials the report is made, too. `again` runs everything anew. Raises the first error of a step.
    """
    study = file.pruning
    if study is None:
        raise StudyError(f"{file.name} is no study of `kind: pruning`")
    store, wanted = Store(root), list(study.trials if trials is None else trials)
    seeds = sorted({trial.seed for trial in wanted})
    prepared, pruned = dg.AssetKey([study.name, "prepared"]), dg.AssetKey([study.name, "pruned"])
    if again:
        for seed in seeds if trials is None else ():
            Ledger(store).forget(prepared, Trial("", seed))
        for trial in wanted:
            Ledger(store).forget(pruned, trial)
    job = build([file], root, progress=progress).resolve_implicit_global_asset_job_def()
    for seed in seeds:
        execute(job, instance, [prepared], [Trial("", seed)])
    for block in blocks(wanted, study):
        execute(job, instance, [pruned], block)
    if len(wanted) == len(list(study.trials)):
        execute(job, instance, [dg.AssetKey([study.name, "report"])])
