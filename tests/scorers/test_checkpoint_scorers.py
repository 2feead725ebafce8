"""Laws that every scorer of checkpoints keeps, whoever wrote it."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from secateur.scorers.checkpoints.checkpoint_el2n import checkpoint_el2n
from secateur.scorers.checkpoints.checkpoint_entropy import checkpoint_entropy
from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.scorers.checkpoints.checkpoint_margin import checkpoint_margin
from secateur.scorers.checkpoints.contract import CheckpointBatch, CheckpointScorer
from secateur.scorers.checkpoints.last_layer_grand import last_layer_grand
from secateur.scorers.checkpoints.self_confidence import self_confidence
from secateur.scorers.registry import scorers
from secateur.trainers.models.networks import Standardise
from secateur.trainers.models.registry import cnn, mlp

OF_TEXTS = {"ifd_loss", "ifd_ppl"}
"""Scorers of completions, which tests/trainers/test_sft.py holds to the same laws."""
ALL = {name: one for name, one in scorers().items() if isinstance(one, CheckpointScorer) and name not in OF_TEXTS}
CLASSES, SAMPLES = 5, 13


def checkpoints(shape: tuple[int, ...], count: int = 3) -> list[nn.Module]:
    """Networks for raw inputs of `shape`, with weights and batch-norm statistics that are nobody's defaults."""
    models = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for _ in range(count):
            network = cnn(shape, CLASSES, width=4) if len(shape) == 3 else mlp(shape, CLASSES, hidden=(16, 8))
            standardise = Standardise(shape[-1])
            standardise.mean.uniform_(90, 110)
            standardise.std.uniform_(40, 80)
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.3)
                    module.running_var.uniform_(0.5, 2)
                    nn.init.uniform_(module.weight, 0.5, 2)
                    nn.init.normal_(module.bias)
            models.append(nn.Sequential(standardise, network).eval())
    return models


def rows_and_labels(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randint(0, 256, (SAMPLES, *shape), generator=generator)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    return inputs.to(torch.uint8 if len(shape) == 3 else torch.float32), labels


@pytest.fixture(params=[(8, 8, 3), (6,)], ids=["images", "features"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


def test_there_are_scorers_to_hold_to_the_laws():
    assert {"vog", "grand", "last_layer_grand", "checkpoint_el2n", "self_confidence"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_scores_do_not_depend_on_the_batch_size_or_the_order(name, shape):
    models, (inputs, labels) = checkpoints(shape), rows_and_labels(shape)
    whole = ALL[name](CheckpointBatch(models, inputs, labels))
    assert whole.dtype == torch.float32
    assert whole.shape == (SAMPLES,)
    assert whole.isfinite().all()
    assert whole.unique().numel() > SAMPLES // 2
    for size in (1, 4):
        parts = [
            ALL[name](CheckpointBatch(models, inputs[at : at + size], labels[at : at + size]))
            for at in range(0, SAMPLES, size)
        ]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=2e-5, atol=1e-6)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(1))
    moved = ALL[name](CheckpointBatch(models, inputs[order], labels[order]))
    torch.testing.assert_close(moved, whole[order], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_behind(name, shape):
    models, (inputs, labels) = checkpoints(shape), rows_and_labels(shape)
    frozen = next(models[0].parameters()).requires_grad_(False)
    weights = [{key: value.clone() for key, value in model.state_dict().items()} for model in models]
    with torch.no_grad():
        values = ALL[name](CheckpointBatch(models, inputs, labels))
    assert not values.requires_grad
    assert not inputs.requires_grad
    for model, before in zip(models, weights, strict=True):
        assert not any(module.training for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(parameter.requires_grad for parameter in model.parameters() if parameter is not frozen)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        after = model.state_dict()
        assert all(torch.equal(after[key], before[key]) for key in before)
    assert not frozen.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_the_last_checkpoint_alone_is_read_by_scorers_that_say_so(name, shape):
    models, (inputs, labels) = checkpoints(shape), rows_and_labels(shape)
    of_all = ALL[name](CheckpointBatch(models, inputs, labels))
    of_two = ALL[name](CheckpointBatch(models[1:], inputs, labels))
    assert torch.equal(of_all, of_two) is not ALL[name].several


def probabilities_of(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Softmax in float64, one sample at a time, of a model copied to float64."""
    import copy

    wide = copy.deepcopy(model).double()
    # The standardising layer casts to float32, which is part of its definition; the rest runs wide.
    with torch.no_grad():
        return torch.cat([wide[1](wide[0](row.unsqueeze(0)).double()).softmax(dim=1) for row in inputs])


def test_scores_of_the_prediction_match_float64(shape):
    models, (inputs, labels) = checkpoints(shape), rows_and_labels(shape)
    each = [probabilities_of(model, inputs) for model in models]
    last, rows, batch = each[-1], range(SAMPLES), CheckpointBatch(models, inputs, labels)
    of_label = torch.stack([last[row, labels[row]] for row in rows])
    rival = torch.stack([max(last[row, c] for c in range(CLASSES) if c != labels[row]) for row in rows])
    onehot = functional.one_hot(labels, CLASSES).double()
    el2n = torch.stack([((one - onehot) ** 2).sum(dim=1) ** 0.5 for one in each]).mean(dim=0)
    expected = {
        checkpoint_el2n: el2n,
        checkpoint_loss: -of_label.log(),
        checkpoint_margin: of_label - rival,
        checkpoint_entropy: -(last * last.log()).sum(dim=1),
        self_confidence: of_label,
    }
    for score, reference in expected.items():
        torch.testing.assert_close(score(batch).double(), reference, rtol=2e-5, atol=2e-6)


def test_one_forward_pass_per_checkpoint_serves_all_scorers_of_predictions():
    models, (inputs, labels) = checkpoints((6,)), rows_and_labels((6,))
    passes = []
    for model in models:
        model.register_forward_pre_hook(lambda module, _: passes.append(module))
    batch = CheckpointBatch(models, inputs, labels)
    for score in (checkpoint_el2n, last_layer_grand, checkpoint_loss, checkpoint_margin, self_confidence):
        score(batch)
    assert len(passes) == len(models)
