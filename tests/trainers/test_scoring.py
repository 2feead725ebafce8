"""The scoring pass gives the same scores as each scorer alone, for any scorers that share the pass."""

import numpy as np
import pytest
import torch
from torch import nn

from secateur.scorers.checkpoints.contract import CheckpointBatch, CheckpointScorer, checkpoint_scorer
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.models.registry import build
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.missing_signals import missing_signals

CPU = torch.device("cpu")
OF_CHECKPOINTS = {name: one for name, one in scorers().items() if isinstance(one, CheckpointScorer)}
ALL = {name: (one, {}) for name, one in OF_CHECKPOINTS.items() if not missing_signals(one, Classification(2))}
"""Scorers of checkpoints that apply to classes without settings."""


@pytest.fixture
def data() -> Data:
    random = np.random.default_rng(1)
    return Data(random.normal(size=(37, 5)).astype(np.float32), random.integers(0, 3, 37), 3)


def proxies(runs: int, checkpoints: int = 3) -> list[list[nn.Module]]:
    config = TrainingConfig(model="mlp", model_settings={"hidden": (6,)}, epochs=1)
    return [[build(config, (5,), 3, seed=10 * run + one) for one in range(checkpoints)] for run in range(runs)]


@pytest.mark.parametrize("batch_size", [1, 10, 512])
def test_scores_are_those_of_each_scorer_alone_averaged_over_runs(data: Data, batch_size: int) -> None:
    rows, runs = np.array([3, 30, 4, 11, 36, 0, 22, 7, 8, 9, 10, 2]), proxies(2)
    found = score_rows(runs, data, rows, ALL, device=CPU, batch_size=batch_size)
    inputs, labels = torch.from_numpy(data.inputs[rows]), torch.from_numpy(data.targets[rows])
    assert found.keys() == ALL.keys()
    for name, (scorer, _) in ALL.items():
        alone = [
            scorer(CheckpointBatch([model.eval() for model in run], inputs, labels)).double().numpy() for run in runs
        ]
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], np.mean(alone, axis=0), rtol=1e-5, atol=1e-6)


def test_runs_differ_so_that_an_average_says_something(data: Data) -> None:
    first, second = (score_rows([run], data, np.arange(37), ALL, device=CPU) for run in proxies(2))
    assert all(not np.allclose(first[name], second[name]) for name in ALL)


def test_settings_reach_the_scorer(data: Data) -> None:
    asked = {name: (scorers()["vog"], {"reduce": name}) for name in ("std", "variance")}
    found = score_rows(proxies(1), data, np.arange(37), asked, device=CPU)
    assert not np.allclose(found["std"], found["variance"])


def test_one_forward_pass_per_batch_and_run_serves_all_scorers_of_the_last_checkpoint(data: Data) -> None:
    (run,) = proxies(1, checkpoints=1)
    calls = []
    run[0].register_forward_hook(lambda *_: calls.append(1))
    single = {name: one for name, one in ALL.items() if name not in {"vog", "grand"}}
    score_rows([run], data, np.arange(37), single, device=CPU, batch_size=10)
    assert len(calls) == 4


def test_models_are_scored_in_evaluation_mode(data: Data) -> None:
    (run,) = proxies(1, checkpoints=1)
    model = nn.Sequential(run[0][0], nn.Dropout(0.5), run[0][1]).train()
    first, second = (
        score_rows([[model]], data, np.arange(37), {"l": ALL["checkpoint_loss"]}, device=CPU) for _ in "ab"
    )
    np.testing.assert_array_equal(first["l"], second["l"])


def test_rows_with_broken_scores_are_named_as_rows_of_the_data(data: Data) -> None:
    data.inputs[30] = np.nan
    with pytest.raises(ValueError, match=r"score 'checkpoint_loss' is NaN or infinite at row 30$"):
        score_rows(proxies(1), data, np.array([2, 30, 4]), {"checkpoint_loss": ALL["checkpoint_loss"]}, device=CPU)


def test_sums_are_taken_in_float64(data: Data) -> None:
    @checkpoint_scorer(high_means="harder", reads=(), paper="none")
    def by_run(batch: CheckpointBatch) -> torch.Tensor:
        """2^24 for one run, 1 for the others: float32 sums would lose the ones."""
        return torch.full((len(batch.targets),), float(batch.models[-1].value))  # type: ignore[arg-type]

    runs = proxies(3, checkpoints=1)
    for run, value in zip(runs, (2.0**24, 1.0, 1.0), strict=True):
        run[0].value = value  # type: ignore[assignment]
    found = score_rows(runs, data, np.arange(2), {"by_run": (by_run, {})}, device=CPU)
    assert found["by_run"][0] == np.float32((2.0**24 + 2) / 3)
