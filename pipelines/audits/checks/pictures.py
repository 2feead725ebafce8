"""Pictures with no content, or unlike the others: blank, cut, dark, bright, of an odd size or shape."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from secateur.pipelines.audits.checks.contract import Odd, check, fences
from secateur.pipelines.audits.checks.label_leaks import sampled, tell_tales
from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.seen import Measures

BLANK = 2.0
"""Largest range of values of a blank picture, of 255."""
CUT = 0.1
"""Least share of plain grey rows that marks a cut file rather than a scene."""
SHADES, DOUBLINGS = 8.0, 0.1
"""Least interquartile ranges: of brightness, of 255; of sides, in doublings."""
FEWEST = 20
"""Least number of pictures for a distribution."""


@check("image")
def odd_pictures(rows: AuditRows) -> Iterator[Odd]:
    """Findings from the pictures' sizes and brightness."""
    measures = rows.seen.measures
    yield from blank_or_cut(measures)
    yield from leaks_of(rows, measures)
    yield from far_out(measures)


def leaks_of(rows: AuditRows, measures: Measures) -> Iterator[Odd]:
    """Sizes and brightness that give the target away by themselves."""
    places, targets = sampled(rows)
    if targets:
        told = {name: measures.of(name)[places] for name in ("width", "height", "mean")}
        yield from tell_tales(pl.DataFrame(told).rename({"mean": "brightness"}), targets, "the pictures'")


def blank_or_cut(measures: Measures) -> Iterator[Odd]:
    """Pictures of one colour, and those with a grey lower end."""
    blank = measures.of("brightest") - measures.of("darkest") <= BLANK
    yield Odd("blank", "blank, of one colour", np.flatnonzero(blank))
    says = "plain grey over the last tenth of the height or more, as decoders fill in for missing bytes: cut files"
    yield Odd("cut", says, np.flatnonzero((measures.of("missing") >= CUT) & ~blank))


def far_out(measures: Measures) -> Iterator[Odd]:
    """Pictures far darker, brighter, larger, smaller, wider or higher than the others."""
    shown = measures.of("brightest") - measures.of("darkest") > BLANK
    high, low = (np.where(shown, measures.of(name), np.nan) for name in ("high", "low"))
    # Among nearly equal pictures, a fence alone would call white ones dark: see the digits of scikit-learn.
    dark, dark_end = beyond(high, SHADES, below=True, most=median(high) / 2)
    yield Odd("dark", f"dark: 19 of 20 pixels are below {dark_end:.0f} of 255, which is far below the others", dark)
    bright, bright_end = beyond(low, SHADES, below=False, most=(255 + median(low)) / 2)
    says = f"bright: 19 of 20 pixels are above {bright_end:.0f} of 255, which is far above the others"
    yield Odd("bright", says, bright)
    width, height = measures.of("width"), measures.of("height")
    if not np.isfinite(width).any():
        return
    for name, values, small, large in (
        ("size", np.log2(width * height) / 2, "smaller", "larger"),
        ("shape", np.log2(width / height), "higher", "wider"),
    ):
        usual = " by ".join(f"{np.nanmedian(side):.0f}" for side in (width, height))
        for word, below in ((small, True), (large, False)):
            found, _ = beyond(values, DOUBLINGS, below=below)
            yield Odd(f"odd {name}", f"far {word} than the others, which are about {usual} pixels", found)


def median(values: Float64[np.ndarray, " n"]) -> float:
    """Median of the known values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def beyond(
    values: Float64[np.ndarray, " n"], least: float, *, below: bool, most: float | None = None
) -> tuple[Int64[np.ndarray, " m"], float]:
    """Rows beyond a fence and, if given, beyond `most`, the farthest first, and the farther of the two limits."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return np.zeros(0, np.int64), float("nan")
    end = fences(known, least)[0 if below else 1]
    if most is not None:
        end = min(end, most) if below else max(end, most)
    found = np.flatnonzero(values < end if below else values > end)
    order = np.argsort(values[found] if below else -values[found], kind="stable")
    return found[order], end
