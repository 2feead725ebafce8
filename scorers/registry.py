"""Every scorer there is, of whichever kind, found by its file."""

from collections.abc import Mapping
from functools import cache

from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Observer, Scorer, discover

AnyScorer = Scorer[...] | CheckpointScorer[...] | type[Observer]


@cache
def scorers() -> Mapping[str, AnyScorer]:
    """Scorers of signals, scorers of checkpoints and observers, by name."""
    import secateur.scorers

    return discover(secateur.scorers, Scorer, CheckpointScorer, Observer)
