"""Modular arithmetic: labels by brute force, disjoint splits, and networks against their formulas."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from secateur.trainers.contract import GradientBatch, TrainingConfig
from secateur.trainers.experiments.modular_addition import (
    NETWORKS,
    data_of,
    first_reached,
    float64_cross_entropy,
    pairs_of,
    spectrum_of,
    split_pairs,
)
from secateur.trainers.loop.train import train
from secateur.trainers.models.modular_networks import LookupMlp, OneLayerTransformer, ProductMlp


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("operation", ["add", "subtract", "quadratic"])
def test_every_label_is_right(operation: str) -> None:
    data = data_of(pairs_of(operation, 13), operation, 13)
    for (a, b), label in zip(data.inputs.tolist(), data.targets.tolist(), strict=True):
        value = {"add": a + b, "subtract": a - b, "quadratic": a**2 + a * b + b**2}[operation]
        assert 0 <= label < 13
        assert (value - label) % 13 == 0


@pytest.mark.parametrize(("operation", "symmetric"), [("add", True), ("quadratic", True), ("subtract", False)])
def test_a_question_is_in_one_split_whichever_way_round_it_is_asked(operation: str, symmetric: bool) -> None:
    train_pairs, test_pairs = split_pairs(operation, 11, 0.6, seed=3)
    asked = [tuple(pair) for pair in np.concatenate([train_pairs, test_pairs]).tolist()]
    if symmetric:
        assert sorted(asked) == [(a, b) for a in range(11) for b in range(a, 11)]
        ways = [{frozenset(pair) for pair in pairs.tolist()} for pairs in (train_pairs, test_pairs)]
        assert not ways[0] & ways[1]
    else:
        assert sorted(asked) == list(itertools.product(range(11), range(11)))
    assert len(train_pairs) == int(0.6 * len(asked))


def test_the_split_is_shuffled_by_its_seed_alone() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    first, again, other = (split_pairs("add", 23, 0.4, seed=seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, pairs_of("add", 23)[: len(first)])
    assert np.array_equal(np.random.get_state()[1], state)
    assert len(split_pairs("add", 67, 0.4, seed=0)[0]) == 911, "as many as the paper's"


def test_splits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="there are add, subtract, quadratic"):
        pairs_of("divide", 5)
    with pytest.raises(ValueError, match="change fraction or modulus"):
        split_pairs("add", 3, 0.1, seed=0)


def test_the_product_is_the_network_of_the_paper_written_out() -> None:
    network = ProductMlp(7, 7, 5, 20).double()
    inputs = torch.tensor(list(itertools.product(range(7), range(7))), dtype=torch.int32)
    logits = network(inputs)
    for row, (a, b) in enumerate(inputs.tolist()):
        vectors = [network.embedding.weight[:, token] for token in (a, b)]
        hidden = torch.relu(network.inward.weight @ (vectors[0] + vectors[1]))
        expected = network.unembedding.weight @ (network.outward.weight @ hidden)
        torch.testing.assert_close(logits[row], expected, rtol=1e-12, atol=1e-13)


def test_the_product_collapses_to_a_table() -> None:
    network, collapsed = ProductMlp(7, 7, 5, 20).double(), LookupMlp(7, 7, 5).double()
    with torch.no_grad():
        collapsed.table.weight.copy_(network.inward.weight @ network.embedding.weight)
        collapsed.output.weight.copy_(network.unembedding.weight @ network.outward.weight)
    inputs = torch.randint(0, 7, (50, 2))
    torch.testing.assert_close(network(inputs), collapsed(inputs), rtol=1e-12, atol=1e-13)


def test_both_forms_start_with_the_same_variances() -> None:
    product, lookup = ProductMlp(67, 67, 48, 500), LookupMlp(67, 67, 48)
    for network in (product, lookup):
        assert float(network.input_table().detach().var()) == pytest.approx(1 / 67, rel=0.1)
        assert float(network.output_weight().detach().var()) == pytest.approx(1 / 48, rel=0.1)
    for layer in (product.embedding, product.inward, product.outward, product.unembedding):
        assert float(layer.weight.detach().var()) == pytest.approx(1 / layer.in_features, rel=0.1)


def test_the_transformer_is_a_causal_one_read_at_the_end() -> None:
    network = OneLayerTransformer(9, 4, 16, 12).double()
    inputs = torch.randint(0, 9, (20, 3))
    stream = network.embedding.weight.t()[inputs]
    query, key, value = (layer(stream) for layer in (network.query, network.key, network.value))
    stream = stream + network.mixed(functional.scaled_dot_product_attention(query, key, value, is_causal=True))
    stream = stream + network.outward(torch.relu(network.inward(stream)))
    expected = network.unembedding(stream)[:, -1]
    torch.testing.assert_close(network(inputs), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_learns_what_it_is_asked(name: str) -> None:
    data = data_of(split_pairs("add", 7, 0.8, seed=0)[0], "add", 7)
    config = TrainingConfig(
        model=f"secateur.trainers.experiments.modular_addition:{name}",
        steps=150,
        batch_size=len(data),
        learning_rate=1e-2,
    )
    trained = train(data, config, seed=0, objective=float64_cross_entropy).model
    guesses = trained(torch.tensor(data.inputs)).argmax(1).numpy()
    assert (guesses == data.targets).all()
    assert trained[1].input_table().shape[0] == 7  # type: ignore[index]
    assert not [one for one, _ in trained.named_parameters() if "bias" in one]


def test_the_loss_is_that_of_float64_where_float32_has_none() -> None:
    logits = torch.tensor([[25.0, 0.0, 1.0], [0.5, -0.25, 2.0]], requires_grad=True)
    labels = torch.tensor([0, 1])
    plain = functional.cross_entropy(logits, labels, reduction="none")
    losses = float64_cross_entropy(GradientBatch(torch.arange(2), logits, labels, plain), torch.zeros(2, 2))
    wide = logits.detach().double().numpy()
    expected = [np.log1p(np.exp(-25.0) + np.exp(-24.0)), np.log(np.exp(wide[1]).sum()) - wide[1, 1]]
    assert losses.dtype == torch.float64
    assert float(plain[0].detach()) == 0.0
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(losses[1].item(), expected[1], rtol=1e-12)
    losses[1].backward()
    assert logits.grad is not None
    odds = np.exp(wide[1]) / np.exp(wide[1]).sum()
    np.testing.assert_allclose(logits.grad[1].numpy(), odds - [0, 1, 0], rtol=1e-6)


def test_a_wave_is_all_at_its_frequency() -> None:
    places = np.arange(11)
    table = np.stack([np.cos(2 * np.pi * 3 * places / 11), 0.5 * np.sin(2 * np.pi * 3 * places / 11)], axis=1) + 4.0
    assert spectrum_of(table) == pytest.approx(np.eye(5)[2], abs=1e-12)


def test_shares_of_power_are_those_of_the_written_out_transform() -> None:
    table = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    power = [
        sum(abs(sum(table[n, c] * np.exp(-2j * np.pi * k * n / 7) for n in range(7))) ** 2 for c in range(4))
        for k in range(1, 4)
    ]
    assert spectrum_of(table) == pytest.approx(np.array(power) / sum(power), rel=1e-6)


def test_a_level_that_is_not_reached_has_no_step() -> None:
    steps, values = np.array([0, 10, 20, 30]), np.array([0.1, 0.95, 0.3, 0.99])
    assert first_reached(steps, values, 0.95) == 10
    assert first_reached(steps, values, 0.96) == 30
    assert first_reached(steps, values, 1.0) is None
    assert first_reached(steps, values, 0.1) == 0
