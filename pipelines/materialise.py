"""Materialise a study or parts of it in this process, for the shell and the tests; the UI does the same on a click."""

import contextlib
import itertools
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import dagster as dg

from secateur.pipelines.assets.freshness import Freshness
from secateur.pipelines.assets.records import quick_records
from secateur.pipelines.assets.resources import ACCELERATOR, ProgressDisplay, stage_of
from secateur.pipelines.assets.running import RUNS, alive, gate, mark_dead
from secateur.pipelines.assets.shell_runs import run_here
from secateur.pipelines.data.source_digests import digested_by
from secateur.pipelines.definitions import build
from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.pages.stages import first_stage, needed
from secateur.pipelines.runs.audit_told import audited_content
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.runs.outcomes import outcomes_at
from secateur.pipelines.runs.proxy import contents_searched
from secateur.pipelines.runs.ray_digests import elsewhere_of
from secateur.pipelines.storage.ledger import Ledger
from secateur.pipelines.storage.store import Store
from secateur.pipelines.storage.study_lock import study_lock
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.named_inputs import refuse_changed_code
from secateur.pipelines.studies.signals import CHOICE
from secateur.pipelines.studies.study import AnyStudy

MULTI = dg.MultiPartitionsDefinition
Part = Literal["scores", "subsets", "everything", "audit", "audit_inputs"]
"""`audit_inputs` are the inputs of an audit, without the audit."""


@dataclass(frozen=True)
class Made:
    """The number of assets and trials of assets that were made, and of those that were fresh already."""

    made: int
    fresh: int
    trials: list[Trial] = field(default_factory=list, compare=False)
    """The trials, in the order of the study."""

    def __add__(self, other: "Made") -> "Made":
        return Made(self.made + other.made, self.fresh + other.fresh)

    def counts(self) -> dict[str, int]:
        """The numbers for JSON."""
        return {"made": self.made, "fresh": self.fresh}


def prepare_instance(home: Path) -> Path:
    """Dagster's folder below `home`, created with our settings if it does not exist."""
    config = home / "dagster" / "dagster.yaml"
    if not config.exists():
        write_bytes(config, Path(__file__).with_name("dagster.yaml").read_bytes(), overwrite=True)
    return config.parent


@contextmanager
def instance_at(home: Path, told: Callable[[str], None] = lambda _: None) -> Iterator[dg.DagsterInstance]:
    """Dagster's own records below `home`, so that the UI shows runs of the shell.

    First marks runs whose process was killed as failed; `told` gets a sentence about each.
    """
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(prepare_instance(home))
    try:
        with quick_records():
            with gate(home / "dagster" / RUNS):  # two processes that create its tables at once fail
                instance = dg.DagsterInstance.get()
            with instance:
                for text in mark_dead(instance):
                    told(text)
                yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def set_pools(instance: dg.DagsterInstance) -> None:
    """Give the pool of the accelerator its default limit, unless it has one.

    The queue only knows pools with a limit: without it the first two runs in the queue would start together.
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
    waits: Callable[[str], None] | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Made:
    """Make a study of any kind, or a part of it; fresh results are skipped unless `again`.

    `told` gets a sentence about each stored file that was changed, and whose asset is made again.

    `trials` are the trials to make, by default all that the study needs; outcomes decide these where its seeds come in
    stages or its budgets are refined. With some of them, assets that compare trials are not made, and `again` makes
    those trials anew but nothing that they share with others. Where another process makes the study, `waits` gets a
    sentence about it, and this call continues when that one has ended.

    Raises the first error of a step, StudyError for a broken study, and, without `waits`, Held where another process
    makes it.
    """
    if file.study is None:
        raise StudyError(file.error)
    wanted = first_stage(file.study) if trials is None else list(trials)
    some = trials is not None and len(wanted) < len(list(file.study.trials))
    with study_lock(root, file.study.name, waits=waits):
        work = Work(file, file.study, root, instance, part, progress, told, some=some)
        made = work.make(work.fixed, [None], again=again and not some)
        made += work.make_trials(wanted, again=again)
        while trials is None and part == "everything" and (more := work.next_stage(wanted)):
            made += work.make_trials(more, again=again)
            wanted += more
        made += work.make(work.after, [None], again=again and not some)
    order = {trial: place for place, trial in enumerate(file.study.trials)}
    return replace(made, trials=sorted(wanted, key=order.__getitem__))


def seeds_of(trials: Iterable[Trial]) -> list[Trial]:
    """The seeds of some trials, each as a trial without a selection."""
    return [Trial("", seed) for seed in sorted({trial.seed for trial in trials})]


def to_make(
    file: StudyFile, root: Path, trials: Sequence[Trial], *, again: bool = False
) -> tuple[dict[str, list[Trial | None]], int]:
    """The work of `run_study` now, as trials by asset without the study's name, and the number of fresh ones.

    Nothing is made, recorded or locked. Assets downstream of one to be made count as work, though they stay fresh if
    its result does not change.
    """
    if file.study is None:
        raise StudyError(file.error)
    some = len(trials) < len(list(file.study.trials))
    work = Work(file, file.study, root, None, "everything", None, lambda _: None, some=some)
    stale, found, fresh = set[dg.AssetKey](), dict[str, list[Trial | None]](), 0
    for keys, cells in work.stages(trials):
        anew = again and (cells is trials or not some)
        behind = {key for key in keys if work.above(key) & stale}
        for cell in cells:
            made = set(keys) if anew else set(work.stale(keys, cell)) | behind
            fresh += len(keys) - len(made)
            for key in sorted(made):
                found.setdefault("/".join(key.path[1:]), []).append(cell)
        stale |= {key for key in keys if found.get("/".join(key.path[1:]))} if cells == [None] else set()
    return found, fresh


class Work:
    """The graph of one study in the order of work, and the assets of a part of it."""

    def __init__(
        self,
        file: StudyFile,
        study: AnyStudy,
        root: Path,
        instance: dg.DagsterInstance | None,
        part: Part,
        progress: ProgressDisplay | None,
        told: Callable[[str], None],
        *,
        some: bool,
    ) -> None:
        defs = build([file], root, progress=progress)
        self.job, self.graph = defs.resolve_implicit_global_asset_job_def(), defs.resolve_asset_graph()
        self.study, self.store, self.instance, self.some = study, Store(root), instance, some
        self.progress = progress or ProgressDisplay()
        self.progress.stage("comparing stored results with the study")
        everything = set(self.graph.materializable_asset_keys)
        partitioned = {key for key in everything if self.graph.get(key).is_partitioned}
        by_trial = {key for key in partitioned if isinstance(self.graph.get(key).partitions_def, MULTI)}
        audits = {key for key in everything if key.path[1] == "audit"}
        targets = everything - audits
        if part in ("audit", "audit_inputs"):
            targets = self.with_neighbours(audits) - (audits if part == "audit_inputs" else set())
        elif part == "scores":
            targets = self.with_neighbours({key for key in everything if key.path[1] in ("scores", "yardstick")})
        elif part == "subsets":
            targets = self.with_neighbours({dg.AssetKey([study.name, name]) for name in CHOICE} & everything)
        elif some:
            targets = self.with_neighbours(by_trial)
        targets &= everything
        later = {key for key in targets - partitioned if self.above(key) & partitioned}
        self.fixed, self.of_seeds = sorted(targets - partitioned - later), sorted(targets & partitioned - by_trial)
        self.of_trials, self.after = sorted(targets & by_trial), sorted(later)
        refuse_changed_code(study, *study.resolved.values())
        with digested_by(elsewhere_of(study)):
            contents = study.contents(file.path.parent, root / ".cache")
        named = contents | contents_searched(study, self.store) | audited_content(study, self.store)
        self.freshness = Freshness(self.store, study, self.graph, named, told)

    def stages(self, trials: Sequence[Trial]) -> Iterator[tuple[list[dg.AssetKey], Sequence[Trial | None]]]:
        """Assets in the order of work, each with its cells: None, seeds, these trials, None."""
        yield self.fixed, [None]
        yield self.of_seeds, seeds_of(trials)
        yield self.of_trials, trials
        yield self.after, [None]

    def above(self, key: dg.AssetKey) -> set[dg.AssetKey]:
        """An asset and everything upstream of it."""
        return set(dg.AssetSelection.assets(key).upstream().resolve(self.graph))

    def with_neighbours(self, keys: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
        """Assets with everything upstream of them, and with assets that are made in the same steps."""
        reached: set[dg.AssetKey] = set()
        wanted = set(keys)
        while wanted != reached:
            reached = wanted
            selection = dg.AssetSelection.assets(*reached).upstream().required_multi_asset_neighbors()
            wanted = reached | set(selection.resolve(self.graph))
        return reached

    def make_trials(self, trials: Sequence[Trial], *, again: bool) -> Made:
        """Make the assets of the trials' seeds, then those of the trials."""
        made = self.make(self.of_seeds, seeds_of(trials), again=again and not self.some)
        return made + self.make(self.of_trials, trials, again=again)

    def next_stage(self, done: Sequence[Trial]) -> list[Trial]:
        """Trials that the outcomes of earlier ones require.

        Outcomes of other trials for former samples are removed from the store: the report would read them.
        """
        study = self.study
        if not study.outcome_asset:  # without outcomes no further trial is required
            return []
        source = (study.name, "source")
        known = self.store.load(source) if self.store.find(source) else None
        wanted = needed(study, metrics_of(study, known), outcomes_at(self.store, study, done))
        more = [trial for trial in wanted if trial not in set(done)]
        key = (study.name, study.outcome_asset)
        for trial in [] if more else set(study.trials) - set(done):
            if self.store.find(key, trial) and self.store.outdated(key, trial):
                self.store.remove(key, trial)
        return more

    def make(self, keys: Sequence[dg.AssetKey], cells: Sequence[Trial | None], *, again: bool) -> Made:
        """Materialise the stale ones of some assets, or all with `again`, for each trial; None stands for no trial."""
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
        """Entries of each asset's results and their times, in ns: a step that reuses its results changes none."""
        entered: dict[tuple[dg.AssetKey, Trial | None], set[tuple[Path, int]]] = {}
        for key, trial in itertools.product(keys, trials):
            place = Ledger(self.store).place(key, trial)
            entries = [place, *place.with_suffix("").rglob("*.json")] if trial is None else [place]
            entered[key, trial] = {(entry, entry.stat().st_mtime_ns) for entry in entries if entry.exists()}
        return entered

    def stale(self, keys: Sequence[dg.AssetKey], trial: Trial | None = None) -> list[dg.AssetKey]:
        """The keys to make again: stale ones, those downstream of stale ones, and those in one step with them."""
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
        """Drop the entries of results, so that no step reuses an earlier one.

        Further results of a step, such as each evaluation of a search, stand under its asset's name after a dot. The
        trials of a study share them, so they stay if only some trials are made anew.
        """
        for key in keys:
            for trial in trials:
                Ledger(self.store).forget(key, trial)
            if not self.some:
                Ledger(self.store).forget((self.study.name, f".{key.path[1]}"))

    def run(self, keys: Sequence[dg.AssetKey], trials: Sequence[Trial] = ()) -> None:
        """Materialise assets, or a block of their trials, in this process, and record them as made."""
        if not keys:
            return
        assert self.instance is not None
        self.progress.stage(stage_of("__".join(keys[0].path)))
        ends = {"start": trials[0], "end": trials[-1]} if trials else {}
        tags = {f"dagster/asset_partition_range_{end}": str(trial) for end, trial in ends.items()}
        run_id = str(uuid.uuid4())
        try:
            with contextlib.redirect_stdout(sys.stderr), alive(self.instance, run_id):
                run_here(self.job, self.instance, keys, run_id=run_id, tags=tags)
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error  # the error of Ctrl-C for all callers
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
