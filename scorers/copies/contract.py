"""Result of every search for copies, among texts, pictures or rows of tables.

Rows of all files have one numbering; `part` is the origin of each: 0 training, 1 test, 2 target, 3 and more benchmark
files. Similarity is larger for rows more alike, and 1 for equal ones. Rows of equal content are compared once, in the
order of a hash of it, so the order of the rows only decides which of equally good rows the result names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64

from secateur.scorers.contract import rows_text

Parts = Int16[np.ndarray, " n"]
"""Origin of each row: 0 training, 1 test, 2 target, 3 and more benchmark files."""

Progress = Callable[[int, int], None]
"""Called with the work done and the work in all."""


@dataclass(frozen=True)
class Copies:
    """Rows that are copies of each other by one measure, in the order of the rows.

    A similarity of `threshold` or more joins two rows; `group` gathers rows that are joined directly or through others,
    so a chain A~B~C is one group although A and C may differ; `spread` measures this difference. One row of each group
    `stays`: the first row of the lowest part above 0, or, where all are training rows, the first.
    """

    measure: str
    """Name of the measure for people: "word n-grams", "embeddings", "perceptual hash", "pixels", "distance"."""
    threshold: float
    """Similarity from which two rows are copies, the lowest where `bands` are given; above 1 where only equal rows
    are."""
    reason: str
    """One sentence: how the threshold follows from the data's own similarities, with the numbers."""
    group: Int64[np.ndarray, " n"]
    """First row of the group that the row is in, -1 where it has no copy."""
    stays: Bool[np.ndarray, " n"]
    """Whether the row would stay if one of each group did; true of rows without a copy."""
    partner: Int64[np.ndarray, " n"]
    """Most similar other row, -1 where none reaches the threshold."""
    similarity: Float32[np.ndarray, " n"]
    """Similarity to `partner`, NaN where there is none."""
    across: Int64[np.ndarray, " n"]
    """Most similar row of the other side, -1 where none reaches the threshold: for training rows a row of any other
    part, for other rows a training row."""
    across_similarity: Float32[np.ndarray, " n"]
    """Similarity to `across`, NaN where there is none."""
    spread: Float32[np.ndarray, " n"]
    """Least similarity of a row of the group to the row of it that stays, NaN without a group."""
    between: Int64[np.ndarray, "k 2"]
    """A row of a part above 0, and the most similar row of another such part, in ascending order of the row and of the
    other part; without pairs below the threshold."""
    between_similarity: Float32[np.ndarray, " k"]
    """Similarity of each of these pairs."""
    bands: Float64[np.ndarray, "b 2"] = field(default_factory=lambda: np.empty((0, 2)))
    """For texts: the most words of each band of lengths, in ascending order, and the similarity from which its texts
    are copies. A pair must reach the threshold of both texts. The last band holds all longer ones."""

    def limits(self, lengths: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """The similarity that texts of so many words must reach."""
        return limits_of(self.bands, lengths, self.threshold)


def limits_of(
    bands: Float64[np.ndarray, "b 2"], lengths: Int64[np.ndarray, " m"], usual: float
) -> Float64[np.ndarray, " m"]:
    """The threshold of the band of each length, `usual` where there are no bands."""
    if len(bands) == 0:
        return np.full(len(lengths), usual)
    limits: Float64[np.ndarray, " m"] = bands[np.minimum(np.searchsorted(bands[:, 0], lengths), len(bands) - 1), 1]
    return limits


def check_parts(part: Parts, rows: int, kind: str) -> None:
    """Raise ValueError where there is not one part of 0 or more for each row."""
    if len(part) != rows:
        raise ValueError(f"{rows} {kind} but {len(part)} numbers of parts; give one part for each row")
    if len(wrong := np.flatnonzero(part < 0)):
        raise ValueError(f"parts are below 0 at {rows_text(wrong)}; 0 is training, 1 test, 2 target, 3 on benchmarks")
