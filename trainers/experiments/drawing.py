"""Pictures in one style: SVG that is readable on light and dark pages, the same drawing the same bytes."""

import io
import warnings
from collections.abc import Callable
from typing import Any

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
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
