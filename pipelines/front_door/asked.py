"""Scores in the arguments of a call: names, or names with settings, as in a study."""

from collections.abc import Iterable, Mapping
from typing import Any

from secateur.pipelines.studies.rejections import checked, nested, require
from secateur.pipelines.studies.scores import Score
from secateur.scorers.registry import of_other_units, scorers

Scores = Iterable[str] | Mapping[str, Mapping[str, Any] | None]
"""Names of scorers, or names with settings: `{"el2n": {"epochs": 5}, "late": {"scorer": "el2n", "epochs": 20}}`."""


def asked(scores: Scores) -> dict[str, Score]:
    """Scores by the caller's names; raises ValueError for an unknown scorer or setting."""
    if isinstance(scores, str):
        scores = [scores]
    bodies = dict(scores) if isinstance(scores, Mapping) else dict.fromkeys(scores)
    if not bodies:
        raise ValueError("scores: name one at least")
    found = {}
    for name, body in bodies.items():
        if not (body is None or isinstance(body, Mapping)):
            raise ValueError(f"scores.{name}: settings are a mapping such as {{'epochs': 5}}, got {body!r}")
        score = Score(**nested(name, None if body is None else dict(body), "scorer", set()))
        require(score.scorer, scorers(), f"scores.{name}", of_other_units)
        checked(score.declared.settings, score.settings, f"scores.{name}")
        found[name] = score
    return found
