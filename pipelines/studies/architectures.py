"""A study of architectures: one YAML file of `kind: search`, one space of architectures, one group of assets."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.rejections import checked, require, shipped
from secateur.pipelines.studies.selection import ClassShares, Selection
from secateur.pipelines.studies.signals import of_origin
from secateur.pipelines.studies.study import AnyStudy
from secateur.scorers.architectures.accuracy_predictor import PredictorSettings
from secateur.scorers.registry import scorers
from secateur.scorers.settings import CODE, PATHS, PATHS_OR_CODE, STUDY_PATHS, Settings
from secateur.selectors.contract import resolve_keep, selectors
from secateur.selectors.searches.choice_pruning import PruningSettings
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import ENCODINGS, Encoding, Modality, encoding_of
from secateur.trainers.tasks.contract import Metric

Position = Annotated[list[bool | int | float | str], Field(min_length=1)]

OWN_COLUMNS = ("row", "key", "accuracy")
"""Names of the table's other columns, which no position may have."""


def distinct(positions: Any) -> Any:
    """Return the positions unchanged; raise ValueError for a reserved name and for a duplicate position or choice."""
    for name in positions:
        if name in OWN_COLUMNS:
            raise ValueError(f"no position can be called {name!r}, which the table of architectures has: rename it")
    for name, listed in {"": positions}.items() if isinstance(positions, list) else positions.items():
        texts = [str(int(each) if isinstance(each, float) and each.is_integer() else each) for each in listed]
        if twice := [each for place, each in enumerate(listed) if texts[place] in texts[:place]]:
            raise ValueError(f"{name and f'{name}: '}{twice[0]!r} is there twice; write it once")
    return positions


def names_alone(positions: Any) -> Any:
    """Return the positions unchanged; raise ValueError for a choice that is no string, such as an unquoted number."""
    for name, listed in positions.items() if isinstance(positions, dict) else ():
        for choice in listed if isinstance(listed, list) else ():
            if not isinstance(choice, str):
                raise ValueError(
                    f"{name}: choices are names, {choice!r} is no text; write it in quotes, as the cells of the table "
                    "have it"
                )
    return positions


Scale = Annotated[
    Literal["share", "percent", "number"],
    Field(description="unit of the accuracies: shares in [0, 1], percent, or any numbers; higher is better"),
]


class TableSpace(Settings):
    """Architectures and their accuracies in a Parquet or CSV file."""

    path: Annotated[Path, STUDY_PATHS, Field(description="relative to the file of the search")]
    positions: Annotated[
        dict[str, Annotated[list[str], Field(min_length=1)]] | list[str],
        Field(
            min_length=1, description="columns and their choices in order (cells of a column hold names, or numbers)"
        ),
        AfterValidator(distinct),
        BeforeValidator(names_alone),
    ]
    accuracy: Annotated[str, Field(description="column of accuracies, higher is better")]
    scale: Scale = "share"
    key: Annotated[str | None, Field(description="column that is equal for isomorphic architectures")] = None

    @model_validator(mode="after")
    def _columns_differ(self) -> "TableSpace":
        for name, column in (("accuracy", self.accuracy), ("key", self.key)):
            if column in self.positions:
                raise ValueError(f"{name}: column {column!r} is a position already; name another")
        if self.key == self.accuracy:
            raise ValueError(f"key: column {self.key!r} holds the accuracies; name another, or leave key out")
        return self


class CallableSpace(Settings):
    """All combinations of choices, which a Python function evaluates."""

    evaluate: Annotated[
        str, CODE, Field(pattern=r"^[\w.]+:\w+$", description="module:function of a mapping of choices")
    ]
    positions: Annotated[
        dict[str, Position], Field(min_length=1, description="choices at each position"), AfterValidator(distinct)
    ]
    scale: Scale = "share"


class ProxySubset(Settings):
    """Train the networks on a subset to compare them: data pruning speeds up the search."""

    selector: Annotated[str, Field(description="a static selector")] = "uniform_random"
    keep: Annotated[int | float, Field(description="a fraction in (0, 1] or a count")]
    score: Annotated[str | None, Field(description="an observer of one training run, if the selector reads one")] = None
    settings: Annotated[dict[str, Any], Field(description="of the selector")] = Field(default_factory=dict)
    classes: Annotated[ClassShares | None, Field(description="how classes share the budget")] = None
    compare: Annotated[int, Field(ge=3, description="networks also trained on all samples, to compare the ranks")] = 20

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


class ModelSpace(Settings):
    """Networks for the data set at hand: each choice sets a field of the config or a setting of its model."""

    source: Annotated[Source, Field(description="as in a study")]
    columns: Annotated[Columns, Field(description="as in a study")]
    data: Annotated[DataPolicy, Field(description="as in a study")] = DataPolicy()
    encoding: Annotated[dict[str, Any], PATHS, Field(description="as in a study")] = Field(default_factory=dict)
    training: Annotated[TrainingConfig, Field(description="the networks' training, as far as no choice changes it")]
    positions: Annotated[
        dict[str, Position],
        PATHS_OR_CODE,
        Field(min_length=1, description="choices at each position: a field of the config or a setting of its model"),
        AfterValidator(distinct),
    ]
    validation_fraction: Annotated[float, Field(gt=0, lt=1, description="share of the samples for validation")] = 0.2
    training_seeds: Annotated[int, Field(ge=1, description="trainings per network")] = 1
    subset: Annotated[ProxySubset | None, Field(description="a subset of samples to compare networks on")] = None

    @model_validator(mode="after")
    def _configs_exist(self) -> "ModelSpace":
        from secateur.trainers.judging.architectures import configs_of

        self.source.refuse_undivided()
        self.columns.holding(self.columns.target or "class")
        if self.columns.kind in ("completion", "messages"):
            raise ValueError(f"columns.{self.columns.kind}: a search trains no language models; name text")
        checked(ENCODINGS[self.modality], self.encoding, "encoding")
        if self.training.epochs == 0:
            raise ValueError("training.epochs: 0 trains nothing; at least 1")
        configs_of(self.training, self.positions)
        return self

    @property
    def resolved_encoding(self) -> Encoding:
        return encoding_of(self.modality, self.encoding, (self.training,))

    @property
    def modality(self) -> Modality:
        """The modality that turns rows into arrays."""
        kind = self.columns.kind
        return "text" if kind == "completion" or kind == "messages" else kind


class Space(Settings):
    """The source of architectures and their accuracies; exactly one of these."""

    table: Annotated[TableSpace | None, Field(description="a file of architectures and accuracies")] = None
    callable: Annotated[CallableSpace | None, Field(description="a Python function")] = None
    models: Annotated[ModelSpace | None, Field(description="networks trained on a data set")] = None

    @property
    def scale(self) -> Scale:
        """Unit of the accuracies that searches see; the accuracy of trained networks is in percent."""
        part = self.table or self.callable
        return part.scale if part else "percent"

    @model_validator(mode="after")
    def _one(self) -> "Space":
        if sum(part is not None for part in (self.table, self.callable, self.models)) != 1:
            raise ValueError("give exactly one of table, callable and models")
        return self


class SearchSettings(Settings):
    """The guided search."""

    initial: Annotated[int, Field(ge=3, description="random architectures before the first fit")] = 20
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


class Evolution(Settings):
    """The evolutionary baseline."""

    population: Annotated[int, Field(ge=1, description="architectures that live at a time")] = 30
    sample: Annotated[int, Field(ge=1, description="drawn from the population; the best of them is mutated next")] = 10


GUIDED = "gbdt_s3"
"""The arm under study: boosted trees that prune choices between rounds."""


class Search(AnyStudy):
    """An architecture search that prunes choices; unpruned search, evolution and random search are its baselines."""

    model_config = ConfigDict(json_schema_extra=shipped("digits_search"))

    arm: ClassVar[str] = "search"
    outcome_asset: ClassVar[str] = "evaluations"
    titles: ClassVar[Mapping[str, str]] = {GUIDED: "guided", "gbdt": "guided (unpruned)"}

    kind: Annotated[Literal["search"], Field(description="distinguishes a search from the other kinds of study")]
    space: Annotated[Space, Field(description="where architectures come from")]
    search: Annotated[SearchSettings, Field(description="the guided search")] = SearchSettings()
    evolution: Annotated[Evolution, Field(description="the evolutionary baseline")] = Evolution()
    seeds: Annotated[int, Field(ge=1, le=1000, description="repetitions of every search, for the comparison")] = 20
    margin: Annotated[float | None, Field(description="must be empty: a search has no non-inferiority test")] = None
    metric: Annotated[str | None, Field(description="must be empty: a search compares accuracies")] = None

    @model_validator(mode="after")
    def _sample_fits(self) -> "Search":
        if self.evolution.sample > self.evolution.population:
            raise ValueError(f"evolution.sample: above the population of {self.evolution.population}")
        part = self.space.callable or self.space.models
        there = prod(map(len, part.positions.values())) if part else self.search.initial
        if there < self.search.initial:
            raise ValueError(
                f"search.initial: the positions make {there} architectures, fewer than the {self.search.initial} that "
                "the search begins with; lower it or give more choices"
            )
        if self.looks:
            raise ValueError("seeds: of a search all are run, for nothing is compared with everything: write a number")
        if self.margin is not None:
            raise ValueError("margin: a search compares searches with one another, and nothing with everything")
        if self.metric is not None:
            raise ValueError("metric: a search goes by accuracy; leave it out")
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
        """Numbers of evaluations at which the searches are compared: half of the budget and the whole budget."""
        return list(dict.fromkeys((max(1, self.search.budget // 2), self.search.budget)))

    def revision(self, base: Path, cache: Path) -> str:
        from secateur.pipelines.data.sources import revision_of

        models = self.space.models
        return revision_of(models.source, models.columns, base, cache) if models else ""

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        if asset == "architectures":
            return {"space": self.space.model_dump(mode="json")}
        return {"settings": self.model_dump(mode="json", exclude=self.left_out(asset, trial))}
