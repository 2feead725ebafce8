"""A study: one YAML file, one data set, one group of assets; wrong settings are refused when it loads."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from secateur.pipelines.data.sources import Columns, Source
from secateur.pipelines.studies.grid import KD, OWN, Trial, selection_key
from secateur.pipelines.studies.rejections import Strict, checked, mapping, nested, require, shipped
from secateur.pipelines.studies.sections import Compute, Distilled, Recurring
from secateur.pipelines.studies.selection import OWN_KEYS, Selection
from secateur.scorers.contract import Scorer
from secateur.scorers.geometry.vectors import Metric
from secateur.scorers.registry import AnyScorer, of_other_units, scorers
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import ENCODINGS, Encoding, encoding_of
from secateur.trainers.models.registry import check_config
from secateur.trainers.passes.embeddings import EmbeddingSettings

BASELINES = ("uniform_random", "stratified_random")
GIVEN = {"ids", "labels", "budget", "scores", "null_log_probabilities", "samples", "epochs"}
SIGNALS = {"embeddings", "neighbour_indices", "neighbour_distances"}
"""Arrays that assets of their own make, where a scorer or selector reads them."""


class Score(Strict):
    """A scorer with its settings, under the name that the study gives it."""

    scorer: Annotated[str, Field(description="a scorer; may be left out where the score has the scorer's name")]
    settings: Annotated[dict[str, Any], Field(description="of the scorer; a YAML writes them beside scorer")] = Field(
        default_factory=dict
    )

    @property
    def declared(self) -> AnyScorer:
        return scorers()[self.scorer]

    @property
    def signals(self) -> set[str]:
        """What a scorer of signals reads; nothing for the other kinds."""
        return set(self.declared.signals) if isinstance(self.declared, Scorer) else set()


class Validation(Strict):
    """How settings that the study leaves out are chosen; test samples are never used for it."""

    fraction: Annotated[float, Field(gt=0, lt=1, description="share of the training samples held out")] = 0.2
    seeds: Annotated[int, Field(ge=1, description="trainings per candidate")] = 3


class Neighbourhood(Strict):
    """The neighbour graph of the embeddings, shared by all scores that read it."""

    count: Annotated[int, Field(ge=1, description="nearest other samples of each sample")] = 10
    metric: Annotated[Metric, Field(description="of distances between embeddings")] = "euclidean"
    engine: Annotated[
        Literal["auto", "exact", "ivf"],
        Field(description="exact search or inverted lists; auto: by the time that they would take"),
    ] = "auto"
    least_recall: Annotated[float, Field(gt=0, le=1, description="of the inverted lists, by a brute-force audit")] = (
        0.95
    )


class Study(Strict):
    """Everything that one YAML file says."""

    model_config = ConfigDict(json_schema_extra=shipped("digits"))

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="names the assets; lower case")]
    description: Annotated[str, Field(description="shown on the pages of the assets")] = ""
    source: Annotated[Source, Field(description="where the samples are")]
    columns: Annotated[Columns, Field(description="which columns are input and label")]
    encoding: dict[str, Any] = Field(
        default_factory=dict, description="how rows become arrays; what it leaves out follows the models"
    )
    proxy: Annotated[TrainingConfig, Field(description="the training run whose observers score the samples")]
    proxy_from: Annotated[
        str | None,
        Field(description="a search of networks; the best takes the place of the proxy's, whose length of run stays"),
    ] = None
    proxy_runs: Annotated[int, Field(ge=1, le=100, description="proxies of different seeds; scores are averaged")] = 1
    checkpoints: Annotated[
        int, Field(ge=1, le=99, description="checkpoints of each proxy run, for scores like vog")
    ] = 1
    embeddings: Annotated[EmbeddingSettings, Field(description="vectors for scores and selectors of distances")] = (
        EmbeddingSettings()
    )
    neighbours: Annotated[Neighbourhood, Field(description="the neighbour graph of the embeddings")] = Neighbourhood()
    scores: Annotated[dict[str, Score], Field(min_length=1, description="scores by name")]
    selections: Annotated[
        dict[str, Selection],
        Field(min_length=1, description="selections by name; uniform_random and stratified_random are always added"),
    ]
    keep: Annotated[list[int | float], Field(min_length=1, description="budgets: fractions in (0, 1] or counts")]
    training: Annotated[TrainingConfig, Field(description="how a model is trained on what was kept")]
    distillation: Annotated[Distilled | None, Field(description="twins of selections that a teacher teaches")] = None
    seeds: Annotated[int, Field(ge=1, le=1000, description="repetitions of every trial")] = 5
    validation: Annotated[Validation, Field(description="how settings that are left out are chosen")] = Validation()
    recurring: Annotated[Recurring | None, Field(description="when and how the data is scored again by itself")] = None
    compute: Annotated[Compute, Field(description="where scoring passes run and models are trained")] = Compute()

    @field_validator("scores", mode="before", json_schema_input_type=dict[str, Score | dict[str, Any] | None])
    @classmethod
    def _scores(cls, given: Any) -> Any:
        return {name: nested(name, body, "scorer", set()) for name, body in mapping(given).items()}

    @field_validator("selections", mode="before", json_schema_input_type=dict[str, Selection | dict[str, Any] | None])
    @classmethod
    def _selections(cls, given: Any) -> Any:
        return {name: nested(name, body, "selector", OWN_KEYS) for name, body in mapping(given).items()}

    @field_validator("scores")
    @classmethod
    def _known_scorers(cls, given: dict[str, Score]) -> dict[str, Score]:
        for name, score in given.items():
            require(score.scorer, scorers(), f"{name}.scorer", of_other_units())
            checked(score.declared.settings, score.settings, name)
        return given

    @field_validator("selections")
    @classmethod
    def _known_selectors(cls, given: dict[str, Selection]) -> dict[str, Selection]:
        for name, selection in given.items():
            selection.check(name)
        return given

    @field_validator("keep", mode="before", json_schema_input_type=float | list[float])
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return given if isinstance(given, list) else [given]

    @field_validator("keep")
    @classmethod
    def _possible(cls, given: list[int | float]) -> list[int | float]:
        for keep in given:
            resolve_keep(keep, 2**62)
        if len({selection_key("", keep) for keep in given}) < len(given):
            raise ValueError("each budget can be listed once")
        return given

    @field_validator("proxy", "training")
    @classmethod
    def _model_exists(cls, config: TrainingConfig) -> TrainingConfig:
        check_config(config)
        return config

    @model_validator(mode="after")
    def _everything_read_is_made(self) -> "Study":
        for baseline in BASELINES:
            self.selections.setdefault(baseline, Selection(selector=baseline))
        for name, selection in self.selections.items():
            if "scores" in selection.reads:
                if selection.score is None:
                    raise ValueError(
                        f"selections.{name}.score: {selection.selector!r} reads a score; name one of "
                        f"{', '.join(self.scores)}"
                    )
                require(selection.score, self.scores, f"selections.{name}.score")
            elif selection.score is not None:
                raise ValueError(f"selections.{name}.score: {selection.selector!r} reads no score; leave it out")
            for signal in set(selection.reads) - GIVEN - SIGNALS:
                require(signal, self.scores, f"selections.{name}: selector {selection.selector!r} reads the score")
        for name, score in self.scores.items():
            for signal in score.signals - GIVEN - SIGNALS:
                others = {other for other in self.scores if other != name}
                require(signal, dict.fromkeys(others), f"scores.{name}: scorer {score.scorer!r} reads the score")
        return self

    @model_validator(mode="after")
    def _students_exist(self) -> "Study":
        if self.distillation:
            self.distillation.check({"full": None, **self.selections})
        return self

    @property
    def signals(self) -> set[str]:
        """Signals that some scorer or selector of the study reads and an asset of its own makes."""
        read = [score.signals for score in self.scores.values()]
        read += [set(selection.reads) for selection in self.selections.values()]
        found = set().union(*read) & SIGNALS
        return found | ({"embeddings"} if found else set())

    @model_validator(mode="after")
    def _encoding_fits(self) -> "Study":
        checked(ENCODINGS[self.columns.kind], self.encoding, "encoding")
        assert self.resolved_encoding
        return self

    @property
    def resolved_encoding(self) -> Encoding:
        """How rows become arrays, what the study leaves out filled in from its models."""
        taught = self.distillation.teacher if self.distillation else None
        others = (taught,) if isinstance(taught, TrainingConfig) else ()
        return encoding_of(self.columns.kind, self.encoding, (self.proxy, self.training, *others))

    @property
    def selection_keys(self) -> list[str]:
        """`full`, selections of no budget, then every selection at every budget; behind each its twin, if any."""
        own = [name for name, selection in self.selections.items() if selection.budget == OWN]
        found = [("full", ""), *((name, f"@{OWN}") for name in own)]
        found += [(name, selection_key("", keep)) for keep in self.keep for name in self.selections if name not in own]
        taught = set(self.distillation.students(self.selections)) if self.distillation else set()
        return [f"{name}{kd}{at}" for name, at in found for kd in ("", *([KD] if name in taught else []))]

    @property
    def trials(self) -> Iterator[Trial]:
        for selection in self.selection_keys:
            for seed in range(self.seeds):
                yield Trial(selection, seed)
