"""Texts far longer or shorter than the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from secateur.pipelines.audits.checks.contract import Odd, check, fences
from secateur.pipelines.audits.contract import AuditRows

LEAST = 0.5
"""Least interquartile range, in doublings: a factor of 1.4."""
FEWEST = 20
"""Least number of texts for a distribution."""


@check("text")
def extreme_lengths(rows: AuditRows) -> Iterator[Odd]:
    """Texts whose length is far out of the distribution of lengths, on a log2 scale."""
    lengths = rows.texts.str.strip_chars().str.len_chars().to_numpy().astype(np.int64)
    if (lengths > 0).sum() < FEWEST:
        return
    shortest, longest, short, long = extremes(lengths)
    middle = f"half of all have {' … '.join(f'{end:,.0f}' for end in np.quantile(lengths[lengths > 0], [0.25, 0.75]))}"
    yield Odd("very long", f"more than {longest:,} characters; {middle}", long)
    yield Odd("very short", f"fewer than {shortest:,} characters; {middle}", short)


def extremes(lengths: Int64[np.ndarray, " n"]) -> tuple[int, int, Int64[np.ndarray, " s"], Int64[np.ndarray, " l"]]:
    """The least and the greatest usual length, and the rows beyond, the farthest first; empty texts are ignored."""
    low, high = fences(np.log2(lengths[lengths > 0]), LEAST)
    shortest, longest = int(np.ceil(2**low)), int(2**high)
    short = np.flatnonzero((lengths > 0) & (lengths < shortest))
    long = np.flatnonzero(lengths > longest)
    return (
        shortest,
        longest,
        short[np.argsort(lengths[short], kind="stable")],
        long[np.argsort(-lengths[long], kind="stable")],
    )
