"""Every scorer of any kind and unit, found by its file."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Card, Observer, Scorer, Unit, discover

AnyScorer = Scorer[..., Any] | CheckpointScorer[...] | type[Observer]


@cache
def declared() -> Mapping[str, AnyScorer]:
    """The scorers of all units by name; no two share one."""
    import secateur.scorers

    return discover(secateur.scorers, Scorer, CheckpointScorer, Observer)


def direction_of(card: Card) -> str:
    """The meaning of high values, with the caveat if there is one."""
    return f"{card.high_means}, but {card.caveat}" if card.caveat else card.high_means


def of_other_units() -> dict[str, str]:
    """Scorers of other units than samples, and their units."""
    return {name: f"{one.card.unit}s" for name, one in declared().items() if one.card.unit != "sample"}


@cache
def scorers(unit: Unit = "sample") -> Mapping[str, AnyScorer]:
    """Scorers of one unit by name; of samples these are scorers of signals, scorers of checkpoints and observers."""
    import secateur.scorers

    return discover(secateur.scorers, Scorer, CheckpointScorer, Observer, holds=lambda one: one.card.unit == unit)
