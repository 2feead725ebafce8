"""Checks whether a task provides the signals of a scorer, with the reason if it does not."""

from collections.abc import Iterator

from secateur.scorers.contract import Scorer
from secateur.scorers.registry import AnyScorer, scorers
from secateur.scorers.signals import Signal
from secateur.trainers.tasks.contract import Task

EMBEDDED = frozenset({"embeddings", "neighbour_indices", "neighbour_distances", "label_free_neighbours"})
"""Inputs of scorers and selectors that come from a proxy's features, unless an encoder computes them; for a user's own
task, whose inputs no encoder reads, they always do."""


def missing_signals(scorer: AnyScorer, task: Task) -> list[str]:
    """Signals of a scorer that a task lacks, one sentence each with the reason and other scores; empty if it fits.

    `scorer` is an observer class, a scorer of checkpoints, or a scorer of signals, which may read other scores.
    """
    if compares_targets(scorer, task):
        return [
            f"score {scorer.card.name!r} asks whether neighbours have the same target, and {task.name} learns none: a "
            "row whose neighbours are of another source is no worse for it"
        ]
    reads = list(reads_of(scorer))
    gaps = [each if isinstance(each, tuple) else (each,) for each in reads]
    lacking = [each for each in gaps if not task.provides & set(each)]
    if not lacking:
        return []
    name, high_means = scorer.card.name, scorer.card.high_means
    fitting = {other: one for other, one in scorers().items() if all_there(one, task)}
    like = sorted(other for other, one in fitting.items() if one.card.high_means == high_means)
    instead = (
        f"; scores that it has where high means {high_means} too: {', '.join(like)}"
        if like
        else (f"; scores that it has: {', '.join(sorted(fitting))}" if fitting else "")
    )
    return [
        f"score {name!r} reads {' or '.join(each)}, which {task.name} has none of: "
        f"{' and '.join(dict.fromkeys(task.lacks[one] for one in each))}{instead}"
        for each in dict.fromkeys(lacking)
    ]


def compares_targets(scorer: AnyScorer, task: Task) -> bool:
    """Whether a scorer compares targets of neighbours in a task that does not learn targets."""
    return not task.learns_target and isinstance(scorer, Scorer) and "label_free_neighbours" in scorer.signals


def all_there(scorer: AnyScorer, task: Task) -> bool:
    """Whether a task provides all signals of a scorer."""
    if compares_targets(scorer, task):
        return False
    return all(task.provides & ({each} if isinstance(each, str) else set(each)) for each in reads_of(scorer))


def reads_of(scorer: AnyScorer) -> Iterator[Signal | tuple[Signal, ...]]:
    """Signals of a task that a scorer reads, itself or through other scores."""
    for name in scorer.signals if isinstance(scorer, Scorer) else ():
        if name in scorers():
            yield from reads_of(scorers()[name])
        elif name in EMBEDDED:
            yield "embedding"
    yield from scorer.reads
