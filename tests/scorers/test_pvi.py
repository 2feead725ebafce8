"""Pointwise V-information: by hand, and the null model against one that is really trained."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.scorers.checkpoints.pvi import null_model_of, pvi


def test_bits_that_the_input_adds():
    labels = np.array([0, 0, 1])
    null = np.log([0.5, 0.25, 0.25])
    loss = -np.log([1.0, 0.25, 0.5]).astype(np.float32)
    np.testing.assert_allclose(pvi(loss, null, labels), [1.0, -1.0, 1.0], atol=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_a_model_that_only_knows_frequencies_has_no_information(labels):
    labels = np.array(labels)
    null = null_model_of(labels, 5)
    scores = pvi((-null[labels]).astype(np.float32), null, labels)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 0, atol=1e-5)


def test_null_model_is_the_limit_of_training_on_empty_inputs():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    network, target = torch.nn.Linear(4, 3), torch.from_numpy(labels)
    with torch.no_grad():
        network.weight.fill_(0.1), network.bias.copy_(torch.tensor([-1.0, 2.0, 0.5]))
    optimiser = torch.optim.SGD(network.parameters(), lr=2.0)
    for _ in range(300):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(torch.zeros(len(labels), 4)), target).backward()
        optimiser.step()
    trained = network(torch.zeros(1, 4)).log_softmax(dim=1)[0].detach().double().numpy()
    np.testing.assert_allclose(null_model_of(labels, 3), trained, atol=1e-4)


def test_classes_that_training_lacks():
    null = null_model_of(np.array([0, 0, 1]), 3)
    np.testing.assert_allclose(np.exp(null), [2 / 3, 1 / 3, 0])
    with pytest.raises(ValueError, match=r"no probability at row 1; it must know every class"):
        pvi(np.zeros(2, np.float32), null, np.array([0, 2]))


def test_what_is_no_distribution_is_refused():
    loss, labels = np.zeros(2, np.float32), np.array([0, 1])
    with pytest.raises(ValueError, match=r"natural logarithms of a distribution, it adds up to 1\.6"):
        pvi(loss, np.array([-0.2, -0.2]), labels)
    with pytest.raises(ValueError, match=r"knows 1 classes, labels go beyond at row 1"):
        pvi(loss, np.array([0.0]), labels)
