"""Models are found by name, built from a seed, reject unsuitable inputs, and load unchanged from disk."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import outputs_of
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import MODELS, build, keywords_of, load, save

CPU = torch.device("cpu")


def table(samples=60, features=6):
    generator = np.random.default_rng(0)
    return Data(
        (100 + 30 * generator.normal(size=(samples, features))).astype(np.float32),
        generator.integers(0, 3, samples),
        3,
    )


def images(samples=20, channels=3):
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (samples, 8, 8, channels), dtype=np.uint8)
    return Data(inputs, generator.integers(0, 3, samples), 3)


@pytest.mark.parametrize(
    ("config", "data"),
    [
        (TrainingConfig(model="mlp", steps=5), table()),
        (TrainingConfig(model="mlp", steps=5, model_settings={"hidden": (16, 8)}), table()),
        (TrainingConfig(model="mlp", steps=5), images()),
        (TrainingConfig(model="cnn", steps=5, batch_size=8, model_settings={"width": 4}), images()),
        (TrainingConfig(model="cnn", steps=5, batch_size=8), images(channels=1)),
    ],
    ids=["mlp", "deep-mlp", "mlp-of-images", "narrow-cnn", "grey-cnn"],
)
def test_a_saved_model_gives_the_same_logits(config, data, tmp_path):
    model = train(data, config, seed=0, device=CPU).model
    expected = outputs_of(model, data)
    save(model, tmp_path, config, data.inputs.shape[1:])
    loaded = load(tmp_path)
    assert not loaded.training
    np.testing.assert_array_equal(outputs_of(loaded, data), expected)
    assert expected.std() > 0


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build(TrainingConfig(steps=1), (6,), 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [name for name in one if name.endswith("weight")]
    assert weights
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in weights)


def test_an_unknown_model_is_answered_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"'resnet9000'.*cnn.*mlp"):
        build(TrainingConfig(model="resnet9000", steps=1), (6,), 3, seed=0)


def line(shape, classes, *, bias=True):
    return torch.nn.Linear(shape[0], classes, bias=bias)


def test_ones_own_model_is_imported_by_module_and_name(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "their_networks", SimpleNamespace(line=line))
    config, data = TrainingConfig(model="their_networks:line", steps=5, model_settings={"bias": False}), table()
    model = train(data, config, seed=0, device=CPU).model
    assert sum(value.numel() for value in model.parameters()) == 18
    save(model, tmp_path, config, (6,))
    np.testing.assert_array_equal(outputs_of(load(tmp_path), data), outputs_of(model, data))


@pytest.mark.parametrize("model", ["no_such_module:line", "math:no_such_function"])
def test_ones_own_model_that_is_not_there_is_named(model):
    with pytest.raises(ValueError, match=f"'{model}' cannot be imported"):
        build(TrainingConfig(model=model, steps=1), (6,), 3, seed=0)


def test_images_are_what_a_cnn_reads():
    with pytest.raises(ValueError, match=r"'cnn'.*images.*\(6,\).*mlp"):
        build(TrainingConfig(model="cnn", steps=1), (6,), 3, seed=0)


def test_the_page_on_models_lists_every_one_with_its_settings():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = [row.split("|")[1:4] for row in page.partition("## ")[0].splitlines() if row.startswith("| `")]
    listed = {
        name: set(re.findall(r"`(\w+)`", settings))
        for names, _, settings in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    of_inputs = {"vocabulary", "padding_id", "categories", "tokenizer", "weights"}
    assert {name: listed.get(name) for name in MODELS} == {
        name: set(keywords_of(factory)[0]) - of_inputs for name, factory in MODELS.items()
    }
