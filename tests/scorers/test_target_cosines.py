"""Cosines to a target, of texts and of gradients, against another library and against autograd."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn

from secateur.scorers.target import target_places as places
from secateur.scorers.target import text_cosines
from secateur.scorers.target.cosines import VectorCosines
from secateur.scorers.target.gradient_cosines import Factors, GradientCosines
from secateur.scorers.target.target_places import target_places
from secateur.scorers.target.text_cosines import TextCosines
from secateur.trainers.contract import Data
from secateur.trainers.passes.last_layer import last_layer_factors
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression

WORDS = ["card", "payment", "transfer", "film", "plot", "scene", "loop", "function", "error", "the", "is", "my", "a"]


def drawn(count: int, seed: int, words: list[str]) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(count)]


def test_cosines_of_texts_are_those_of_tf_idf(monkeypatch) -> None:
    monkeypatch.setattr(text_cosines, "ROWS", 7)
    pool, target = drawn(40, 0, WORDS), [*drawn(9, 1, [*WORDS, "unseen", "unknown"]), ""]
    terms = TfidfVectorizer(sublinear_tf=True).fit(pool)
    wanted = (terms.transform(target) @ terms.transform(pool).T).toarray()
    found = TextCosines(pool, target)
    assert (found.rows, found.queries) == wanted.shape[::-1]
    np.testing.assert_allclose(np.concatenate(list(found.blocks(6)), axis=1), wanted, atol=1e-6)
    np.testing.assert_allclose(found.highest(), wanted.max(axis=0), atol=1e-6)


TASKS = {
    "classification": (Classification(4), lambda rng, n: rng.integers(0, 4, n), 4),
    "multi_label": (MultiLabel(3, ["a", "b", "c"]), lambda rng, n: rng.random((n, 3)) < 0.5, 3),
    "regression": (Regression(units=["", ""]), lambda rng, n: rng.normal(size=(n, 2)), 2),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("bias", [True, False])
def test_cosines_of_gradients_are_those_of_autograd_in_float64(name, bias) -> None:
    task, draw, width = TASKS[name]
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(30, 5)).astype(np.float32), draw(rng, 30)
    whole = Data(inputs, targets, task)
    pool, target = whole.take(np.arange(22)), whole.take(np.arange(22, 30))
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, width, bias=bias)) for _ in range(2)]

    def factors(data: Data) -> list[Factors]:
        parts = [
            [part for _, part in last_layer_factors(m, data, device=torch.device("cpu"), batch_size=4)] for m in models
        ]
        return [
            Factors(*(np.concatenate([getattr(p, key) for p in each]) for key in ("errors", "features")))
            for each in parts
        ]

    found = np.concatenate(list(GradientCosines(factors(pool), factors(target)).blocks(5)), axis=1)
    wanted = np.zeros_like(found, dtype=np.float64)
    for model in models:
        exact = model.double()
        gradients = []
        for row in range(30):
            one = whole.take(np.array([row]))
            loss = loss_in_float64(name, exact(torch.from_numpy(one.inputs).double()), whole, row)
            parts = torch.autograd.grad(loss, list(exact[2].parameters()))
            gradients.append(torch.cat([part.reshape(-1) for part in parts]).numpy())
        unit = np.stack(gradients) / np.linalg.norm(gradients, axis=1)[:, None]
        wanted += unit[22:] @ unit[:22].T / len(models)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def loss_in_float64(name: str, outputs: torch.Tensor, data: Data, row: int) -> torch.Tensor:
    """The loss of one row, written out; of numbers half the squared residual of standardised targets."""
    if name == "classification":
        return nn.functional.cross_entropy(outputs, torch.tensor([data.targets[row]]))
    targets = data.task.tensor(data.targets[row : row + 1]).double()
    if name == "multi_label":
        return nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
    return ((outputs - targets) ** 2).sum() / 2


def test_rows_beyond_the_lists_stand_by_their_highest_cosine(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    pool, target = (rng.normal(size=(rows, 4)).astype(np.float32) for rows in (200, 5))
    whole = target_places(VectorCosines(pool, target))
    monkeypatch.setattr(places, "LISTED", 5 * 12)
    bounded = target_places(VectorCosines(pool, target))
    first = np.flatnonzero(bounded < 12)
    np.testing.assert_array_equal(bounded[first], whole[first])
    unit = [each / np.linalg.norm(each, axis=1)[:, None] for each in (pool, target)]
    highest = (unit[0] @ unit[1].T).max(axis=1)
    listed = np.unique(np.argsort(-(unit[1] @ unit[0].T), axis=1)[:, :12])
    order = np.argsort(bounded)[len(listed) :]
    assert not set(order) & set(listed)
    assert (np.diff(highest[order]) <= 1e-6).all()
