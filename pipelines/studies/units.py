"""A study of other units than samples: one YAML file of `kind: pruning`, one experiment, one group of assets."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.rejections import Strict, checked, require, shipped
from secateur.trainers.experiments.contract import Experiment, experiment_named, experiments


def found_as(name: str) -> Mapping[str, type[Experiment]]:
    """The experiment of that name, or all there are: another that is broken, or slow to import, is not touched."""
    found = experiment_named(name)
    return {name: found} if found else experiments()


class PruningStudy(Strict):
    """Everything that one YAML file of `kind: pruning` says."""

    model_config = ConfigDict(json_schema_extra=shipped("digits_random_pruning"))

    kind: Literal["pruning"]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="names the assets; lower case")]
    description: Annotated[str, Field(description="a line for the report")] = ""
    experiment: Annotated[str, Field(description="what is pruned, and how: a name that `secateur experiments` lists")]
    settings: Annotated[dict[str, Any], Field(description="of the experiment")] = Field(default_factory=dict)
    arms: Annotated[
        list[str] | None, Field(description="those of the experiment that are run, all by default; random always is")
    ] = None
    keep: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1, description="shares of the units that stay")
    ]
    seeds: Annotated[int, Field(ge=1, le=1000, description="repetitions of every arm, for the comparison")] = 5

    @model_validator(mode="after")
    def _possible(self) -> "PruningStudy":
        require(self.experiment, found_as(self.experiment), "experiment")
        checked(self.declared.settings, self.settings, "settings")
        for arm in self.arms or ():
            if arm in self.declared.references:
                raise ValueError(f"arms: {arm!r} is a reference, which has no budget and is always run: leave it out")
            require(arm, dict.fromkeys(self.declared.arms), "arms")
        for name, values in (("arms", self.arms or []), ("keep", self.keep)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: the same value twice")
        return self

    @property
    def declared(self) -> type[Experiment]:
        """The experiment's class."""
        return found_as(self.experiment)[self.experiment]

    @property
    def arm_names(self) -> list[str]:
        """Arms that are run, random first."""
        chosen = self.declared.arms if self.arms is None else self.arms
        baseline = self.declared.baseline
        return [baseline, *(arm for arm in self.declared.arms if arm in chosen and arm != baseline)]

    @property
    def selection_keys(self) -> list[str]:
        """References, then every arm at every budget."""
        arms = [selection_key(arm, keep) for arm in self.arm_names for keep in self.keep]
        return [*self.declared.references, *arms]

    @property
    def trials(self) -> Iterator[Trial]:
        """Every reference, and arm at a budget, at every seed."""
        return (Trial(key, seed) for key in self.selection_keys for seed in range(self.seeds))
