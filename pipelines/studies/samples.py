"""A study of samples: one data set, one group of assets; wrong settings are rejected when it loads."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.studies.grid import KD, OWN, Trial, budgets_between, selection_key
from secateur.pipelines.studies.lengths import Length, keys_at_steps, refuse_lengths
from secateur.pipelines.studies.problem import refuse_missing
from secateur.pipelines.studies.rejections import checked, require, shipped
from secateur.pipelines.studies.sample_keys import BASELINES, SampleKeys
from secateur.pipelines.studies.scores import Score, refuse_impossible, require_score
from secateur.pipelines.studies.sections import TimeTo
from secateur.pipelines.studies.selection import Selection
from secateur.pipelines.studies.signals import CHOICE, DATA, SCORING, SIGNALS, made_by_assets
from secateur.scorers.registry import AnyScorer, scorers
from secateur.scorers.settings import Settings
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import ENCODINGS, Encoding, encoding_of
from secateur.trainers.models.registry import check_settings
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask, own_task

SHOWN = {"report_samples", "compare_at"}
IDLE = {"kind", "description", "recurring", *SHOWN}
"""Keys of a study that decide nothing about what is made but, those of `SHOWN`, the report; others decide."""
OF_THE_REPORT = {"keep", "refine", "margin", "metric", "cost_per_hour", "seeds", "looks"}
AFTER_SCORES = IDLE | OF_THE_REPORT | {"selections", "time_to", "training", "validation", "distillation"}


class Study(SampleKeys):
    """A study of samples: one data set, its scores, selections of it, and models trained on what they keep."""

    model_config = ConfigDict(json_schema_extra=shipped("digits"))

    arm: ClassVar[str] = "selection"
    titles: ClassVar[Mapping[str, str]] = {
        "uniform_random": "random",
        "stratified_random": "stratified random",
        "full": "full set",
    }
    outcome_asset: ClassVar[str] = "evaluation"

    kind: Annotated[Literal["samples"], Field(description="tells a study of samples from the other kinds")] = "samples"

    @model_validator(mode="after")
    def _task_and_data_fit(self) -> "Study":
        no_aum = "aum" not in self.scores if self.task.own else "margin" in self.task.declared.lacks
        for name, selection in self.selections.items():
            if no_aum and selection.cut_by is None and "aum" in selection.reads:
                self.selections[name] = selection.model_copy(update={"cut_by": "score"})
        if self.task.own:
            if unread := [key for key in ("source", "columns", "encoding") if getattr(self, key)]:
                raise ValueError(f"{unread[0]}: the task {self.task.kind} brings its samples with it; leave it out")
            if self.data != DataPolicy():
                raise ValueError(f"data: the task {self.task.kind} decides which samples it yields; leave it out")
            if self.embeddings.kind != "proxy":
                raise ValueError(f"embeddings.kind: of the samples of {self.task.kind} a proxy alone makes embeddings")
            return self
        if missing := [key for key in ("source", "columns") if getattr(self, key) is None]:
            raise ValueError(f"{missing[0]}: Field required, for task {self.task.kind}")
        self.read_source.refuse_undivided()
        self.columns = self.read_columns.holding(self.task.target).reading(self.encoding)
        self.task.check(self.read_scores, (self.proxy, self.training))
        self.task.check_metric(self.metric, self.columns.labels)
        return self

    @property
    def read_source(self) -> Source:
        """The source of a study of columns."""
        assert self.source
        return self.source

    @property
    def read_columns(self) -> Columns:
        """The columns of a study of columns."""
        assert self.columns
        return self.columns

    def own_task(self) -> OwnTask:
        """The user's own task; raises ValueError where it cannot be made or lacks what the study asks for."""
        task = own_task(self.task.kind).probed()
        require(self.metric or task.metrics[0].name, {metric.name: metric for metric in task.metrics}, "metric")
        refuse_missing(task, self.read_scores, {name: each.reads for name, each in self.selections.items()})
        if self.distillation and type(task).distance is OwnTask.distance:
            raise ValueError(f"distillation: task {task.name} defines no distance between outputs; leave it out")
        return task

    def revision(self, base: Path, cache: Path) -> str:
        """Identity of the data as they are now; raises SourceError or ValueError for data that cannot be read.

        Every run of the shell begins here: what lies outside of the project, models and a task of the user's own, is
        checked first, for nothing of it was imported when the study was loaded.
        """
        if self.task.own:
            from secateur.pipelines.data import own_samples

            task = self.own_task()
            return own_samples.revision_of(task, *(own_samples.inspect_own(task, split) for split in ("train", "test")))
        from secateur.pipelines.data.sources import revision_of

        for config in self.configs:
            check_settings(config)
        return revision_of(self.read_source, self.read_columns, base, cache)

    @property
    def read_scores(self) -> dict[str, AnyScorer]:
        """Scorers of the study's scores, and of others that selections read by their names, by who asks for them."""
        every = {f"scores.{name}": score.declared for name, score in self.scores.items()}
        for name, selection in self.selections.items():
            others = scorers().keys() & set(selection.reads) - self.scores.keys()
            every |= {f"selections.{name}": scorers()[other] for other in sorted(others)}
        return every

    @model_validator(mode="after")
    def _everything_read_is_made(self) -> "Study":
        for baseline in BASELINES:
            self.selections.setdefault(baseline, Selection(selector=baseline))
        for name, selection in self.selections.items():
            selection.check_score(name, self.scores)
            for signal in set(selection.reads) - SIGNALS.keys():
                require_score(
                    signal, self.scores, f"selections.{name}: selector {selection.selector!r} reads the score"
                )
        for name, score in list(self.scores.items()):
            for signal in sorted(score.signals - SIGNALS.keys()):
                if signal in scorers() and signal != name:  # a score that is made of another one brings it along
                    self.scores.setdefault(signal, Score(scorer=signal))
                others = {other for other in self.scores if other != name}
                require_score(signal, dict.fromkeys(others), f"scores.{name}: scorer {score.scorer!r} reads the score")
        return self

    @model_validator(mode="after")
    def _trainings_are_possible(self) -> "Study":
        refuse_impossible(self.scores, self.neighbours.count, self.checkpoints, self.proxy.epochs)
        embedded = self.embeddings.kind == "proxy" and "embeddings" in self.signals
        self.proxy.refuse(embedded=embedded, scoring=self.compute.scoring)
        refuse_lengths(self.compare_at, self.training)
        if self.refine and len({type(keep) for keep in self.keep}) > 1:
            raise ValueError("refine: between a share and a count there is no budget; write keep as one kind of them")
        if self.distillation:
            self.distillation.check({"full": None, **self.selections})
        return self

    @property
    def signals(self) -> set[str]:
        """Signals that some scorer or selector of the study reads and an asset of its own makes."""
        read = [score.signals for score in self.scores.values()]
        read += [set(selection.reads) for selection in self.selections.values()]
        return made_by_assets(map(self.asset_of, set().union(*read)))

    def asset_of(self, signal: str) -> str:
        """The asset that gives a signal: `label_free` neighbours are others only where a proxy makes the embeddings."""
        learned = self.embeddings.kind == "proxy" and self.neighbours.label_free and not self.task.own
        return "neighbour_indices" if signal == "label_free_neighbours" and not learned else signal

    @model_validator(mode="after")
    def _encoding_fits(self) -> "Study":
        if self.columns:
            checked(ENCODINGS[self.columns.kind], self.encoding, "encoding")
            if not any(":" in config.model for config in self.configs):  # of which nothing is imported to load a study
                assert self.resolved_encoding
        return self

    @property
    def configs(self) -> list[TrainingConfig]:
        """Of every model that the study trains on the columns as they are encoded."""
        taught = self.distillation.teacher if self.distillation else None
        return [self.proxy, self.training, *([taught] if isinstance(taught, TrainingConfig) else [])]

    @property
    def resolved_encoding(self) -> Encoding:
        """How rows become arrays, what the study leaves out filled in from its models."""
        return encoding_of(self.read_columns.kind, self.encoding, self.configs)

    @property
    def unit(self) -> str:
        return "sample"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.task.metrics

    @property
    def proxies(self) -> list[str]:
        """Names of the runs of the proxy, which are those of their folders, by seed and fold."""
        folds = [f"-fold-{fold}" for fold in range(self.proxy.folds or 0)] or [""]
        return [f"seed-{seed}{fold}" for seed in range(self.proxy_runs) for fold in folds]

    @property
    def baseline(self) -> str:
        return BASELINES[0]

    @property
    def second_baseline(self) -> str:
        return BASELINES[1]

    @property
    def references(self) -> tuple[str, ...]:
        return ("full",)

    @property
    def own(self) -> list[str]:
        """Selections that go by their own settings, at no budget."""
        return [name for name, selection in self.selections.items() if selection.budget == OWN]

    @property
    def between(self) -> dict[int | float, int | float]:
        return budgets_between(self.keep) if self.refine else {}

    @property
    def watched(self) -> TimeTo | None:
        """How models are measured on the test split while they are trained; None where they are not."""
        if self.time_to is None and any(selection.in_training for selection in self.selections.values()):
            return TimeTo()
        return self.time_to if self.time_to and self.time_to.evaluations else None

    def evaluations_of(self, name: str) -> int:
        """How often a model of a selection, or of the full set, is measured while it is trained."""
        chosen = name in self.selections and self.selections[name].in_training
        asked = self.time_to is not None or chosen or name in ("full", self.baseline)
        return self.watched.evaluations if self.watched and asked else 0

    @property
    def arms(self) -> list[str]:
        """Selections that go by the study's budgets, behind each its twin that a teacher taught, if any."""
        return self.with_twins(name for name in self.selections if name not in self.own)

    @property
    def unbudgeted(self) -> list[str]:
        return self.with_twins(["full", *self.own])[1:]

    def why_no_manifest(self, trial: Trial) -> str:
        if trial != trial.plain:
            return f"the samples are those of {trial.plain.selection}, whose manifest says them"
        if trial.name in self.selections and self.selections[trial.name].in_training:
            return "the selection is made anew in every epoch of a training: there is no subset to export"
        return ""

    def with_twins(self, names: Iterable[str]) -> list[str]:
        """Names of selections, or full, each followed by its twin's where it has one."""
        taught = set(self.distillation.students(self.selections)) if self.distillation else set()
        return [f"{name}{kd}" for name in names for kd in ("", *([KD] if name in taught else []))]

    @property
    def selection_keys(self) -> list[str]:
        """`full`, selections of no budget, all at every budget, behind each its taught twin, if any; `at_steps`."""
        at_own = [selection_key(name, OWN) for name in self.with_twins(self.own)]
        at_budgets = [selection_key(name, keep) for keep in self.budgets for name in self.arms]
        return [*self.with_twins(["full"]), *at_own, *at_budgets, *self.at_steps]

    @property
    def lengths(self) -> tuple[Length, ...]:
        """What trainings have in common where they are compared."""
        return self.compare_at or (self.training.length,)

    @property
    def at_steps(self) -> list[str]:
        names = [name for name in self.selections if name not in self.own]
        return keys_at_steps(names, self.own, self.keep) if len(self.lengths) > 1 else []

    @property
    def resolved(self) -> dict[str, Settings]:
        return {"encoding": self.resolved_encoding} if self.columns else {}

    def left_out(self, asset: str, trial: Trial | None) -> set[str]:
        if asset in (*DATA, *SCORING, *CHOICE) and asset != "tuning":
            return AFTER_SCORES
        if asset == "report":
            return IDLE - SHOWN
        return IDLE | (OF_THE_REPORT | {"selections", "validation"} if trial else set())

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        settings = self.model_dump(mode="json", exclude=self.left_out(asset, trial))
        settings["encoding"] = self.resolved_encoding.model_dump(mode="json") if self.columns else None
        versions = {name: score.declared.card.version for name, score in self.scores.items()}
        selection = self.selections.get(trial.plain.name) if trial else None
        chosen = [selection.model_dump(mode="json"), getattr(selection.declared, "version", "")] if selection else []
        return {"settings": settings, "scorers": versions, "selection": chosen}
