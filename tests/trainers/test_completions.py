"""Vectors, gradients and scores of completions over training, against loops over single rows in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from sft_rows import encoded, opinionated, padded_on_the_left, rows_of

from secateur.scorers.checkpoints.last_layer_grand import last_layer_grand
from secateur.scorers.checkpoints.vog import vog
from secateur.scorers.contract import TrainingBatch
from secateur.scorers.observers.correctness import Correctness
from secateur.scorers.observers.dual import Dual
from secateur.scorers.observers.dynamic_uncertainty import DynamicUncertainty
from secateur.scorers.observers.forgetting import Forgetting
from secateur.scorers.observers.mean_probability import MeanProbability
from secateur.scorers.target.cosines import VectorCosines
from secateur.trainers.contract import Data
from secateur.trainers.models import token_losses
from secateur.trainers.passes.completions import Buckets, head_sketches, weighted_means
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks import sft
from secateur.trainers.tasks.sft import Sft
from secateur.trainers.tasks.token_roles import PADDING, ROLE, SCORED

CPU = torch.device("cpu")
ROWS = 42
SOME = range(0, ROWS, 7)


@pytest.fixture(scope="module")
def made() -> tuple[Data, Any, Any]:
    """Data, and two checkpoints."""
    data, _ = encoded(rows_of(ROWS))
    return data, opinionated(data), opinionated(data, seed=1)


@pytest.fixture(scope="module")
def exact(made: tuple[Data, Any, Any]) -> list[Any]:
    """transformers' own model with the weights of each checkpoint, in float64."""
    from transformers import AutoConfig, AutoModelForCausalLM

    found = []
    for network in made[1:]:
        config = AutoConfig.for_model(**network[1].rebuild_settings["config"])
        causal = AutoModelForCausalLM.from_config(config)
        weights = {f"model.{name.removeprefix('body.')}": value for name, value in network[1].state_dict().items()}
        causal.load_state_dict(weights, strict=False)
        found.append(causal.double().eval())
    return found


def row_of(data: Data, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and roles of a row without its padding."""
    ids, roles = torch.from_numpy(data.inputs[row]).long()
    real = (roles & ROLE) != PADDING
    return ids[real], roles[real] & ROLE


def everything(data: Data, networks: Any, batch: int) -> dict[str, np.ndarray]:
    """Vectors, sketches, VoG and gradient norms with one batch size."""
    rows = np.arange(ROWS)
    parts = np.split(rows, range(batch, ROWS, batch))
    models = list(networks)
    wanted: dict[str, Any] = {"vog": (vog, {}), "last_layer_grand": (last_layer_grand, {})}
    scores = score_rows([models], data, rows, wanted, device=CPU, batch_size=batch)
    return {
        "vectors": np.concatenate([weighted_means(models[-1], data, part, CPU).numpy() for part in parts]),
        "sketches": np.concatenate([head_sketches(models[-1], data, part, CPU).numpy() for part in parts]),
        **scores,
    }


def test_neither_the_batch_nor_the_side_of_the_padding_changes_vectors_and_gradients(
    made: tuple[Data, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, *networks = made
    whole = everything(data, networks, 64)
    monkeypatch.setattr(token_losses, "PIECE", 1000)  # two tokens at a time
    monkeypatch.setattr(token_losses, "BUDGET", 100)
    monkeypatch.setattr(sft, "BACKWARD", 100)
    for other in (everything(data, networks, 1), everything(padded_on_the_left(data), networks, 64)):
        for name, values in whole.items():
            np.testing.assert_allclose(other[name], values, atol=1e-5, rtol=1e-5, err_msg=name)


def test_vectors_weigh_later_tokens_of_prompt_and_completion_more(made: tuple[Data, Any, Any], exact: Any) -> None:
    data, network, _ = made
    found = np.concatenate(list(embed(EmbeddingSettings(block=32, batch_size=8), data, model=network)))
    assert found.dtype == np.float32
    for row in SOME:
        ids, _ = row_of(data, row)
        with torch.no_grad():
            hidden = exact[0].model(input_ids=ids[None]).last_hidden_state[0].numpy()
        mean = sum(place * vector for place, vector in enumerate(hidden, 1)) / sum(range(1, len(ids) + 1))
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), atol=1e-5)


def head_gradient(causal: Any, ids: torch.Tensor, roles: torch.Tensor) -> np.ndarray:
    """Gradient of a row's mean loss by the head's weights alone, in float64, by autograd."""
    with torch.no_grad():
        hidden = causal.model(input_ids=ids[None]).last_hidden_state[0]
    weight = causal.get_output_embeddings().weight.detach().clone().requires_grad_()
    losses = torch.nn.functional.cross_entropy(hidden[:-1] @ weight.T, ids[1:], reduction="none")
    (gradient,) = torch.autograd.grad(losses[roles[1:] == SCORED].mean(), weight)
    return gradient.numpy()


def test_sketches_are_those_of_the_gradients_of_autograd(made: tuple[Data, Any, Any], exact: Any) -> None:
    data, network, _ = made
    gradients = np.stack([head_gradient(exact[0], *row_of(data, row)) for row in SOME])
    sizes, errors = (64, 4096), []
    unit = gradients.reshape(len(SOME), -1) / np.linalg.norm(gradients, axis=(1, 2))[:, None]
    for size in sizes:
        found = head_sketches(network, data, np.array(SOME), CPU, size=size).numpy()
        left, right = (Buckets(count, size, factor, CPU) for factor, count in enumerate(gradients.shape[1:]))
        place = (left.buckets[:, None] + right.buckets[None]) % size
        signed = (left.signs[:, None] * right.signs[None]).numpy() * gradients
        for sketch, one in zip(found, signed, strict=True):
            wanted = np.bincount(place.numpy().ravel(), one.ravel(), size)
            np.testing.assert_allclose(sketch, wanted / np.linalg.norm(wanted), atol=1e-6)
        cosines = np.concatenate(list(VectorCosines(found, found).blocks(3)), axis=1)
        errors.append(np.abs(cosines - unit @ unit.T).max())
    assert errors[1] < 0.08
    assert errors[1] < errors[0] / 2, "more numbers, closer cosines"


@pytest.mark.parametrize("piece", [1 << 24, 700])
def test_gradient_norms_of_the_head_are_those_of_autograd(
    piece: int, made: tuple[Data, Any, Any], exact: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in slices of the vocabulary; the mean over checkpoints."""
    data, *networks = made
    monkeypatch.setattr(token_losses, "PIECE", piece)
    wanted: dict[str, Any] = {"norm": (last_layer_grand, {})}
    found = score_rows([networks], data, np.arange(ROWS), wanted, device=CPU)["norm"]
    for row in SOME:
        lengths = [np.linalg.norm(head_gradient(causal, *row_of(data, row))) for causal in exact]
        assert found[row] == pytest.approx(np.mean(lengths), rel=1e-5)


def test_a_head_with_a_bias_of_its_own_counts_it_in() -> None:
    """An untied head of a model other than Llama."""
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    causal = PhiForCausalLM(PhiConfig(vocab_size=60, **sizes)).eval()
    with torch.no_grad():
        causal.lm_head.bias.normal_()
        causal.lm_head.weight.mul_(20)
    ids, roles = torch.arange(12) * 5, torch.tensor([1] * 5 + [SCORED] * 7)
    found = token_losses.TokenLosses(causal).head_gradient(torch.stack([ids, roles])[None])
    exact = causal.double()
    losses = torch.nn.functional.cross_entropy(exact(input_ids=ids[None]).logits[0, :-1], ids[1:], reduction="none")
    gradients = torch.autograd.grad(losses[4:].mean(), [exact.lm_head.weight, exact.lm_head.bias])
    assert float(found[0]) == pytest.approx(float(torch.cat([each.flatten() for each in gradients]).norm()), rel=1e-5)


def test_vog_is_the_spread_of_gradients_at_the_embedding_over_real_tokens(
    made: tuple[Data, Any, Any], exact: Any
) -> None:
    data, *networks = made
    found = score_rows([networks], data, np.arange(ROWS), {"vog": (vog, {})}, device=CPU)["vog"]
    for row in SOME:
        ids, roles = row_of(data, row)
        maps = []
        for causal in exact:
            leaf = causal.get_input_embeddings()(ids[None]).detach().requires_grad_()
            logits = causal(inputs_embeds=leaf).logits[0, :-1]
            said = (roles[1:] == SCORED).nonzero().flatten()
            (gradient,) = torch.autograd.grad(logits[said, ids[1:][said]].mean(), leaf)
            maps.append(gradient[0].numpy())
        assert found[row] == pytest.approx(np.std(maps, axis=0).mean(), rel=1e-5)


def test_scores_over_training_follow_the_share_of_right_tokens() -> None:
    rows, epochs, random = 12, 6, np.random.default_rng(0)
    tokens = random.integers(1, 9, rows)
    right = random.integers(0, tokens + 1, (epochs, rows))
    watchers = {
        "correctness": Correctness(rows, CPU),
        "mean": MeanProbability(rows, CPU),
        "dual": Dual(rows, CPU, window=3),
        "wavering": DynamicUncertainty(rows, CPU, window=3),
        "forgetting": Forgetting(rows, CPU),
    }
    task = Sft(1)
    for epoch in range(epochs):
        outputs = torch.tensor(np.stack([tokens * 0.5, tokens, right[epoch]], axis=1), dtype=torch.float32)
        order = random.permutation(rows)
        for some in np.split(order, 3):
            ids, targets = torch.from_numpy(some), torch.zeros(len(some), dtype=torch.int64)
            batch = TrainingBatch(ids, outputs[ids], targets, task.losses(outputs[ids], targets), task)
            for watcher in watchers.values():
                watcher.observe(batch)
        for watcher in watchers.values():
            watcher.end_epoch(epoch)
    found = {name: watcher.scores() for name, watcher in watchers.items()}
    share = right / tokens
    windows = [share[first : first + 3] for first in range(epochs - 2)]
    learned = np.array([1 - each <= np.sort(1 - each)[(rows - 1) // 2] for each in share.astype(np.float32)])
    events = (learned[:-1] & ~learned[1:]).sum(axis=0)
    wanted = {
        "correctness": share.mean(axis=0),
        "mean": share.mean(axis=0),
        "dual": np.mean([(1 - each.mean(axis=0)) * each.std(axis=0, ddof=1) for each in windows], axis=0),
        "wavering": np.mean([each.std(axis=0, ddof=1) for each in windows], axis=0),
        "forgetting": np.where(learned.any(axis=0), events, epochs),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)


def test_a_network_without_hidden_states_of_tokens_is_named(made: tuple[Data, Any, Any]) -> None:
    plain = torch.nn.Sequential(made[1][0])
    with pytest.raises(ValueError, match="those of language_model"):
        weighted_means(plain, made[0], np.arange(3), CPU)
