"""A study: one YAML file, one data set, one group of assets; wrong settings are refused when it loads."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from secateur.pipelines.cells import Cell, selection_key
from secateur.pipelines.sources import Columns, Source
from secateur.scorers.contract import Scorer
from secateur.scorers.registry import AnyScorer, scorers
from secateur.scorers.vectors import Metric
from secateur.selectors.class_policy import Policy, with_class_policy
from secateur.selectors.contract import Selector, resolve_keep, selectors
from secateur.trainers.contract import Recipe
from secateur.trainers.embeddings import EmbeddingSettings
from secateur.trainers.models import check_recipe
from secateur.trainers.tasks import TASKS, Task, task_of

if TYPE_CHECKING:
    from secateur.pipelines.search import Search

Checked = TypeVar("Checked", bound=BaseModel)
SHIPPED = Path(__file__).parent / "studies"
BASELINES = ("uniform_random", "stratified_random")
GIVEN = {"ids", "labels", "budget", "scores", "null_log_probabilities"}
SIGNALS = {"embeddings", "neighbour_indices", "neighbour_distances"}
"""Arrays that assets of their own make, where a scorer or selector reads them."""


class Strict(BaseModel):
    """Refuses unknown keys."""

    model_config = ConfigDict(extra="forbid")


class Score(Strict):
    """A scorer with its settings, under the name that the study gives it."""

    scorer: str
    settings: dict[str, Any] = {}

    @property
    def declared(self) -> AnyScorer:
        return scorers()[self.scorer]

    @property
    def signals(self) -> set[str]:
        """What a scorer of signals reads; nothing for the other kinds."""
        return set(self.declared.signals) if isinstance(self.declared, Scorer) else set()


class ClassShares(Strict):
    """How classes share the budget."""

    policy: Annotated[Policy, Field(description="none, proportional or balanced")] = "none"
    floor: Annotated[int, Field(ge=0, description="samples that stay of each class")] = 0


class Selection(Strict):
    """A selector with its settings and the score that it reads."""

    selector: str
    score: str | None = None
    classes: ClassShares | None = None
    settings: dict[str, Any] = {}

    @property
    def declared(self) -> Selector[...]:
        """The selector, under the class policy if there is one."""
        plain = selectors()[self.selector]
        return with_class_policy(plain, self.classes.policy, floor=self.classes.floor) if self.classes else plain

    @property
    def untuned(self) -> tuple[str, ...]:
        """Settings to be chosen on the validation split."""
        return tuple(name for name in self.declared.tunable if self.settings.get(name) is None)


class Validation(Strict):
    """How settings that the study leaves out are chosen; test samples are never used for it."""

    fraction: Annotated[float, Field(gt=0, lt=1, description="share of the training samples held out")] = 0.2
    seeds: Annotated[int, Field(ge=1, description="trainings per candidate")] = 3


class Neighbourhood(Strict):
    """The neighbour graph of the embeddings, shared by all scores that read it."""

    count: Annotated[int, Field(ge=1, description="nearest other samples of each sample")] = 10
    metric: Metric = "euclidean"
    engine: Literal["auto", "exact", "ivf"] = "auto"
    least_recall: Annotated[float, Field(gt=0, le=1, description="of the inverted lists, by a brute-force audit")] = (
        0.95
    )


class Study(Strict):
    """Everything that one YAML file says."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="names the assets; lower case")]
    description: str = ""
    source: Source
    columns: Columns
    task: Annotated[
        dict[str, Any], Field(description="how rows become arrays; what it leaves out follows the models")
    ] = {}
    proxy: Annotated[Recipe, Field(description="the training run whose observers score the samples")]
    proxy_from: Annotated[
        str | None,
        Field(description="a search of networks; the best takes the place of the proxy's, whose length of run stays"),
    ] = None
    proxy_runs: Annotated[int, Field(ge=1, le=100, description="proxies of different seeds; scores are averaged")] = 1
    checkpoints: Annotated[
        int, Field(ge=1, le=99, description="checkpoints of each proxy run, for scores like vog")
    ] = 1
    embeddings: EmbeddingSettings = EmbeddingSettings()
    neighbours: Neighbourhood = Neighbourhood()
    scores: Annotated[dict[str, Score], Field(min_length=1)]
    selections: Annotated[dict[str, Selection], Field(min_length=1)]
    keep: Annotated[list[int | float], Field(min_length=1, description="budgets: fractions in (0, 1] or counts")]
    training: Annotated[Recipe, Field(description="how a model is trained on what was kept")]
    seeds: Annotated[int, Field(ge=1, le=1000, description="repetitions of every cell")] = 5
    validation: Validation = Validation()

    @field_validator("scores", mode="before")
    @classmethod
    def _scores(cls, given: Any) -> Any:
        return {name: nested(name, body, "scorer", set()) for name, body in mapping(given).items()}

    @field_validator("selections", mode="before")
    @classmethod
    def _selections(cls, given: Any) -> Any:
        return {name: nested(name, body, "selector", {"score", "classes"}) for name, body in mapping(given).items()}

    @field_validator("scores")
    @classmethod
    def _known_scorers(cls, given: dict[str, Score]) -> dict[str, Score]:
        for name, score in given.items():
            require(score.scorer, scorers(), f"{name}.scorer")
            checked(score.declared.settings, score.settings, name)
        return given

    @field_validator("selections")
    @classmethod
    def _known_selectors(cls, given: dict[str, Selection]) -> dict[str, Selection]:
        for name, selection in given.items():
            require(selection.selector, selectors(), f"{name}.selector")
            tuned = {setting: values[0] for setting, values in selection.declared.tunable.items()}
            checked(selection.declared.settings, tuned | selection.settings, name)
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or name == "full":
                raise ValueError(f"{name}: a selection's name is letters, digits, - and _, and not 'full'")
        return given

    @field_validator("keep", mode="before")
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
    def _model_exists(cls, recipe: Recipe) -> Recipe:
        check_recipe(recipe)
        return recipe

    @model_validator(mode="after")
    def _everything_read_is_made(self) -> "Study":
        for baseline in BASELINES:
            self.selections.setdefault(baseline, Selection(selector=baseline))
        for name, selection in self.selections.items():
            if "scores" in selection.declared.reads:
                if selection.score is None:
                    raise ValueError(
                        f"selections.{name}.score: {selection.selector!r} reads a score; name one of "
                        f"{', '.join(self.scores)}"
                    )
                require(selection.score, self.scores, f"selections.{name}.score")
            elif selection.score is not None:
                raise ValueError(f"selections.{name}.score: {selection.selector!r} reads no score; leave it out")
            for signal in set(selection.declared.reads) - GIVEN - SIGNALS:
                require(signal, self.scores, f"selections.{name}: selector {selection.selector!r} reads the score")
        for name, score in self.scores.items():
            for signal in score.signals - GIVEN - SIGNALS:
                others = {other for other in self.scores if other != name}
                require(signal, dict.fromkeys(others), f"scores.{name}: scorer {score.scorer!r} reads the score")
        return self

    @property
    def signals(self) -> set[str]:
        """Signals that some scorer or selector of the study reads and an asset of its own makes."""
        read = [score.signals for score in self.scores.values()]
        read += [set(selection.declared.reads) for selection in self.selections.values()]
        found = set().union(*read) & SIGNALS
        return found | ({"embeddings"} if found else set())

    @model_validator(mode="after")
    def _task_fits(self) -> "Study":
        checked(TASKS[self.columns.kind], self.task, "task")
        assert self.resolved_task
        return self

    @property
    def resolved_task(self) -> Task:
        """How rows become arrays, what the study leaves out filled in from its models."""
        return task_of(self.columns.kind, self.task, (self.proxy, self.training))

    @property
    def selection_keys(self) -> list[str]:
        """`full`, then every selection at every budget."""
        return ["full", *(selection_key(name, keep) for keep in self.keep for name in self.selections)]

    @property
    def cells(self) -> Iterator[Cell]:
        for selection in self.selection_keys:
            for seed in range(self.seeds):
                yield Cell(selection, seed)


def mapping(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"must be a mapping from names to settings, got {given!r}")
    return given


def nested(name: str, body: Any, kind: str, own: set[str]) -> Any:
    """The YAML's flat form, settings beside `scorer`/`selector`, as the model's nested one."""
    if body is None:
        body = {}
    if not isinstance(body, dict):
        return body
    if "settings" in body and isinstance(body["settings"], dict):
        return {kind: name} | body
    flat = {key: value for key, value in body.items() if key not in {kind, *own}}
    return {kind: body.get(kind, name), "settings": flat} | {key: body[key] for key in own if key in body}


def require(name: str, known: Mapping[str, Any], where: str) -> None:
    """Raise ValueError with the names there are, nearest first, where `name` is not one of them."""
    if name not in known:
        told = did_you_mean(name, known)
        raise ValueError(f"{where}: there is no {name!r}; {told}there are: {', '.join(sorted(known))}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest of the known names, with a space behind it; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def checked(settings: type[BaseModel], given: Mapping[str, Any], where: str) -> None:
    """Validate settings against a declaration; raise ValueError that says key, fault and allowed names."""
    try:
        settings(**given)
    except ValidationError as error:
        faults = "; ".join(fault_text(fault) for fault in error.errors())
        allowed = ", ".join(settings.model_fields) or "none"
        raise ValueError(f"{where}: {faults} (settings: {allowed})") from error


def fault_text(fault: Mapping[str, Any]) -> str:
    """One pydantic fault as `key: what is wrong, got what`."""
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith("function-"))
    text = str(fault["msg"]).removeprefix("Value error, ")
    shown = fault["type"] not in ("missing", "value_error")
    return f"{where}: {text}" + (f", got {fault['input']!r}" if shown else "") if where else text


class StudyError(ValueError):
    """A study file that cannot be used; the text names the file, the key and what is allowed."""


@dataclass(frozen=True)
class StudyFile:
    """A study or the reason why its file holds none."""

    path: Path
    study: Study | None
    error: str = ""
    search: "Search | None" = None
    """Instead of a study, where the file is of `kind: search`."""

    @property
    def name(self) -> str:
        named = self.study or self.search
        return named.name if named else re.sub(r"\W+", "_", self.path.stem) or "study"


def load_file(path: Path) -> StudyFile:
    """Read and validate one file, be it a study or a search; raises StudyError."""
    content = read_yaml(path)
    if content.get("kind") != "search":
        return StudyFile(path, load_study(path))
    from secateur.pipelines.search import Search

    return StudyFile(path, None, search=validated(Search, content, path, "search"))


def load_study(path: Path) -> Study:
    """Read and validate one file; raises StudyError."""
    return validated(Study, read_yaml(path), path, "study")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds; raises StudyError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of keys, got {type(content).__name__}")
    return content


def validated(model: type[Checked], content: dict[str, Any], path: Path, kind: str) -> Checked:
    """Raise StudyError with file, key and what is allowed where the content does not fit the model."""
    try:
        return model(**content)
    except ValidationError as error:
        faults = "\n".join(f"  {fault_text(fault)}" for fault in error.errors())
        raise StudyError(f"{path}:\n{faults}\n  keys of a {kind}: {', '.join(model.model_fields)}") from error
    except TypeError as error:
        raise StudyError(f"{path}: keys must be text: {error}") from error


def study_folders() -> list[Path]:
    """The studies that ship, then the user's folder: SECATEUR_STUDIES, or `studies` below the working directory."""
    return [SHIPPED, Path(os.environ.get("SECATEUR_STUDIES", "studies"))]


def read_studies(folders: list[Path]) -> list[StudyFile]:
    """Every `*.yaml` of the folders; a broken file, or a second one of the same name, takes no other down."""
    found: list[StudyFile] = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.y*ml"))):
        try:
            read = load_file(path)
        except StudyError as error:
            read = StudyFile(path, None, str(error))
        first = next((other for other in found if other.name == read.name), None)
        if first:
            error_text = f"{path}: a study named {read.name!r} is already in {first.path}; rename one of them"
            read = StudyFile(path.with_name(f"{path.stem}_{len(found)}{path.suffix}"), None, read.error or error_text)
        found.append(read)
    return found
