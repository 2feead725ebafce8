"""What one trial came to: one arm at one budget and one seed, whatever it prunes."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

if TYPE_CHECKING:
    from secateur.trainers.loop.train import Trained

Count = Annotated[int, Field(ge=0)]
TOKENS = "tokens_seen"
"""Fact of an outcome: completion tokens that a language model was trained on, a token counted each time it was seen."""


@dataclass(frozen=True)
class Cost:
    """Samples that went forward through a network, those whose gradients were taken too, and seconds."""

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward + other.forward, self.backward + other.backward, self.seconds + other.seconds)

    @property
    def samples(self) -> float:
        """As many samples trained on: a backward pass costs two forward ones, so a sample that only went forward counts
        a third (Kaplan et al. 2020, "Scaling laws for neural language models", section 2.1)."""
        return (self.forward + 2 * self.backward) / 3

    @classmethod
    def of(cls, *trainings: "Trained") -> "Cost":
        """What some trainings took together."""
        seen = sum(each.samples_seen for each in trainings)
        return cls(seen, seen, sum(each.seconds for each in trainings))


class Outcome(BaseModel):
    """Metrics of a trial, what it kept, how long it was trained, and what that cost.

    Reports compare outcomes and read nothing else. In JSON an outcome has these names; `read` takes it back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: dict[str, float] = Field(default_factory=dict)
    """By the name of a declared `Metric`; empty until the trained model is judged."""
    kept: Count | None = None
    """Units kept (of samples, in an epoch); None for a reference, of which nothing is pruned."""
    of: Count | None = None
    in_training: bool = False
    """Whether every epoch chose its samples anew."""
    steps: Count = 0
    """Optimiser steps."""
    epochs: Count = 0
    samples_seen: Count = 0
    """Samples, or tokens, that the trial itself worked through."""
    compare_at: Literal["equal steps", "equal epochs"] | None = None
    """Which of both must be equal for a comparison; None where neither says what a trial may spend."""
    compute: dict[str, Cost] = Field(default_factory=dict)
    """What the trial and all that it depends on cost, by part; empty where the trial alone counts."""
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    """Of the trial itself."""
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
        """Take back what `model_dump(mode="json")` gave; raises ValueError that names `where` and the wrong key."""
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
        """As many samples trained on, over all parts; what the trial worked through where no parts are known."""
        return sum(cost.samples for cost in self.compute.values()) if self.compute else float(self.samples_seen)

    @property
    def all_seconds(self) -> float:
        """Over all parts; the trial's own where no parts are known."""
        return sum(cost.seconds for cost in self.compute.values()) if self.compute else self.seconds
