"""A study without training: it selects rows by the user's scores and vectors, beside a random baseline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.studies.grid import RANDOM, Trial, selection_key
from secateur.pipelines.studies.output_scores import AnyOwn, OutputScore, with_scorer
from secateur.pipelines.studies.own_scores import Budget, OwnScore, OwnVectors, amount_in
from secateur.pipelines.studies.own_selection import OWN_KEYS, OwnSelection
from secateur.pipelines.studies.rejections import Name, mapping, nested
from secateur.pipelines.studies.sections import Recurring
from secateur.pipelines.studies.signals import AUDIT
from secateur.pipelines.studies.study import AnyStudy
from secateur.pipelines.studies.target import (
    MADE,
    OF_SOURCES,
    OF_TARGET,
    TITLES,
    StudyTarget,
    beside,
    contents_of_split,
)
from secateur.scorers.registry import scorers
from secateur.selectors.contract import resolve_keep
from secateur.trainers.tasks.contract import Metric

BASELINE = "uniform_random"
UNTRAINED = ("metric", "margin", "looks")
"""Keys of other studies that concern a model's evaluation."""
DATA = ("source", "samples")
EXAMPLE: dict[str, Any] = {
    "name": "maths",
    "source": {"kind": "parquet", "train": "prompts.parquet"},
    "columns": {"text": "prompt", "id": "uuid", "group": "episode"},
    "scores": {"pass_rate": {"column": "pass_rate", "high_means": "easier"}},
    "selections": {"band": {"score": "pass_rate", "low": 0.2, "high": 0.8}},
    "keep": [0.1],
}
"""An example of this kind of study, which `dg` shows."""


class Choice(AnyStudy):
    """A study of samples without training: the user's scores and vectors, selections, and their random baselines."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    arm: ClassVar[str] = "selection"
    outcome_asset: ClassVar[str] = ""

    kind: Annotated[Literal["choice"], Field(description="optional in a file without proxy, training and task")] = (
        "choice"
    )
    seeds: Annotated[
        int, Field(ge=1, le=1000, description="repetitions of every draw, each with its own manifests")
    ] = 1
    source: Annotated[Source, Field(description="where the samples are; it names no test split")]
    columns: Annotated[
        Columns, Field(description="columns of the input, id, group and label; the last three are optional")
    ]
    data: Annotated[DataPolicy, Field(description="policies for rows that the study cannot or should not use")] = (
        DataPolicy()
    )
    scores: Annotated[dict[Name, AnyOwn], Field(description="your scores, by name")] = Field(default_factory=dict)
    embeddings: Annotated[OwnVectors | None, Field(description="your vectors, for selectors that read them")] = None
    target: Annotated[
        StudyTarget | None, Field(description="examples of the target task, for selections by similarity to them")
    ] = None
    selections: Annotated[
        dict[Name, OwnSelection],
        Field(min_length=1, description="selections by name; each has a random baseline of equal size, NAME+random"),
    ]
    keep: Annotated[  # type: ignore[assignment]
        list[Budget],
        Field(
            min_length=1,
            description="budgets: fractions in (0, 1], counts, or an amount of a column, {tokens: 2000000}",
        ),
    ]
    recurring: Annotated[Recurring | None, Field(description="schedule, triggers and scope of automatic repeats")] = (
        None
    )
    report_samples: Annotated[bool, Field(description="whether the report's page shows texts of samples")] = True

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_trained(cls, content: Any) -> Any:
        for key in content if isinstance(content, dict) else ():
            if key in UNTRAINED and content[key]:
                raise ValueError(f"{key}: nothing is trained in this study, so nothing is measured; leave it out")
        return content

    @field_validator("scores", mode="before", json_schema_input_type=dict[str, OwnScore | OutputScore])
    @classmethod
    def _are_own(cls, content: Any) -> Any:
        for name, body in mapping(content).items():
            computed = name in scorers() or (isinstance(body, dict) and "scorer" in body)
            if computed and not (isinstance(body, dict) and {"column", "file", "outputs"} & set(body)):
                raise ValueError(
                    f"{name}: a score that secateur computes watches a training: add proxy and training to the study, "
                    "or name a column or file that holds the score"
                )
        return {name: with_scorer(name, body) for name, body in content.items()}

    @field_validator(
        "selections", mode="before", json_schema_input_type=dict[str, OwnSelection | dict[str, Any] | None]
    )
    @classmethod
    def _selections(cls, content: Any) -> Any:
        return {name: nested(name, body, "selector", OWN_KEYS) for name, body in mapping(content).items()}

    @field_validator("keep", mode="before", json_schema_input_type=float | dict[str, float] | list[Budget])
    @classmethod
    def _one_or_many(cls, content: Any) -> Any:
        return content if isinstance(content, list) else [content]

    @field_validator("keep")
    @classmethod
    def _possible(cls, budgets: list[Budget]) -> list[Budget]:
        for keep in budgets:
            if not isinstance(keep, Mapping):
                resolve_keep(keep, 2**62)
        if len({selection_key("", keep) for keep in budgets}) < len(budgets):
            raise ValueError("each budget can be listed once")
        return budgets

    @model_validator(mode="after")
    def _is_whole(self) -> "Choice":
        if key := self.source.divided_by:
            raise ValueError(
                f"source.{key}: nothing is trained in this study, so no row is held out for testing; leave it out"
                if key != "kind"
                else f"source.kind: {self.source.kind} brings no scores of yours; name files that do"
            )
        if self.columns.target not in (None, "class"):
            raise ValueError(f"columns.target: a label is a class where nothing is trained, got {self.columns.target}")
        return self

    @model_validator(mode="after")
    def _everything_read_is_there(self) -> "Choice":
        if not self.columns.labels:
            for name, score in self.scores.items():
                if isinstance(score, OutputScore):
                    raise ValueError(
                        f"scores.{name}: outputs are scored beside labels; name their column as columns.label"
                    )
        given = {"label": bool(self.columns.labels), "embeddings": self.embeddings is not None}
        if self.target:
            self.target.check_split(self.source)
        for name in beside(self.target, self.selections):
            self.selections[name] = OwnSelection(selector=name)
        for name, selection in self.selections.items():
            selection.check(f"selections.{name}", self.scores, given, self.target)
        self._check_target()
        return self

    def _check_target(self) -> None:
        """Raise ValueError if rows cannot be compared with those of the target."""
        texts = self.columns.text is not None
        if self.target is None:
            return
        if "target_log_ratios" in self.target_signals and not texts:
            raise ValueError("selections: importance_resampling counts words of texts; name columns.text")
        by_texts = self.target.by_texts(named=self.embeddings is not None, texts=texts)
        if "target_places" not in self.target_signals or by_texts:
            return
        if self.embeddings is None:
            raise ValueError("target: rows that are no texts are compared by vectors; bring them as embeddings")
        if self.embeddings.file is not None and self.target.vectors is None and self.target.filter is None:
            raise ValueError("target.vectors: embeddings are a file of yours for the data; name one for the target")

    @property
    def target_signals(self) -> set[str]:
        """Signals of the target and of the rows' sources that the selections read."""
        return set[str]().union(*(each.reads for each in self.selections.values())) & (OF_TARGET | OF_SOURCES)

    @property
    def target_by_texts(self) -> bool:
        """Whether the study compares rows with those of the target by their texts."""
        texts = self.columns.text is not None
        return self.target is not None and self.target.by_texts(named=self.embeddings is not None, texts=texts)

    @property
    def read_source(self) -> Source:
        """The source; it is None in kinds of study that need none."""
        return self.source

    @property
    def read_columns(self) -> Columns:
        """The columns, likewise."""
        return self.columns

    @property
    def unit(self) -> str:
        return "sample"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ()

    @property
    def baseline(self) -> str:
        return BASELINE

    @property
    def references(self) -> tuple[str, ...]:
        return ()

    @property
    def arms(self) -> list[str]:
        """Selections, each followed by its random baseline unless it is random itself."""
        return [
            arm
            for name, selection in self.selections.items()
            for arm in ([name] if selection.selector == BASELINE and not selection.by else [name, f"{name}{RANDOM}"])
        ]

    @property
    def budgets(self) -> list[Budget]:  # type: ignore[override]
        return self.keep

    @property
    def selection_keys(self) -> list[str]:
        """Every selection at every budget, each directly followed by its random baseline."""
        return [selection_key(arm, keep) for keep in self.budgets for arm in self.arms]

    def title(self, name: str) -> str:
        plain = name.removesuffix(RANDOM)
        return TITLES.get(plain, plain) + (", at random" if name.endswith(RANDOM) else "")

    def selection_of(self, trial: Trial) -> OwnSelection:
        """The selection of a trial; for a random baseline, the selection that it belongs to."""
        return self.selections[trial.name.removesuffix(RANDOM)]

    def budget_of(self, trial: Trial) -> Budget:
        """The budget of a trial, as the study states it."""
        return amount_in(trial.selection.rpartition("@")[2])

    @property
    def read_besides(self) -> list[str]:
        """Columns of the data that the study reads in addition to `columns`, without vectors."""
        own = [score for score in self.scores.values() if not isinstance(score, OutputScore)]
        scores = [score.column for score in own if score.file is None]
        quotas = [selection.by for selection in self.selections.values()]
        costs = [column for keep in self.keep if isinstance(keep, Mapping) for column in keep]
        target = self.target.read_of_data if self.target else []
        return sorted({name for name in (*scores, *quotas, *costs, *target) if name is not None})

    def revision(self, base: Path, cache: Path) -> str:
        from secateur.pipelines.data.sources import revision_of

        return revision_of(self.source, self.columns, base, cache)

    def besides(self, base: Path, cache: Path) -> dict[str, str]:
        return contents_of_split(self.target, self.source, self.columns, base, cache)

    def follows(self, names: Any, trial: Trial | None, content: str) -> bool:
        root, _, rest = content.partition(".")
        if root == AUDIT:
            return bool(names[0] == "report")
        if root == "target":
            return bool(names[0] == "target" or (names[0] == "target_places" and rest.startswith("vectors")))
        if root == "scores":
            return bool(names[0] == "scores" and rest.partition(".")[0] == names[1])
        return bool(names[0] == root if root == "embeddings" else names[0] in DATA)

    def needs(self, trial: Trial | None, parent: Any) -> bool:
        if trial is None or parent[0] not in ("scores", "embeddings", *MADE):
            return True
        selection = self.selection_of(trial)
        if parent[0] in MADE:
            read = set(selection.reads) & (OF_TARGET | OF_SOURCES)
            return not trial.name.endswith(RANDOM) and (parent[0] in read or (parent[0] == "target" and bool(read)))
        return (
            parent[1] in selection.scores_read(self.scores)
            if parent[0] == "scores"
            else "embeddings" in selection.reads
        )

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        read = {"source", "columns", "data"}
        if trial is not None:
            selection = self.selection_of(trial)
            directions = {name: self.scores[name].high_means for name in selection.scores_read(self.scores)}
            made = [selection.model_dump(mode="json"), selection.chosen.version, self.columns.group, directions]
            return {
                "selection": made,
                "keep": self.budget_of(trial),
                **({"scores": self.told()} if asset == "manifest" else {}),
            }
        if asset in DATA:
            apart = {"apart": self.target.filter} if self.target and self.target.filter else {}
            return {"besides": self.read_besides, **apart, **self.model_dump(mode="json", include=read)}
        if asset in MADE:
            compared = self.model_dump(mode="json", include={"embeddings"}) if asset == "target_places" else {}
            depth = [self.model_dump(mode="json", include={"keep"}), self.columns.group] if compared else []
            return {"target": self.target and self.target.model_dump(mode="json"), **compared, "depth": depth}
        if asset in ("scores", "embeddings"):
            return self.model_dump(mode="json", include={asset})
        return self.model_dump(mode="json", exclude={"kind", "recurring"})

    def told(self) -> dict[str, str]:
        """The source of each score, as manifests state it."""
        return {name: score.told() for name, score in self.scores.items()}
