"""Variance of gradients against gradients taken one sample at a time in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from secateur.scorers.checkpoints.contract import CheckpointBatch
from secateur.scorers.checkpoints.vog import stage_of, vog

CLASSES = 4


class Standardising(nn.Module):
    """Raw images, channels last, to what a network takes; has the attributes by which such a layer is known."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, inputs):
        values = (inputs.to(self.mean.dtype) - self.mean) / self.std
        return values.movedim(-1, 1) if values.ndim == 4 else values


class Reader(nn.Module):
    """Mean over real tokens of a small attention layer; drops the padding that its batch shares."""

    def __init__(self, padding_id, width=6):
        super().__init__()
        self.padding_id = padding_id
        self.tokens, self.mix, self.head = nn.Embedding(12, width), nn.Linear(width, width), nn.Linear(width, CLASSES)

    def forward(self, inputs):
        real = inputs != self.padding_id
        longest = int(real.any(dim=0).nonzero().max()) + 1
        inputs, real = inputs[:, :longest], real[:, :longest].unsqueeze(2)
        state = self.tokens(inputs.long())
        state = ((state @ self.mix(state).mT).tanh() @ state) * real
        return self.head(state.sum(dim=1) / real.sum(dim=1).clamp(min=1))


def settled(build, count):
    models = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        model = build()
        for parameter in model.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
        models.append(model.eval())
    return models


def image_models(count=4):
    return settled(
        lambda: nn.Sequential(
            Standardising([90.0, 100.0, 120.0], [50.0, 60.0, 5.0]),
            # The network begins by working in place on what it is fed with.
            nn.Sequential(nn.SiLU(inplace=True), nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(80, CLASSES)),
        ),
        count,
    )


def images(count=7):
    return torch.randint(0, 256, (count, 6, 6, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def labels_of(count):
    return torch.arange(count) % CLASSES


def of_maps(maps, reduce):
    """`[checkpoints, …]` to one number, written as in the paper: mean, squares, mean over the input."""
    maps = np.stack(maps)
    variance = np.mean((maps - maps.mean(axis=0)) ** 2, axis=0)
    return float(np.mean(np.sqrt(variance) if reduce == "std" else variance))


def image_reference(models, inputs, labels, reduce):
    scores = []
    for image, label in zip(inputs, labels, strict=True):
        maps = []
        for model in models:
            wide = copy.deepcopy(model).double()
            fed = wide[0](image.unsqueeze(0)).detach().requires_grad_()
            wide[1](fed.clone())[0, label].backward()
            maps.append(fed.grad[0].mean(dim=0).numpy())
        scores.append(of_maps(maps, reduce))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("reduce", ["std", "variance"])
def test_images(reduce):
    models, inputs, labels = image_models(), images(), labels_of(7)
    expected = image_reference(models, inputs, labels, reduce)
    got = vog(CheckpointBatch(models, inputs, labels), reduce=reduce)
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=0)


def test_gradients_are_those_at_the_standardised_input():
    # The third channel's deviation is a tenth of the others': by raw pixels it would rule the mean over channels.
    models, inputs, labels = image_models(2), images(), labels_of(7)
    raw = [nn.Sequential(model[1]) for model in models]
    standardised = models[0][0](inputs)
    torch.testing.assert_close(
        vog(CheckpointBatch(models, inputs, labels)), vog(CheckpointBatch(raw, standardised, labels)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("reduce", ["std", "variance"])
def test_features(reduce):
    models = settled(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, CLASSES)), 3)
    inputs, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), labels_of(6)
    expected = []
    for row, label in zip(inputs.double(), labels, strict=True):
        wide = [copy.deepcopy(model).double() for model in models]
        jacobians = [torch.autograd.functional.jacobian(model, row)[label].numpy() for model in wide]
        expected.append(of_maps(jacobians, reduce))
    got = vog(CheckpointBatch(models, inputs, labels), reduce=reduce)
    torch.testing.assert_close(got.double(), torch.tensor(expected, dtype=torch.float64), rtol=2e-5, atol=1e-7)


def text_reference(models, inputs, labels, padding, reduce):
    """The text without its padding, alone, at the output of the embedding table."""
    scores = []
    for row, label in zip(inputs, labels, strict=True):
        maps = []
        for model in models:
            wide = copy.deepcopy(model).double()
            state = wide.tokens(row[row != padding]).detach().requires_grad_()
            mixed = (state @ wide.mix(state).mT).tanh() @ state
            wide.head(mixed.mean(dim=0))[label].backward()
            maps.append(state.grad.numpy())
        scores.append(of_maps(maps, reduce))
    return torch.tensor(scores, dtype=torch.float64)


def texts(padding):
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randint(1, 12, (6, 8), generator=generator, dtype=torch.int32)
    inputs[inputs == padding] = 1
    for row, length in enumerate([8, 1, 3, 5, 2, 7]):
        inputs[row, length:] = padding
    return inputs


class MaskedReader(Reader):
    """A reader that masks padding in its attention too, so that padding changes nothing."""

    def forward(self, inputs):
        real = (inputs != self.padding_id).unsqueeze(2)
        state = self.tokens(inputs.long())
        weights = (state @ self.mix(state).mT).tanh() * real.mT
        return self.head(((weights @ state) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1))


@pytest.mark.parametrize("reduce", ["std", "variance"])
@pytest.mark.parametrize("padding", [0, 11])
def test_text_is_averaged_over_real_tokens(reduce, padding):
    models, inputs, labels = settled(lambda: MaskedReader(padding), 3), texts(padding), labels_of(6)
    expected = text_reference(models, inputs, labels, padding, reduce)
    wrapped = [nn.Sequential(nn.Identity(), model) for model in models]
    got = vog(CheckpointBatch(wrapped, inputs, labels), reduce=reduce)
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=1e-6)
    longer = torch.nn.functional.pad(inputs, (0, 5), value=padding)
    torch.testing.assert_close(vog(CheckpointBatch(wrapped, longer, labels), reduce=reduce), got, rtol=1e-5, atol=1e-7)


def test_networks_that_trim_shared_padding():
    inputs = torch.nn.functional.pad(texts(0)[:, :5], (0, 4))
    models = settled(lambda: Reader(0), 3)
    got = vog(CheckpointBatch(models, inputs, labels_of(6)))
    torch.testing.assert_close(got, vog(CheckpointBatch(models, inputs[:, :5], labels_of(6))), rtol=1e-5, atol=0)


def test_a_text_of_padding_alone_gets_zero():
    inputs = texts(0)
    inputs[2] = 0
    got = vog(CheckpointBatch(settled(lambda: MaskedReader(0), 2), inputs, labels_of(6)))
    assert got[2] == 0
    assert (got[[0, 1, 3, 4, 5]] > 0).all()


def test_padding_must_be_said():
    def silent():
        return nn.Sequential(nn.Embedding(12, 4), nn.Flatten(), nn.Linear(32, CLASSES))

    models = settled(silent, 2)
    with pytest.raises(ValueError, match="which token id is padding; set its attribute `padding_id`"):
        vog(CheckpointBatch(models, texts(0), labels_of(6)))
    for model in models:
        model.padding_id = None
    everything = vog(CheckpointBatch(models, texts(0), labels_of(6)))
    for model in models:
        del model.padding_id
        model[0].padding_idx = 0
    assert not torch.equal(everything, vog(CheckpointBatch(models, texts(0), labels_of(6))))


def test_stages_are_shares_of_the_checkpoints():
    models, inputs, labels = image_models(5), images(), labels_of(7)
    for stage, share, taken in [("early", 0.6, models[:3]), ("late", 0.4, models[3:]), ("all", 0.1, models)]:
        of_stage = vog(CheckpointBatch(models, inputs, labels), stage=stage, share=share)
        assert torch.equal(of_stage, vog(CheckpointBatch(taken, inputs, labels)))
    assert list(stage_of(models, "late", 0.01)) == models[3:]


def test_one_checkpoint_cannot_be_compared():
    with pytest.raises(ValueError, match="compares checkpoints, there is 1"):
        vog(CheckpointBatch(image_models(1), images(), labels_of(7)))


def test_inputs_without_gradient_are_refused():
    models = [nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(8, CLASSES)) for _ in range(2)]

    class Codes(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, inputs):
            return self.network(inputs.long())

    with pytest.raises(ValueError, match="no gradient by the inputs"):
        vog(CheckpointBatch([Codes(model) for model in models], torch.ones(3, 2), labels_of(3)))


def test_token_ids_need_an_embedding():
    models = settled(lambda: nn.Sequential(nn.Linear(8, CLASSES)), 2)
    with pytest.raises(ValueError, match="has no embedding layer"):
        vog(CheckpointBatch(models, texts(0), labels_of(6)))


def test_equal_checkpoints_have_no_variance():
    model = image_models(1)[0]
    assert vog(CheckpointBatch([model] * 3, images(), labels_of(7))).abs().max() < 1e-7


def test_transformer_of_the_transformers_library_under_a_standardising_layer():
    transformers = pytest.importorskip("transformers")
    configuration = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )

    class Classifier(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.padding_id = 0
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.encoder = transformers.BertModel(configuration, add_pooling_layer=False)
                self.head = nn.Linear(16, CLASSES)

        def forward(self, inputs):
            real = (inputs != 0).long()
            hidden = self.encoder(input_ids=inputs.long(), attention_mask=real).last_hidden_state
            return self.head((hidden * real.unsqueeze(2)).sum(dim=1) / real.sum(dim=1, keepdim=True))

    models, inputs = [Classifier(seed).eval() for seed in range(2)], texts(0)
    got = vog(CheckpointBatch([nn.Sequential(nn.Identity(), model) for model in models], inputs, labels_of(6)))
    for row, length in enumerate([8, 1, 3, 5, 2, 7]):
        ids = inputs[row : row + 1, :length].long()
        maps = []
        for model in models:
            embedded = model.encoder.embeddings.word_embeddings(ids).detach().requires_grad_()
            hidden = model.encoder(inputs_embeds=embedded).last_hidden_state
            model.head(hidden.mean(dim=1))[0, row % CLASSES].backward()
            maps.append(embedded.grad[0].double().numpy())
        assert float(got[row]) == pytest.approx(of_maps(maps, "std"), rel=1e-4)
