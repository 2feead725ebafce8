"""Networks of token ids and of codes: their invariances, saving and loading, and scorers."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from secateur.scorers.checkpoints.contract import forward_with_features
from secateur.scorers.checkpoints.ghost_norms import squared_gradient_norms
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import outputs_of
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import build, check_config, load, save

CPU = torch.device("cpu")
TOKENS = {"kind": "tokens", "vocabulary": 50, "padding_id": 3}
CODES = {"kind": "codes", "categories": [0, 4, 0, 3]}
SMALL = {"layers": 1, "width": 16, "heads": 2}
TRANSFORMER = TrainingConfig(model="transformer", model_settings=SMALL, steps=4, batch_size=16)
TABULAR = TrainingConfig(model="tabular_mlp", model_settings={"hidden": [8]}, steps=4, batch_size=16)


def texts(samples=40, length=10, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(4, 50, (samples, length)).astype(np.int32)
    ids[np.arange(length) >= random.integers(1, length + 1, samples)[:, None]] = 3
    return Data(ids, random.integers(0, 3, samples), 3, TOKENS)


def table(samples=40, seed=0):
    random = np.random.default_rng(seed)
    columns = [1e4 * random.normal(size=samples), random.integers(0, 4, samples), random.normal(size=samples)]
    inputs = np.stack([*columns, random.integers(0, 3, samples)], axis=1).astype(np.float32)
    return Data(inputs, random.integers(0, 3, samples), 3, CODES)


BOTH = pytest.mark.parametrize(("config", "data"), [(TRANSFORMER, texts()), (TABULAR, table())], ids=["text", "table"])


@BOTH
def test_training_is_repeatable_and_a_saved_model_gives_the_same_logits(config, data, tmp_path):
    one, two = (train(data, config, seed=1, device=CPU).model for _ in range(2))
    np.testing.assert_array_equal(outputs_of(one, data), outputs_of(two, data))
    save(one, tmp_path, config, data.inputs.shape[1:])
    np.testing.assert_array_equal(outputs_of(load(tmp_path), data), outputs_of(one, data))


@BOTH
def test_gradient_norms_of_samples_are_those_of_a_loop(config, data):
    model = build(config, data.inputs.shape[1:], 3, seed=0, learned=data.model_settings).eval()
    inputs, labels = torch.tensor(data.inputs[:4]), torch.tensor(data.targets[:4])
    found = squared_gradient_norms(
        model, inputs, lambda logits: functional.cross_entropy(logits, labels, reduction="sum")
    )
    for row in range(4):
        model.zero_grad()
        functional.cross_entropy(model(inputs[row : row + 1]), labels[row : row + 1]).backward()
        expected = sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None)
        assert float(found[row]) == pytest.approx(expected, rel=1e-4)
    assert forward_with_features(model, inputs)[1].ndim == 2


def test_padding_changes_nothing():
    data = texts()
    model = build(TRANSFORMER, (20,), 3, seed=0, learned=TOKENS).eval()
    wide = np.full((len(data), 20), 3, np.int32)
    wide[:, :10] = data.inputs
    with torch.no_grad():
        together = model(torch.tensor(wide))
        alone = torch.cat([model(torch.tensor(row[row != 3][None])) for row in data.inputs])
        nothing = model(torch.full((1, 20), 3, dtype=torch.int32))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert nothing.isfinite().all()


def test_token_ids_and_codes_are_not_standardised():
    model = train(texts(), TRANSFORMER, seed=0, device=CPU).model
    ids = torch.tensor(texts().inputs)
    assert model[0](ids) is ids
    data = table()
    standardised = train(data, TABULAR, seed=0, device=CPU).model[0](torch.tensor(data.inputs)).numpy()
    np.testing.assert_array_equal(standardised[:, [1, 3]], data.inputs[:, [1, 3]])
    np.testing.assert_allclose(standardised[:, [0, 2]].std(axis=0), 1, rtol=1e-5)


def test_unknown_categories_add_nothing_even_after_training():
    model = train(table(), TrainingConfig(**TABULAR.model_dump() | {"steps": 30}), seed=0, device=CPU).model
    for embedding in model[1].embeddings:
        assert not embedding.weight[0].any()
        assert embedding.weight[1:].any(dim=1).all()


def test_models_refuse_inputs_of_another_kind_and_settings_that_they_have_not():
    with pytest.raises(ValueError, match="'mlp' reads numbers, the inputs are encoded as tokens"):
        build(TrainingConfig(steps=1), (10,), 3, seed=0, learned=TOKENS)
    with pytest.raises(ValueError, match="'transformer' reads tokens, the inputs are encoded as numbers"):
        build(TRANSFORMER, (10,), 3, seed=0)
    with pytest.raises(ValueError, match=r"'mlp' has no setting 'widht'; it has hidden"):
        check_config(TrainingConfig(steps=1, model_settings={"widht": 3}))


@pytest.fixture
def pretrained(tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12, pad_token_id=3,
    )  # fmt: skip
    model = BertModel(config)
    model.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", model


def test_pretrained_weights_by_folder_are_used_and_not_needed_to_load_again(pretrained, tmp_path):
    folder, reference = pretrained
    config = TrainingConfig(model="transformer", model_settings={"pretrained": str(folder)}, steps=1)
    model = build(config, (10,), 3, seed=0, learned=TOKENS)
    words = model[1].get_input_embeddings().weight
    torch.testing.assert_close(words, reference.get_input_embeddings().weight, rtol=0, atol=0)
    (tmp_path / "saved").mkdir()
    save(model.eval(), tmp_path / "saved", config, (10,))
    for file in folder.iterdir():
        file.unlink()
    np.testing.assert_array_equal(outputs_of(load(tmp_path / "saved"), texts()), outputs_of(model, texts()))
    assert "pretrained" not in json.loads((tmp_path / "saved" / "model.json").read_text())["config"]["model_settings"]


def test_pretrained_weights_that_do_not_fit_are_refused(pretrained):
    config = TrainingConfig(model="transformer", model_settings={"pretrained": str(pretrained[0])}, steps=1)
    with pytest.raises(ValueError, match=r"12 positions: set encoding\.max_length"):
        build(config, (13,), 3, seed=0, learned=TOKENS)
    with pytest.raises(ValueError, match=r"60 tokens and the encoder 50: encoding\.tokenizer"):
        build(config, (10,), 3, seed=0, learned=TOKENS | {"vocabulary": 60})
