"""The score by class for the UI: a box for each class, or for the extreme ones among many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from secateur.pipelines.files.shown_text import one_line
from secateur.pipelines.pages.plots import inline
from secateur.pipelines.studies.own_scores import OwnCard
from secateur.scorers.contract import Card, Scores
from secateur.trainers.experiments.drawing import COLOURS, RANDOM_COLOUR, picture

EACH = 24
"""Most classes with a box of their own; beyond that, the extreme ones have one and the rest share one."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NAME = 28
"""Most characters of a class name beside a picture."""


@dataclass(frozen=True)
class Box:
    """Five quantiles of a score over one or several classes, for whiskers, box and median, with the sample count."""

    title: str
    quantiles: tuple[float, ...]
    samples: int
    rest: bool = False
    """Whether it stands for several classes."""


def boxes(scores: Scores, labels: Int64[np.ndarray, " n"], names: Sequence[str], *, each: int = EACH) -> list[Box]:
    """A box per non-empty class, by ascending median; with more than `each`, the middle ones share one.

    Quantiles are linear interpolations in float64.
    """
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    groups = dict(zip(present.tolist(), np.split(scores[order], starts[1:]), strict=True))
    ranked = sorted(present.tolist(), key=lambda label: (np.median(groups[label].astype(np.float64)), label))
    if len(ranked) <= each:
        return [box(one_line(names[label], NAME), groups[label]) for label in ranked]
    low, high = ranked[: each // 2], ranked[-(each // 2) :]
    others = ranked[len(low) : -len(high)]
    middle = box(f"{len(others)} others", np.concatenate([groups[label] for label in others]), rest=True)
    ends = [[box(one_line(names[label], NAME), groups[label]) for label in side] for side in (low, high)]
    return [*ends[0], middle, *ends[1]]


def box(title: str, values: Scores, *, rest: bool = False) -> Box:
    """The box of the given samples."""
    found = np.quantile(values.astype(np.float64), QUANTILES)
    return Box(title, tuple(found.tolist()), len(values), rest)


def score_by_class(scores: Scores, labels: Int64[np.ndarray, " n"], names: Sequence[str], card: Card | OwnCard) -> str:
    """Box plot of a score by class as Markdown, lowest median at the bottom."""
    drawn = boxes(scores, labels, names)

    def draw(axes: Any) -> None:
        keys = ("whislo", "q1", "med", "q3", "whishi")
        stats = [dict(zip(keys, one.quantiles, strict=True)) for one in drawn]
        places = list(range(len(drawn)))
        parts = axes.bxp(
            stats, positions=places, orientation="horizontal", widths=0.6, showfliers=False, showcaps=False,
            patch_artist=True, medianprops={"linewidth": 2, "solid_capstyle": "butt"},
        )  # fmt: skip
        for place, one in enumerate(drawn):
            colour = RANDOM_COLOUR if one.rest else COLOURS[0]
            parts["boxes"][place].set(facecolor=f"{colour}55", edgecolor=colour)
            parts["medians"][place].set(color=colour)
            for whisker in parts["whiskers"][2 * place : 2 * place + 2]:
                whisker.set(color=colour)
        axes.set_yticks(places, [f"{one.title} ({one.samples:,})" for one in drawn])
        axes.set(xlabel=f"{card.name} (high: {card.high_means}): median, quarters, and 5 % to 95 %")
        axes.grid(axis="y", visible=False)

    return inline(picture(draw, height=0.9 + 0.24 * len(drawn)), f"{card.name} by stratum")
