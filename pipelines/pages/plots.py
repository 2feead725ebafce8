"""Pictures for the UI and the report: SVG inside markdown, readable on light and dark pages."""

import base64
import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.pipelines.pages.words import difference_of, mean_of, scale_of, unit_of
from secateur.pipelines.studies.own_scores import OwnCard
from secateur.scorers.contract import Card
from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture, written
from secateur.trainers.judging.comparison import Comparison, Summary, Verdict
from secateur.trainers.tasks.contract import Metric

__all__ = ["COLOURS", "INK", "RANDOM_COLOUR", "Curve", "curves", "differences"]
__all__ += ["inline", "picture", "score_histogram"]


def inline(svg: bytes, title: str) -> str:
    """Markdown with an inline SVG."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg).decode()})"


def titled(svg: bytes, titles: Sequence[str]) -> bytes:
    """An SVG whose groups `point-0`, `point-1`, … have these titles, which browsers show on hover."""
    text = svg.decode()
    for number, title in enumerate(titles):
        group = f'<g id="point-{number}">'
        text = text.replace(group, f'{group[:-1]} class="point"><title>{html.escape(title, quote=False)}</title>')
    return text.encode()


def lay_point(axes: Any, titles: list[str], x: float, y: float, title: str) -> None:
    """Draw an invisible disc over a point, large enough for a finger; `titled` adds its title."""
    axes.plot([x], [y], "o", markersize=12, alpha=0, gid=f"point-{len(titles)}", zorder=9)
    titles.append(title)


def score_histogram(scores: np.ndarray, card: Card | OwnCard) -> str:
    """Histogram of a score."""

    def draw(axes: Any) -> None:
        # Bins may be narrower than the spacing of float32.
        axes.hist(
            scores.astype(np.float64),
            bins=min(60, max(10, int(np.sqrt(len(scores))))),
            color=COLOURS[0],
            histtype="stepfilled",
        )
        axes.set(xlabel=f"{card.name} (high: {card.high_means})", ylabel="samples")

    return inline(picture(draw, height=2.4), card.name)


MARKERS = "o^vPX<>*"
"""Markers of curves in their order, so that not only colour distinguishes them."""
BASELINE_MARKERS = {"random": "s", "stratified random": "D"}


@dataclass(frozen=True)
class Curve:
    """The metric of one arm, or of its distilled twin, at each of its places on the x-axis."""

    name: str
    places: Sequence[float]
    heights: Sequence[Summary]
    distilled: bool = False
    baseline: bool = False
    marked: Sequence[bool] = ()
    """Points without a comparison on equal terms, drawn hollow."""

    @property
    def title(self) -> str:
        """The arm's name, with a suffix for its distilled twin."""
        return self.name + (" + KD" if self.distilled else "")


def curves(
    drawn: Sequence[Curve],
    across: Mapping[str, Summary],
    metric: Metric,
    *,
    xlabel: str,
    ylabel: str,
    full_at: float | None = None,
    ticks: Sequence[float] = (),
    mark: str = "",
    limit: float | None = None,
    advised: tuple[str, float] | None = None,
    narrow: bool = False,
) -> bytes:
    """A metric with 95% intervals over a logarithmic axis; baselines in grey, lines `across` for rows without a budget.

    `full_at` is the place of the first of these on the axis, if it has one. A distilled twin has its plain arm's colour
    and dashed lines. With `ticks`, the axis shows them where there is room, and curves are slightly offset; `mark`
    explains hollow points. Intervals of shares are clipped to 0 and 100%. The range between the first line across
    and `limit` is the accepted loss, shaded; `advised` (curve name, place) gets a ring. A `narrow` picture fits a
    phone, with its legend below.
    """
    colours = dict(zip(dict.fromkeys(c.name for c in drawn if not c.baseline), COLOURS * len(drawn), strict=False))
    offsets = np.linspace(-0.03, 0.03, len(drawn)) if ticks and len(drawn) > 1 else np.zeros(len(drawn))
    scale, titles = scale_of(metric), list[str]()
    markers = dict(zip(colours, itertools.cycle(MARKERS), strict=False)) | BASELINE_MARKERS

    def draw(axes: Any) -> None:
        for curve, offset in zip(drawn, offsets, strict=True):
            places = np.asarray(curve.places) * np.exp(offset)
            draw_curve(axes, curve, places, scale, colours.get(curve.name), markers.get(curve.name, "o"))
            for x, place, height in zip(places, curve.places, curve.heights, strict=True):
                title = f"{curve.title}, {written(place)}: {mean_of(height, metric)} {unit_of(metric)}".rstrip()
                lay_point(axes, titles, x, scale * height.mean, title)
            if advised and advised[0] == curve.name and not curve.distilled:
                draw_ring(axes, curve, places, scale, advised[1])
        for (name, level), line in zip(across.items(), itertools.cycle(("-.", ":", "--"))):
            axes.axhline(scale * level.mean, color=INK, linewidth=1, linestyle=line, label=name)
        if across and limit is not None:
            ends = scale * next(iter(across.values())).mean, scale * limit
            axes.axhspan(min(ends), max(ends), color=COLOURS[2], alpha=0.15, linewidth=0, label="accepted loss")
        if across and full_at:
            axes.plot([full_at], [scale * next(iter(across.values())).mean], "*", color=INK, markersize=9)
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
        if mark:
            axes.plot([], [], "o", color=INK, mfc="white", label=mark)
        axes.set_ylim(
            *shown_heights([*(point for curve in drawn for point in curve.heights), *across.values()], metric)
        )
        write_ticks(axes, sorted(set(ticks)))
        if narrow:
            axes.get_figure().legend(loc="outside lower left", ncols=2, fontsize=8)
        else:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    lines = len(drawn) + 3
    size = (3.7, 3.4 + 0.1 * lines) if narrow else (8.2, max(3.8, 0.19 * lines))
    return titled(picture(draw, width=size[0], height=size[1]), titles)


def draw_curve(axes: Any, curve: Curve, places: np.ndarray, scale: float, colour: str | None, marker: str) -> None:
    """Draw a curve's points with their intervals, joined by lines."""
    colour = RANDOM_COLOUR if curve.baseline or colour is None else colour
    heights = scale * np.array([point.mean for point in curve.heights])
    axes.errorbar(
        places,
        heights,
        yerr=[scale * (point.half_width or 0.0) for point in curve.heights],
        label=curve.title,
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


def draw_ring(axes: Any, curve: Curve, places: np.ndarray, scale: float, at: float) -> None:
    """Draw a ring around the recommended point of a curve; `places` are the drawn places of its points."""
    number = list(curve.places).index(at)
    style: dict[str, Any] = {"color": "#d08700", "mfc": "none", "mew": 2, "markersize": 12, "zorder": 6}
    axes.plot([places[number]], [scale * curve.heights[number].mean], "o", label="recommended", **style)


def shown_heights(points: Sequence[Summary], metric: Metric) -> tuple[float, float]:
    """Limits of an axis that contains all points, and the intervals of shares clipped to valid shares."""
    floor, ceiling = (0.0, 1.0) if metric.percent else (-np.inf, np.inf)
    low = min(min(p.mean, max(floor, p.mean - (p.half_width or 0.0))) for p in points)
    high = max(max(p.mean, min(ceiling, p.mean + (p.half_width or 0.0))) for p in points)
    margin = 0.05 * max(high - low, 0.01 * abs(high), 1e-12)
    return scale_of(metric) * (low - margin), scale_of(metric) * (high + margin)


def write_ticks(axes: Any, places: Sequence[float]) -> None:
    """Set a tick at every place that is not too close to the previous one; without places at ones, twos and fives."""
    if not places:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda x, _: written(x))
        axes.xaxis.set_minor_formatter(NullFormatter())
        return
    if len(places) == 1:
        axes.set_xlim(places[0] / 1.3, places[0] * 1.3)
    shown: list[float] = []
    for place in places:
        if not shown or place >= 1.25 * shown[-1]:
            shown.append(place)
    axes.set_xticks(shown, [f"{place:,.0f}" if place >= 10 else f"{place:g}" for place in shown])
    axes.minorticks_off()


def differences(rows: Sequence[tuple[str, Comparison]], metric: Metric, *, xlabel: str) -> bytes:
    """Differences from random with 95% intervals, a row for each label; green is better, in either direction."""
    colours = {Verdict.BETTER: COLOURS[2], Verdict.WORSE: COLOURS[3]}
    markers = {Verdict.BETTER: ">" if metric.higher_is_better else "<"}
    markers[Verdict.WORSE] = "<" if metric.higher_is_better else ">"
    scale, titles = scale_of(metric), list[str]()

    def draw(axes: Any) -> None:
        for place, (label, compared) in enumerate(reversed(rows)):
            colour, form = colours.get(compared.verdict, RANDOM_COLOUR), markers.get(compared.verdict, "o")
            at, xerr = scale * compared.difference, scale * (compared.half_width or 0)
            axes.errorbar(at, place, xerr=xerr, fmt=form, color=colour, capsize=3, markersize=5)
            lay_point(axes, titles, at, place, f"{label}: {compared.verdict}, {difference_of(compared, metric)}")
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
        axes.set(xlabel=xlabel)
        axes.grid(axis="y", visible=False)

    return titled(picture(draw, width=7.4, height=0.8 + 0.32 * len(rows)), titles)


BASELINE_LINES = {"random": "--", "evolution": ":"}


MOST_FEATURES = 40


def predicted_against_true(true: np.ndarray, predicted: np.ndarray, note: str) -> bytes:
    """A point per architecture, and the diagonal of exact predictions."""

    def draw(axes: Any) -> None:
        axes.scatter(predicted, true, s=8, color=COLOURS[0], alpha=0.6, linewidths=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color=INK, linewidth=1, linestyle=":")
        axes.set(xlabel="predicted accuracy", ylabel="accuracy", title=note)

    return picture(draw, width=4.6, height=3.6)


def contributions(features: Sequence[str], means: np.ndarray, alive: np.ndarray) -> bytes:
    """Mean SHAP value of each choice over its uses; pruned choices are hollow."""
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
    """Median and quartiles over seeds of the best accuracy so far; each search has `[seeds, evaluations]`."""

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
