"""What a study may write under `compute`: where scoring passes run and how a model is trained."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from secateur.pipelines.studies.rejections import require
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.models.registry import check_config


class Compute(BaseModel):
    """Where heavy work runs; by default all of it in the process of the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scoring: Annotated[
        Literal["local", "ray"], Field(description="scoring passes in this process, or on a Ray cluster (extra ray)")
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
            check_config(self.teacher)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Drift(_Settings):
    """Bounds of the comparison of a new scoring with the last one."""

    least_rank_correlation: Annotated[
        float, Field(ge=-1, le=1, description="Spearman's, of each score over the samples that both scorings hold")
    ] = 0.8
    most_subset_change: Annotated[
        float, Field(ge=0, le=1, description="share of a subset's samples, still in the data, that are no longer kept")
    ] = 0.5


class Recurring(_Settings):
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
        from dagster._utils.schedules import is_valid_cron_string

        if given is not None and (len(given.split()) != 5 or not is_valid_cron_string(given)):
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
