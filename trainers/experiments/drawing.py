"""SVG pictures in one style, readable on light and dark pages; the same drawing gives the same bytes."""

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
    """An SVG with a transparent background, drawn by `draw(axes)`; the same drawing gives the same bytes.

    Text and axes have the colour `ink`, by default one that is readable on light and dark pages.
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
        # Names come from data: a dollar sign in one is no mathematics, and browsers have glyphs that our font lacks.
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
            figure.set_layout_engine("none")  # The layout of wrap_captions still holds.
        content = io.BytesIO()
        # `savefig` would draw twice, first for the layout, which `wrap_captions` has computed already.
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    return content.getvalue()


def wrap_captions(figure: Any, axes: Any) -> bool:
    """Wrap the title and the labels of the axes so that they fit the picture.

    Returns whether it wrapped any, so that the figure needs a new layout. A tenth of the room stays free, because a
    browser's letters may be wider than matplotlib's.
    """
    figure.draw_without_rendering()  # computes the layout
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
    """Replace the TeX labels of a logarithmic axis by plain numbers."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        """Labels the same ticks as `LogFormatter`."""

        def __call__(self, x: float, pos: Any = None) -> str:
            return written(x) if super().__call__(x, pos) else ""

    for usual, change in (
        (axis.get_major_formatter(), axis.set_major_formatter),
        (axis.get_minor_formatter(), axis.set_minor_formatter),
    ):
        if isinstance(usual, LogFormatter):
            change(Plain(labelOnlyBase=usual.labelOnlyBase, minor_thresholds=usual.minor_thresholds))


def written(value: float | int) -> str:
    """A number without an exponent, with thousands separators: 20,000 or 0.0005."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.10f}".rstrip("0").rstrip(".")
