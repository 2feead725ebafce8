"""Random pruning as an experiment: exact budgets, reproducible bits, borrowed ratios, and inputs of no class."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from secateur.scorers.networks.magnitude import magnitude
from secateur.selectors.masks.global_mask import global_mask
from secateur.trainers.experiments.contract import experiment_named
from secateur.trainers.experiments.pruning_data import NAMES, outliers, read_arrays, split_of, splits_in
from secateur.trainers.experiments.random_pruning import RandomPruning, certainty, fresh, judged
from secateur.trainers.judging.evaluation import outputs_of
from secateur.trainers.models.normalised_mlp import normalised_mlp
from secateur.trainers.pruning.held_masks import maskable


def silent(done: int, steps: int) -> None:
    pass


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    RandomPruning().prepare(0, folder, silent)
    return folder


@pytest.fixture
def small() -> RandomPruning:
    return RandomPruning(widths=(6, 12), epochs=1, batch_size=256)


def test_it_is_found_by_its_name() -> None:
    assert experiment_named("random_pruning") is RandomPruning
    assert experiment_named("pruning_data") is None
    assert experiment_named("no such thing") is None


def test_an_arm_keeps_its_budget_exactly_and_is_the_same_again(small: RandomPruning, prepared: Path) -> None:
    result = small.run("er", 0.1, 3, prepared, silent)
    again = small.run("er", 0.1, 3, prepared, silent)
    assert result.outcome.metrics == again.outcome.metrics
    assert result.kept is not None
    assert again.kept is not None
    weights = 64 * 12 + 12 * 12 * 2 + 12 * 10
    assert (result.kept.count, result.kept.of) == (round(0.1 * weights), weights)
    assert all(np.array_equal(mask, again.kept.groups[name]) for name, mask in result.kept.groups.items())
    assert min(int(mask.sum()) for mask in result.kept.groups.values()) >= 1
    assert set(result.outcome.metrics) == {
        "accuracy", "calibration_error", "auroc_against_shuffled", "auroc_against_mixed", "accuracy_width_6",
    }  # fmt: skip
    assert result.outcome.samples_seen == 2 * 1438
    other = small.run("er", 0.1, 4, prepared, silent).kept
    assert other is not None
    assert any((mask != other.groups[name]).any() for name, mask in result.kept.groups.items())


def test_the_dense_network_keeps_everything_and_is_no_arm(small: RandomPruning, prepared: Path) -> None:
    assert small.run("dense", 1.0, 0, prepared, silent).kept is None
    assert "dense" not in small.arms
    assert next(iter(small.arms)) == small.baseline == "random"


@pytest.mark.parametrize("arm", ["random", "er", "erk", "snip", "grasp", "synflow", "magnitude"])
def test_every_arm_draws_its_own_share_of_the_layers(small: RandomPruning, prepared: Path, arm: str) -> None:
    trial = small.trial(arm, 0.2, 0)
    units = small.units(trial, prepared)
    masks = small.masks(trial, units)[12]
    assert sum(int(mask.sum()) for mask in masks.values()) == round(0.2 * sum(mask.size for mask in masks.values()))
    shares = {name: float(mask.mean()) for name, mask in masks.items()}
    if arm == "random":
        assert all(abs(share - 0.2) < 1 / 100 for share in shares.values())
    if arm == "magnitude":
        chosen = global_mask(magnitude(units.by_width[12].start, list(shares)), 0.2, seed=0)
        assert shares == pytest.approx({name: float(mask.mean()) for name, mask in chosen.items()}, abs=1e-9)
        assert any((mask != masks[name]).any() for name, mask in chosen.items())
    if arm == "er":
        raw = {name: sum(mask.shape) / mask.size for name, mask in masks.items()}
        assert shares["1.4.weight"] / shares["1.1.weight"] == pytest.approx(
            raw["1.4.weight"] / raw["1.1.weight"], rel=0.1
        )


def test_weights_are_drawn_from_hes_normal_distribution(small: RandomPruning, prepared: Path) -> None:
    train, _, _ = read_arrays(prepared / "data.npz")
    model = fresh(small.config.model_copy(update={"model_settings": {"width": 400}}), train, 5)
    for weight in maskable(model).values():
        assert float(weight.detach().std()) == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.05)


def test_the_auroc_is_the_share_of_pairs_in_the_right_order(small: RandomPruning, prepared: Path) -> None:
    train, test, strange = read_arrays(prepared / "data.npz")
    model = fresh(small.config.model_copy(update={"model_settings": {"width": 12}}), train, 0).eval()
    few = np.arange(len(test)) < 40
    told = judged(model, test.take(few), {"mixed": strange["mixed"].take(few)})
    sure = certainty(outputs_of(model, test.take(few)))
    unsure = certainty(outputs_of(model, strange["mixed"].take(few)))
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(sure, unsure)]
    assert told["auroc_against_mixed"] == pytest.approx(np.mean(pairs))


def test_what_is_of_no_class_is_made_of_the_test_split_alone() -> None:
    train, test = split_of("digits")
    assert (len(train), len(test)) == (1438, 359)
    found, again = outliers(test), outliers(test)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    assert np.array_equal(np.sort(found["shuffled"].reshape(359, -1)), np.sort(test.inputs.reshape(359, -1)))
    assert not np.array_equal(found["shuffled"], test.inputs)
    other = 2 * found["mixed"] - test.inputs
    rows = {each.tobytes(): label for each, label in zip(test.inputs, test.targets, strict=True)}
    assert all(rows[each.tobytes()] != label for each, label in zip(other, test.targets, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "lacks labels; it must hold inputs, labels"),
        ({"test_labels": np.zeros(2, np.int64)}, "test_inputs .* does not fit 2 labels"),
        ({"test_inputs": np.zeros((3, 5), np.float32)}, "does not fit"),
        ({"test_labels": np.array([0, 1, 7])}, r"labels must be 0 … 1"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, np.ndarray | None], said: str) -> None:
    arrays = dict(
        zip(NAMES, (np.zeros((4, 2), np.float32), np.arange(4) % 2, np.zeros((3, 2), np.float32), np.arange(3) % 2),
            strict=True)
    ) | change  # fmt: skip
    np.savez(tmp_path / "d.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=said):
        splits_in(tmp_path / "d.npz")


def test_no_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write `digits` or name a file"):
        split_of(str(tmp_path / "none.npz"))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="from 1"):
        normalised_mlp((4,), 2, width=0)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a horizontal or vertical bar, and noise and blank pictures, which are neither."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("bars")
    labels = np.arange(240) % 2
    pictures = random.integers(0, 100, (240, 8, 8, 1)).astype(np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        place = random.integers(1, 7)
        picture[slice(None) if label else place, place if label else slice(None)] = 255
    strange = {"noise": random.integers(0, 256, (50, 8, 8, 1)).astype(np.uint8), "blank": pictures[:30] // 9}
    splits = (pictures[:200], labels[:200], pictures[200:], labels[200:])
    np.savez(folder / "bars.npz", **dict(zip(NAMES, splits, strict=True)), **strange, flat=np.zeros((3, 8, 8)))
    return folder / "bars.npz"


def test_a_convolutional_network_is_judged_on_strangers_and_under_attack(bars: Path, tmp_path: Path) -> None:
    experiment = RandomPruning(
        data=str(bars), model="cnn", widths=(2, 4), epochs=6, batch_size=32, strangers=("noise", "blank"),
        attacks=(1, 64),
    )  # fmt: skip
    experiment.prepare(0, tmp_path, silent)
    trial = experiment.trial("erk", 0.5, 0)
    units = experiment.units(trial, tmp_path)
    assert {name: len(data) for name, data in units.strange.items()} == {
        "shuffled": 40, "mixed": 40, "noise": 50, "blank": 30
    }  # fmt: skip
    result = experiment.outcome(trial, units, experiment.masks(trial, units), silent)
    told = result.outcome.metrics
    assert set(told) == {metric.name for metric in experiment.metrics}
    assert told["accuracy"] > 0.9
    assert told["accuracy_attacked_by_64"] < told["accuracy_attacked_by_1"] <= told["accuracy"]
    assert set(result.outcome.facts["widths"]["2"]) == set(told) - {"accuracy_width_2"}

    class Upright(torch.nn.Module):
        """Recognises bars by the differences between columns, with a known response to attacks of each size."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.05))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            margin = self.scale * (inputs.float().flatten(1)[:, 0] - 100.0)
            return torch.stack([-margin, margin], dim=1)

    few = units.test.inputs[:, 0, 0, 0].astype(np.float64)
    span = units.train.inputs.min(), units.train.inputs.max()
    found = experiment.attacked(Upright(), units)
    for step in experiment.attacks:
        size = step / 255 * (float(span[1]) - float(span[0]))
        moved = few + size * np.where(units.test.targets == 1, -1, 1)
        right = (np.clip(moved, *span) > 100.0) == (units.test.targets == 1)
        assert found[f"accuracy_attacked_by_{step}"] == pytest.approx(right.mean())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strangers": ["rain"]}, "lacks rain, which strangers names; it has inputs, labels"),
        ({"strangers": ["flat"]}, r"flat float64\[3, 8, 8\] does not fit test_inputs uint8\[40, 8, 8, 1\]"),
        ({"strangers": ["noise"], "data": "digits"}, "digits bring no array 'noise': name a .npz"),
        ({"strangers": ["test_inputs"]}, "'test_inputs' is the name of another array"),
    ],
)
def test_strangers_that_do_not_fit_are_refused(
    bars: Path, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        RandomPruning(**{"data": str(bars), **settings}).prepare(0, tmp_path, silent)  # type: ignore[arg-type]
