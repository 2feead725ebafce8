"""Tables of made-up architectures whose accuracies have long lower tails, failures and noise.

The worth of a network is a sum over its choices and over pairs of them; its accuracy falls exponentially below the
best, so that few networks are far below the rest. Some pairs of choices make trainings fail, at about chance level.
Noise is part of a table, as seeds are of real ones: the best network is partly luck.
"""

from dataclasses import astuple, dataclass

import numpy as np

from secateur.scorers.architectures.encoding import ArchitectureSpace, Position

BEST, CHANCE = 90.0, 10.0


@dataclass(frozen=True)
class Planted:
    """Parameters of a table: `tail` 0 means none, `failing` is the share of pairs of choices that make a training fail,
    `noise` is in percentage points, `pairs` is the share of a network's worth that depends on pairs of choices."""

    positions: int = 6
    choices: int = 5
    tail: float = 0.0
    failing: float = 0.0
    noise: float = 0.0
    pairs: float = 0.2


PLANTED = {
    "no tail": Planted(noise=0.5),
    "tail": Planted(tail=0.7, noise=0.2),
    "long tail": Planted(tail=1.1, noise=0.2),
    "long tail, noise": Planted(tail=1.1, noise=0.6),
    "long tail, pairs": Planted(tail=1.1, noise=0.2, pairs=0.5),
    "failures": Planted(failing=0.03, noise=0.3),
    "failures, long tail, noise": Planted(tail=0.9, failing=0.02, noise=0.5, pairs=0.3),
    "few positions, long tail": Planted(positions=5, choices=8, tail=1.1, noise=0.5, pairs=0.4),
    "many positions, long tail": Planted(positions=9, choices=3, tail=1.1, noise=0.5, pairs=0.3),
}


def planted(how: Planted, seed: int) -> tuple[ArchitectureSpace, np.ndarray]:
    """A listed space and the accuracy of each of its rows, in percent."""
    rng = np.random.default_rng([seed, *(round(1000 * number) for number in astuple(how))])
    names = tuple(map(str, range(how.choices)))
    space = ArchitectureSpace.product([Position(f"p{place}", names) for place in range(how.positions)])
    assert space.listed is not None
    listed = space.listed
    single = rng.normal(size=(how.positions, how.choices))
    alone = single[np.arange(how.positions), listed].sum(axis=1)
    together, failed = np.zeros(len(listed)), np.zeros(len(listed), dtype=np.bool_)
    for one in range(how.positions):
        for two in range(one):
            values = rng.normal(size=(how.choices, how.choices))
            breaks = rng.random((how.choices, how.choices)) < how.failing
            together += values[listed[:, one], listed[:, two]]
            failed |= breaks[listed[:, one], listed[:, two]]
    worth = standard(np.sqrt(1 - how.pairs) * standard(alone) + np.sqrt(how.pairs) * standard(together))
    lost = np.exp(how.tail * (worth.max() - worth)) - 1 if how.tail else worth.max() - worth
    accuracies = BEST - 2.0 * lost / np.median(lost) + rng.normal(0, how.noise, len(worth))
    accuracies = np.maximum(accuracies, CHANCE)
    accuracies[failed] = CHANCE + np.abs(rng.normal(0, 2.0, int(failed.sum())))
    return space, accuracies


def standard(values: np.ndarray) -> np.ndarray:
    """Values, standardised to mean 0 and deviation 1."""
    return np.asarray((values - values.mean()) / values.std())
