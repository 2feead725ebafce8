"""Grokking tickets as an experiment: the kept weights, their initial values, and the facts of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional

from secateur.trainers.experiments import grokking_tickets
from secateur.trainers.experiments.contract import experiment_named
from secateur.trainers.experiments.grokking_tickets import GrokkingTickets, course_mean, with_norms
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.models.modular_networks import ProductMlp
from secateur.trainers.pruning.held_masks import apply, maskable

TINY = {"modulus": 23, "fraction": 0.8, "steps": 300, "dense_steps": 400, "evaluate_every": 10, "learning_rate": 0.01}
"""Memorises in about twenty steps, generalises in about three hundred, in less than a second."""
WEIGHTS = 23 * 500 * 2 + 48 * 500 * 2


def silent(done: int, steps: int) -> None:
    pass


@pytest.fixture(scope="module")
def tiny() -> GrokkingTickets:
    return GrokkingTickets(**TINY)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def quick() -> GrokkingTickets:
    """An experiment with the same dense run, but short other runs."""
    return GrokkingTickets(**TINY | {"steps": 20})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prepared(tiny: GrokkingTickets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    tiny.prepare(0, folder, silent)
    return folder


def saved(prepared: Path, moment: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in load_file(prepared / f"{moment}.safetensors").items() if value.ndim == 2}


def top_share(weights: Mapping[str, np.ndarray], count: int) -> set[tuple[str, int]]:
    """Places of the largest magnitudes over all layers, by a full sort."""
    places = [(name, at) for name, each in weights.items() for at in range(each.size)]
    joined = np.concatenate([np.abs(each).ravel() for each in weights.values()])
    return {places[at] for at in np.argsort(-joined, kind="stable")[:count]}


def places_of(masks: Mapping[str, np.ndarray]) -> set[tuple[str, int]]:
    return {(name, int(at)) for name, mask in masks.items() for at in np.flatnonzero(mask)}


class Caught:
    """A stand-in for `train` that records its arguments and results."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.models: list[torch.nn.Module] = []
        monkeypatch.setattr(grokking_tickets, "train", self)

    def __call__(self, data: Any, config: Any, **given: Any) -> Any:
        start = {name: value.detach().clone() for name, value in given["start"].named_parameters()}
        self.calls.append({"config": config, "weights": start})
        trained = train(data, config, **given)
        self.models.append(trained.model)
        return trained


def test_it_is_found_by_its_name() -> None:
    assert experiment_named("grokking_tickets") is GrokkingTickets
    assert next(iter(GrokkingTickets.arms)) == GrokkingTickets.baseline == "random"
    assert not set(GrokkingTickets.arms) & set(GrokkingTickets.references)


def test_a_dense_run_that_was_killed_goes_on_to_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    """In another folder, after the moment of memorisation."""

    def stop(done: int, steps: int) -> None:
        if done == 250:
            raise KeyboardInterrupt

    experiment, steps = GrokkingTickets(**TINY), []  # type: ignore[arg-type]
    experiment.snapshots = Snapshots(tmp_path / "snapshots", steps=100)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        experiment.prepare(0, tmp_path / "first", stop)
    assert (tmp_path / "first" / "memorised.safetensors").exists()
    experiment.prepare(0, tmp_path / "second", lambda done, _: steps.append(done))
    assert steps[0] == 210
    written = {path.name: path.read_bytes() for path in prepared.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == written
    assert not (tmp_path / "snapshots").exists()


def masks_of(experiment: GrokkingTickets, arm: str, prepared: Path, seed: int = 0) -> dict[str, np.ndarray]:
    trial = experiment.trial(arm, 0.3, seed)
    masks: dict[str, np.ndarray] = experiment.masks(trial, experiment.units(trial, prepared))
    return masks


@pytest.mark.parametrize(
    ("arm", "moment"),
    [
        ("grokked", "final"),
        ("grokked_no_decay", "final"),
        ("memorised", "memorised"),
        ("transition", "transition"),
        ("magnitude_at_init", "initial"),
    ],
)
def test_a_ticket_is_the_largest_share_of_all_weights_at_its_moment(
    tiny: GrokkingTickets, prepared: Path, arm: str, moment: str
) -> None:
    masks = masks_of(tiny, arm, prepared)
    assert places_of(masks) == top_share(saved(prepared, moment), round(0.3 * WEIGHTS))


def test_snip_feels_the_weights_at_the_start(tiny: GrokkingTickets, prepared: Path) -> None:
    data = tiny.splits(prepared)["train"]
    masks = masks_of(tiny, "snip_at_init", prepared)
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in saved(prepared, "initial").items()}
    embedding, inward, outward, unembedding = (
        weights[f"1.{name}.weight"] for name in ("embedding", "inward", "outward", "unembedding")
    )
    hidden = torch.relu(embedding.t()[torch.tensor(data.inputs).long()].sum(1) @ inward.t())
    loss = functional.cross_entropy(hidden @ outward.t() @ unembedding.t(), torch.tensor(data.targets))
    gradients = torch.autograd.grad(loss, list(weights.values()))
    felt = {name: (w * g).detach().numpy() for (name, w), g in zip(weights.items(), gradients, strict=True)}
    expected, found = top_share(felt, round(0.3 * WEIGHTS)), places_of(masks)
    assert len(found) == len(expected)
    assert len(found & expected) > 0.999 * len(expected), "another order of sums may swap neighbours"


def test_random_keeps_as_much_of_each_layer_as_the_ticket(tiny: GrokkingTickets, prepared: Path) -> None:
    ticket, drawn = (masks_of(tiny, arm, prepared) for arm in ("grokked", "random"))
    assert {name: int(mask.sum()) for name, mask in ticket.items()} == {
        name: int(mask.sum()) for name, mask in drawn.items()
    }
    both = sum(int((ticket[name] & drawn[name]).sum()) for name in ticket)
    expected = sum(int(mask.sum()) ** 2 / mask.size for mask in ticket.values())
    assert both == pytest.approx(expected, rel=0.05)
    other = masks_of(tiny, "random", prepared, seed=1)
    assert any((mask != other[name]).any() for name, mask in drawn.items())


@pytest.mark.parametrize("arm", ["random", "grokked", "grokked_no_decay", "snip_at_init", "synflow_at_init"])
def test_kept_weights_start_where_the_dense_ones_did_and_pruned_ones_stay_zero(
    quick: GrokkingTickets, prepared: Path, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    caught = Caught(monkeypatch)
    result = quick.run(arm, 0.3, 0, prepared, silent)
    assert result.kept is not None
    assert (result.kept.count, result.kept.of) == (round(0.3 * WEIGHTS), WEIGHTS)
    initial, moved = saved(prepared, "initial"), 0
    ended = {name: value.detach().numpy() for name, value in caught.models[0].named_parameters()}
    for name, mask in result.kept.groups.items():
        began = caught.calls[0]["weights"][name].numpy()
        assert np.array_equal(began, np.where(mask, initial[name], 0.0))
        assert not ended[name][~mask].any()
        moved += int((ended[name][mask] != initial[name][mask]).sum())
    assert moved > 0.5 * result.kept.count
    assert caught.calls[0]["config"].weight_decay == (0.0 if arm == "grokked_no_decay" else 1.0)


def test_a_ticket_is_refused_on_other_initial_weights(quick: GrokkingTickets, prepared: Path) -> None:
    data = quick.splits(prepared)["train"]
    kept = quick.run("grokked", 0.3, 0, prepared, silent).kept
    assert kept is not None
    apply(quick.units(quick.trial("grokked", 0.3, 0), prepared).weights("initial"), kept)
    with pytest.raises(ValueError, match="made for another model"):
        apply(quick.network(data, 1), kept)


@pytest.mark.parametrize(("arm", "order"), [("dense_l1", 1), ("dense_l2", 2)])
def test_the_norm_controls_have_the_ticket_s_norm_in_every_layer(
    quick: GrokkingTickets, prepared: Path, monkeypatch: pytest.MonkeyPatch, arm: str, order: int
) -> None:
    caught = Caught(monkeypatch)
    result = quick.run(arm, 1.0, 0, prepared, silent)
    assert result.kept is None
    initial, kept = saved(prepared, "initial"), top_share(saved(prepared, "final"), round(0.4 * WEIGHTS))
    for name, weight in initial.items():
        ticket = [float(weight.flat[at]) for layer, at in kept if layer == name]
        began = caught.calls[0]["weights"][name].numpy().astype(np.float64)
        norm = (np.abs(began) ** order).sum() ** (1 / order)
        assert norm == pytest.approx((np.abs(ticket) ** order).sum() ** (1 / order), rel=1e-5)
        ratio = began / weight
        assert ratio == pytest.approx(np.full_like(ratio, ratio.flat[0]), rel=1e-5)


def test_norms_of_a_mask_that_keeps_all_change_nothing() -> None:
    model = ProductMlp(5, 5, 3, 4)
    before = {name: weight.detach().clone() for name, weight in maskable(model).items()}
    with_norms(model, {name: np.ones(tuple(weight.shape), np.bool_) for name, weight in before.items()}, 1)
    assert all(torch.equal(weight, before[name]) for name, weight in maskable(model).items())


def test_the_dense_run_is_told_as_it_was_trained(tiny: GrokkingTickets, prepared: Path) -> None:
    result = tiny.run("dense", 1.0, 0, prepared, silent)
    assert result.kept is None
    data = tiny.splits(prepared)
    watch = grokking_tickets.Watch(10, data, silent)
    config = tiny.config.model_copy(update={"steps": 400})
    trained = tiny.follow(tiny.network(data["train"], 0), data["train"], config, watch, 0)
    assert {name: result.outcome.facts[name] for name in watch.curve} == watch.curve
    for name, value in trained.model.named_parameters():
        assert np.array_equal(value.detach().numpy(), saved(prepared, "final")[name])
    assert result.outcome.samples_seen == trained.samples_seen == 400 * 220
    assert result.outcome.metrics["test_accuracy"] == watch.test[30]
    assert result.outcome.metrics["mean_test_accuracy"] == course_mean(
        np.array(watch.steps[:31]), np.array(watch.test[:31])
    )
    course = grokking_tickets.Watch(10, data, silent)
    shorter = tiny.follow(tiny.network(data["train"], 0), data["train"], tiny.config, course, 0).model
    assert course.test == watch.test[:31]
    for name, value in shorter.named_parameters():
        assert np.array_equal(value.detach().numpy(), saved(prepared, "course")[name])
    assert watch.steps == list(range(0, 401, 10))
    reached = [step for step, value in zip(watch.steps, watch.train, strict=True) if value >= 0.95]
    assert result.outcome.facts["moments"]["memorised"] == reached[0]


def test_overlap_is_the_share_of_the_last_ticket(tiny: GrokkingTickets, prepared: Path) -> None:
    overlap = tiny.run("dense", 1.0, 0, prepared, silent).outcome.facts["overlap"]
    count = round(0.4 * WEIGHTS)
    first, last = (top_share(saved(prepared, moment), count) for moment in ("initial", "final"))
    assert overlap[-1] == 1.0
    assert overlap[0] == pytest.approx(len(first & last) / count)


def test_runs_are_the_same_again_and_leave_the_global_generators_alone(quick: GrokkingTickets, prepared: Path) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again = (quick.run("random", 0.3, 0, prepared, silent) for _ in range(2))
    assert first.outcome.metrics == again.outcome.metrics
    assert first.outcome.facts == again.outcome.facts
    assert torch.equal(torch.get_rng_state(), state)


def test_steps_are_told_only_of_runs_that_got_there(tiny: GrokkingTickets) -> None:
    model = tiny.network(tiny_data(tiny), 0)
    never = {"steps": [0, 10, 20], "train": [0.0, 0.5, 1.0], "test": [0.0, 0.1, 0.9]}
    metrics = tiny.metrics_of(never, model, model)
    assert "steps_to_generalise" not in metrics
    assert metrics["steps_to_memorise"] == 20
    assert metrics["mean_test_accuracy"] == pytest.approx(np.trapezoid([0.0, 0.1, 0.9], [0, 10, 20]) / 20)
    assert (metrics["test_accuracy"], metrics["train_accuracy"]) == (0.9, 1.0)
    assert tiny.metrics_of({**never, "test": [0.0, 0.95, 0.1]}, model, model)["steps_to_generalise"] == 10
    wide = np.concatenate([weight.detach().double().numpy().ravel() for weight in maskable(model).values()])
    assert metrics["initial_l1_norm"] == pytest.approx(np.abs(wide).sum())
    assert metrics["final_l2_norm"] == pytest.approx(np.sqrt((wide**2).sum()))


def tiny_data(tiny: GrokkingTickets) -> Any:
    from secateur.trainers.experiments.modular_addition import data_of, split_pairs

    return data_of(split_pairs("add", tiny.modulus, 0.8, seed=0)[0], "add", tiny.modulus)


def test_the_mean_over_a_course_is_that_of_its_straight_lines() -> None:
    steps, values = np.array([0, 10, 30]), np.array([0.0, 0.4, 1.0])
    dense = np.interp(np.linspace(0, 30, 300_001), steps, values)
    assert course_mean(steps, values) == pytest.approx(dense.mean(), abs=1e-5)


def test_without_generalisation_there_is_no_ticket(tmp_path: Path) -> None:
    strict = GrokkingTickets(modulus=11, steps=5, dense_steps=5, evaluate_every=5)
    with pytest.raises(RuntimeError, match=r"did not come to memorised in 5 steps.*raise dense_steps"):
        strict.prepare(0, tmp_path, silent)


def test_the_transformer_can_be_pruned_too(tmp_path: Path) -> None:
    small = GrokkingTickets(
        **TINY | {"network": "one_layer_transformer", "steps": 10, "dense_steps": 250, "threshold": 0.4}
    )  # type: ignore[arg-type]
    small.prepare(0, tmp_path, silent)
    result = small.run("grokked", 0.5, 0, tmp_path, silent)
    assert result.kept is not None
    weights = 2 * 23 * 128 + 6 * 128 * 128
    assert (result.kept.count, result.kept.of) == (round(0.5 * weights), weights)
    assert len(result.outcome.facts["spectrum"]) == 11


def test_the_ticket_of_a_network_that_grokked_generalises_sooner(tiny: GrokkingTickets, prepared: Path) -> None:
    found = {arm: tiny.run(arm, 0.4, 0, prepared, silent).outcome.metrics for arm in ("grokked", "random")}
    dense = tiny.run("dense", 1.0, 0, prepared, silent).outcome.metrics
    assert found["grokked"]["steps_to_generalise"] < dense["steps_to_generalise"] / 2
    assert found["grokked"]["mean_test_accuracy"] > found["random"]["mean_test_accuracy"] + 0.2
    assert dense["steps_to_memorise"] < dense["steps_to_generalise"] / 4, "it has memorised long before"


def test_pictures_have_a_line_for_every_arm(tiny: GrokkingTickets, prepared: Path) -> None:
    dense = tiny.run("dense", 1.0, 0, prepared, silent).outcome
    other = Outcome(facts={name: dense.facts[name] for name in ("steps", "train", "test")})
    outcomes = {("dense", 1.0, 0): dense, ("random", 0.3, 0): other, ("grokked", 0.3, 0): other}
    pictures = tiny.pictures(outcomes)
    assert set(pictures) == {"accuracy_by_step_at_0.3", "frequencies_of_the_input", "overlap_with_the_ticket"}
    drawn = pictures["accuracy_by_step_at_0.3"].decode()
    assert all(f">{arm}</text>" in drawn for arm in ("dense", "random", "grokked"))
    assert "memorised" not in drawn
    assert ">100</text>" in drawn, "a step, not markup of a power of ten"
    assert not [name for name, content in pictures.items() if b"mathdefault" in content]
    assert tiny.pictures(outcomes) == pictures


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"operation": "divide"}, "there are add, subtract, quadratic"),
        ({"network": "resnet"}, "there are product_mlp, lookup_mlp, one_layer_transformer"),
        ({"modulus": 3, "fraction": 0.1}, "change fraction or modulus"),
        ({"steps": 60, "evaluate_every": 7}, "must be multiples of evaluate_every 7"),
        ({"steps": 100, "dense_steps": 50}, "dense_steps no less than steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GrokkingTickets(**settings)


def test_grasp_and_synflow_of_the_start_are_the_papers_formulas(tiny: GrokkingTickets, prepared: Path) -> None:
    """GraSP keeps the largest w · (H g) of logits over 200, SynFlow after 100 rounds the largest |w| · ∂R/∂|w|: here
    by autograd of the four matrices in float64, and by their products.
    """
    data, start = tiny.splits(prepared)["train"], saved(prepared, "initial")
    names = [f"1.{name}.weight" for name in ("embedding", "inward", "outward", "unembedding")]
    weights = [torch.tensor(start[name], dtype=torch.float64, requires_grad=True) for name in names]
    hidden = torch.relu(weights[0].t()[torch.tensor(data.inputs).long()].sum(1) @ weights[1].t())
    loss = functional.cross_entropy(hidden @ weights[2].t() @ weights[3].t() / 200, torch.tensor(data.targets))
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    along = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
    scores = [(w * h).detach().numpy() for w, h in zip(weights, torch.autograd.grad(along, weights), strict=True)]
    joined = np.concatenate([each.ravel() for each in scores])
    limit = np.sort(joined)[-round(0.3 * WEIGHTS)]
    high = {name: np.flatnonzero(each >= limit).tolist() for name, each in zip(names, scores, strict=True)}
    expected = {(name, at) for name, places in high.items() for at in places}
    found = places_of(masks_of(tiny, "grasp_at_init", prepared))
    assert len(found) == round(0.3 * WEIGHTS)
    assert len(found & expected) > 0.999 * len(expected), "float32 may swap neighbours"

    into, inward, outward, out = (np.abs(start[name]).astype(np.float64) for name in names)
    alive = [np.ones(each.shape, np.bool_) for each in (into, inward, outward, out)]
    for number in range(1, 101):
        matrices = [each * kept for each, kept in zip((into, inward, outward, out), alive, strict=True)]
        first = matrices[0].sum(axis=1)
        second = matrices[1] @ first
        third = matrices[2] @ second
        back_out = matrices[3].sum(axis=0)
        back_hidden = matrices[2].T @ back_out
        back_in = matrices[1].T @ back_hidden
        flows = (back_in[:, None] * np.ones(into.shape[1]), np.outer(back_hidden, first), np.outer(back_out, second),
                 np.ones((len(out), 1)) * third)  # fmt: skip
        flat = np.concatenate([(w * f).ravel() for w, f in zip(matrices, flows, strict=True)])
        flat[~np.concatenate([kept.ravel() for kept in alive])] = -1
        top = np.zeros(flat.size, np.bool_)
        top[np.argsort(-flat, kind="stable")[: round(WEIGHTS * 0.3 ** (number / 100))]] = True
        parts = np.split(top, np.cumsum([each.size for each in alive])[:-1])
        alive = [part.reshape(each.shape) for part, each in zip(parts, alive, strict=True)]
    flowed = places_of(masks_of(tiny, "synflow_at_init", prepared))
    own = {(name, int(at)) for name, kept in zip(names, alive, strict=True) for at in np.flatnonzero(kept)}
    assert len(flowed) == round(0.3 * WEIGHTS)
    assert len(flowed & own) > 0.999 * len(own)
