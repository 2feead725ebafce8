"""Sections of a study of samples: compute, neighbour graph, distillation and recurring rescoring."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from secateur.pipelines.studies.rejections import require
from secateur.scorers.geometry import vectors
from secateur.scorers.settings import Settings
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.models.registry import check_config

CRON = (
    *((0, 59, ""), (0, 23, ""), (1, 31, "")),
    *((1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"), (0, 7, "sun mon tue wed thu fri sat")),
)
"""Bounds of each field of a cron line, and the names of its numbers from the lower bound on."""

SHOWN = {"report_samples", "compare_at"}
IDLE = {"kind", "description", "recurring", *SHOWN}
"""Keys that change no asset; those of `SHOWN` change the report."""
OF_THE_REPORT = {"keep", "refine", "margin", "metric", "cost_per_hour", "seeds", "looks"}
AFTER_SCORES = IDLE | OF_THE_REPORT | {"budget_of", "selections", "time_to", "training", "validation", "distillation"}


class Compute(Settings):
    """Where heavy work runs; by default all of it in the run's process."""

    model_config = ConfigDict(frozen=True)

    scoring: Annotated[
        Literal["local", "ray"],
        Field(
            description="passes over the rows (reading, encoding, embeddings, scores) in this process, or on a Ray "
            "cluster (extra ray)"
        ),
    ] = "local"
    ray_address: Annotated[
        str | None,
        Field(description="of the cluster; default RAY_ADDRESS; `local` starts a cluster on this machine"),
    ] = None
    training: Annotated[
        Literal["in_process", "launch"], Field(description="training in this process, or by accelerate launch")
    ] = "in_process"
    processes: Annotated[int, Field(ge=1, le=1024, description="of accelerate launch, one for each GPU")] = 1

    @model_validator(mode="after")
    def _settings_are_used(self) -> "Compute":
        if self.processes > 1 and self.training == "in_process":
            raise ValueError("processes is read with `training: launch` only; in_process trains in one")
        if self.ray_address is not None and self.scoring == "local":
            raise ValueError("ray_address is read with `scoring: ray` only")
        return self


class Proxy(TrainingConfig):
    """The proxy's training, and whether the proxy also learns from the samples that it scores."""

    folds: Annotated[
        int | None,
        Field(
            ge=2,
            le=100,
            description="parts of the training samples, each scored by proxies that did not see it; None: the proxy "
            "scores the samples that it learned from",
        ),
    ] = None

    @property
    def training(self) -> TrainingConfig:
        """The training config without folds."""
        return TrainingConfig(**self.model_dump(exclude={"folds"}))

    def refuse(self, *, embedded: bool) -> None:
        """Raise ValueError for folds in a study that needs one proxy of all samples; `embedded` means that a scorer or
        selector reads the proxy's embeddings."""
        if self.folds and self.epochs == 0:
            raise ValueError("proxy.folds: a model that is not trained has seen no sample; leave folds out")
        if self.folds and embedded:
            raise ValueError(
                "proxy.folds: the proxies of the folds share no space of features, and a score or a selection reads "
                "embeddings; write embeddings: {kind: sklearn}, or name an encoder"
            )


class Validation(Settings):
    """The choice of settings that the study leaves out; it never uses test samples."""

    fraction: Annotated[float, Field(gt=0, lt=1, description="share of the training samples held out")] = 0.2
    seeds: Annotated[int, Field(ge=1, description="trainings per candidate")] = 3


class Neighbourhood(Settings):
    """The neighbour graph of the embeddings, shared by all scores that read it."""

    count: Annotated[int, Field(ge=1, description="nearest other samples of each sample")] = 10
    metric: Annotated[vectors.Metric, Field(description="of distances between embeddings")] = "euclidean"
    engine: Annotated[
        Literal["auto", "exact", "ivf"],
        Field(description="exact search or inverted lists; auto: the faster one by an estimate"),
    ] = "auto"
    label_free: Annotated[
        bool,
        Field(
            description="whether neighbour_agreement uses a separate graph, of the inputs, if a proxy makes the "
            "embeddings: these have learned the labels"
        ),
    ] = True
    least_recall: Annotated[float, Field(gt=0, le=1, description="of the inverted lists, by a brute-force audit")] = (
        0.95
    )


class TimeTo(Settings):
    """Targets of the report's time to accuracy, and the number of evaluations during training."""

    model_config = ConfigDict(frozen=True)

    shares: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(description="targets as shares of the full set's result")
    ] = (0.9, 0.95, 0.99)
    values: Annotated[
        tuple[float, ...],
        Field(description="targets as values of the deciding metric: in percent if it is a share, else in its unit"),
    ] = ()
    evaluations: Annotated[
        int, Field(ge=0, le=1000, description="evaluations of each model on the test split in training, equally spaced")
    ] = 20

    @classmethod
    def short(cls, given: Any) -> Any:
        """Expand the short forms: a list means `shares`; `false` means no evaluations."""
        return {"shares": given} if isinstance(given, list) else {"evaluations": 0} if given is False else given

    @model_validator(mode="after")
    def _something(self) -> "TimeTo":
        if not self.shares and not self.values:
            raise ValueError("name shares of the full set's result, or values; or write `time_to: false`")
        return self


class Distilled(Distillation):
    """A `Distillation` and its selections: each has a twin `<name>+kd`, trained on the same samples."""

    model_config = ConfigDict(populate_by_name=True)

    selections: Annotated[
        list[str] | None,
        Field(alias="for", min_length=1, description="names of selections, or full; default: every selection"),
    ] = None

    def students(self, selections: Iterable[str]) -> list[str]:
        """Names of the selections, and `full` if listed, that have a twin."""
        return list(selections) if self.selections is None else self.selections

    def check(self, known: Mapping[str, Any]) -> None:
        """Raise ValueError for a selection or a teacher's model that does not exist."""
        for name in self.selections or ():
            require(name, known, "distillation.for")
        if isinstance(self.teacher, TrainingConfig):
            # A teacher may use pretrained weights without further training.
            check_config(self.teacher, untrained="pretrained" in self.teacher.model_settings)


class Frozen(Settings):
    model_config = ConfigDict(frozen=True)


class Drift(Frozen):
    """Bounds of the comparison of a new scoring with the last one."""

    least_rank_correlation: Annotated[
        float, Field(ge=-1, le=1, description="Spearman's, of each score over the samples in both scorings")
    ] = 0.8
    most_subset_change: Annotated[
        float, Field(ge=0, le=1, description="share of a subset's samples, still in the data, that a new subset drops")
    ] = 0.5


class Recurring(Frozen):
    """Recurring rescoring: on a schedule, after a change of the source, and of stale assets."""

    cron: Annotated[str | None, Field(description="five fields, such as '0 6 * * 1'; None for no schedule")] = None
    timezone: Annotated[str, Field(description="of the cron line, such as Europe/London")] = "UTC"
    watch_seconds: Annotated[int | None, Field(ge=30, description="between checks of the source; None for none")] = 300
    refresh: Annotated[
        Literal["scores", "manifest", "report"],
        Field(description="the last asset that a change of the data or of a scorer's version updates automatically"),
    ] = "manifest"
    drift: Annotated[Drift, Field(description="bounds on changes between two scorings")] = Drift()

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, given: str | None) -> str | None:
        if given is not None and not is_cron(given):
            raise ValueError(f"{given!r} is not a cron line: minute, hour, day of month, month, day of week")
        return given

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, given: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(given)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"there is no timezone {given!r}; names are like Europe/London or UTC") from error
        return given


def is_cron(line: str) -> bool:
    """Whether a line has five fields of numbers, names, ranges, steps and lists, with a day that its months have."""
    fields = line.lower().split()
    if len(fields) != len(CRON) or not all(is_field(*each) for each in zip(fields, CRON, strict=True)):
        return False
    days, months = (set(re.findall(r"\*|\w+", field)) for field in fields[2:4])
    return not (days <= {"30", "31"} and months <= {"2", "feb"})


def is_field(field: str, known: tuple[int, int, str]) -> bool:
    """Whether each part of a field is a number, `*` or a range within the bounds; the last two may have steps."""
    least, most, names = known
    for number, name in enumerate(names.split(), least):
        field = re.sub(rf"\b{name}\b", str(number), field)
    for part in field.split(","):
        match = re.fullmatch(r"(\d+)|(?:\*|(\d+)-(\d+))(?:/[1-9]\d*)?", part, re.ASCII)
        numbers = [int(number) for number in match.groups() if number] if match else []
        if not match or numbers != sorted(numbers) or not all(least <= one <= most for one in numbers):
            return False
    return True
