"""A study of other units than samples: one YAML file of `kind: pruning`, one experiment, one group of assets."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, model_validator

from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.rejections import checked, require, shipped
from secateur.pipelines.studies.study import AnyStudy
from secateur.scorers.settings import Settings
from secateur.trainers.experiments.contract import Experiment, experiment_named, experiments
from secateur.trainers.tasks.contract import Metric


def experiments_like(name: str) -> Mapping[str, type[Experiment]]:
    """The experiment of that name, or all if there is none; does not import others, which may be broken or slow."""
    experiment = experiment_named(name)
    return {name: experiment} if experiment else experiments()


class PruningStudy(AnyStudy):
    """A study of weights, channels, heads, deltas or prompt tokens."""

    model_config = ConfigDict(json_schema_extra=shipped("digits_random_pruning"))

    by_share: ClassVar[bool] = True
    outcome_asset: ClassVar[str] = "pruned"

    kind: Literal["pruning"]
    experiment: Annotated[str, Field(description="the experiment, one that `secateur experiments` lists")]
    settings: Annotated[dict[str, Any], Field(description="the experiment's")] = Field(default_factory=dict)
    arms: Annotated[list[str], Field(description="arms of the experiment to run; default: all; random always runs")] = (
        Field(default_factory=list)
    )
    keep: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1, description="shares of the units to keep")
    ]

    @model_validator(mode="after")
    def _possible(self) -> "PruningStudy":
        require(self.experiment, experiments_like(self.experiment), "experiment")
        checked(self.declared.settings, self.settings, "settings")
        for arm in self.arms:
            if arm in self.declared.references:
                raise ValueError(f"arms: {arm!r} is a reference, which has no budget and is always run: leave it out")
            require(arm, dict.fromkeys(self.declared.arms), "arms")
        for name, values in (("arms", self.arms), ("keep", self.keep)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: the same value twice")
        declared, all_of_them = self.declared, "arms" not in self.model_fields_set
        others = [arm for arm in declared.arms if arm != declared.baseline and (all_of_them or arm in self.arms)]
        self.arms = [declared.baseline, *others]
        if self.metric is not None:
            require(self.metric, {metric.name: metric for metric in self.metrics}, "metric")
        return self

    @property
    def declared(self) -> type[Experiment]:
        """The experiment's class."""
        return experiments_like(self.experiment)[self.experiment]

    @cached_property
    def instance(self) -> Experiment:
        """The experiment with the study's settings."""
        return self.declared(**self.resolved["settings"].model_dump(mode="json"))

    @property
    def resolved(self) -> dict[str, Settings]:
        return {"settings": cast(Settings, self.declared.settings(**self.settings))}

    @property
    def unit(self) -> str:
        return self.declared.unit

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.instance.metrics

    @property
    def baseline(self) -> str:
        return self.declared.baseline

    @property
    def references(self) -> tuple[str, ...]:
        return tuple(self.declared.references)

    def revision(self, base: Path, cache: Path) -> str:
        return ""

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        arm = trial.name if trial else ""
        versions = self.instance.versions(arm) if arm else {"experiment": self.declared.version}
        settings = self.model_dump(mode="json", exclude=self.left_out(asset, trial))
        return {"settings": settings, "versions": versions}

    def left_out(self, asset: str, trial: Trial | None) -> set[str]:
        return super().left_out(asset, trial) | ({"arms", "keep", "margin"} if trial else set())
