"""Estimates of the number of wrong numbers, from their distances to out-of-fold predictions.

The model of distances is a mixture of three components: right numbers, with the scatter of Student's t with at least 3
degrees of freedom (up to a normal distribution); numbers of other rows; and numbers that are off by any size beyond the
scatter of right ones. Maximum likelihood over binned distances gives scale, tails and shares (two groups, as in local
false discovery rates: Efron, Large-Scale Inference, 2010). The interval of the share of the last two components holds
all shares that the likelihood ratio test does not reject.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from secateur.trainers.judging.wrong_counts import Count

CLASSES, NEAREST = 120, 0.03
"""Bins of distances beside the bin of the nearest; share of the rows in that bin."""
HEAVIEST = 3.0
"""Least degrees of freedom of right numbers: heavier tails count as wrong numbers."""
BEYOND = 5.0
"""Scales of right numbers from which a number may be off by any size, log-uniformly."""
LOOKED_AT, MOST = 25, 0.6
"""Number of shares in the grid of the likelihood, from a third of a row on, and the largest share."""
TINY = 1e-12


@dataclass(frozen=True)
class Mixture:
    """Counts of distances by bin, `edges` of the bins, and the distribution `other` of other rows' numbers over them;
    right distances are the largest of `width` numbers."""

    counts: Float64[np.ndarray, " classes"]
    edges: Float64[np.ndarray, " ends"]
    other: Float64[np.ndarray, " classes"]
    width: int

    def right(self, log_scale: float, tails: float) -> Float64[np.ndarray, " classes"]:
        """Bin probabilities of right numbers: Student's t with 1 / `tails` degrees of freedom."""
        from scipy.special import ndtr, stdtr

        at = self.edges * np.exp(-log_scale)
        below = (2 * (ndtr(at) if tails < 0.005 else stdtr(1 / tails, at)) - 1) ** self.width
        shares: Float64[np.ndarray, " classes"] = np.diff(below)
        shares[-1] += 1 - below[-1]
        return shares

    def beyond(self, log_scale: float) -> Float64[np.ndarray, " classes"]:
        """Bin probabilities of numbers that are off by any size."""
        start, top = BEYOND * float(np.exp(log_scale)), float(self.edges[-1])
        if start >= top:
            return self.other
        below = np.log(np.maximum(self.edges, 1e-300) / start) / np.log(top / start)
        return np.diff(np.clip(below, 0, 1))

    def unlikelihood(self, at: Float64[np.ndarray, " law"], wrong: float) -> float:
        """Negative log likelihood of a scale, tails, and the share of other rows' numbers among the wrong ones."""
        scale, tails, part = at
        shares = wrong * (part * self.other + (1 - part) * self.beyond(scale))
        return -float(self.counts @ np.log((1 - wrong) * self.right(scale, tails) + shares + TINY))

    def likeliest(self, wrong: float, start: Float64[np.ndarray, " law"]) -> tuple[float, Float64[np.ndarray, " law"]]:
        """The least negative log likelihood at the share `wrong`, searched from a start, and its parameters."""
        from scipy.optimize import minimize

        bounds = [(-20, 20), (0, 1 / HEAVIEST), (0, 1)]
        found = minimize(self.unlikelihood, start, args=(wrong,), method="L-BFGS-B", bounds=bounds)
        return float(found.fun), found.x


def mixture_of(away: Float64[np.ndarray, " n"], if_wrong: Float64[np.ndarray, " m"], width: int) -> Mixture | None:
    """The binned distances, with geometric bins from the nearest on; None if all are zero."""
    apart = away[away > 0]
    if not len(apart):
        return None
    top = max(float(away.max()), float(if_wrong.max())) * (1 + 1e-9)
    low = min(float(np.quantile(apart, NEAREST)), top / 2)
    edges = np.concatenate([[0.0], np.geomspace(low, top, CLASSES)])
    other = np.histogram(if_wrong, edges)[0] + 1e-3
    return Mixture(np.histogram(away, edges)[0].astype(np.float64), edges, other / other.sum(), width)


def how_many_numbers(
    away: Float64[np.ndarray, " n"], if_wrong: Float64[np.ndarray, " m"], *, width: int, level: float
) -> Count:
    """Estimate and interval of the number of wrong rows.

    `away` are distances of numbers from their prediction, the largest of the row's `width` numbers, `if_wrong` those of
    other rows' numbers.
    """
    mixture, rows = mixture_of(away, if_wrong, width), len(away)
    if mixture is None:
        return 0.0, 0.0, 0.0
    shares = np.concatenate([[0.0], np.geomspace(min(0.3 / rows, MOST / 2), MOST, LOOKED_AT)])
    starts = [np.array([np.log(1.4826), 0.15, part]) for part in (0.1, 0.9)]
    ways = [along(mixture, shares, start) for start in starts]
    best = [min((way[place] for way in ways), key=lambda one: one[0]) for place in range(len(shares))]
    least = int(np.argmin([value for value, _ in best]))

    def profile(share: float) -> float:
        """The least negative log likelihood at a share, searched from the nearest grid points."""
        place = int(np.clip(np.searchsorted(shares, share), 1, len(shares) - 1))
        near = [best[one][1] for one in {place - 1, place, least}]
        return min(mixture.likeliest(share, inner(one))[0] for one in near)

    count, value = lowest(profile, shares, least, best[least][0])
    limit = value + half_chi_square(level)
    inside = [share for share, (here, _) in zip(shares, best, strict=True) if here <= limit]
    low = crossing(profile, limit, min([count, *inside]), shares, upwards=False)
    high = crossing(profile, limit, max([count, *inside]), shares, upwards=True)
    return count * rows, low * rows, high * rows


def along(
    mixture: Mixture, shares: Float64[np.ndarray, " s"], start: Float64[np.ndarray, " law"]
) -> list[tuple[float, Float64[np.ndarray, " law"]]]:
    """The least negative log likelihood and its parameters at each share, searched from those of the share before."""
    found = []
    for share in shares:
        found.append(mixture.likeliest(float(share), start))
        start = inner(found[-1][1])
    return found


def inner(at: Float64[np.ndarray, " law"]) -> Float64[np.ndarray, " law"]:
    """Move parameters off the bounds, where gradients vanish."""
    within: Float64[np.ndarray, " law"] = np.clip(at, [-20, 0.01, 0.02], [20, 0.98 / HEAVIEST, 0.98])
    return within


def lowest(
    profile: Callable[[float], float], shares: Float64[np.ndarray, " s"], least: int, value: float
) -> tuple[float, float]:
    """The likeliest share between the neighbours of the best grid point, and its negative log likelihood."""
    from scipy.optimize import minimize_scalar

    ends = float(shares[max(least - 1, 0)]), float(shares[min(least + 1, len(shares) - 1)])
    found = minimize_scalar(profile, bounds=ends, method="bounded", options={"xatol": (ends[1] - ends[0]) / 50})
    return (float(found.x), float(found.fun)) if found.fun < value else (float(shares[least]), value)


def crossing(
    profile: Callable[[float], float], limit: float, inside: float, shares: Float64[np.ndarray, " s"], *, upwards: bool
) -> float:
    """The share where the profile crosses the limit on one side of a share inside; else the end of the range."""
    from scipy.optimize import brentq

    beyond = shares[shares > inside] if upwards else shares[shares < inside][::-1]
    for share in beyond.tolist():
        if profile(share) > limit:
            return float(brentq(lambda one: profile(one) - limit, inside, share, xtol=abs(share - inside) / 50))
        inside = share
    return inside


def half_chi_square(level: float) -> float:
    """The allowed drop of a log likelihood below the largest: half a quantile of chi-square with one degree."""
    from scipy.special import chdtri

    return float(chdtri(1, 1 - level)) / 2
