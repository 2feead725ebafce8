"""Scores that follow from the outputs of a model alone, and the reasons against others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from secateur.pipelines.studies.scores import Score, settings_of
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Observer, Scorer
from secateur.scorers.registry import AnyScorer, scorers
from secateur.scorers.signals import OF_NETWORK
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.missing_signals import missing_signals

OF_TARGETS = ("labels", "strata", "memberships", "null_log_probabilities")
"""Signals that follow from the targets."""


@dataclass(frozen=True)
class Outputs:
    """Facts about outputs, known before any score.

    `rounded` names the rows, if any, whose probabilities are so near to 0 or 1 that their logits are unknown.
    """

    task: Task
    epochs: int
    rounded: str = ""


def every_score(outputs: Outputs) -> dict[str, Score]:
    """Every score that follows, with its default settings."""
    every = {name: Score(scorer=name) for name in sorted(scorers())}
    return {name: score for name, score in every.items() if not reason_against(score, outputs)}


def refuse_others(scores: Mapping[str, Score], outputs: Outputs) -> None:
    """Raise ValueError with the reason against each score that does not follow."""
    reasons = {name: reason for name, score in scores.items() if (reason := reason_against(score, outputs))}
    if reasons:
        there = ", ".join(every_score(outputs))
        told = "; ".join(f"{name} does not follow: {reason}" for name, reason in reasons.items())
        raise ValueError(f"{told}. From these outputs follow: {there}")


def reason_against(score: Score, outputs: Outputs) -> str:
    """The reason why a score does not follow from outputs and targets; empty where it does."""
    one = score.declared
    if lacking := missing_signals(one, outputs.task):
        return lacking[0].partition(";")[0]
    if isinstance(one, Scorer):
        return reason_by_signals(one, outputs)
    if needed := signals_of(one) & OF_NETWORK:
        return f"it reads the {' and '.join(sorted(needed))} of a network, and outputs hold none (sc.score trains one)"
    if outputs.rounded and "margin" in one.reads:
        return f"it reads logits, and {outputs.rounded}: give logits, or probabilities of float64"
    if isinstance(one, CheckpointScorer):
        return "" if one.least <= outputs.epochs else f"it compares {one.least} epochs, there is {outputs.epochs}"
    return reason_by_length(score, one, outputs.epochs)


def reason_by_signals(one: Scorer, outputs: Outputs) -> str:  # type: ignore[type-arg]
    """The reason against a scorer that reads other scores, or signals of the targets."""
    for signal in one.signals:
        if signal in scorers():
            if reason := reason_against(Score(scorer=signal), outputs):
                return f"it reads {signal}, and of that {reason}"
        elif signal not in OF_TARGETS:
            return f"it reads {signal}, and outputs hold none (sc.score makes them)"
    return ""


def reason_by_length(score: Score, one: type[Observer], epochs: int) -> str:
    """The reason against an observer that compares more presentations of a sample than count."""
    settings = settings_of(score)
    seen = min(epochs, settings.get("epochs") or epochs)
    least = settings["window"] if one.fills_windows else getattr(one, "compares", 1)
    if seen >= least:
        return ""
    counted = f"{seen} epoch{'s' if seen > 1 else ''} count{'' if seen > 1 else 's'}"
    return f"it compares {least} epochs, and {counted}" + ("; lower its window" if one.fills_windows else "")


def signals_of(one: AnyScorer) -> set[str]:
    """Signals of a batch that a scorer reads, alternatives included."""
    return {name for each in one.reads for name in (each if isinstance(each, tuple) else (each,))}
