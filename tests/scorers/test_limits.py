"""A scorer accepts the documented limit of each setting and rejects the value beyond it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.scorers.architectures.rank_metrics import out_of_fold, rank_metrics
from secateur.scorers.checkpoints.pvi import pvi
from secateur.scorers.geometry.density import density
from secateur.scorers.geometry.neighbour_agreement import neighbour_agreement
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.geometry.vectors import LONGEST, Vectors
from secateur.scorers.networks.retrieval_heads import NeedlePrompt, Retrieval, retrieval_heads

POINTS = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
HALVES = np.array([0, 0, 0, 1, 1, 1])
NEAR = np.float32([[0.1, 0.2], [0.1, 3.0]])
PROMPT = NeedlePrompt(np.arange(3), 0, 2)
RUN = Retrieval(PROMPT, np.arange(2), np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))
TWO = ArchitectureSpace.product([Position("a", ("x", "y")), Position("b", ("x", "y", "z"))])


def null(mass: float) -> np.ndarray:
    return np.log(np.array([0.5, 0.5]) * mass)


Call = Callable[[Any], Any]
LIMITS: list[tuple[str, Call, list[Any], list[Any]]] = [
    ("neighbours", lambda x: nearest_neighbours(POINTS, x), [1, 5], [0, 6]),
    ("neighbours of a class", lambda x: nearest_neighbours(POINTS, x, labels=HALVES), [1, 2], [0, 3]),
    ("k of density", lambda x: density(NEAR, k=x), [1, 2], [0, 3]),
    ("k of agreement", lambda x: neighbour_agreement(np.array([[1, 0], [0, 1]]), np.array([0, 1]), k=x),
     [1, 2], [0, 3]),
    ("length", lambda x: Vectors(np.float32([[x], [0]]), "euclidean"), [LONGEST], [1.000001 * LONGEST]),
    ("mass", lambda x: pvi(np.float32([1]), null(x), np.array([0])), [1.0009, 0.9991], [1.0011, 0.9989]),
    ("label", lambda x: pvi(np.float32([1]), null(1.0), np.array([x])), [0, 1], [2]),
    ("ranks", lambda x: rank_metrics(np.arange(x) * 1.0, np.arange(x) * 1.0), [2], [1]),
    ("folds", lambda x: out_of_fold(lambda _, test: test * 1.0, np.arange(x)), [3], [2]),
    ("start", lambda x: NeedlePrompt(np.arange(3), x, 2), [0, 1], [-1, 2]),
    ("stop", lambda x: NeedlePrompt(np.arange(3), 0, x), [1, 3], [0, 4]),
    ("tokens", lambda x: NeedlePrompt(np.arange(x), 0, 1), [2], [1]),
    ("recall", lambda x: retrieval_heads([RUN], np.array([x]), least=0.5), [float(np.nextafter(0.5, 1))], [0.5]),
    ("choice", lambda x: TWO.having(np.array([[0, x]])), [0, 2], [-1, 3]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "taken", "refused"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS])
def test_a_limit_is_where_it_is_said_to_be(call: Call, taken: list[Any], refused: list[Any]) -> None:
    for value in taken:
        call(value)
    for value in refused:
        with pytest.raises(ValueError):  # noqa: PT011 - each function has one limit here
            call(value)
