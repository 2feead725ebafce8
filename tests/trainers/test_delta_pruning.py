"""The experiment on digits: its claim at a small size, exact budgets, and arms that differ only in their settings."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from secateur.selectors.contract import mask_selectors
from secateur.trainers.experiments.contract import experiments
from secateur.trainers.experiments.delta_pruning import (
    LARGE,
    PRETRAINED,
    SMALL,
    DeltaPruning,
    read_digits,
)
from secateur.trainers.models.identity import is_made_for


def quiet(done, total):
    """Progress without output."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The experiment at half of its width, with its models of one seed."""
    experiment = DeltaPruning(width=128, layers=2, epochs=8, tuning_epochs=12, draws=3)
    folder = tmp_path_factory.mktemp("prepared")
    told = []
    experiment.prepare(0, folder, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return experiment, folder


def accuracy(prepared, arm, keep=1.0, seed=0):
    experiment, folder = prepared
    return experiment.run(arm, keep, seed, folder, quiet).outcome.metrics["accuracy"]


def test_it_is_found_and_its_settings_are_checked():
    assert experiments()["delta_pruning"] is DeltaPruning
    with pytest.raises(ValueError, match="at least 1"):
        DeltaPruning(draws=0)


def test_no_sample_is_in_two_splits_and_turning_changes_nothing_but_places():
    digits = read_digits()
    parts = [digits.turned, digits.validation, digits.test]
    rows = [part.inputs.reshape(len(part), -1).tobytes() for part in parts]
    assert sum(map(len, rows)) == 1797 * 64
    images = [image.tobytes() for part in parts for image in part.inputs]
    assert len(images) == 1797
    np.testing.assert_array_equal(np.rot90(digits.upright.inputs, axes=(1, 2)), digits.turned.inputs)
    np.testing.assert_array_equal(digits.upright.targets, digits.turned.targets)


def test_fine_tuning_is_needed_and_most_of_a_large_delta_cannot_be_dropped_but_with_a_q(prepared):
    assert accuracy(prepared, PRETRAINED) < 0.3
    whole = accuracy(prepared, LARGE)
    assert whole > 0.9
    dare = np.mean([accuracy(prepared, "random", 0.02, seed) for seed in range(3)])
    found = np.mean([accuracy(prepared, "q_labels", 0.02, seed) for seed in range(3)])
    unscaled = np.mean([accuracy(prepared, "unscaled", 0.02, seed) for seed in range(3)])
    assert dare < whole - 0.3
    assert found > dare + 0.03
    assert unscaled < found - 0.05
    small = np.mean([accuracy(prepared, "small", 0.02, seed) for seed in range(3)])
    assert small > dare


@pytest.mark.parametrize("arm", DeltaPruning.arms)
def test_every_arm_keeps_its_budget_for_its_own_model_and_repeats_itself(prepared, arm):
    experiment, folder = prepared
    one = experiment.run(arm, 0.1, 3, folder, quiet)
    if arm in ("random", "q_labels"):
        assert experiment.run(arm, 0.1, 3, folder, quiet).outcome.metrics == one.outcome.metrics
    kept = one.kept
    assert kept.unit == "delta"
    assert kept.count == int(0.1 * kept.of + 0.5)
    digits = read_digits()
    model = experiment.model(
        load_file(folder / f"{experiment.arms[arm].settings.get('tuned', LARGE)}.safetensors"), digits.turned
    )
    assert is_made_for(kept.made_for, model)
    assert not is_made_for(kept.made_for, experiment.model(load_file(folder / "pretrained.safetensors"), digits.turned))
    assert set(kept.settings["q"]) == set(kept.groups)
    if arm in ("q_labels", "q_outputs"):
        assert one.outcome.facts["tried"][0][0] == pytest.approx(0.1)
        assert one.outcome.metrics["q_over_keep"] >= 1


def test_arms_of_one_delta_share_their_mask_and_another_seed_draws_another(prepared):
    experiment, folder = prepared
    masks = {arm: experiment.run(arm, 0.1, 0, folder, quiet).kept.groups for arm in ("random", "q_moments", "unscaled")}
    other = experiment.run("random", 0.1, 1, folder, quiet).kept.groups
    for name, mask in masks["random"].items():
        np.testing.assert_array_equal(mask, masks["q_moments"][name])
        np.testing.assert_array_equal(mask, masks["unscaled"][name])
    assert any((mask != other[name]).any() for name, mask in masks["random"].items())


def test_what_is_judged_is_base_plus_kept_delta_over_q(prepared):
    """Computed from mask and q alone, in float64."""
    experiment, folder = prepared
    digits = read_digits()
    result = experiment.run("q_moments", 0.1, 0, folder, quiet)
    base, tuned = (load_file(folder / f"{name}.safetensors") for name in (PRETRAINED, LARGE))
    state = {name: value.double() for name, value in base.items()}
    for name, mask in result.kept.groups.items():
        delta = tuned[name].double() - base[name].double()
        state[name] += delta * torch.from_numpy(mask) / result.kept.settings["q"][name]
    model = experiment.model({name: value.float() for name, value in state.items()}, digits.turned)
    with torch.no_grad():
        guesses = model(torch.as_tensor(digits.test.inputs)).argmax(1).numpy()
    assert result.outcome.metrics["accuracy"] == pytest.approx((guesses == digits.test.targets).mean(), abs=0.003)


@pytest.mark.parametrize("arm", ["q_labels", "q_gradient"])
def test_the_search_never_sees_the_mask_that_is_judged_nor_the_test_split(prepared, monkeypatch, arm):
    experiment, folder = prepared
    seen, splits = [], []
    from secateur.trainers.experiments import delta_pruning

    drawn, judged = delta_pruning.random_entries, delta_pruning.evaluate

    def watch(shapes, keep, *, seed):
        seen.append(seed)
        return drawn(shapes, keep, seed=seed)

    def count(model, data):
        splits.append(len(data))
        return judged(model, data)

    monkeypatch.setattr(delta_pruning, "random_entries", watch)
    monkeypatch.setattr(delta_pruning, "evaluate", count)
    experiment.run(arm, 0.1, 0, folder, quiet)
    assert len(set(seen)) == experiment.draws
    assert experiment.seed_of(mask_selectors("delta")["random_entries"], 0) not in seen
    assert splits.count(len(read_digits().test)) == 1
    assert splits[-1] == len(read_digits().test)


def test_fine_tuning_with_a_pull_ends_nearer_to_where_it_began(prepared):
    experiment, folder = prepared
    sizes = {
        arm: experiment.run(arm, 0.1, 0, folder, quiet).outcome.metrics["delta_size"]
        for arm in ("random", "small", "adam_r")
    }
    assert sizes["adam_r"] < 0.6 * sizes["random"]
    assert sizes["small"] < 0.6 * sizes["random"]
    assert SMALL in experiment.references
