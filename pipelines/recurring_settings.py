"""What a study may write under `recurring`: when to score again, how far changes travel, how much drift is too much."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


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
