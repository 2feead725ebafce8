"""Held pruned weights: none moves, with momentum and weight decay, and another model raises an error."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from secateur.selectors.masks.random_mask import random_masks
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.models.networks import Model
from secateur.trainers.models.registry import build
from secateur.trainers.pruning.held_masks import apply, kept_weights, maskable
from secateur.trainers.pruning.kept import Kept

CONFIG = TrainingConfig(
    model="secateur.trainers.models.normalised_mlp:normalised_mlp", model_settings={"width": 12, "layers": 2}, steps=9,
    batch_size=10, learning_rate=0.1, weight_decay=0.1,
)  # fmt: skip


@pytest.fixture
def data() -> Data:
    draws = np.random.default_rng(0)
    return Data(draws.normal(size=(40, 6)).astype(np.float32), draws.integers(0, 3, 40), 3)


def begun(seed: int = 0, **told: int) -> Model:
    config = CONFIG.model_copy(update={"model_settings": {"width": 12, "layers": 2} | told})
    return build(config, (6,), 3, seed=seed)


def mask_of(model: nn.Module, share: int = 4) -> Kept:
    shapes = {name: tuple(weight.shape) for name, weight in maskable(model).items()}
    counts = {name: int(np.prod(shape)) // share for name, shape in shapes.items()}
    return kept_weights(model, random_masks(shapes, counts, seed=1))


def test_biases_and_normalisations_are_not_maskable() -> None:
    assert list(maskable(begun())) == ["1.1.weight", "1.4.weight", "1.7.weight"]
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Embedding(5, 4), nn.LayerNorm([4, 2]))
    assert list(maskable(convolutions)) == ["0.weight"]


@pytest.mark.parametrize("told", [{"optimiser": "sgd"}, {"optimiser": "adamw"}, {"precision": "bfloat16"}])
def test_no_pruned_weight_is_ever_anything_but_zero(data: Data, told: dict[str, str]) -> None:
    start = begun()
    kept = mask_of(start)
    held = apply(start, kept)
    seen = []

    def after(model: nn.Module, done: int, steps: int) -> None:
        held(model, done, steps)
        parameters = dict(model.named_parameters())
        seen.append(
            {name: parameters[name].detach().clone() for name in kept.groups}
            | {"bias": parameters["1.7.bias"].detach().clone()}
        )

    trained = train(data, CONFIG.model_copy(update=told), seed=0, start=start, after_step=after).model
    assert len(seen) == 9
    for name, mask in kept.groups.items():
        for weights in (*(step[name] for step in seen), dict(trained.named_parameters())[name].detach()):
            pruned = weights[~torch.from_numpy(mask)]
            assert torch.equal(pruned, torch.zeros_like(pruned))
            assert not torch.signbit(pruned).any()
        assert (seen[0][name] != seen[-1][name]).any()
    assert not torch.equal(seen[0]["bias"], seen[-1]["bias"])
    assert zeros(trained, kept) == kept.of - kept.count


def zeros(model: nn.Module, kept: Kept) -> int:
    """Number of zeros among the masked weights."""
    return sum(int((model.get_parameter(name) == 0).sum()) for name in kept.groups)


def test_without_the_hook_they_do_move(data: Data) -> None:
    start = begun()
    kept = mask_of(start)
    apply(start, kept)
    trained = train(data, CONFIG, seed=0, start=start).model
    assert zeros(trained, kept) < 0.25 * kept.of


def test_what_is_not_finite_is_pruned_too() -> None:
    model = begun()
    kept = mask_of(model)
    with torch.no_grad():
        for weight in maskable(model).values():
            weight.fill_(float("nan"))
    apply(model, kept)
    for name, mask in kept.groups.items():
        assert (dict(model.named_parameters())[name][~torch.from_numpy(mask)] == 0).all()


def test_a_killed_run_goes_on_with_its_mask_and_refuses_another(data: Data, tmp_path: Path) -> None:
    start = begun()
    held = apply(start, mask_of(start))
    kept = Snapshots(tmp_path, steps=4, keep=True)
    train(data, CONFIG, seed=0, start=start, after_step=held, snapshots=kept)
    other = begun()
    another = apply(other, mask_of(other, share=3))
    with pytest.raises(ValueError, match=r"snapshot of another run: .*after_step"):
        train(data, CONFIG, seed=0, start=start, after_step=another, snapshots=kept)


@pytest.mark.parametrize(
    ("model", "said"),
    [(begun(width=13), "1.1.weight has shape"), (nn.Sequential(nn.Linear(6, 12)), "1.1.weight .* no such parameter")],
)
def test_another_architecture_is_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        apply(model, mask_of(begun()))


def test_other_tensors_besides_and_other_weights_are_refused() -> None:
    kept = mask_of(begun())
    with pytest.raises(ValueError, match="another model"):
        apply(begun(layers=3), Kept("weight", {"1.1.weight": kept.groups["1.1.weight"]}, kept.made_for))
    own = begun()
    trained = kept_weights(own, kept.groups, of_these_weights=True)
    apply(own, trained)
    with pytest.raises(ValueError, match="another model"):
        apply(begun(seed=1), trained)
    with pytest.raises(ValueError, match="neither the shapes nor the weights"):
        apply(begun(), Kept("weight", kept.groups, "a model"))
    with pytest.raises(ValueError, match="heads cannot be held"):
        apply(begun(), Kept("head", kept.groups, kept.made_for))
