"""A study of architectures: one YAML file of `kind: search`, one space of architectures, one group of assets."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.sources import Columns, Source, load
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.rejections import Strict, checked, require, shipped
from secateur.pipelines.studies.selection import ClassShares, Selection
from secateur.pipelines.studies.signals import of_origin
from secateur.pipelines.studies.study import AnyStudy
from secateur.scorers.architectures.accuracy_predictor import PredictorSettings
from secateur.scorers.lazy import look_in_working_folder
from secateur.scorers.registry import scorers
from secateur.selectors.contract import resolve_keep, selectors
from secateur.selectors.searches.choice_pruning import PruningSettings
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import ENCODINGS, Encoding, encoding_of
from secateur.trainers.tasks.contract import Metric

Position = Annotated[list[bool | int | float | str], Field(min_length=1)]


Scale = Annotated[
    Literal["share", "percent", "number"],
    Field(description="accuracies are shares in [0, 1], percent, or any numbers of which higher is better"),
]


class TableSpace(Strict):
    """Architectures and their accuracies in a Parquet or CSV file."""

    path: Annotated[Path, Field(description="relative to the file of the search")]
    positions: Annotated[
        dict[str, list[str]] | list[str],
        Field(min_length=1, description="columns and their choices in order (cells hold a name or its number)"),
    ]
    accuracy: Annotated[str, Field(description="column of accuracies, higher is better")]
    scale: Scale = "share"
    key: Annotated[str | None, Field(description="column that is equal for isomorphic architectures")] = None


class CallableSpace(Strict):
    """Every combination of choices, evaluated by a Python function."""

    evaluate: Annotated[str, Field(pattern=r"^[\w.]+:\w+$", description="module:function of a mapping of choices")]
    positions: Annotated[dict[str, Position], Field(min_length=1, description="choices at each position")]
    scale: Scale = "share"


class ProxySubset(Strict):
    """Networks are compared after training on a part of the samples: data pruning speeds up the search."""

    selector: Annotated[str, Field(description="a static selector")] = "uniform_random"
    keep: Annotated[int | float, Field(description="a fraction in (0, 1] or a count")]
    score: Annotated[str | None, Field(description="an observer of one training run, where the selector reads it")] = (
        None
    )
    settings: Annotated[dict[str, Any], Field(description="of the selector")] = Field(default_factory=dict)
    classes: Annotated[ClassShares | None, Field(description="how classes share the budget")] = None
    compare: Annotated[int, Field(ge=3, description="networks trained on everything too, to compare the orders")] = 20

    @model_validator(mode="after")
    def _possible(self) -> "ProxySubset":
        resolve_keep(self.keep, 2**62)
        require(self.selector, selectors(), "selector")
        needs = "scores" in selectors()[self.selector].reads
        if needs != (self.score is not None):
            raise ValueError(f"score: {self.selector!r} reads {'a score; name a scorer' if needs else 'no score'}")
        observers = {name: declared for name, declared in scorers().items() if isinstance(declared, type)}
        for name in self.observed:
            require(name, observers, "score: of those that watch a training run")
        checked(selectors()[self.selector].settings, self.settings, "settings")
        return self

    @property
    def observed(self) -> list[str]:
        """Scores that the selector reads."""
        own = set(selectors()[self.selector].reads) - of_origin("call", "samples")
        return sorted(own | ({self.score} if self.score else set()))

    @property
    def selection(self) -> Selection:
        return Selection(selector=self.selector, score=self.score, classes=self.classes, settings=self.settings)


class ModelSpace(Strict):
    """Networks for the data set at hand: each choice sets a field of the config or a setting of its model."""

    source: Annotated[Source, Field(description="as in a study")]
    columns: Annotated[Columns, Field(description="as in a study")]
    data: Annotated[DataPolicy, Field(description="as in a study")] = DataPolicy()
    encoding: Annotated[dict[str, Any], Field(description="as in a study")] = Field(default_factory=dict)
    training: Annotated[TrainingConfig, Field(description="what is not chosen of the networks' training")]
    positions: Annotated[
        dict[str, Position],
        Field(min_length=1, description="choices at each position: a field of the config or a setting of its model"),
    ]
    validation_fraction: Annotated[float, Field(gt=0, lt=1, description="share of the samples that judges them")] = 0.2
    training_seeds: Annotated[int, Field(ge=1, description="trainings per network")] = 1
    subset: Annotated[ProxySubset | None, Field(description="networks are compared on a part of the samples")] = None

    @model_validator(mode="after")
    def _configs_exist(self) -> "ModelSpace":
        from secateur.trainers.judging.architectures import configs_of

        checked(ENCODINGS[self.columns.kind], self.encoding, "encoding")
        configs_of(self.training, self.positions)
        return self

    @property
    def resolved_encoding(self) -> Encoding:
        return encoding_of(self.columns.kind, self.encoding, (self.training,))


class Space(Strict):
    """Where architectures and their accuracies come from; exactly one of these."""

    table: Annotated[TableSpace | None, Field(description="a file of architectures and accuracies")] = None
    callable: Annotated[CallableSpace | None, Field(description="a Python function")] = None
    models: Annotated[ModelSpace | None, Field(description="networks trained on a data set")] = None

    @property
    def scale(self) -> Scale:
        """Of the accuracies that searches see; trained networks are judged in percent."""
        part = self.table or self.callable
        return part.scale if part else "percent"

    @model_validator(mode="after")
    def _one(self) -> "Space":
        if sum(part is not None for part in (self.table, self.callable, self.models)) != 1:
            raise ValueError("give exactly one of table, callable and models")
        return self


class SearchSettings(Strict):
    """The guided search."""

    initial: Annotated[int, Field(ge=2, description="random architectures before the first fit")] = 20
    per_round: Annotated[int, Field(ge=1, description="best-predicted architectures evaluated after each fit")] = 10
    explore: Annotated[float, Field(ge=0, lt=1, description="share of each round that is random instead")] = 0.2
    budget: Annotated[int, Field(ge=2, description="evaluations in all")] = 100
    predictor: Annotated[PredictorSettings, Field(description="the boosted trees")] = PredictorSettings()
    pruning: Annotated[PruningSettings, Field(description="of choices, between rounds")] = PruningSettings()

    @model_validator(mode="after")
    def _learns(self) -> "SearchSettings":
        if self.budget <= self.initial:
            raise ValueError(f"budget: {self.budget} evaluations leave none after {self.initial} initial ones")
        return self


class Evolution(Strict):
    """The evolutionary baseline."""

    population: Annotated[int, Field(ge=1, description="architectures that live at a time")] = 30
    sample: Annotated[int, Field(ge=1, description="of the population, whose best is changed next")] = 10


def source_of(module: str) -> Path:
    """File of a module's source; no file where there is none, which the asset that imports it reports."""
    look_in_working_folder()
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    return Path(spec.origin if spec and spec.origin else "")


GUIDED = "gbdt_s3"
"""The arm that a search is about: boosted trees that prune choices between rounds."""


class Search(AnyStudy):
    """A search of architectures that prunes choices, beside the same without pruning, evolution and random search."""

    model_config = ConfigDict(json_schema_extra=shipped("digits_search"))

    arm: ClassVar[str] = "search"
    outcome_asset: ClassVar[str] = "evaluations"
    titles: ClassVar[Mapping[str, str]] = {GUIDED: "guided", "gbdt": "guided (unpruned)"}

    kind: Annotated[Literal["search"], Field(description="tells a search from the other kinds of study")]
    space: Annotated[Space, Field(description="where architectures come from")]
    search: Annotated[SearchSettings, Field(description="the guided search")] = SearchSettings()
    evolution: Annotated[Evolution, Field(description="the evolutionary baseline")] = Evolution()
    seeds: Annotated[int, Field(ge=1, le=1000, description="repetitions of every search, for the comparison")] = 20

    @model_validator(mode="after")
    def _sample_fits(self) -> "Search":
        if self.evolution.sample > self.evolution.population:
            raise ValueError(f"evolution.sample: above the population of {self.evolution.population}")
        return self

    @property
    def unit(self) -> str:
        return "evaluation"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("accuracy", percent=self.space.scale != "number"),)

    @property
    def arms(self) -> list[str]:
        return [GUIDED, "gbdt", "evolution", self.baseline]

    @property
    def baseline(self) -> str:
        return "random"

    @property
    def references(self) -> tuple[str, ...]:
        return ()

    @property
    def keep(self) -> list[int]:
        """Evaluations after which the searches are compared: half of the budget, and all of it."""
        return list(dict.fromkeys((max(1, self.search.budget // 2), self.search.budget)))

    def revision(self, base: Path, cache: Path) -> str:
        if models := self.space.models:
            return load(models.source, models.columns, base, cache, models.data).revision
        if self.space.table:
            path = base / self.space.table.path
        else:
            assert self.space.callable
            # The module alone: what it imports is not looked at.
            path = source_of(self.space.callable.evaluate.partition(":")[0])
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        if asset == "architectures":
            return {"space": self.space.model_dump(mode="json")}
        left_out = {"kind", "description"} | ({"seeds"} if trial else set())
        return {"settings": self.model_dump(mode="json", exclude=left_out)}
