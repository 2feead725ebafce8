"""Fine-tuning and training from scratch: exact counts, equal work, inherited and redrawn weights."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.scorers.networks.l1_filter import l1_filter
from secateur.scorers.networks.slimming import slimming
from secateur.selectors.masks.layer_ratios import counts_of
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.experiments.channel_refits import ChannelRefits
from secateur.trainers.experiments.contract import Experiment, experiment_named
from secateur.trainers.experiments.pruning_data import splits_in
from secateur.trainers.experiments.refitting import Refits, config_of, redrawn
from secateur.trainers.experiments.weight_refits import WeightRefits, prunable
from secateur.trainers.judging.network_costs import latency, macs_by_layer
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import load
from secateur.trainers.pruning.channels import channel_layers, remove_channels
from secateur.trainers.pruning.held_masks import apply
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.pruning.slimming import scale_penalty

WIDTH, EPOCHS = 8, 4
SMALL = {"width": WIDTH, "epochs": EPOCHS, "batch_size": 256}
LAYERS = ("1.1", "1.4", "1.7")
MACS = 64 * WIDTH + 2 * WIDTH**2 + 10 * WIDTH


def silent(done: int, steps: int) -> None:
    pass


def made(kind: type[Refits], tmp_path_factory: pytest.TempPathFactory, **settings: object) -> tuple[Refits, Path]:
    experiment = kind(**{**SMALL, **settings})  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("prepared")
    experiment.prepare(0, folder, silent)
    return experiment, folder


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Refits, Path]:
    return made(ChannelRefits, tmp_path_factory)


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> tuple[Refits, Path]:
    return made(ChannelRefits, tmp_path_factory, method="slimming", penalty=0.01)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Refits, Path]:
    return made(WeightRefits, tmp_path_factory)


def run(made: tuple[Refits, Path], arm: str, keep: float) -> tuple[Outcome, Kept]:
    outcome, kept = made[0].run(arm, keep, 0, made[1], silent)
    assert kept is not None
    return outcome, kept


def start(made: tuple[Refits, Path], arm: str, keep: float = 0.5) -> nn.Module:
    trial = made[0].trial(arm, keep, 0)
    units = made[0].units(trial, made[1])
    return made[0].pruned(trial, units, made[0].masks(trial, units)).model


def example(folder: Path) -> torch.Tensor:
    return torch.as_tensor(splits_in(folder / "data.npz")[0].inputs[:1])


def same(one: Kept, other: Kept) -> bool:
    return all(np.array_equal(mask, other.groups[name]) for name, mask in one.groups.items())


def test_they_are_found_by_their_names_and_what_they_share_is_none() -> None:
    assert experiment_named("channel_refits") is ChannelRefits
    assert experiment_named("weight_refits") is WeightRefits
    assert experiment_named("refitting") is None
    assert issubclass(Refits, Experiment)


def test_filters_are_the_largest_of_each_layer_with_exact_counts(channels: tuple[Refits, Path]) -> None:
    _, kept = run(channels, "fine_tune", 0.3)
    scores = l1_filter(load(channels[1]), list(LAYERS))
    counts = counts_of(dict.fromkeys(LAYERS, (WIDTH,)), dict.fromkeys(LAYERS, 0.3), 0.3)
    assert (kept.count, kept.of, tuple(kept.groups)) == (7, 24, LAYERS)
    assert {name: int(mask.sum()) for name, mask in kept.groups.items()} == counts
    for name, mask in kept.groups.items():
        assert scores[name][mask].min() > scores[name][~mask].max()


def test_slimming_keeps_the_largest_scales_of_all_layers_and_one_of_each(slim: tuple[Refits, Path]) -> None:
    _, kept = run(slim, "fine_tune", 0.25)
    norms = {name: layer.norm or "" for name, layer in channel_layers(load(slim[1]), example(slim[1])).items()}
    scores = slimming(load(slim[1]), norms)
    assert kept.count == 6
    assert min(int(mask.sum()) for mask in kept.groups.values()) >= 1
    best = {name: int(np.argmax(values)) for name, values in scores.items()}
    assert all(kept.groups[name][place] for name, place in best.items())
    others = [(value, mask) for name in LAYERS for place, (value, mask)
              in enumerate(zip(scores[name], kept.groups[name], strict=True)) if place != best[name]]  # fmt: skip
    assert min(value for value, mask in others if mask) > max(value for value, mask in others if not mask)
    with pytest.raises(ValueError, match="raise keep"):
        slim[0].run("fine_tune", 0.05, 0, slim[1], silent)


def test_the_penalty_adds_the_sign_of_each_scale_to_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    data = Data(np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32), np.arange(12) % 3, 3)
    config = TrainingConfig(
        steps=1, batch_size=12, optimiser="sgd", momentum=0.0, learning_rate=0.5, weight_decay=0.0,
        schedule="constant", warmup=0.0,
    )  # fmt: skip
    by_hand = copy.deepcopy(model).train()
    functional.cross_entropy(by_hand(torch.tensor(data.inputs)), torch.tensor(data.targets)).backward()
    trained = train(data, config, seed=0, start=model, objective=scale_penalty(model, 0.1)).model
    for name, parameter in by_hand.named_parameters():
        assert parameter.grad is not None
        gradient = parameter.grad + (0.1 * parameter.sign() if name == "1.weight" else 0.0)
        torch.testing.assert_close(trained.get_parameter(name), parameter - 0.5 * gradient, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="method: l1_filter"):
        scale_penalty(nn.Linear(2, 2), 0.1)


@pytest.mark.parametrize("kind", ["channels", "weights"])
def test_arms_have_the_units_and_the_work_that_they_say(kind: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(kind)
    found = {arm: run(made, arm, 0.25) for arm in made[0].arms}
    dense, all_kept = made[0].run("dense", 1.0, 0, made[1], silent)
    masks = {arm: kept for arm, (_, kept) in found.items()}
    blind = {"random", "scratch_shuffled"} & set(masks)
    assert all(same(masks["fine_tune"], kept) == (arm not in blind) for arm, kept in masks.items())
    counts = [{name: int(mask.sum()) for name, mask in kept.groups.items()} for kept in masks.values()]
    assert all(each == counts[0] for each in counts)
    assert all_kept is None
    assert (dense.metrics["macs"], dense.samples_seen) == (MACS, EPOCHS * 1438)
    macs = found["fine_tune"][0].metrics["macs"]
    assert dense.metrics["training_megamacs"] == pytest.approx(EPOCHS * 1438 * MACS / 1e6)
    epochs = dict.fromkeys(masks, EPOCHS) | {"fine_tune": 1, "scratch_b": int(EPOCHS * MACS / macs)}
    assert epochs["scratch_b"] > 2 * EPOCHS
    for arm, (outcome, _) in found.items():
        assert (outcome.facts["epochs"], outcome.samples_seen) == (epochs[arm], epochs[arm] * 1438)
        assert outcome.metrics["macs"] == macs
        assert outcome.metrics["training_megamacs"] == pytest.approx(epochs[arm] * 1438 * macs / 1e6)
        assert set(outcome.metrics) == set(dense.metrics)
        assert outcome.metrics["latency_microseconds"] > 0
    work = found["scratch_b"][0].metrics["training_megamacs"] / dense.metrics["training_megamacs"]
    assert 1 - 1 / (2 * EPOCHS) < work <= 1
    drawn = made[0].pictures(
        {(arm, 0.25, 0): outcome for arm, (outcome, _) in found.items()} | {("dense", 1.0, 0): dense}
    )
    assert drawn["error_by_work"].startswith(b"<?xml")


def test_a_pruned_networks_cost_is_that_by_hand(channels: tuple[Refits, Path], weights: tuple[Refits, Path]) -> None:
    outcome, _ = run(channels, "fine_tune", 0.5)
    half = WIDTH // 2
    assert outcome.metrics["macs"] == 64 * half + 2 * half**2 + 10 * half
    assert outcome.metrics["parameters"] == outcome.metrics["macs"] + 10 + 3 * 2 * half
    outcome, kept = run(weights, "fine_tune", 0.5)
    hidden = 64 * WIDTH + 2 * WIDTH**2
    assert (kept.count, kept.of) == (hidden // 2, hidden)
    assert outcome.metrics["macs"] == hidden // 2 + 10 * WIDTH
    assert outcome.metrics["parameters"] == hidden // 2 + 10 * WIDTH + 10 + 3 * 2 * WIDTH


def test_an_arm_is_the_same_again(channels: tuple[Refits, Path]) -> None:
    (one, kept), (other, again) = run(channels, "scratch_e", 0.25), run(channels, "scratch_e", 0.25)
    assert same(kept, again)
    assert all(one.metrics[name] == other.metrics[name] for name in one.metrics if name != "latency_microseconds")


def test_the_published_config_is_low_constant_and_short() -> None:
    config = ChannelRefits(epochs=24).config
    plans = {name: arm.settings["plan"] for name, arm in WeightRefits.arms.items()}
    published = config_of(plans["fine_tune"], config, 100, 30)
    assert (published.learning_rate, published.schedule, published.epochs) == (1e-3, "constant", 6)
    for arm in ("random", "fine_tune_tuned", "scratch_e", "scratch_shuffled"):
        assert config_of(plans[arm], config, 100, 30) == config
    longer = config_of(plans["scratch_b"], config, 100, 30)
    assert longer == config.model_copy(update={"epochs": 80})
    assert config_of(plans["fine_tune"], ChannelRefits(epochs=1).config, 1, 1).epochs == 1


def test_weights_are_inherited_or_drawn_anew(channels: tuple[Refits, Path], weights: tuple[Refits, Path]) -> None:
    for made, layer in ((channels, "1.10"), (weights, "1.10")):
        big = load(made[1]).get_parameter(f"{layer}.weight")
        tuned, scratch = start(made, "fine_tune_tuned"), start(made, "scratch_e")
        inherited = tuned.get_parameter(f"{layer}.weight").flatten()
        assert torch.isin(inherited, big).all()
        assert not torch.isin(scratch.get_parameter(f"{layer}.weight"), big).any()
        norm = scratch.get_submodule("1.2")
        assert norm.running_mean.abs().max() == 0  # type: ignore[union-attr,operator]
        assert tuned.get_submodule("1.2").running_mean.abs().max() > 0  # type: ignore[union-attr,operator]
        assert torch.equal(scratch.get_buffer("0.mean"), tuned.get_buffer("0.mean"))


def test_a_ticket_starts_where_the_big_network_started(weights: tuple[Refits, Path]) -> None:
    """At the big network's initial weights; a redraw has their distribution and other values."""
    experiment, folder = weights
    big, initial, data = load(folder), load(folder), splits_in(folder / "data.npz")[0]
    initial.load_state_dict(load_file(folder / "initial.safetensors"))
    again = train(data, experiment.config, seed=0, start=initial).model
    assert all(torch.equal(weight, big.get_parameter(name)) for name, weight in again.named_parameters())
    _, kept = run(weights, "ticket", 0.5)
    assert same(kept, run(weights, "ticket_redrawn", 0.5)[1])
    rewound, redrawn_ticket = start(weights, "ticket"), start(weights, "ticket_redrawn")
    for name, weight in initial.named_parameters():
        mask = torch.from_numpy(kept.groups[name]) if name in kept.groups else torch.ones_like(weight, dtype=torch.bool)
        assert torch.equal(rewound.get_parameter(name), weight.where(mask, torch.zeros(())))
        other = redrawn_ticket.get_parameter(name)
        assert bool((other[mask] == weight[mask]).any()) == (weight.ndim == 1 and not name.startswith("1.10"))
    drawn = redrawn_ticket.get_parameter("1.1.weight").detach()[torch.from_numpy(kept.groups["1.1.weight"])]
    assert float(drawn.std()) == pytest.approx((2 / 64) ** 0.5, rel=0.2)  # By the whole fan-in, as before training.
    apply(initial, kept)
    with pytest.raises(ValueError, match="another model"):
        apply(big, kept)


def test_drawn_weights_vary_by_how_many_stay() -> None:
    shape = (300, 200)
    masks = {"1.weight": np.random.default_rng(0).random(shape) < 0.1}
    stay = int(masks["1.weight"].sum())

    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(40, 50, 3), nn.Linear(*reversed(shape)))

    before, after = network(), network()
    state = torch.get_rng_state()
    drawn, whole = redrawn(before, 4, masks), redrawn(after, 4)
    assert torch.equal(torch.get_rng_state(), state)
    for network_of, layer, fan in ((drawn, "1", stay / 300), (whole, "1", 200), (drawn, "0", 360)):
        spread = float(network_of.get_parameter(f"{layer}.weight").detach().std())
        assert spread == pytest.approx((2 / fan) ** 0.5, rel=0.03)


def test_the_last_layer_is_not_pruned(weights: tuple[Refits, Path]) -> None:
    assert prunable(load(weights[1])) == [f"{name}.weight" for name in LAYERS]
    with pytest.raises(ValueError, match="hidden layers"):
        prunable(nn.Linear(3, 2))


def test_a_manifest_makes_the_smaller_network_again(channels: tuple[Refits, Path], tmp_path: Path) -> None:
    _, kept = run(channels, "fine_tune_tuned", 0.25)
    provenance = Provenance(
        dataset="d", revision="r", selection="fine_tune_tuned@0.25", selector="channel_refits.fine_tune_tuned",
        selector_version="1", settings={}, keep=0.25, budget=kept.count, seed=0,
    )  # fmt: skip
    Manifest.write(tmp_path / "m", Masks.of(kept), provenance)
    manifest = Manifest.load(tmp_path / "m")
    big = load(channels[1])
    smaller = remove_channels(big, manifest.kept, example(channels[1])).eval()
    batch = torch.as_tensor(splits_in(channels[1] / "data.npz")[1].inputs[:9])
    expected = start(channels, "fine_tune_tuned", 0.25).eval()
    assert torch.equal(smaller(batch), expected(batch))
    assert macs_by_layer(smaller, batch)[""] < MACS / 3
    assert manifest.declaration.payload.groups[0].listed is not None
    with pytest.raises(ValueError, match="cannot be held"):
        apply(big, manifest.kept)
    with torch.no_grad():
        big.get_parameter("1.1.weight")[0, 0] += 1
    with pytest.raises(ValueError, match="another model"):
        remove_channels(big, manifest.kept, batch)
    _, free = run(channels, "scratch_e", 0.25)
    assert remove_channels(big, free, batch)


def test_images_go_through_a_convolutional_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    for kind in (ChannelRefits, WeightRefits):
        made_of = made(kind, tmp_path_factory, model="cnn", width=2, epochs=1, batch_size=512)
        outcome, kept = run(made_of, "scratch_b", 0.5)
        whole = made_of[0].run("dense", 1.0, 0, made_of[1], silent).outcome
        assert kept.count == kept.of // 2
        assert outcome.facts["epochs"] == whole.metrics["macs"] // outcome.metrics["macs"] >= 1


def test_threads_are_given_back_after_a_latency() -> None:
    threads = torch.get_num_threads()
    assert latency(nn.Linear(3, 3), torch.zeros(2, 3)) > 0
    assert torch.get_num_threads() == threads


def test_a_network_without_a_width_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no setting 'width'"):
        WeightRefits(model="mlp")


def test_slimming_without_batch_norm_behind_each_layer_is_refused(slim: tuple[Refits, Path]) -> None:
    trial = slim[0].trial("fine_tune", 0.5, 0)
    units = slim[0].units(trial, slim[1])
    layers = channel_layers(units.model, units.example)
    vars(units)["channels"] = {name: layer.__class__(layer.channels, None) for name, layer in layers.items()}
    with pytest.raises(ValueError, match=r"no batch norm behind layer '1\.1'"):
        slim[0].masks(trial, units)
