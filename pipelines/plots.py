"""Pictures for the UI and the report: SVG inside markdown, readable on light and dark pages."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.scorers.contract import Card
from secateur.trainers.comparison import Summary

INK, GRID = "#7a7f87", "#9aa0a833"
COLOURS = ("#2f7ed8", "#e8743b", "#19a979", "#ed4a7b", "#945ecf", "#13a4b4", "#c79c1e", "#8a6d3b")
RANDOM_COLOUR = "#8b9096"


def picture(draw: Callable[[Any], None], *, width: float = 6.4, height: float = 3.0) -> bytes:
    """An SVG with transparent ground that `draw(axes)` fills; the same drawing gives the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "secateur",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def inline(svg: bytes, title: str) -> str:
    """Markdown that shows an SVG without a file beside it."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg).decode()})"


def score_histogram(scores: np.ndarray, card: Card) -> str:
    """Histogram of a score."""

    def draw(axes: Any) -> None:
        axes.hist(scores, bins=min(60, max(10, int(np.sqrt(len(scores))))), color=COLOURS[0])
        axes.set(xlabel=f"{card.name} (high: {card.high_means})", ylabel="samples")

    return inline(picture(draw, height=2.4), card.name)


def class_balance(labels: np.ndarray, keep: np.ndarray, names: Sequence[str]) -> str:
    """Share of each class before and after."""
    before = np.bincount(labels, minlength=len(names)) / len(labels)
    after = np.bincount(labels[keep], minlength=len(names)) / keep.sum()
    places = np.arange(len(names))

    def draw(axes: Any) -> None:
        axes.bar(places - 0.2, 100 * before, 0.4, label="all samples", color=RANDOM_COLOUR)
        axes.bar(places + 0.2, 100 * after, 0.4, label="kept", color=COLOURS[0])
        axes.set(ylabel="% of samples", xlabel="class")
        if len(names) <= 30:
            axes.set_xticks(places, names, rotation=0 if max(map(len, names)) <= 3 else 60)
        axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.2))

    return inline(picture(draw, height=2.4), "class balance")


@dataclass(frozen=True)
class Curve:
    """Accuracy of one selection, or of its taught twin, at each of its places on the x-axis."""

    name: str
    places: Sequence[float]
    accuracy: Sequence[Summary]
    distilled: bool = False
    baseline: bool = False
    marked: Sequence[bool] = ()
    """Points that are not compared on equal terms: drawn hollow."""


def accuracy_curves(
    curves: Sequence[Curve],
    full: Summary | None,
    *,
    xlabel: str,
    full_at: float | None = None,
    counts: bool = False,
    mark: str = "",
) -> bytes:
    """Accuracy with 95% intervals over a logarithmic axis; baselines in grey, the full set as a line across.

    A taught twin has the colour of its plain self and broken lines. `counts` writes every place below the axis, where
    there is room, and moves curves apart a little; `mark` explains hollow points.
    """
    colours = dict(zip(dict.fromkeys(c.name for c in curves if not c.baseline), COLOURS * len(curves), strict=False))
    markers = {"random": "s", "stratified random": "D"}
    offsets = np.linspace(-0.03, 0.03, len(curves)) if counts and len(curves) > 1 else np.zeros(len(curves))

    def draw(axes: Any) -> None:
        for curve, offset in zip(curves, offsets, strict=True):
            colour = RANDOM_COLOUR if curve.baseline else colours[curve.name]
            marker = markers.get(curve.name, "o")
            places = np.asarray(curve.places) * np.exp(offset)
            heights = np.array([100 * point.mean for point in curve.accuracy])
            axes.errorbar(
                places,
                heights,
                yerr=[100 * (point.half_width or 0) for point in curve.accuracy],
                label=curve.name + (" + KD" if curve.distilled else ""),
                color=colour,
                linestyle="--" if curve.distilled else "-",
                marker=marker,
                markersize=4,
                capsize=2,
                linewidth=1.2,
                elinewidth=0.8,
            )
            hollow = np.array(curve.marked, dtype=bool)
            if hollow.any():
                axes.plot(places[hollow], heights[hollow], marker, color=colour, mfc="white", markersize=5, zorder=5)
        if full:
            axes.axhline(100 * full.mean, color=INK, linewidth=1, linestyle="-.", label="full set")
            if full_at:
                axes.plot([full_at], [100 * full.mean], "*", color=INK, markersize=9)
        axes.set(xlabel=xlabel, ylabel="test accuracy, %", xscale="log")
        if mark:
            axes.plot([], [], "o", color=INK, mfc="white", label=mark)
        if counts:
            write_places(axes, sorted({place for curve in curves for place in curve.places}))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return picture(draw, width=8.2, height=max(3.8, 0.19 * (len(curves) + 3)))


def write_places(axes: Any, places: Sequence[float]) -> None:
    """A tick at every place that is not too near the one before it."""
    shown: list[float] = []
    for place in places:
        if not shown or place >= 1.25 * shown[-1]:
            shown.append(place)
    axes.set_xticks(shown, [f"{place:,.0f}" for place in shown])
    axes.minorticks_off()


def differences(rows: Sequence[tuple[str, float, float | None, str]]) -> bytes:
    """Difference from random in points with 95% intervals: one row per (label, difference, half-width, verdict)."""

    def draw(axes: Any) -> None:
        for place, (_, difference, half_width, verdict) in enumerate(reversed(rows)):
            colour = {"better": COLOURS[2], "worse": COLOURS[3]}.get(verdict.split()[0], RANDOM_COLOUR)
            axes.errorbar(
                100 * difference, place, xerr=100 * (half_width or 0), fmt="o", color=colour, capsize=3, markersize=5
            )
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
        axes.set(xlabel="test accuracy minus random's, points")
        axes.grid(axis="y", visible=False)

    return picture(draw, width=7.4, height=0.8 + 0.32 * len(rows))
