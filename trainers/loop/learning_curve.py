"""Learning curves: a model's metrics on held-out samples during training, at equal shares of the run.

Measuring does not affect the run: the loop subtracts its time and restores the random generators, so the trained model
is the same to the bit. No step of a training depends on the curve.
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
    """Points of one run: `evaluations` of them after equal shares of its steps, or of its epochs if a sampler sets
    their length. A run of fewer steps has a point after each.
    """

    judge: Callable[[nn.Module], Mapping[str, float]]
    """Computes the metrics of a model; it may leave the model in evaluation mode."""
    evaluations: int
    points: list[Point] = field(default_factory=list)
    passed: int = 0
    """Number of completed shares of the run."""

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise ValueError(f"evaluations: must be at least 1, got {self.evaluations}")

    def due(self, done: float) -> bool:
        """Whether the run, of which a share `done` in [0, 1] is over, has completed another share; once for each."""
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
        """The state for snapshots."""
        return {"points": [asdict(point) for point in self.points], "passed": self.passed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a snapshot."""
        self.points, self.passed = [Point(**point) for point in state["points"]], int(state["passed"])
