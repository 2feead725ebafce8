"""The outcome of one trial: one arm at one budget and one seed, for any unit of pruning."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

if TYPE_CHECKING:
    from secateur.trainers.loop.train import Trained

Count = Annotated[int, Field(ge=0)]
TOKENS = "tokens_seen"
"""Fact of an outcome: completion tokens in a language model's training, counted each time."""


@dataclass(frozen=True)
class Cost:
    """Samples in forward passes, samples in backward passes, and seconds."""

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward + other.forward, self.backward + other.backward, self.seconds + other.seconds)

    @property
    def samples(self) -> float:
        """The equivalent number of training samples: a backward pass costs two forward passes, so a forward pass alone
        counts a third (Kaplan et al. 2020, "Scaling laws for neural language models", section 2.1)."""
        return (self.forward + 2 * self.backward) / 3

    @classmethod
    def of(cls, *trainings: "Trained") -> "Cost":
        """The total cost of some training runs."""
        seen = sum(each.samples_seen for each in trainings)
        return cls(seen, seen, sum(each.seconds for each in trainings))


class Outcome(BaseModel):
    """Metrics of a trial, its kept units, the length of its training, and its cost.

    Reports compare outcomes and read nothing else. JSON has the same names; `read` parses it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: dict[str, float] = Field(default_factory=dict)
    """Values by the name of a declared `Metric`; empty before the evaluation."""
    kept: Count | None = None
    """Kept units (with samples, per epoch); None for a reference, which is not pruned."""
    of: Count | None = None
    in_training: bool = False
    """Whether every epoch selected its samples anew."""
    steps: Count = 0
    """Optimiser steps."""
    epochs: Count = 0
    samples_seen: Count = 0
    """Samples, or tokens, that the trial itself processed."""
    compare_at: Literal["equal steps", "equal epochs"] | None = None
    """The quantity that must be equal in a comparison; None if neither limits a trial."""
    compute: dict[str, Cost] = Field(default_factory=dict)
    """Costs of the trial and of its prerequisites, by part; empty if only the trial counts."""
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Seconds of the trial itself."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """JSON-able details for pictures, such as a curve."""

    @field_validator("metrics")
    @classmethod
    def _finite(cls, metrics: dict[str, float]) -> dict[str, float]:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}, which is no result")
        return metrics

    @model_validator(mode="after")
    def _kept_of_all(self) -> "Outcome":
        if (self.kept is None) != (self.of is None):
            raise ValueError("kept and of go together")
        if self.kept is not None and self.of is not None and self.kept > self.of:
            raise ValueError(f"{self.kept} kept of {self.of}")
        return self

    @classmethod
    def read(cls, content: Any, where: str) -> "Outcome":
        """Parse the result of `model_dump(mode="json")`; raises ValueError that names `where` and the wrong key."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "as a whole"
            raise ValueError(
                f"{where} is no outcome of a trial ({key}: {first['msg']}): run the trial again"
            ) from error

    @property
    def work(self) -> float:
        """The equivalent number of training samples over all parts; `samples_seen` without parts."""
        return sum(cost.samples for cost in self.compute.values()) if self.compute else float(self.samples_seen)

    @property
    def all_seconds(self) -> float:
        """Seconds over all parts; the trial's own without parts."""
        return sum(cost.seconds for cost in self.compute.values()) if self.compute else self.seconds
