"""Bar charts of shares as SVG, legible on light and dark pages.

A study draws one for each of its subsets, and matplotlib takes a tenth of a second for each, half of a training on
small data; hence this module.
"""

from collections.abc import Sequence
from html import escape

from secateur.trainers.experiments.drawing import COLOURS, GRID, INK, RANDOM_COLOUR, written

ROW, WIDTH, LETTER, MARGIN = 19, 440, 7.5, 8
"""Pixels: height of a row, width of the bars' area, width of a letter, and margin."""
TICKS = 5
"""Most lines of the grid."""


def paired_bars(titles: Sequence[str], pairs: Sequence[tuple[float, float]], legend: tuple[str, str], unit: str) -> str:
    """An SVG of two bars per row, the first of each pair above the second; numbers are 0 or more, in one unit."""
    left = MARGIN + LETTER * max(map(len, titles), default=0)
    high = max((max(pair) for pair in pairs), default=0.0) or 1.0
    step = step_of(high)
    bottom = MARGIN + ROW * len(titles)
    parts = [
        text(left + WIDTH / 2, bottom + 32, unit, "middle"),
        *(
            f'<path d="M{at(left, place, high)} {MARGIN}V{bottom}" stroke="{GRID}"/>'
            + text(at(left, place, high), bottom + 14, written(round(place, 10)), "middle")
            for place in (step * number for number in range(TICKS + 1))
            if place <= high * 1.001
        ),
    ]
    for row, (title, pair) in enumerate(zip(titles, pairs, strict=True)):
        top = MARGIN + ROW * row
        parts.append(text(left - 4, top + ROW / 2 + 3, title))
        for place, (value, colour) in enumerate(zip(pair, (RANDOM_COLOUR, COLOURS[0]), strict=True)):
            length = at(0, value, high)
            parts.append(f'<rect x="{left:g}" y="{top + 2 + 7 * place}" width="{length}" height="7" fill="{colour}"/>')
    for place, (name, colour) in enumerate(zip(legend, (RANDOM_COLOUR, COLOURS[0]), strict=True)):
        beside = MARGIN + bottom / 2 - ROW + ROW * place
        parts.append(f'<rect x="{left + WIDTH + 16:g}" y="{beside:g}" width="14" height="7" fill="{colour}"/>')
        parts.append(text(left + WIDTH + 36, beside + 7, name, "start"))
    size = f"{left + WIDTH + 46 + LETTER * max(map(len, legend)):g} {bottom + 40}"
    style = f'font-family="sans-serif" font-size="12" fill="{INK}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {style}>{"".join(parts)}</svg>'


def step_of(high: float) -> float:
    """The distance of the grid's lines: the smallest 1, 2 or 5 times a power of ten at which `TICKS` cover all bars."""
    step = 10.0**-6
    while True:
        for times in (1, 2, 5):
            if step * times * TICKS >= high:
                return step * times
        step *= 10


def at(left: float, value: float, high: float) -> str:
    """Position of a value along the axis."""
    return f"{left + WIDTH * value / high:.1f}"


def text(x: float | str, y: float, content: str, anchor: str = "end") -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y:g}" text-anchor="{anchor}">{escape(content)}</text>'
