"""Training of language models in the loop: adapters, precision, memory, batches by length, against plain training."""

import json
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from sft_rows import encoded, rows_of

from secateur.scorers.observers.loss import Loss
from secateur.selectors.samplers.contract import EpochSampler
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.seta import Seta
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.checkpoints import CheckpointWriter, load_checkpoints
from secateur.trainers.loop.schedule import by_length
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.sequences import SequenceEncoding
from secateur.trainers.models import adapters as lora
from secateur.trainers.models import registry as models
from secateur.trainers.models.stored_state import frozen_in, stored_state
from secateur.trainers.tasks.token_roles import sizes_of

SMALL = {"layers": 2, "width": 16, "heads": 2}
PLAIN = TrainingConfig(model="language_model", model_settings=SMALL, steps=6, batch_size=16, learning_rate=1e-2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    """60 rows of very different lengths."""
    return encoded(rows_of(60))[0]


@pytest.fixture(scope="module")
def base(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pretrained weights in transformers' format."""
    from transformers import AutoModelForCausalLM

    network: Any = train(data, PLAIN, seed=3, device=CPU).model[1]
    folder = tmp_path_factory.mktemp("base")
    causal = AutoModelForCausalLM.from_config(network.body.config)
    causal.model.load_state_dict(network.body.state_dict())
    causal.save_pretrained(folder)
    return folder


def adapted(base: Path, **settings: Any) -> TrainingConfig:
    """Training of adapters beside these weights."""
    chosen = {"pretrained": str(base), "lora": {"rank": 4, "dropout": 0.1}, **settings}
    return PLAIN.model_copy(update={"model_settings": chosen})


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_alike(one: Any, other: Any, bound: float) -> None:
    """Assert that the weights of two trainings are equal within a bound."""
    for (name, mine), theirs in zip(weights(one).items(), weights(other).values(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=bound, rtol=0, msg=name)


def test_adapters_alone_learn_and_are_stored_and_peft_reads_them(data: Data, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    config = adapted(base)
    fresh = models.build(config, data.inputs.shape[1:], data.task, seed=0, learned=data.model_settings)
    plain = models.build(
        PLAIN.model_copy(update={"model_settings": {"pretrained": str(base)}}),
        data.inputs.shape[1:],
        data.task,
        seed=0,
        learned=data.model_settings,
    )
    inputs = torch.from_numpy(data.inputs)
    torch.testing.assert_close(fresh.eval()(inputs), plain.eval()(inputs))  # New adapters have no effect.
    before, trained = weights(fresh), train(data, config, seed=0, device=CPU).model
    for name, value in weights(trained).items():
        assert torch.equal(value, before[name]) == ("lora_" not in name), name
    assert evaluate(trained, data)["nll"] < evaluate(fresh, data)["nll"]
    models.save(trained, tmp_path, config, data.inputs.shape[1:])
    stored = models.safetensors.load_file(tmp_path / "model.safetensors")
    assert {name for name in stored if not name.startswith("0.")} == {name for name in before if "lora_" in name}
    assert torch.equal(models.load(tmp_path)(inputs), trained(inputs))
    theirs, network = peft_logits(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"), trained[1]
    ids = torch.arange(20)[None]
    ours = network.logits(network.hidden(ids, torch.ones_like(ids, dtype=torch.bool)))
    torch.testing.assert_close(theirs(ids), ours, atol=1e-5, rtol=1e-5)
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (told["r"], told["lora_alpha"], told["base_model_name_or_path"]) == (4, 8, str(base.resolve()))


def peft_logits(causal: Any, folder: Path) -> Any:
    """A function of token ids to logits by peft's own model."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(causal, folder).eval()
    return lambda ids: model(input_ids=ids).logits


class Killed(Exception):
    """Simulates a kill."""


class Kill:
    """Ends a run after some step; snapshots see the same run for any step."""

    made_of: ClassVar[dict[str, Any]] = {}

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def __call__(self, model: Any, done: int, total: int) -> None:
        if done == self.after:
            raise Killed


def test_adapters_go_on_from_snapshots_and_checkpoints_that_hold_nothing_else(
    data: Data, base: Path, tmp_path: Path
) -> None:
    config = adapted(base, gradient_checkpointing=True)

    whole = train(data, config, seed=1, device=CPU, after_step=Kill()).model
    snapshots = Snapshots(tmp_path / "snapshots", steps=2)
    with pytest.raises(Killed):
        train(data, config, seed=1, device=CPU, snapshots=snapshots, after_step=Kill(5))
    saved = torch.load(snapshots.path, weights_only=True)["state"]
    assert frozen_in(whole)
    assert not frozen_in(whole) & saved["model"].keys()
    again = train(data, config, seed=1, device=CPU, snapshots=snapshots, after_step=Kill())
    assert_alike(again.model, whole, 0)
    (tmp_path / "proxy").mkdir()
    writer = CheckpointWriter(tmp_path / "proxy", 2)
    trained = train(data, config.model_copy(update={"steps": 12}), seed=1, device=CPU, checkpoint=writer).model
    models.save(trained, tmp_path / "proxy", config, data.inputs.shape[1:])
    first, last = load_checkpoints(tmp_path / "proxy")
    shared = {id(each) for name, each in last.named_parameters() if not each.requires_grad}
    assert shared == {id(each) for each in first.parameters() if not each.requires_grad}
    assert evaluate(first, data)["nll"] > evaluate(last, data)["nll"]
    assert len(stored_state(first)) == len(models.safetensors.load_file(tmp_path / "proxy" / "model.safetensors"))


def test_what_adapters_cannot_be_is_refused_before_anything_is_loaded(
    data: Data, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"lora": {"rank": 0}}, r"model_settings.lora.rank: .*greater than or equal to 1; it has rank, alpha"),
        ({"lora": {"r": 8}}, r"model_settings.lora.r: Extra inputs"),
        ({"pretrained": None, "lora": {}}, r"beside pretrained weights: name them"),
        ({"lora": None, "dtype": "bfloat16"}, r"weights that are trained stay float32.*precision: bfloat16"),
        ({"dtype": "float8"}, r"model_settings.dtype: float32 or bfloat16"),
    ]
    for settings, fault in wrong:
        with pytest.raises(ValueError, match=fault):
            models.check_config(adapted(base, **settings))
    for targets, fault in (["foo"], r"linear layers are .*q_proj"), (["lm_head"], "embeddings and the last layer"):
        with pytest.raises(ValueError, match=f"model_settings.lora.targets: .*{fault}"):
            train(data, adapted(base, lora={"targets": targets}), seed=0)
    monkeypatch.setattr(lora, "is_there", lambda name: False)
    with pytest.raises(ValueError, match="install the extra `language`"):
        models.check_config(adapted(base))


def test_stored_adapters_refuse_other_weights_below_them(data: Data, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    causal = AutoModelForCausalLM.from_pretrained(base)
    causal.save_pretrained(tmp_path / "own")
    config = adapted(tmp_path / "own")
    (tmp_path / "model").mkdir()
    trained = train(data, config.model_copy(update={"steps": 1}), seed=0, device=CPU).model
    models.save(trained, tmp_path / "model", config, data.inputs.shape[1:])
    models.load(tmp_path / "model")
    with torch.no_grad():
        next(causal.parameters()).add_(1e-3)
    causal.save_pretrained(tmp_path / "own")
    with pytest.raises(ValueError, match="are not those that the adapters were trained beside"):
        models.load(tmp_path / "model")


def test_parts_of_a_batch_and_recomputed_layers_train_the_same_model(data: Data) -> None:
    whole = train(data, PLAIN, seed=0, device=CPU).model
    parts = train(data, PLAIN.model_copy(update={"accumulate": 2}), seed=0, device=CPU).model
    assert_alike(parts, whole, 1e-5)
    again = PLAIN.model_copy(update={"model_settings": SMALL | {"gradient_checkpointing": True}})
    calls, network = [], models.build(again, data.inputs.shape[1:], data.task, seed=0, learned=data.model_settings)
    network[1].body.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    network.train()(torch.from_numpy(data.inputs[:4])).sum().backward()
    assert len(calls) == 2, "each layer goes forward once more in the backward pass"
    assert_alike(train(data, again, seed=0, device=CPU).model, whole, 1e-6)


def test_bfloat16_trains_close_to_float32_and_leaves_logits_and_weights_in_float32(data: Data, base: Path) -> None:
    config = PLAIN.model_copy(update={"steps": 20})
    half = config.model_copy(update={"precision": "bfloat16"})
    found = [train(data, one, seed=0, device=CPU).model for one in (config, half)]
    assert {value.dtype for value in found[1].state_dict().values()} == {torch.float32}
    worth = [evaluate(model, data)["nll"] for model in found]
    assert worth[0] != worth[1] == pytest.approx(worth[0], rel=0.05)
    inputs = torch.from_numpy(data.inputs[:8])
    with torch.autocast("cpu", torch.bfloat16):
        hidden, _, _ = found[0][1].scored(inputs)
        logits, weight = found[0][1].logits(hidden), found[0][1].body.get_input_embeddings().weight
        rounded = torch.nn.functional.linear(hidden, weight)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(logits, hidden.float() @ weight.T)
    narrow = train(data, adapted(base, dtype="bfloat16"), seed=0, device=CPU).model
    kinds = {("lora_" in name, value.dtype) for name, value in narrow.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    wide = train(data, adapted(base), seed=0, device=CPU).model
    assert evaluate(narrow, data)["nll"] == pytest.approx(evaluate(wide, data)["nll"], rel=0.05)


def test_batches_by_length_hold_each_sample_once_in_its_window_and_pad_less(data: Data) -> None:
    lengths = sizes_of(data.inputs, np.arange(60))[0]
    ids = torch.from_numpy(np.random.default_rng(0).permutation(60))
    found = by_length(ids, lengths, 8, 3, np.random.default_rng(1))
    assert sorted(found.tolist()) == list(range(60))
    for first in range(0, 60, 24):
        assert set(found[first : first + 24].tolist()) == set(ids[first : first + 24].tolist())
        spans = sorted(
            (int(step.min()), int(step.max()))
            for step in (lengths[found[at : at + 8].numpy()] for at in range(first, min(first + 24, 56), 8))
        )
        assert all(high <= low for (_, high), (low, _) in pairwise(spans)), "batches of a window overlap in lengths"

    def cost(order: torch.Tensor) -> int:
        return sum(int(lengths[order[at : at + 8].numpy()].max()) * 8 for at in range(0, 56, 8))

    assert cost(found) < 0.9 * cost(ids)
    assert by_length(ids[:0], lengths, 8, 3, np.random.default_rng(1)).tolist() == []
    assert sorted(by_length(ids[:3], lengths, 8, 3, np.random.default_rng(1)).tolist()) == sorted(ids[:3].tolist())


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: None,
        lambda: Rs2(60, keep=0.5, seed=2),
        lambda: InfoBatch(60, epochs=3, seed=2),
        lambda: Seta(60, epochs=3, seed=2),
    ],
    ids=["none", "rs2", "info_batch", "seta"],
)
def test_by_length_every_sample_keeps_its_own_loss_and_its_epochs(
    data: Data, sampler: Callable[[], EpochSampler | None]
) -> None:
    config = PLAIN.model_copy(update={"steps": None, "epochs": 3, "batch_size": 8, "learning_rate": 1e-9})
    seen, losses = [], []
    for buckets in (0, 4):
        watcher = Loss(60, CPU)
        trained = train(
            data,
            config.model_copy(update={"length_buckets": buckets}),
            seed=0,
            sampler=sampler(),
            observers=[watcher],
            device=CPU,
        )
        seen.append(watcher.presentations)
        losses.append(watcher.reduce())
        counts = sizes_of(data.inputs, np.arange(60))[1]
        assert trained.tokens_seen == int((counts * watcher.presentations.numpy()).sum())
    assert torch.equal(*seen)  # The rows of an epoch do not depend on their lengths.
    shown = seen[0] > 0
    torch.testing.assert_close(losses[0][shown], losses[1][shown], atol=1e-5, rtol=0)


def test_a_run_by_length_goes_on_where_it_was_killed(data: Data, tmp_path: Path) -> None:
    config = PLAIN.model_copy(update={"steps": 9, "batch_size": 8, "length_buckets": 3})

    whole, snapshots = train(data, config, seed=1, device=CPU), Snapshots(tmp_path, steps=1)
    with pytest.raises(Killed):
        train(data, config, seed=1, device=CPU, snapshots=snapshots, after_step=Kill(4))
    again = train(data, config, seed=1, device=CPU, snapshots=snapshots, after_step=Kill())
    assert_alike(again.model, whole.model, 0)
    assert again.tokens_seen == whole.tokens_seen


def test_packing_and_lengths_of_other_inputs_are_refused_with_the_reason(data: Data) -> None:
    with pytest.raises(ValueError, match=r"credited to none of them.*length_buckets: 16"):
        TrainingConfig(steps=1, packing=True)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="credited to none of them"):
        SequenceEncoding(packing=True)  # type: ignore[call-arg]
    points = Data(np.zeros((8, 2), np.float32), np.arange(8) % 2, 2)
    with pytest.raises(ValueError, match="length_buckets sorts samples of task sft, the task is classification"):
        train(points, TrainingConfig(steps=1, length_buckets=2), seed=0)
