"""Gradient norms against the gradients themselves, one sample at a time in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from secateur.scorers.checkpoints import ghost_norms
from secateur.scorers.checkpoints.contract import CheckpointBatch
from secateur.scorers.checkpoints.grand import gradient_lengths, grand
from secateur.scorers.checkpoints.last_layer_grand import last_layer_grand

CLASSES = 4


class Residual(nn.Module):
    """A block whose activation works in place on what a normalising layer gave."""

    def __init__(self, channels: int, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm

    def forward(self, inputs):
        return functional.relu(self.norm(self.convolution(inputs)), inplace=True) + inputs


class Reader(nn.Module):
    """Token and position embeddings, attention written out, layer norm; the position ids have one row for all."""

    def __init__(self, length: int = 6, width: int = 8) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, width, padding_idx=0), nn.Embedding(length, width)
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        self.unused = nn.Linear(3, 3)
        self.register_buffer("ids", torch.arange(length).unsqueeze(0))

    def forward(self, inputs):
        state = self.tokens(inputs) + self.positions(self.ids)
        attention = (self.query(state) @ state.mT).softmax(dim=-1)
        return self.head(self.norm(attention @ self.value(state)).mean(dim=1))


class Columns(nn.Module):
    """One embedding per column of codes beside numbers, as for tables."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(3, 2), nn.Linear(4, CLASSES)

    def forward(self, inputs):
        return self.head(torch.cat([inputs[:, :2], self.table(inputs[:, 2].long().remainder(3))], dim=1))


def settle(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights from a seed, batch-norm statistics off their defaults, evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_var.add_(1)
    return model.eval()


def random_images(count, *shape):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))


def tokens_of(count):
    return torch.randint(0, 11, (count, 6), generator=torch.Generator().manual_seed(5))


NETWORKS = {
    "linear": (lambda: nn.Linear(5, CLASSES), random_images(7, 5)),
    "linear, no bias": (lambda: nn.Sequential(nn.Linear(5, CLASSES, bias=False)), random_images(7, 5)),
    "mlp": (
        lambda: nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(inplace=True), nn.Linear(9, CLASSES)),
        random_images(7, 5),
    ),
    "positions, few and many": (
        lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 40), nn.Flatten(), nn.Linear(240, CLASSES)),
        random_images(5, 2, 3, 2),
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, (3, 2), stride=2, padding=(2, 1), dilation=(1, 2)),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding="same", groups=2, bias=False),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"),
            nn.Flatten(),
            nn.LazyLinear(CLASSES),
        ),
        random_images(6, 2, 9, 8),
    ),
    "residual": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 1),
            Residual(4, nn.BatchNorm2d(4)),
            Residual(4, nn.GroupNorm(2, 4)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(4),
            nn.Linear(4, CLASSES),
        ),
        random_images(6, 2, 5, 5),
    ),
    "layer norm over images": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.LayerNorm([2, 3, 3], bias=False), nn.Flatten(), nn.Linear(18, CLASSES)
        ),
        random_images(6, 1, 5, 5),
    ),
    "reader": (Reader, tokens_of(6)),
    "reader, as many samples as one": (Reader, tokens_of(1)),
    "columns": (Columns, random_images(6, 3).abs() * 3),
}


def reference(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, names=lambda name: True) -> torch.Tensor:
    """Length of the gradient of each sample alone, by the plainest means, in float64."""
    wide = copy.deepcopy(model).double()
    lengths = []
    for row, label in zip(inputs, labels, strict=True):
        wide.zero_grad()
        row = row.unsqueeze(0)
        functional.cross_entropy(wide(row.double() if row.is_floating_point() else row), label.unsqueeze(0)).backward()
        gradients = [p.grad for name, p in wide.named_parameters() if p.grad is not None and names(name)]
        lengths.append(sum(g.square().sum() for g in gradients).sqrt())
    return torch.stack(lengths)


def labels_of(count: int) -> torch.Tensor:
    return torch.arange(count) % CLASSES


@pytest.fixture(params=[1 << 24, 1], ids=["whole batches", "one sample at a time"])
def _blocks(request, monkeypatch):
    monkeypatch.setitem(ghost_norms.BLOCK, "cpu", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("name", NETWORKS)
def test_norms_are_those_of_the_gradients(name):
    build, inputs = NETWORKS[name]
    model = build()
    model(inputs)  # lets lazy layers see their width
    model, labels = settle(model), labels_of(len(inputs))
    expected = reference(model, inputs, labels)
    torch.testing.assert_close(grand(CheckpointBatch([model], inputs, labels)).double(), expected, rtol=1e-5, atol=1e-5)
    wide = inputs.double() if inputs.is_floating_point() else inputs
    torch.testing.assert_close(
        gradient_lengths(copy.deepcopy(model).double(), CheckpointBatch([], wide, labels)), expected, rtol=1e-9, atol=0
    )


def test_both_ways_to_contract_are_taken_and_agree():
    rows, outer = random_images(3, 6, 40).double(), random_images(3, 6, 30).double()
    assert ghost_norms.pairs_are_cheaper(6, 40, 30)
    assert not ghost_norms.pairs_are_cheaper(60, 4, 3)
    product = torch.einsum("btp,btd->bpd", rows, outer).square().sum(dim=(1, 2))
    torch.testing.assert_close(ghost_norms.contracted(rows, outer), product)
    few = random_images(3, 60, 4).double(), random_images(3, 60, 3).double()
    product = torch.einsum("btp,btd->bpd", *few).square().sum(dim=(1, 2))
    torch.testing.assert_close(ghost_norms.contracted(*few), product)


@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(1, 3),
    width=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
)
def test_any_convolution(groups, width, kernel, stride, padding, dilation, mode, bias):
    layer = nn.Conv2d(
        groups * width,
        groups * 2,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        bias=bias,
    )
    model = settle(nn.Sequential(layer, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(groups * 8, CLASSES)))
    inputs, labels = random_images(3, groups * width, 7, 6), labels_of(3)
    expected = reference(model, inputs, labels)
    torch.testing.assert_close(grand(CheckpointBatch([model], inputs, labels)).double(), expected, rtol=2e-5, atol=1e-6)


def test_norms_are_those_of_vmapped_gradients():
    inputs, labels = random_images(16, 12), labels_of(16)
    model = settle(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, CLASSES)))
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, row, label):
        logits = torch.func.functional_call(model, parameters, (row.unsqueeze(0),))
        return functional.cross_entropy(logits, label.unsqueeze(0))

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels)
    squares = {name: value.flatten(1).square().sum(dim=1) for name, value in gradients.items()}
    batch = CheckpointBatch([model], inputs, labels)
    torch.testing.assert_close(grand(batch), sum(squares.values()).sqrt(), rtol=1e-5, atol=0)
    last = (squares["2.weight"] + squares["2.bias"]).sqrt()
    torch.testing.assert_close(last_layer_grand(batch), last, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["linear, no bias", "mlp", "residual"])
def test_last_layer_norms_are_those_of_the_classifier(name):
    build, inputs = NETWORKS[name]
    model, labels = settle(build()), labels_of(len(inputs))
    last = f"{len(model) - 1}."
    expected = reference(model, inputs, labels, lambda parameter: parameter.startswith(last))
    torch.testing.assert_close(
        last_layer_grand(CheckpointBatch([model], inputs, labels)).double(), expected, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("score", [grand, last_layer_grand])
def test_several_proxies_are_averaged(score):
    build, inputs = NETWORKS["mlp"]
    models, labels = [settle(build(), seed) for seed in range(3)], labels_of(len(inputs))
    alone = torch.stack([score(CheckpointBatch([model], inputs, labels)).double() for model in models])
    torch.testing.assert_close(
        score(CheckpointBatch(models, inputs, labels)).double(), alone.mean(dim=0), rtol=1e-6, atol=0
    )
    assert alone.std(dim=0).min() > 0


def test_frozen_parameters_count():
    build, inputs = NETWORKS["mlp"]
    model, labels = settle(build()), labels_of(len(inputs))
    before = grand(CheckpointBatch([model], inputs, labels))
    assert torch.equal(grand(CheckpointBatch([model.requires_grad_(False)], inputs, labels)), before)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(5)), nn.Linear(5, CLASSES)

    def forward(self, inputs):
        return self.head(inputs * self.scale)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(5, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs):
        return self.head(self.layer(self.layer(inputs).relu()))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.head(self.second(self.first(inputs)))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(5, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs):
        return self.head(functional.linear(inputs, self.layer.weight))


class Folded(nn.Module):
    """One layer sees positions where others see samples: with as many of both, shapes would not tell."""

    def __init__(self):
        super().__init__()
        self.places, self.head = nn.Embedding(5, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs):
        return self.head(inputs + self.places(torch.arange(5)).sum(dim=0))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (nn.Sequential(nn.Linear(5, 5), nn.PReLU(), nn.Linear(5, CLASSES)), r"'1\.weight' of a PReLU .* Conv2d"),
        (Scaled(), "'scale' of a Scaled"),
        (Functional(), r"'layer\.weight' of a Linear"),
        (Twice(), "'layer' is used twice"),
        (Tied(), "'first' is used twice or shares"),
        (Folded(), "'places' must see samples"),
        (nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, CLASSES)), "'0' is a batch norm"),
        (nn.Sequential(nn.EmbeddingBag(5, 3), nn.Linear(3, CLASSES)), "of a EmbeddingBag"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_networks_whose_norms_would_be_wrong_are_refused(model, complaint):
    bags = any(isinstance(module, nn.EmbeddingBag) for module in model.modules())
    inputs = torch.ones(5, 5, dtype=torch.int64) if bags else random_images(5, 5)
    with pytest.raises(ValueError, match=complaint):
        grand(CheckpointBatch([model.eval()], inputs, labels_of(5)))
    assert not any(module._forward_hooks for module in model.modules())


def test_batch_norm_in_training_mode_is_refused_and_its_statistics_left_alone():
    model = settle(NETWORKS["mlp"][0]()).train()
    before = model[1].running_mean.clone()
    with pytest.raises(ValueError, match=r"'1' is a batch norm that mixes samples.*model\.eval\(\)"):
        grand(CheckpointBatch([model], random_images(5, 5), labels_of(5)))
    assert torch.equal(model[1].running_mean, before)


def test_embedding_that_rescales_its_rows_is_refused():
    model = nn.Sequential(nn.Embedding(4, 5, max_norm=1.0), nn.Flatten(), nn.Linear(10, CLASSES)).eval()
    with pytest.raises(ValueError, match="'0': max_norm"):
        grand(CheckpointBatch([model], torch.ones(3, 2, dtype=torch.int64), labels_of(3)))


def test_transformer_of_the_transformers_library():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "num_labels": CLASSES}
    configuration = transformers.BertConfig(num_hidden_layers=2, num_attention_heads=2, **sizes)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.bert = transformers.BertForSequenceClassification(configuration)

        def forward(self, inputs):
            return self.bert(input_ids=inputs.long(), attention_mask=(inputs != 0).long()).logits

    model = Wrapped().eval()
    inputs = torch.randint(1, 30, (6, 9), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    inputs[:, 7:] = 0
    labels = labels_of(6)
    expected = reference(model, inputs, labels)
    torch.testing.assert_close(grand(CheckpointBatch([model], inputs, labels)).double(), expected, rtol=1e-5, atol=0)
