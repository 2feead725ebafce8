"""Keys of a study of samples, each checked alone when a study loads; `samples.py` checks their combinations."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.studies.column_budgets import ROWS, budgets_of
from secateur.pipelines.studies.grid import CURVE, selection_key
from secateur.pipelines.studies.lengths import Length, listed
from secateur.pipelines.studies.output_scores import OutputScore, with_scorer
from secateur.pipelines.studies.own_scores import OwnScore, OwnVectors, brings
from secateur.pipelines.studies.problem import Problem
from secateur.pipelines.studies.rejections import Name, checked, mapping, nested, require
from secateur.pipelines.studies.scores import AnyScore, Score, is_own, refuse_other_sense
from secateur.pipelines.studies.sections import Compute, Distilled, Neighbourhood, Proxy, Recurring, TimeTo, Validation
from secateur.pipelines.studies.selection import LISTED, OWN_KEYS, Selection
from secateur.pipelines.studies.signals import SIGNALS
from secateur.pipelines.studies.study import AnyStudy
from secateur.scorers.registry import of_other_units, scorers
from secateur.scorers.settings import PATHS
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.models.registry import check_config
from secateur.trainers.passes.embeddings import EmbeddingSettings

BASELINES = ("uniform_random", "stratified_random")
Budgets = float | list[float] | Literal["auto"]
OfColumn = dict[str, Budgets] | list[dict[str, float]]


class SampleKeys(AnyStudy):
    """Keys of the file of a study of samples."""

    source: Annotated[Source | None, Field(description="where the samples are; a task of your own brings them")] = None
    columns: Annotated[Columns | None, Field(description="columns of a source: input, label and others")] = None
    task: Annotated[
        Problem,
        BeforeValidator(lambda written: written, json_schema_input_type=str | Problem | dict[str, Any]),
        Field(description="the learning problem: classification, regression, multi_label or sft"),
    ] = Problem()
    data: Annotated[DataPolicy, Field(description="policies for rows that the study cannot or should not use")] = (
        DataPolicy()
    )
    encoding: Annotated[dict[str, Any], PATHS] = Field(
        default_factory=dict, description="how rows become arrays; missing keys follow from the models"
    )
    proxy: Annotated[
        Proxy | None,
        Field(description="the training run whose observers score the samples; leave it out if no score needs it"),
    ] = None
    proxy_from: Annotated[
        str | None,
        Field(description="a search of networks; its best one replaces the proxy's model, the run's length stays"),
    ] = None
    proxy_runs: Annotated[int, Field(ge=1, le=100, description="proxies of different seeds; scores are averaged")] = 1
    checkpoints: Annotated[
        int, Field(ge=1, le=99, description="checkpoints of each proxy run, for scores like vog")
    ] = 1
    embeddings: Annotated[
        Annotated[EmbeddingSettings, Tag("[EmbeddingSettings]")] | Annotated[OwnVectors, Tag("[OwnVectors]")],
        Discriminator(lambda body: "[OwnVectors]" if brings(body) else "[EmbeddingSettings]"),
        Field(description="vectors for scores and selectors of distances: settings to compute them, or yours"),
    ] = EmbeddingSettings()
    neighbours: Annotated[Neighbourhood, Field(description="the neighbour graph of the embeddings")] = Neighbourhood()
    scores: Annotated[dict[Name, AnyScore], Field(description="scores by name: scorers, and your own numbers")] = Field(
        default_factory=dict
    )
    selections: Annotated[
        dict[Name, Selection],
        Field(min_length=1, description="selections by name; every study adds uniform_random and stratified_random"),
    ]
    keep: Annotated[
        list[int | float],
        Field(min_length=1, description="budgets: fractions in (0, 1] or counts; auto: the default, refined"),
    ] = Field(default_factory=CURVE.copy)
    budget_of: Annotated[
        str,
        Field(
            min_length=1,
            description="unit of the budgets: rows, a column of numbers, or completion tokens of task sft, as in keep: "
            "{tokens: 0.3}",
        ),
    ] = ROWS
    refine: Annotated[
        bool, Field(description="try one more budget, between the smallest sufficient and the next; keep: auto does")
    ] = False
    training: Annotated[TrainingConfig, Field(description="the training of a model on the kept rows")]
    compare_at: Annotated[
        tuple[Length, ...],
        BeforeValidator(listed, json_schema_input_type=Length | list[Length]),
        Field(description="epochs, steps, or both, which trains selections at each; default: that of training"),
    ] = ()
    distillation: Annotated[Distilled | None, Field(description="twins of selections that learn from a teacher")] = None
    validation: Annotated[Validation, Field(description="how trainings choose missing settings")] = Validation()
    cost_per_hour: Annotated[
        float | None, Field(gt=0, description="of the machine, in your currency: the report prices seconds")
    ] = None
    time_to: Annotated[
        TimeTo | None,
        BeforeValidator(TimeTo.short, json_schema_input_type=TimeTo | list[float] | Literal[False] | None),
        Field(description="time to accuracy; default: of selections in training, random and the full set"),
    ] = None
    recurring: Annotated[Recurring | None, Field(description="schedule, triggers and scope of automatic repeats")] = (
        None
    )
    report_samples: Annotated[
        bool, Field(description="whether the report's page shows pictures or texts of samples")
    ] = True
    compute: Annotated[Compute, Field(description="where passes over rows and trainings run")] = Compute()

    @model_validator(mode="before")
    @classmethod
    def _automatic_budgets(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = budgets_of(content)
        keep = content.get("keep")
        automatic = {"refine": True} if keep == "auto" else {}
        kept = {} if keep is None else {"keep": CURVE.copy() if automatic else keep}
        return automatic | content | kept

    @field_validator(
        "scores",
        mode="before",
        json_schema_input_type=dict[str, Score | OwnScore | OutputScore | dict[str, Any] | None],
    )
    @classmethod
    def _scores(cls, content: Any) -> Any:
        every = mapping(content).items()
        return {
            name: with_scorer(name, body) if is_own(body) else nested(name, body, "scorer", set())
            for name, body in every
        }

    @field_validator("selections", mode="before", json_schema_input_type=dict[str, Selection | dict[str, Any] | None])
    @classmethod
    def _selections(cls, content: Any) -> Any:
        return {
            name: nested(name, with_manifest(body), "selector", OWN_KEYS) for name, body in mapping(content).items()
        }

    @field_validator("scores")
    @classmethod
    def _known_scorers(cls, scores: dict[str, Score | OwnScore]) -> dict[str, Score | OwnScore]:
        for name, score in scores.items():
            if name in SIGNALS:
                raise ValueError(f"{name}: selectors read something else by this name; call the score otherwise")
            if isinstance(score, OwnScore):
                refuse_other_sense(name, score)
                continue
            require(score.scorer, scorers(), f"{name}.scorer", of_other_units)
            checked(score.declared.settings, score.settings, name)
        return scores

    @field_validator("selections")
    @classmethod
    def _known_selectors(cls, selections: dict[str, Selection]) -> dict[str, Selection]:
        for name, selection in selections.items():
            if name == "full" or (name in BASELINES and selection.selector != name):
                raise ValueError(f"{name}: the report has this name for something else; call the selection otherwise")
            selection.check(name)
        return selections

    @field_validator("keep", mode="before", json_schema_input_type=Budgets | OfColumn)
    @classmethod
    def _one_or_many(cls, content: Any) -> Any:
        return content if isinstance(content, list) else [content]

    @field_validator("keep")
    @classmethod
    def _possible(cls, budgets: list[int | float]) -> list[int | float]:
        for keep in budgets:
            resolve_keep(keep, 2**62)
        if len({selection_key("", keep) for keep in budgets}) < len(budgets):
            raise ValueError("each budget can be listed once")
        return budgets

    @field_validator("proxy", "training")
    @classmethod
    def _model_exists(cls, config: TrainingConfig | None) -> TrainingConfig | None:
        if config is not None:
            check_config(config, untrained=isinstance(config, Proxy))
        return config

    @property
    def computed(self) -> dict[str, Score]:
        """Scores that scorers compute, by name."""
        return {name: score for name, score in self.scores.items() if isinstance(score, Score)}

    @property
    def own_vectors(self) -> OwnVectors | None:
        """The user's vectors, which replace computed embeddings."""
        return self.embeddings if isinstance(self.embeddings, OwnVectors) else None

    @property
    def embedded_by(self) -> str:
        """The source of the embeddings: `own`, or the value of `EmbeddingSettings.kind`."""
        return "own" if isinstance(self.embeddings, OwnVectors) else self.embeddings.kind

    @property
    def own_scores(self) -> dict[str, OwnScore]:
        """Scores from the user, by name."""
        return {name: score for name, score in self.scores.items() if isinstance(score, OwnScore)}


def with_manifest(body: Any) -> Any:
    """A selection as written; with a manifest, which sets the number of rows, its budget becomes `own`."""
    if not isinstance(body, dict) or not any(body.get(key) is not None for key in LISTED):
        return body
    if body.get("budget", "own") != "own":
        raise ValueError("budget: a manifest says how many rows stay; leave it out")
    return {"selector": "uniform_random", **body, "budget": "own"}
