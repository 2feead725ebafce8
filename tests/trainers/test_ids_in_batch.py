"""Ids in the batch, and losses per sample."""

import pickle
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from secateur.trainers.loop.own_loop import WithIds, sample_losses


class Batched(list[Any]):
    """A data set that fetches batches at once and counts these calls."""

    fetched = 0

    def __getitems__(self, rows: list[int]) -> list[Any]:
        self.fetched += 1
        return [self[row] for row in rows]


def test_pairs_and_mappings() -> None:
    pairs = WithIds([(10.0, "a"), (20.0, "b")])
    assert pairs[1] == (1, (20.0, "b"))
    assert len(pairs) == 2
    mappings = WithIds([{"x": 1.0}, {"x": 2.0}])
    assert mappings[1] == {"x": 2.0, "sample_id": 1}
    (batch,) = DataLoader(mappings, batch_size=2, sampler=[1, 0])
    assert batch["sample_id"].tolist() == [1, 0]
    assert batch["sample_id"].dtype == torch.int64
    assert batch["x"].tolist() == [2, 1]


def test_batches_are_fetched_at_once_where_the_data_can() -> None:
    data = Batched(float(i) for i in range(10))
    (ids, values), *_ = DataLoader(WithIds(data), batch_size=4, sampler=[7, 2, 9, 4])
    assert ids.tolist() == values.tolist() == [7, 2, 9, 4]
    assert data.fetched == 1


def test_rows_of_a_datasets_table() -> None:
    import datasets

    table = datasets.Dataset.from_dict({"x": list(range(100))})
    batches = list(DataLoader(WithIds(table), batch_size=5, sampler=[3, 99, 1, 0, 50]))
    assert batches[0]["x"].tolist() == batches[0]["sample_id"].tolist() == [3, 99, 1, 0, 50]


def test_a_column_of_that_name_is_not_overwritten() -> None:
    with pytest.raises(KeyError, match="rename that column"):
        WithIds([{"sample_id": 3}])[0]


def test_it_pickles_and_pretends_nothing() -> None:
    """Published wrappers delegate every attribute and recurse without end in a copy."""
    copy = pickle.loads(pickle.dumps(WithIds([1, 2])))
    assert copy[1] == (1, 2)
    with pytest.raises(AttributeError):
        _ = copy.anything


def test_classification_losses() -> None:
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 4
    expected = -logits.log_softmax(dim=1)[torch.arange(6), labels]
    assert torch.allclose(sample_losses(logits, labels), expected.float())
    assert sample_losses(logits.to(torch.bfloat16), labels).dtype == torch.float32


def test_causal_language_model_losses() -> None:
    """Token by token, by hand: each is predicted from the one before; prompts and padding do not count."""
    logits, labels = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    labels[0, :3], labels[1, 4], labels[2] = -100, -100, -100
    for row, losses in enumerate(sample_losses(logits, labels)):
        tokens = [
            functional.cross_entropy(logits[row, place - 1], labels[row, place])
            for place in range(1, 5)
            if labels[row, place] != -100
        ]
        assert losses.item() == pytest.approx(sum(tokens).item() / len(tokens) if tokens else 0, rel=1e-5)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits \(3, 2\) and labels \(3, 2\)"):
        sample_losses(torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64))
