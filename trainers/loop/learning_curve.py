"""How good a model is while it is being trained: its metrics on held-out samples, at equal shares of the run.

Measuring is no part of the run: the loop takes the time of it off its clock, and random numbers are drawn as if nothing
had been measured, so that the trained model is the same to the bit. Nothing in a training follows from the curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from secateur.scorers.lazy import nn, torch


@dataclass(frozen=True)
class Point:
    """The metrics by name after so many optimiser steps and so many seconds of training."""

    steps: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass
class LearningCurve:
    """Points of one run, `evaluations` of them: after each of as many equal shares of its steps, or of its epochs where
    a sampler decides how long these are. A run of fewer steps has a point after each.
    """

    judge: Callable[[nn.Module], Mapping[str, float]]
    """Gives the metrics of a model, which it may leave in evaluation mode."""
    evaluations: int
    points: list[Point] = field(default_factory=list)
    passed: int = 0
    """Shares of the run that are behind."""

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise ValueError(f"evaluations: must be at least 1, got {self.evaluations}")

    def due(self, done: float) -> bool:
        """Whether another share of the run is behind, of which `done` in [0, 1] is; told once for each."""
        reached = int(done * self.evaluations + 1e-9)
        due, self.passed = reached > self.passed, max(reached, self.passed)
        return due

    def measure(self, model: nn.Module, steps: int, seconds: float) -> None:
        """Add a point."""
        device = next(model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            metrics = dict(self.judge(model))
        self.points.append(Point(steps, seconds, metrics))

    def state_dict(self) -> dict[str, Any]:
        """What a snapshot holds of it."""
        return {"points": [asdict(point) for point in self.points], "passed": self.passed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.points, self.passed = [Point(**point) for point in state["points"]], int(state["passed"])
