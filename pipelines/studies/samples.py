"""A study of samples: one data set, one group of assets; wrong settings are rejected when it loads."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.studies.grid import KD, OWN, Trial, budgets_between, selection_key
from secateur.pipelines.studies.lengths import Length, keys_at_steps, refuse_lengths
from secateur.pipelines.studies.manifest_keys import ManifestKeys
from secateur.pipelines.studies.problem import refuse_missing
from secateur.pipelines.studies.rejections import checked, require, shipped
from secateur.pipelines.studies.sample_keys import BASELINES
from secateur.pipelines.studies.scores import Score, refuse_impossible, refuse_trajectories, require_score
from secateur.pipelines.studies.sections import AFTER_SCORES, IDLE, OF_THE_REPORT, SHOWN, TimeTo
from secateur.pipelines.studies.selection import Selection
from secateur.pipelines.studies.sft_baselines import LONGEST, SOURCES, add_baselines
from secateur.pipelines.studies.signals import (
    AUDIT,
    CHOICE,
    DATA,
    EPOCH_MANIFEST,
    SCORING,
    SIGNALS,
    made_by_assets,
)
from secateur.pipelines.studies.target import MADE, TITLES
from secateur.scorers.contract import Scorer
from secateur.scorers.registry import AnyScorer, scorers
from secateur.scorers.settings import Settings
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import ENCODINGS, Encoding, Modality, encoding_of, refuse_other_tokenizers
from secateur.trainers.models.registry import check_settings
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask, own_task


class Study(ManifestKeys):
    """A study of samples: a data set, its scores, its selections, and models trained on each selection."""

    model_config = ConfigDict(json_schema_extra=shipped("digits"))

    arm: ClassVar[str] = "selection"
    titles: ClassVar[Mapping[str, str]] = {
        "uniform_random": "random",
        "stratified_random": "stratified random",
        SOURCES: "sources balanced",
        LONGEST: "longest first",
        "full": "full set",
        **TITLES,
    }
    outcome_asset: ClassVar[str] = "evaluation"

    kind: Annotated[Literal["samples"], Field(description="distinguishes a study of samples from others")] = "samples"

    @model_validator(mode="after")
    def _task_and_data_fit(self) -> "Study":
        for name, selection in self.selections.items():
            self.selections[name] = self.settled(name, selection)
        if self.task.own:
            if unread := [key for key in ("source", "columns", "encoding") if getattr(self, key)]:
                raise ValueError(f"{unread[0]}: the task {self.task.kind} brings its samples with it; leave it out")
            if self.data != DataPolicy():
                raise ValueError(f"data: the task {self.task.kind} decides which samples it yields; leave it out")
            if self.embedded_by != "proxy":
                raise ValueError(f"embeddings.kind: of the samples of {self.task.kind} a proxy alone makes embeddings")
            return self
        if missing := [key for key in ("source", "columns") if getattr(self, key) is None]:
            raise ValueError(f"{missing[0]}: Field required, for task {self.task.kind}")
        self.read_source.refuse_undivided()
        learned = self.task.declared.learns_target
        self.columns = self.read_columns.holding(self.task.target, learned=learned).reading(self.encoding)
        self.task.check_columns(self.columns.kind, self.read_scores)
        reads = {name: each.reads for name, each in self.selections.items()}
        self.task.check(self.read_scores, reads, [config for config in (self.proxy, self.training) if config])
        self.task.check_metric(self.metric, self.columns.labels)
        return self

    def settled(self, name: str, selection: Selection) -> Selection:
        """The selection bound to this study's scores: sets the score by which it cuts the hardest samples."""
        if selection.cut_by is not None or not selection.cuts:
            return selection.turned_for(name, self.scores)
        lacks_aum = self.task.own or "margin" in self.task.declared.lacks or selection.score in self.own_scores
        named = next(iter(selection.cuts))
        stands_in = named not in self.scores and (lacks_aum if named == "aum" else selection.score in self.own_scores)
        cut = selection.model_copy(update={"cut_by": "score"}) if stands_in else selection
        return cut.turned_for(name, self.scores)

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
        """The user's own task; raises ValueError if its factory fails or it lacks something that the study needs."""
        task = own_task(self.task.kind).probed()
        require(self.metric or task.metrics[0].name, {metric.name: metric for metric in task.metrics}, "metric")
        refuse_missing(task, self.read_scores, {name: each.reads for name, each in self.selections.items()})
        if self.distillation and type(task).distance is OwnTask.distance:
            raise ValueError(f"distillation: task {task.name} defines no distance between outputs; leave it out")
        return task

    def revision(self, base: Path, cache: Path) -> str:
        """Identity of the current data; raises SourceError or ValueError for unreadable data.

        Every run from the shell starts here. It first checks outside code, models and the user's own task, because
        loading a study imports none of it.
        """
        if self.task.own:
            from secateur.pipelines.data import own_samples

            task = self.own_task()
            return own_samples.revision_of(task, *(own_samples.inspect_own(task, split) for split in ("train", "test")))
        from secateur.pipelines.data.sources import revision_of

        for config in self.configs:
            check_settings(config)
        refuse_other_tokenizers(self.resolved_encoding, self.configs)
        return revision_of(self.read_source, self.read_columns, base, cache)

    @property
    def read_scores(self) -> dict[str, AnyScorer]:
        """Scorers by the key that needs them: those of the study's scores, and others that selections read by name."""
        every = {f"scores.{name}": score.declared for name, score in self.computed.items()}
        for name, selection in self.selections.items():
            others = scorers().keys() & set(selection.reads) - self.scores.keys()
            every |= {f"selections.{name}": scorers()[other] for other in sorted(others)}
        return every

    @model_validator(mode="after")
    def _everything_read_is_made(self) -> "Study":
        for baseline in BASELINES:
            self.selections.setdefault(baseline, Selection(selector=baseline))
        self.add_as_many()
        if self.task.kind == "sft":
            add_baselines(self.scores, self.selections, by_source=bool(self.read_columns.labels))
        for name, selection in self.selections.items():
            selection.check_score(name, self.scores)
            for signal in set(selection.reads) - SIGNALS.keys():
                require_score(
                    signal, self.scores, f"selections.{name}: selector {selection.selector!r} reads the score"
                )
        for name, score in list(self.computed.items()):
            for signal in sorted(score.signals - SIGNALS.keys()):
                if signal in scorers() and signal != name:  # a score that reads another one adds it
                    self.scores.setdefault(signal, Score(scorer=signal))
                others = {other for other in self.scores if other != name}
                require_score(signal, dict.fromkeys(others), f"scores.{name}: scorer {score.scorer!r} reads the score")
        return self

    @model_validator(mode="after")
    def _trainings_are_possible(self) -> "Study":
        epochs = self.proxy.epochs if self.proxy else None
        refuse_impossible(self.computed, self.neighbours.count, self.checkpoints, epochs)
        embedded = self.embedded_by == "proxy" and "embeddings" in self.signals
        reading = [name for name, each in self.selections.items() if "loss_trajectories" in each.reads]
        refuse_trajectories(reading, self.checkpoints, self.proxy)
        self.check_units()
        if self.proxy:
            self.proxy.refuse(embedded=embedded)
        elif fault := self.reads_a_proxy():
            raise ValueError(fault)
        refuse_lengths(self.compare_at, self.training)
        if self.refine and len({type(keep) for keep in self.keep}) > 1:
            raise ValueError("refine: between a share and a count there is no budget; write keep as one kind of them")
        if self.distillation:
            self.distillation.check({"full": None, **self.selections})
        return self

    def reads_a_proxy(self) -> str:
        """The key that needs a proxy in a study without one, with the remedy; empty if none does."""
        add = "and the study has none: add proxy"
        vectors = f"{add}, or bring vectors as embeddings: {{file: vectors.npy}}, or write {{kind: sklearn}} there"
        for name, score in self.computed.items():
            if not isinstance(score.declared, Scorer):
                return f"scores.{name}: {score.scorer!r} watches a proxy, {add}, or name a column or file that holds it"
            if self.embedded_by_proxy(score.signals):
                return f"scores.{name}: {score.scorer!r} reads embeddings of a proxy, {vectors}"
        for name, selection in self.selections.items():
            if "loss_trajectories" in selection.reads:
                return f"selections.{name}: {selection.selector!r} reads losses of a proxy over its training, {add}"
            compared = self.of_embeddings if "target_places" in selection.reads else set()
            if self.embedded_by_proxy({*selection.reads, *compared}):
                return f"selections.{name}: {selection.selector!r} reads embeddings of a proxy, {vectors}"
        of_a_proxy = ("proxy_from", "proxy_runs", "checkpoints")
        if given := [key for key in of_a_proxy if getattr(self, key) != type(self).model_fields[key].default]:
            return f"{given[0]}: it says how a proxy is made, {add}, or leave it out"
        return ""

    def embedded_by_proxy(self, signals: Iterable[str]) -> bool:
        """Whether an asset of these signals reads embeddings of a proxy."""
        return self.embedded_by == "proxy" and "embeddings" in made_by_assets(map(self.asset_of, signals))

    @property
    def signals(self) -> set[str]:
        """Signals that a scorer or selector of the study reads and that have their own asset."""
        read = [score.signals for score in self.computed.values()]
        read += [set(selection.reads) for selection in self.selections.values()]
        read.append(self.of_embeddings)
        return made_by_assets(map(self.asset_of, set().union(*read)))

    def asset_of(self, signal: str) -> str:
        """The asset of a signal; `label_free` neighbours have their own one only if a proxy makes the embeddings."""
        learned = self.embedded_by == "proxy" and self.neighbours.label_free and not self.task.own
        return "neighbour_indices" if signal == "label_free_neighbours" and not learned else signal

    @model_validator(mode="after")
    def _encoding_fits(self) -> "Study":
        if self.columns:
            checked(ENCODINGS[self.modality], self.encoding, "encoding")
            if not any(":" in config.model for config in self.configs):  # loading a study imports no code of the user
                assert self.resolved_encoding
        return self

    @property
    def configs(self) -> list[TrainingConfig]:
        """Training configs of all models that learn from the encoded columns."""
        taught = self.distillation.teacher if self.distillation else None
        every = (self.proxy, self.training, taught)
        return [config for config in every if isinstance(config, TrainingConfig)]

    @property
    def resolved_encoding(self) -> Encoding:
        """The encoding, with missing settings filled in from the study's models."""
        given = self.encoding | ({"form": self.read_columns.kind} if self.modality == "sequence" else {})
        return encoding_of(self.modality, given, self.configs)

    @property
    def modality(self) -> Modality:
        """The modality of the columns, or that of the task if it has one."""
        kind = self.read_columns.kind
        if self.task.declared.modality or kind == "completion" or kind == "messages":
            return "sequence"
        return kind

    @property
    def unit(self) -> str:
        return "sample"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.task.metrics

    @property
    def proxies(self) -> list[str]:
        """Names of the proxy's runs and their folders, by seed and fold; none without a proxy."""
        if self.proxy is None:
            return []
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
        """Selections that follow their own settings instead of a budget."""
        return [name for name, selection in self.selections.items() if selection.budget == OWN]

    @property
    def between(self) -> dict[int | float, int | float]:
        return budgets_between(self.keep) if self.refine else {}

    @property
    def watched(self) -> TimeTo | None:
        """Evaluation on the test split during training; None for no evaluation."""
        if self.time_to is None and any(selection.in_training for selection in self.selections.values()):
            return TimeTo()
        return self.time_to if self.time_to and self.time_to.evaluations else None

    def evaluations_of(self, name: str) -> int:
        """Number of evaluations during the training of a selection's model, or of the full set's."""
        chosen = name in self.selections and self.selections[name].in_training
        asked = self.time_to is not None or chosen or name in ("full", self.baseline)
        return self.watched.evaluations if self.watched and asked else 0

    @property
    def arms(self) -> list[str]:
        """Selections with budgets of the study, each followed by its distilled twin, if any."""
        return self.with_twins(name for name in self.selections if name not in self.own)

    @property
    def unbudgeted(self) -> list[str]:
        return self.with_twins(["full", *self.own])[1:]

    def in_training(self, trial: Trial) -> bool:
        """Whether a trial selects samples anew in every epoch."""
        selection = self.selections.get(trial.plain.name)
        return selection is not None and selection.in_training

    def manifests_of(self, trial: Trial) -> str:
        return EPOCH_MANIFEST if self.in_training(trial) else "manifest"

    def why_no_manifest(self, trial: Trial, asset: str = "manifest") -> str:
        if asset == EPOCH_MANIFEST:
            return "" if self.in_training(trial) else "all epochs show the same samples: the asset manifest says them"
        if self.in_training(trial):
            return f"samples are chosen anew in every epoch: the asset {EPOCH_MANIFEST} says those of each"
        if trial != trial.plain:
            return f"the samples are those of {trial.plain.selection}, whose manifest says them"
        return ""

    def with_twins(self, names: Iterable[str]) -> list[str]:
        """Names of selections, or `full`, each followed by its distilled twin, if any."""
        taught = set(self.distillation.students(self.selections)) if self.distillation else set()
        return [f"{name}{kd}" for name in names for kd in ("", *([KD] if name in taught else []))]

    @property
    def selection_keys(self) -> list[str]:
        """`full`, selections without a budget, the others at every budget, each with its taught twin; `at_steps`."""
        at_own = [selection_key(name, OWN) for name in self.with_twins(self.own)]
        at_budgets = [selection_key(name, keep) for keep in self.budgets for name in self.arms]
        return [*self.with_twins(["full"]), *at_own, *at_budgets, *self.at_steps]

    @property
    def lengths(self) -> tuple[Length, ...]:
        """Lengths of training at which the study compares."""
        return self.compare_at or (self.training.length,)

    @property
    def at_steps(self) -> list[str]:
        names = [name for name in self.selections if name not in self.own]
        return keys_at_steps(names, self.own, self.keep) if len(self.lengths) > 1 else []

    @property
    def resolved(self) -> dict[str, Settings]:
        return {"encoding": self.resolved_encoding} if self.columns else {}

    def left_out(self, asset: str, trial: Trial | None) -> set[str]:
        return self.left_out_of(asset, trial) | (set() if asset == "report" else {"target"})

    def left_out_of(self, asset: str, trial: Trial | None) -> set[str]:
        """The same, but without the target, which `left_out` adds."""
        if asset in (*DATA, *SCORING, *CHOICE) and asset != "tuning":
            return AFTER_SCORES
        if asset == "report":
            return IDLE - SHOWN
        return IDLE | (OF_THE_REPORT | {"selections", "validation"} if trial else set())

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        if asset in MADE:
            return self.decides_target(asset)
        if asset == "columns":
            return {"read": self.read_besides, **self.model_dump(mode="json", include={"source", "columns", "data"})}
        settings = self.model_dump(mode="json", exclude=self.left_out(asset, trial))
        read = self.own_scores.keys() & self.own_read(asset, trial)
        settings["scores"] = {name: one for name, one in settings["scores"].items() if name in {*self.computed, *read}}
        settings["encoding"] = self.resolved_encoding.model_dump(mode="json") if self.columns else None
        versions = {name: score.declared.card.version for name, score in self.computed.items()}
        selection = self.selections.get(trial.plain.name) if trial else None
        chosen = [selection.model_dump(mode="json"), getattr(selection.declared, "version", "")] if selection else []
        apart = {"apart": self.target.filter} if self.target and self.target.filter and asset in DATA else {}
        return {"settings": settings, "scorers": versions, "selection": chosen, **apart}

    def own_read(self, asset: str, trial: Trial | None) -> set[str]:
        """The user's scores that an asset, or a trial of it, depends on; assets before `scores` depend on none."""
        if trial is None:
            return set() if asset in (*DATA, *SCORING) and asset != "scores" else set(self.own_scores)
        selection = self.selections.get(trial.plain.name)
        return {selection.score or "", *selection.reads} if selection else set()

    def needs(self, trial: Trial | None, parent: Sequence[str]) -> bool:
        if trial is None or parent[0] != "scores" or parent[1] not in self.own_scores:
            return super().needs(trial, parent)
        return parent[1] in self.own_read("", trial)

    def follows(self, names: Sequence[str], trial: Trial | None, content: str) -> bool:
        root, _, rest = content.partition(".")
        if root == "scores":
            return names[0] == "scores" and rest.partition(".")[0] == names[1]
        if content == "embeddings.file":
            return names[0] == "embeddings"
        if content == AUDIT:
            return names[0] == "report"
        return super().follows(names, trial, content)
