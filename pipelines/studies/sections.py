"""Sections of a study of samples: where its work runs, its neighbour graph, distillation, and recurring rescoring."""

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
"""Least and greatest number of each field of a cron line, and the names that numbers have from the least on."""

SHOWN = {"report_samples", "compare_at"}
IDLE = {"kind", "description", "recurring", *SHOWN}
"""Keys of a study that decide nothing about what is made but, those of `SHOWN`, the report; others decide."""
OF_THE_REPORT = {"keep", "refine", "margin", "metric", "cost_per_hour", "seeds", "looks"}
AFTER_SCORES = IDLE | OF_THE_REPORT | {"budget_of", "selections", "time_to", "training", "validation", "distillation"}


class Compute(Settings):
    """Where heavy work runs; by default all of it in the process of the run."""

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
        Field(description="of the cluster; RAY_ADDRESS if left out, and `local` starts one on this machine"),
    ] = None
    training: Annotated[
        Literal["in_process", "launch"], Field(description="models trained in this process, or by accelerate launch")
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
    """How the proxy is trained, and whether the samples that it scores are among those that it learns from."""

    folds: Annotated[
        int | None,
        Field(
            ge=2,
            le=100,
            description="parts of the training samples, each scored by proxies that did not see it; None: the proxy "
            "scores what it learned from",
        ),
    ] = None

    @property
    def training(self) -> TrainingConfig:
        """The training alone."""
        return TrainingConfig(**self.model_dump(exclude={"folds"}))

    def refuse(self, *, embedded: bool, scoring: str) -> None:
        """Raise ValueError for folds beside what needs one proxy of all samples; `embedded` says whether something
        reads the proxy's embeddings."""
        if self.folds and self.epochs == 0:
            raise ValueError("proxy.folds: a model that is not trained has seen no sample; leave folds out")
        if self.folds and embedded:
            raise ValueError(
                "proxy.folds: the proxies of the folds share no space of features, and a score or a selection reads "
                "embeddings; write embeddings: {kind: sklearn}, or name an encoder"
            )
        if self.folds and scoring == "ray":
            raise ValueError(
                "proxy.folds: a Ray cluster scores by proxies of all samples; write compute: {scoring: local}"
            )


class Validation(Settings):
    """How settings that the study leaves out are chosen; test samples are never used for it."""

    fraction: Annotated[float, Field(gt=0, lt=1, description="share of the training samples held out")] = 0.2
    seeds: Annotated[int, Field(ge=1, description="trainings per candidate")] = 3


class Neighbourhood(Settings):
    """The neighbour graph of the embeddings, shared by all scores that read it."""

    count: Annotated[int, Field(ge=1, description="nearest other samples of each sample")] = 10
    metric: Annotated[vectors.Metric, Field(description="of distances between embeddings")] = "euclidean"
    engine: Annotated[
        Literal["auto", "exact", "ivf"],
        Field(description="exact search or inverted lists; auto: by the time that they would take"),
    ] = "auto"
    label_free: Annotated[
        bool,
        Field(
            description="whether neighbour_agreement has a graph of its own, of the inputs, where the proxy makes the "
            "embeddings: these have learned the labels"
        ),
    ] = True
    least_recall: Annotated[float, Field(gt=0, le=1, description="of the inverted lists, by a brute-force audit")] = (
        0.95
    )


class TimeTo(Settings):
    """Targets of the report's time to accuracy, and how closely trainings are watched for it."""

    model_config = ConfigDict(frozen=True)

    shares: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(description="of the full set's result that are reached")
    ] = (0.9, 0.95, 0.99)
    values: Annotated[
        tuple[float, ...],
        Field(description="of the metric that decides: in percent where it is a share, else in its unit"),
    ] = ()
    evaluations: Annotated[
        int, Field(ge=0, le=1000, description="of each model on the test split while it is trained, at equal intervals")
    ] = 20

    @classmethod
    def short(cls, given: Any) -> Any:
        """A list alone is that of shares; `false` is no evaluation."""
        return {"shares": given} if isinstance(given, list) else {"evaluations": 0} if given is False else given

    @model_validator(mode="after")
    def _something(self) -> "TimeTo":
        if not self.shares and not self.values:
            raise ValueError("name shares of the full set's result, or values; or write `time_to: false`")
        return self


class Distilled(Distillation):
    """A `Distillation` and the selections that it is for: each gets a twin `<name>+kd`, trained on the same samples."""

    model_config = ConfigDict(populate_by_name=True)

    selections: Annotated[
        list[str] | None,
        Field(alias="for", min_length=1, description="names of selections, or full; every selection if left out"),
    ] = None

    def students(self, selections: Iterable[str]) -> list[str]:
        """Names, `full` among them where it is asked for, of what gets a twin."""
        return list(selections) if self.selections is None else self.selections

    def check(self, known: Mapping[str, Any]) -> None:
        """Raise ValueError for a selection or a teacher's model that does not exist."""
        for name in self.selections or ():
            require(name, known, "distillation.for")
        if isinstance(self.teacher, TrainingConfig):
            # Pretrained weights may teach as they come.
            check_config(self.teacher, untrained="pretrained" in self.teacher.model_settings)


class Frozen(Settings):
    model_config = ConfigDict(frozen=True)


class Drift(Frozen):
    """Bounds of the comparison of a new scoring with the last one."""

    least_rank_correlation: Annotated[
        float, Field(ge=-1, le=1, description="Spearman's, of each score over the samples that both scorings hold")
    ] = 0.8
    most_subset_change: Annotated[
        float, Field(ge=0, le=1, description="share of a subset's samples, still in the data, that are no longer kept")
    ] = 0.5


class Recurring(Frozen):
    """Recurring rescoring: by the clock, when the source changes, and of whatever has become stale."""

    cron: Annotated[str | None, Field(description="five fields, such as '0 6 * * 1'; None for no schedule")] = None
    timezone: Annotated[str, Field(description="of the cron line, such as Europe/London")] = "UTC"
    watch_seconds: Annotated[int | None, Field(ge=30, description="between looks at the source; None for none")] = 300
    refresh: Annotated[
        Literal["scores", "manifest", "report"],
        Field(description="the last asset that a change of the data or of a scorer's version travels to by itself"),
    ] = "manifest"
    drift: Annotated[Drift, Field(description="how far a new scoring may be from the last")] = Drift()

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
    """Whether these are five fields of numbers, names, ranges, steps and lists, on a day that its months may have."""
    fields = line.lower().split()
    if len(fields) != len(CRON) or not all(is_field(*each) for each in zip(fields, CRON, strict=True)):
        return False
    days, months = (set(re.findall(r"\*|\w+", field)) for field in fields[2:4])
    return not (days <= {"30", "31"} and months <= {"2", "feb"})


def is_field(field: str, known: tuple[int, int, str]) -> bool:
    """Whether each part of a field is a number, or `*` or a range with or without steps, within the bounds."""
    least, most, names = known
    for number, name in enumerate(names.split(), least):
        field = re.sub(rf"\b{name}\b", str(number), field)
    for part in field.split(","):
        match = re.fullmatch(r"(\d+)|(?:\*|(\d+)-(\d+))(?:/[1-9]\d*)?", part, re.ASCII)
        numbers = [int(number) for number in match.groups() if number] if match else []
        if not match or numbers != sorted(numbers) or not all(least <= one <= most for one in numbers):
            return False
    return True
