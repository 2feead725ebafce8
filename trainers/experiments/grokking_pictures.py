"""Pictures of grokking networks: accuracy by step, the frequencies they use, and the overlap of their tickets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture

Facts = Mapping[str, Any]
"""Facts of a run's outcome: `steps`, and named curves with a value after each step, such as `test`."""


@dataclass(frozen=True)
class Line:
    """The runs of one arm, a set of facts per seed."""

    name: str
    told: Sequence[Facts]
    dashed: bool = False


def by_step(lines: Sequence[Line], keep: float) -> bytes:
    """Test accuracy against step, means over seeds; thin lines are training accuracy."""
    plain, colours = {"random": RANDOM_COLOUR, "dense": INK, "dense_no_decay": INK}, iter(COLOURS * 2)

    def draw(axes: Any) -> None:
        for line in lines:
            colour = plain.get(line.name) or next(colours)
            style = ":" if line.name.endswith("no_decay") else "--" if line.dashed else "-"
            steps = line.told[0]["steps"][1:]  # a logarithmic axis cannot show step 0
            test, train = mean_of(line.told, "test")[1:], mean_of(line.told, "train")[1:]
            axes.plot(steps, 100 * test, style, color=colour, linewidth=1.5, label=line.name)
            axes.plot(steps, 100 * train, style, color=colour, linewidth=0.5, alpha=0.7)
        axes.set(xlabel="step", ylabel="accuracy, %", xscale="log", title=f"{keep:g} of the weights kept")
        axes.xaxis.set_major_formatter(plainly)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, title="test; train thin")

    return picture(draw, width=7.6, height=3.6)


def mean_of(told: Sequence[Facts], name: str) -> np.ndarray:
    """A curve's mean over seeds."""
    return np.asarray(np.mean([facts[name] for facts in told], axis=0))


def frequencies(dense: Sequence[Facts]) -> bytes:
    """Power in the strongest frequencies of the input table, at moments of the dense run."""

    def draw(axes: Any) -> None:
        for moment, colour in zip(("initial", "memorised", "final"), (RANDOM_COLOUR, *COLOURS), strict=False):
            shares = np.mean([np.sort(facts["spectra"][moment])[::-1].cumsum() for facts in dense], axis=0)
            label = "final: generalises" if moment == "final" else moment
            axes.plot(np.arange(1, len(shares) + 1), 100 * shares, ".-", color=colour, linewidth=1.2, label=label)
        axes.set(xlabel="strongest frequencies", ylabel="share of power, %", title="input table of the dense network")
        axes.legend(loc="lower right", fontsize=8)

    return picture(draw)


def overlaps(dense: Sequence[Facts]) -> bytes:
    """Share of the last ticket in the ticket of each step, beside accuracy."""

    def draw(axes: Any) -> None:
        for name, label, colour in (("overlap", "in the last ticket", COLOURS[0]), ("test", "test accuracy", INK)):
            for seed, facts in enumerate(dense):
                shares = 100 * np.asarray(facts[name][1:])
                axes.plot(facts["steps"][1:], shares, color=colour, linewidth=1.2, label="" if seed else label)
        axes.set(xlabel="step of the dense network", ylabel="%", xscale="log", title="largest weights, a line per seed")
        axes.xaxis.set_major_formatter(plainly)
        axes.legend(loc="upper left", fontsize=8)

    return picture(draw)


def plainly(value: float, place: int) -> str:
    """A step as a plain number, in place of matplotlib's power of ten in TeX."""
    return f"{value:,.0f}"
