"""Pictures of a search."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secateur.trainers.drawing import COLOURS, INK, RANDOM_COLOUR, picture

BASELINE_LINES = {"random": "--", "evolution": ":"}
MOST_FEATURES = 40


def predicted_against_true(true: np.ndarray, predicted: np.ndarray, note: str) -> bytes:
    """A point per architecture, and the line on which a prediction is right."""

    def draw(axes: Any) -> None:
        axes.scatter(predicted, true, s=8, color=COLOURS[0], alpha=0.6, linewidths=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
        axes.set(xlabel="predicted accuracy", ylabel="accuracy", title=note)

    return picture(draw, width=4.6, height=3.6)


def contributions(features: Sequence[str], means: np.ndarray, alive: np.ndarray) -> bytes:
    """Mean SHAP value of each choice where it is used; pruned choices are hollow."""
    shown = np.argsort(-np.abs(means), kind="stable")[:MOST_FEATURES]
    shown = shown[np.argsort(means[shown], kind="stable")]

    def draw(axes: Any) -> None:
        for place, feature in enumerate(shown.tolist()):
            colour = COLOURS[2] if means[feature] >= 0 else COLOURS[3]
            axes.barh(place, means[feature], color=colour if alive[feature] else "none", edgecolor=colour)
        axes.axvline(0, color=INK, linewidth=1)
        gone = ["" if alive[feature] else " (pruned)" for feature in shown.tolist()]
        axes.set_yticks(range(len(shown)), [features[f] + mark for f, mark in zip(shown.tolist(), gone, strict=True)])
        axes.set(xlabel="mean SHAP value where used, in the unit of the accuracy")
        axes.grid(axis="y", visible=False)

    return picture(draw, width=6.4, height=0.9 + 0.19 * len(shown))


def best_so_far(curves: Mapping[str, np.ndarray]) -> bytes:
    """Median and quartiles over seeds of the best accuracy so far, `[seeds, evaluations]` of each search."""

    def draw(axes: Any) -> None:
        colours = iter(COLOURS)
        lowest = min(float(np.quantile(found, 0.25, axis=0)[len(found[0]) // 10]) for found in curves.values())
        for name, found in curves.items():
            colour = RANDOM_COLOUR if name in BASELINE_LINES else next(colours)
            low, middle, high = np.quantile(found, [0.25, 0.5, 0.75], axis=0)
            steps = np.arange(1, found.shape[1] + 1)
            axes.plot(steps, middle, label=name, color=colour, linestyle=BASELINE_LINES.get(name, "-"), linewidth=1.5)
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="evaluations", ylabel="best accuracy so far", ylim=(lowest, None))
        axes.legend(loc="lower right")

    return picture(draw, height=3.4)
