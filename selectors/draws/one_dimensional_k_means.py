"""k-means on one number per sample: sorted once, near the best split from the start, each step then only k look-ups.

The start is the best split of at most 1,024 bins, found by dynamic programming (Wang and Song, "Ckmeans.1d.dp", The R
Journal 2011); bins are cut at evenly spaced ranks and at evenly spaced values, so that a long tail has its own. Lloyd's
steps (1982) on all values follow until none moves a boundary. No randomness: the same values give the same clusters.

Packages that find the exact optimum are slow on as many values as an epoch has losses. Ten clusters of 10^6 log-normal
float32 values take one core (AMD EPYC) 0.05 s here, 0.6 s with ckmeans 1.2.0, 1.3 s with ckwrap 1.2.3 and 3.5 s with
kmeans1d 0.5.0; of 10^5 values 0.03, 0.07, 0.12 and 0.28 s. The squares here exceed their optimum by a share of 7e-6 and
2e-7. Up to 59 values, ties among them, both this and kmeans1d reach the optimum of a dynamic programme in float64;
without a shift to the mean kmeans1d misses it by up to 2e-3 of the squares for values of 1,000,000 to 1,000,001.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int64

BINS = 512
BLOCK = 4096
STEPS = 100


def cluster_limits(values: Float32[np.ndarray, " n"], clusters: int) -> Float32[np.ndarray, " limits"]:
    """Upper limits (inclusive) of all clusters but the last, rising, float32 `[clusters - 1]`.

    Fewer where there are fewer distinct values than clusters: then each distinct value is a cluster. Memory: a
    sorted copy.
    """
    ordered = np.sort(values)
    cuts = _edges(ordered, clusters)
    if len(cuts) - 1 > clusters:
        totals = Totals(ordered)
        cuts = _settle(totals, _best_cuts(totals, cuts, clusters))
    return np.asarray(ordered[cuts[1:-1] - 1], dtype=np.float32)


class Totals:
    """Sums of the head of an array in float64, minus a shift per value so that their squares cancel little."""

    def __init__(self, ordered: Float32[np.ndarray, " n"]) -> None:
        self.ordered = ordered
        whole = ordered[: len(ordered) // BLOCK * BLOCK].reshape(-1, BLOCK).sum(axis=1, dtype=np.float64)
        self.blocks = np.concatenate(([0.0], np.cumsum(whole)))
        self.shift = ordered.mean(dtype=np.float64)

    def before(self, cuts: Int64[np.ndarray, " cuts"]) -> Float64[np.ndarray, " cuts"]:
        """Sum of the values ahead of each cut."""
        heads = [
            self.blocks[cut // BLOCK] + self.ordered[cut // BLOCK * BLOCK : cut].sum(dtype=np.float64) for cut in cuts
        ]
        return np.asarray(np.array(heads) - self.shift * cuts, dtype=np.float64)


def _edges(ordered: Float32[np.ndarray, " n"], clusters: int) -> Int64[np.ndarray, " edges"]:
    """Beginnings of bins, and the end: equal values share a bin, and bins outnumber clusters if distinct values do."""
    ranks = np.arange(BINS) * len(ordered) // BINS
    marks = np.linspace(ordered[0], ordered[-1], BINS + 1, dtype=np.float64)[1:-1].astype(np.float32)
    starts = np.searchsorted(ordered, np.concatenate((ordered[ranks], marks)))
    edges = np.unique(np.append(starts, [0, len(ordered)]))
    if len(edges) - 1 <= clusters or len(ordered) <= BINS:
        changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        some = changes[np.linspace(0, len(changes) - 1, min(len(changes), 2 * BINS)).astype(np.int64)]
        edges = np.concatenate(([0], some, [len(ordered)]))
    return np.asarray(edges, dtype=np.int64)


def _best_cuts(totals: Totals, edges: Int64[np.ndarray, " edges"], clusters: int) -> Int64[np.ndarray, " cuts"]:
    """Cuts of the split of bins into clusters with the least sum of squared distances to the cluster means."""
    counts, sums = edges.astype(np.float64), totals.before(edges)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The sum of squares is the same for every split: the gain of a cluster is sum² / count.
        gain = (sums[None, :] - sums[:, None]) ** 2 / (counts[None, :] - counts[:, None])
    gain[np.tril_indices(len(edges))] = -np.inf
    best, choices = gain[0], []
    for _ in range(clusters - 1):
        reached = best[:, None] + gain
        choices.append(reached.argmax(axis=0))
        best = reached.max(axis=0)
    cuts = [len(edges) - 1]
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1]]))
    return np.asarray(edges[np.array([0, *reversed(cuts)])], dtype=np.int64)


def _settle(totals: Totals, cuts: Int64[np.ndarray, " cuts"]) -> Int64[np.ndarray, " cuts"]:
    """Lloyd's steps: each value goes to the nearest mean, the lower one in a tie."""
    ordered = totals.ordered
    for _ in range(STEPS):
        means = np.diff(totals.before(cuts)) / np.diff(cuts) + totals.shift
        limits = [_below(low, high) for low, high in pairwise(means.tolist())]
        moved = np.searchsorted(ordered, np.array(limits, dtype=np.float32), side="right")
        after = np.concatenate(([0], moved, [len(ordered)]))
        if (np.diff(after) == 0).any() or (after == cuts).all():
            break
        cuts = after
    return cuts


def _below(low: float, high: float) -> np.float32:
    """The largest float32 that is at most half way between."""
    middle = (low + high) / 2
    rounded = np.float32(middle)
    return rounded if float(rounded) <= middle else np.nextafter(rounded, np.float32(-np.inf))
