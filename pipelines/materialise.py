"""Materialise a study or parts of it in this process: what the shell and the tests do, and the UI does by clicking."""

import contextlib
import itertools
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
from secateur.pipelines.definitions import build
from secateur.pipelines.storage.ledger import Ledger
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.signals import CHOICE
from secateur.pipelines.studies.study import AnyStudy

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MULTI = dg.MultiPartitionsDefinition
Part = Literal["scores", "subsets", "everything"]


@dataclass(frozen=True)
class Made:
    """How many assets and trials of assets were made, and how many were fresh already."""

    made: int
    fresh: int

    def __add__(self, other: "Made") -> "Made":
        return Made(self.made + other.made, self.fresh + other.fresh)


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
    file: StudyFile,
    root: Path,
    instance: dg.DagsterInstance,
    progress: ProgressDisplay | None = None,
    *,
    part: Part = "everything",
    trials: Sequence[Trial] | None = None,
    again: bool = False,
) -> Made:
    """Make a study of any kind, or a part of it; what is fresh is left alone unless `again`.

    `trials` are those that are made, all by default; with some of them what compares trials is not made, and `again`
    makes those trials anew and nothing that they share with others.

    Raises the first error of a step, and StudyError for a broken study.
    """
    if file.study is None:
        raise StudyError(file.error)
    every = list(file.study.trials)
    wanted = every if trials is None else list(trials)
    some = len(wanted) < len(every)
    work = Work(file, file.study, root, instance, part, progress, some=some)
    seeds = [Trial("", seed) for seed in sorted({trial.seed for trial in wanted})]
    made = Made(0, 0)
    for keys, cells in ((work.fixed, [None]), (work.of_seeds, seeds), (work.of_trials, wanted), (work.after, [None])):
        made += work.make(keys, cells, again=again and (cells is wanted or not some))
    return made


class Work:
    """The graph of one study in the order of work, and what a part of it needs."""

    def __init__(
        self,
        file: StudyFile,
        study: AnyStudy,
        root: Path,
        instance: dg.DagsterInstance,
        part: Part,
        progress: ProgressDisplay | None,
        *,
        some: bool,
    ) -> None:
        defs = build([file], root, progress=progress)
        self.job, self.graph = defs.resolve_implicit_global_asset_job_def(), defs.resolve_asset_graph()
        self.study, self.store, self.instance, self.some = study, Store(root), instance, some
        everything = set(self.graph.materializable_asset_keys)
        partitioned = {key for key in everything if self.graph.get(key).is_partitioned}
        by_trial = {key for key in partitioned if isinstance(self.graph.get(key).partitions_def, MULTI)}
        targets = everything
        if part == "scores":
            targets = self.with_neighbours({key for key in everything if key.path[1:2] == ["scores"]})
        elif part == "subsets":
            targets = self.with_neighbours({dg.AssetKey([study.name, name]) for name in CHOICE})
        elif some:
            targets = self.with_neighbours(by_trial)
        targets &= everything
        later = {key for key in targets - partitioned if self.above(key) & partitioned}
        self.fixed, self.of_seeds = sorted(targets - partitioned - later), sorted(targets & partitioned - by_trial)
        self.of_trials, self.after = sorted(targets & by_trial), sorted(later)
        revision = study.revision(file.path.parent, root / ".cache")
        self.freshness = Freshness(self.store, study, self.graph, revision)

    def above(self, key: dg.AssetKey) -> set[dg.AssetKey]:
        """Everything that an asset is made of."""
        return set(dg.AssetSelection.assets(key).upstream().resolve(self.graph))

    def with_neighbours(self, keys: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
        """Assets with what they are made of, and with what is made in the same steps."""
        reached: set[dg.AssetKey] = set()
        wanted = set(keys)
        while wanted != reached:
            reached = wanted
            selection = dg.AssetSelection.assets(*reached).upstream().required_multi_asset_neighbors()
            wanted = reached | set(selection.resolve(self.graph))
        return reached

    def make(self, keys: Sequence[dg.AssetKey], cells: Sequence[Trial | None], *, again: bool) -> Made:
        """Materialise what is stale of some assets, or all of it, for each trial; None stands for no trial."""
        made, todo = 0, dict[tuple[dg.AssetKey, ...], list[Trial | None]]()
        for cell in cells if keys else ():
            todo.setdefault(tuple(keys if again else self.stale(keys, cell)), []).append(cell)
        for stale, alike in todo.items():
            trials = [cell for cell in alike if cell]
            names = self.study.selection_keys if any(trial.selection for trial in trials) else [""]
            if again:
                self.forget(stale, alike)
            before = self.results(stale, alike)
            for block in blocks(trials, names) if trials else [[]]:
                self.run(stale, block)
            after = self.results(stale, alike)
            made += sum(not before[each] or before[each] != after[each] for each in before)
        return Made(made, len(keys) * len(cells) - made)

    def results(
        self, keys: Sequence[dg.AssetKey], trials: Sequence[Trial | None]
    ) -> dict[tuple[dg.AssetKey, Trial | None], set[tuple[Path, int]]]:
        """Entries of each asset's results and when they were noted, in ns: a step that takes these changes none."""
        entered: dict[tuple[dg.AssetKey, Trial | None], set[tuple[Path, int]]] = {}
        for key, trial in itertools.product(keys, trials):
            place = Ledger(self.store).place(key, trial)
            entries = [place, *place.with_suffix("").rglob("*.json")] if trial is None else [place]
            entered[key, trial] = {(entry, entry.stat().st_mtime_ns) for entry in entries if entry.exists()}
        return entered

    def stale(self, keys: Sequence[dg.AssetKey], trial: Trial | None = None) -> list[dg.AssetKey]:
        """Those of the keys to be made again: not fresh, made of such, or made in one step with such."""
        stale = {key for key in keys if not self.freshness.is_fresh(key, trial)}
        while stale:
            below = {key for key in keys if stale & set(self.graph.get(key).parent_keys)}
            steps = dg.AssetSelection.assets(*(stale | below)).required_multi_asset_neighbors().resolve(self.graph)
            more = stale | below | (set(steps) & set(keys))
            if more == stale:
                break
            stale = more
        return sorted(stale)

    def forget(self, keys: Sequence[dg.AssetKey], trials: Iterable[Trial | None]) -> None:
        """Drop what is noted of results, so that no step takes an earlier one for its own.

        What a step keeps besides, such as each evaluation of a search, stands under its asset's name after a dot. The
        trials of a study share it, so it stays where only some of them are made anew.
        """
        for key in keys:
            for trial in trials:
                Ledger(self.store).forget(key, trial)
            if not self.some:
                Ledger(self.store).forget((self.study.name, f".{key.path[1]}"))

    def run(self, keys: Sequence[dg.AssetKey], trials: Sequence[Trial] = ()) -> None:
        """Materialise assets, or a block of their trials, in this process, and note them as made."""
        if not keys:
            return
        ends = {"start": trials[0], "end": trials[-1]} if trials else {}
        tags = {f"dagster/asset_partition_range_{end}": str(trial) for end, trial in ends.items()}
        try:
            with contextlib.redirect_stdout(sys.stderr):
                self.job.execute_in_process(
                    instance=self.instance, asset_selection=keys, tags=tags, run_config=QUIET, raise_on_error=True
                )
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error  # what Ctrl-C means to everyone who calls this
        self.freshness.note(keys, trials or (None,))


def blocks(trials: Sequence[Trial], names: Sequence[str]) -> Iterator[list[Trial]]:
    """Trials in rectangles of consecutive selections and consecutive seeds, first and last at the corners.

    A range of Dagster's multi-partitions is the rectangle between its two corners; `names` are all selections in order.
    """
    spans: list[tuple[list[int], int, int]] = []
    for seeds, place in sorted(_runs(trials, names)):
        if spans and spans[-1][0] == seeds and spans[-1][2] == place - 1:
            spans[-1] = (seeds, spans[-1][1], place)
        else:
            spans.append((seeds, place, place))
    for seeds, first, last in spans:
        yield [Trial(name, seed) for name in names[first : last + 1] for seed in seeds]


def _runs(trials: Sequence[Trial], names: Sequence[str]) -> Iterator[tuple[list[int], int]]:
    """Consecutive seeds of each selection, with the selection's place."""
    for place, name in enumerate(names):
        run: list[int] = []
        for seed in sorted(trial.seed for trial in trials if trial.selection == name):
            if run and seed != run[-1] + 1:
                yield run, place
                run = []
            run = [*run, seed]
        if run:
            yield run, place
