"""Pictures in one style: SVG that is readable on light and dark pages, the same drawing the same bytes."""

import io
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

INK, GRID = "#7a7f87", "#9aa0a833"
COLOURS = ("#2f7ed8", "#e06a2f", "#17a072", "#e8447a", "#945ecf", "#1099a8", "#a9841a", "#8a6d3b")
"""Each has a contrast of 3 to 1 with a white page and with a dark one (WCAG 2.2, 1.4.11)."""
RANDOM_COLOUR = "#8b9096"


def picture(draw: Callable[[Any], None], *, width: float = 6.4, height: float = 3.0, ink: str = INK) -> bytes:
    """An SVG with transparent ground that `draw(axes)` fills; the same drawing gives the same bytes.

    Letters and axes have the colour `ink`; if it is left out, one that can be read on light and on dark.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "secateur",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "xtick.color": ink,
        "ytick.color": ink,
        "legend.frameon": False,
        "axes.formatter.useoffset": False,
        "axes.formatter.limits": (-5, 9),
        # Names come from data: a dollar in one is a dollar, and a browser has letters that our font has not.
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            write_numbers(axis)
        if not wrap_captions(figure, axes):
            figure.set_layout_engine("none")  # nothing has moved since its parts were laid out
        content = io.BytesIO()
        # `savefig` would draw it twice, first for the layout alone, which the first drawing makes anyway.
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    return content.getvalue()


def wrap_captions(figure: Any, axes: Any) -> bool:
    """Break the title and what stands along the axes into lines that fit the picture, wherever the layout puts them.

    Returns whether any was broken, so that the parts have to be laid out anew. A browser's letters may be wider than
    those that are measured here, so a tenth of the room stays free.
    """
    figure.draw_without_rendering()  # which lays the parts out
    broken = False
    for text, along in ((axes.xaxis.label, 0), (axes.title, 0), (axes.yaxis.label, 1)):
        box, ends = text.get_window_extent(), figure.bbox.size
        low, high = (box.x0, box.x1) if along == 0 else (box.y0, box.y1)
        middle, length = (low + high) / 2, high - low
        room = 0.9 * 2 * min(middle, ends[along] - middle)
        if length > room > 0:
            text.set_text(textwrap.fill(text.get_text(), max(8, int(len(text.get_text()) * room / length))))
            broken = True
    return broken


def write_numbers(axis: Any) -> None:
    """Have the numbers of a logarithmic axis written as people write them: its usual labels are in TeX."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        """The same ticks have labels as before."""

        def __call__(self, x: float, pos: Any = None) -> str:
            return written(x) if super().__call__(x, pos) else ""

    for usual, change in (
        (axis.get_major_formatter(), axis.set_major_formatter),
        (axis.get_minor_formatter(), axis.set_minor_formatter),
    ):
        if isinstance(usual, LogFormatter):
            change(Plain(labelOnlyBase=usual.labelOnlyBase, minor_thresholds=usual.minor_thresholds))


def written(value: float | int) -> str:
    """A number without an exponent, thousands marked: 20,000 or 0.0005."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.10f}".rstrip("0").rstrip(".")
