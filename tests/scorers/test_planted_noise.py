"""A tenth of the digits' labels are flipped: what every observer says of the flipped ones.

The network is 64-128-10, trained by the library's own loop.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from secateur.scorers.contract import Observer
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.train import train

OBSERVERS = {name: kind for name, kind in scorers().items() if isinstance(kind, type) and issubclass(kind, Observer)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def watched():
    """Whether each label was flipped, and each observer's scores, of one run of 25 epochs."""
    inputs, labels = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[generator.choice(len(labels), len(labels) // 10, replace=False)] = True
    wrong = np.where(flipped, (labels + generator.integers(1, 10, len(labels))) % 10, labels)
    assert ((wrong != labels) == flipped).all()
    data = Data(inputs.astype(np.float32), wrong.astype(np.int64), 10)
    watchers = {name: kind(len(data), CPU) for name, kind in OBSERVERS.items()}
    config = TrainingConfig(model="mlp", model_settings={"hidden": (128,)}, epochs=25, batch_size=64)
    train(data, config, seed=0, observers=list(watchers.values()), device=CPU)
    return flipped, {name: watcher.scores() for name, watcher in watchers.items()}


@pytest.mark.parametrize("name", ["aum", "el2n"])
def test_flipped_labels_are_told_apart(watched, name):
    flipped, scores = watched
    side = -scores[name] if OBSERVERS[name].card.high_means == "easier" else scores[name]
    assert roc_auc_score(flipped, side) >= 0.99


def test_forgetting_is_clearly_above_chance(watched):
    flipped, scores = watched
    assert roc_auc_score(flipped, scores["forgetting"]) >= 0.8


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_flipped_labels_lie_at_the_documented_end(watched, name):
    """Uncertainty claims nothing here: a label that the network never believes does not waver."""
    flipped, scores = watched
    area = roc_auc_score(flipped, scores[name])
    meaning = OBSERVERS[name].card.high_means
    if meaning == "easier":
        assert area < 0.4
    elif meaning != "more uncertain":
        assert meaning in ("harder", "likelier mislabelled")
        assert area > 0.6


def test_entropy_is_higher_where_the_label_was_flipped(watched):
    flipped, scores = watched
    assert roc_auc_score(flipped, scores["entropy"]) > 0.6


@pytest.mark.parametrize("name", ["dual", "dynamic_uncertainty"])
def test_labels_that_are_never_believed_waver_least(watched, name):
    """Why these two say "more uncertain" and not "harder": the hardest samples lie at their low end."""
    flipped, scores = watched
    assert roc_auc_score(flipped, scores[name]) < 0.4
