"""Differentiable pruning as an experiment: equal epochs, exact budgets, reproducible bits, and hard accuracies."""

from pathlib import Path

import numpy as np
import pytest

from secateur.trainers.experiments.contract import Result, experiment_named
from secateur.trainers.experiments.differentiable_pruning import DifferentiablePruning

SMALL = {"width": 16, "epochs": 4, "batch_size": 256, "learning_rate": 0.05}
WEIGHTS = 64 * 16 + 16 * 16 * 2 + 16 * 10


def silent(done: int, steps: int) -> None:
    pass


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    DifferentiablePruning(**SMALL).prepare(0, folder, silent)  # type: ignore[arg-type]
    return folder


def run(arm: str, keep: float, prepared: Path, **settings: object) -> Result:
    return DifferentiablePruning(**SMALL, **settings).run(arm, keep, 0, prepared, silent)  # type: ignore[arg-type]


def test_it_is_found_by_its_name() -> None:
    assert experiment_named("differentiable_pruning") is DifferentiablePruning


def test_arms_keep_the_same_share_of_each_layer_after_as_much_training(prepared: Path) -> None:
    told = {arm: run(arm, 0.1, prepared) for arm in DifferentiablePruning.arms}
    dense = run("dense", 1.0, prepared)
    assert dense.kept is None
    assert {result.outcome.samples_seen for result in (dense, *told.values())} == {4 * 1438}
    for arm, result in told.items():
        assert result.kept is not None
        assert (result.kept.count, result.kept.of) == (round(0.1 * WEIGHTS), WEIGHTS)
        assert result.outcome.facts == told["one_shot"].outcome.facts
        assert ("soft_accuracy" in result.outcome.metrics) == arm.startswith("pdp")
    groups = {arm: result.kept.groups for arm, result in told.items() if result.kept}
    for arm in ("random", "gradual", "pdp"):
        assert any((mask != groups["one_shot"][name]).any() for name, mask in groups[arm].items())
    assert told["pdp_tuned"].outcome.metrics["accuracy"] == told["pdp_tuned"].outcome.metrics["soft_accuracy"]


def test_the_same_cell_is_the_same_again(prepared: Path) -> None:
    one, other = (run("pdp", 0.2, prepared) for _ in range(2))
    assert one.outcome.metrics == other.outcome.metrics
    assert one.kept is not None
    assert other.kept is not None
    assert all(np.array_equal(mask, other.kept.groups[name]) for name, mask in one.kept.groups.items())
    warm = run("pdp", 0.2, prepared, temperature=3.0)
    assert warm.outcome.metrics["soft_accuracy"] != one.outcome.metrics["soft_accuracy"]


def test_gradients_through_the_threshold_train_another_network(prepared: Path) -> None:
    held, through = run("pdp", 0.1, prepared).kept, run("pdp_through", 0.1, prepared).kept
    assert held is not None
    assert through is not None
    assert any((mask != through.groups[name]).any() for name, mask in held.groups.items())


@pytest.mark.parametrize("arm", ["random", "one_shot", "gradual", "pdp"])
def test_forms_keep_whole_groups_valid(prepared: Path, arm: str) -> None:
    grouped = run(arm, 0.25, prepared, form="n_of_m", m=8).kept
    assert grouped is not None
    assert all((mask.reshape(-1, 8).sum(1) == 2).all() for mask in grouped.groups.values())
    filters = run(arm, 0.25, prepared, form="channel").kept
    assert filters is not None
    rows = [mask.any(1) for mask in filters.groups.values()]
    assert len(rows) == 3  # The rows of the last layer are the outputs.
    assert sum(int(each.sum()) for each in rows) == 12
    assert all((mask == mask[:, :1]).all() for mask in filters.groups.values())


def test_bad_settings_are_refused(prepared: Path) -> None:
    with pytest.raises(ValueError, match=r"keep 0\.1 of groups of 4 is not a whole number"):
        run("pdp", 0.1, prepared, form="n_of_m")
    with pytest.raises(ValueError, match="a width of 16 is no multiple of m 5"):
        DifferentiablePruning(**SMALL, form="n_of_m", m=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than the epochs there are"):
        DifferentiablePruning(ramp=0.8, fine_tune=0.3)
    with pytest.raises(ValueError, match="no_such_model"):
        DifferentiablePruning(model="no_such_model")
