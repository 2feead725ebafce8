"""A study's scores: each a scorer with its settings, or the user's own numbers."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from secateur.pipelines.studies.output_scores import OutputScore, is_output
from secateur.pipelines.studies.own_scores import OwnCard, OwnScore, brings
from secateur.pipelines.studies.rejections import require
from secateur.pipelines.studies.sections import Proxy
from secateur.scorers.contract import Card, Scorer
from secateur.scorers.registry import AnyScorer, scorers
from secateur.scorers.settings import Settings


class Score(Settings):
    """A scorer with its settings, under its name in the study."""

    scorer: Annotated[str, Field(description="a scorer; optional if the score has the scorer's name")]
    settings: Annotated[dict[str, Any], Field(description="the scorer's; YAML writes them beside scorer")] = Field(
        default_factory=dict
    )

    @property
    def declared(self) -> AnyScorer:
        return scorers()[self.scorer]

    @property
    def signals(self) -> set[str]:
        """Signals that a scorer of signals reads; empty for the other kinds."""
        return set(self.declared.signals) if isinstance(self.declared, Scorer) else set()


def is_own(body: Any) -> bool:
    """Whether a value under `scores` is the user's own numbers, before or after validation."""
    # No scorer has a setting of these names.
    return brings(body) or (isinstance(body, dict) and bool({"high_means", "outputs"} & body.keys()))


AnyScore = Annotated[
    Annotated[Score, Tag("[Score]")]
    | Annotated[OwnScore, Tag("[OwnScore]")]
    | Annotated[OutputScore, Tag("[OutputScore]")],
    Discriminator(lambda body: "[OutputScore]" if is_output(body) else "[OwnScore]" if is_own(body) else "[Score]"),
]
"""The possible values of a name under `scores`."""


def card_of(name: str, score: Score | OwnScore) -> Card | OwnCard:
    """The card of a score, under its name in the study."""
    return score.card(name) if isinstance(score, OwnScore) else score.declared.card


def refuse_other_sense(name: str, score: OwnScore) -> None:
    """Raise ValueError for a user's score with the name of a scorer but another direction: selectors read scores by
    name."""
    if name in scorers() and (means := scorers()[name].card.high_means) != score.high_means:
        raise ValueError(
            f"{name}: selectors read a score of this name of which high means {means}, and this one means "
            f"{score.high_means}; call it otherwise"
        )


def with_read(scores: Mapping[str, Score]) -> dict[str, Score]:
    """The scores, preceded by other scores that they read and the study does not list."""
    every = dict(scores)
    for score in scores.values():
        others = {name: Score(scorer=name) for name in sorted(score.signals & scorers().keys() - every.keys())}
        every = with_read(others) | every
    return every


def settings_of(score: Score) -> dict[str, Any]:
    """All settings of a scorer: the study's values, otherwise its defaults."""
    return score.declared.settings(**score.settings).model_dump()


def refuse_impossible(scores: Mapping[str, Score], neighbours: int, checkpoints: int, epochs: int | None) -> None:
    """Raise ValueError for scores that need more neighbours, checkpoints or epochs than the proxy has.

    `epochs` is None if the proxy's length is in steps.
    """
    for name, score in scores.items():
        if epochs == 0 and inspect.isclass(score.declared):
            raise ValueError(
                f"proxy.epochs: scores.{name} watches a training, and 0 epochs are none; leave the score out, or train"
            )
        if (score.settings.get("k") or 0) > neighbours:
            raise ValueError(
                f"scores.{name}.k: {score.settings['k']} neighbours, and the graph holds neighbours.count: "
                f"{neighbours}; lower k, or raise count"
            )
        least = getattr(score.declared, "least", 1)
        for key, there in (("checkpoints", checkpoints), ("proxy.epochs", epochs or least)):
            if there < least:
                raise ValueError(
                    f"{key}: {score.scorer!r}, which scores.{name} asks for, compares checkpoints at the ends of "
                    f"epochs: {key} must be at least {least}, got {there}"
                )


def refuse_trajectories(selections: Sequence[str], checkpoints: int, proxy: Proxy | None) -> None:
    """Raise ValueError if selections read loss trajectories and the proxy has one checkpoint only, or trains by
    folds."""
    if not selections or proxy is None:
        return
    if checkpoints < 2 or (proxy.epochs is not None and proxy.epochs < 2):
        length = "" if proxy.epochs is None else f" and proxy.epochs: {proxy.epochs}"
        raise ValueError(
            f"checkpoints: selections.{selections[0]} compares losses at the ends of the proxy's epochs: at least 2 "
            f"checkpoints and 2 epochs are needed, and the study has checkpoints: {checkpoints}{length}"
        )
    if proxy.folds:
        raise ValueError(
            f"proxy.folds: selections.{selections[0]} compares losses of samples that one proxy learned from; leave "
            "folds out"
        )


def require_score(name: str, known: Mapping[str, Any], where: str) -> None:
    """Raise ValueError as `require` does; for an existing scorer, name the key that adds its score."""
    if name not in known and name in scorers():
        there = ", ".join(known) or "none"
        raise ValueError(f"{where}: there is no {name!r} yet: add the line `{name}:` below scores:, there are: {there}")
    require(name, known, where)
