"""Scores of delta entries against their formulas written out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.scorers.networks.delta_magnitude import delta_magnitude
from secateur.scorers.networks.delta_wanda import delta_wanda
from secateur.scorers.networks.output_change import output_change


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_scores_are_their_formulas(rows, columns, seed):
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=(rows, columns)).astype(np.float32)
    inputs = rng.normal(1, 2, (20, columns))
    wanda = delta_wanda(delta, np.sqrt(np.square(inputs).sum(axis=0)))
    sums, squares = output_change(delta, inputs.mean(axis=0))
    np.testing.assert_array_equal(delta_magnitude(delta), np.sqrt(np.square(delta)))
    change = (inputs @ delta.astype(np.float64).T).mean(axis=0)
    np.testing.assert_allclose(sums, change, rtol=1e-10, atol=1e-12)
    for row in range(rows):
        parts = [float(delta[row, column]) * inputs[:, column].mean() for column in range(columns)]
        np.testing.assert_allclose(squares[row], sum(part**2 for part in parts), rtol=1e-10)
        for column in range(columns):
            norm = np.linalg.norm(inputs[:, column])
            np.testing.assert_allclose(wanda[row, column], abs(delta[row, column]) * norm, rtol=1e-5)
