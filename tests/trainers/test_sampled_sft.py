"""TRL's SFTTrainer under a sampler: ids through its preparation, each row's own loss, its training, and its errors."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import tiny_language
import torch
from resumed_loops import PROGRAMS, attempt
from torch.nn import functional
from transformers import TrainerCallback, TrainingArguments

from secateur.selectors.samplers.contract import EpochSampler
from secateur.selectors.samplers.fixed_subset import FixedSubset
from secateur.selectors.samplers.ies import Ies
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.order_dp import OrderDp
from secateur.selectors.samplers.repb import Repb
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.seta import Seta
from secateur.selectors.samplers.subset_schedule import SubsetSchedule
from secateur.trainers.loop.own_loop import SampledTraining
from secateur.trainers.loop.sampler_callback import SamplerCallback

trl = pytest.importorskip("trl")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*pin_memory", "ignore:.*use_cache"),
    pytest.mark.filterwarnings("ignore:an epoch went by without"),
]
N, BATCH, EPOCHS = 22, 4, 4
WORDS = tiny_language.tokenizer()


class Pruned(SampledTraining, trl.SFTTrainer):  # type: ignore[name-defined, misc]
    """A user's class that records (epoch, ids) of each batch, and checks that the model never gets ids."""

    shown: list[tuple[int, list[int]]]

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        self.shown = [*getattr(self, "shown", []), (self.sampler.epoch, inputs["sample_id"].tolist())]
        step: Any = super().training_step
        return step(model, inputs, *rest)

    def epochs(self) -> list[list[int]]:
        """Ids by epoch."""
        return [[i for at, ids in self.shown if at == epoch for i in ids] for epoch in range(self.shown[-1][0] + 1)]


def rows() -> datasets.Dataset:
    return datasets.Dataset.from_list(tiny_language.pairs(N))


def trainer_of(folder: Path, sampler: EpochSampler | None, kind: Any = Pruned, data: Any = None, **given: Any) -> Any:
    """An SFTTrainer with small batches and without reports."""
    also = {name: given.pop(name) for name in ("callbacks", "peft_config", "compute_loss_func") if name in given}
    arguments = trl.SFTConfig(
        str(folder), use_cpu=True, report_to=[], disable_tqdm=True, bf16=False, gradient_checkpointing=False,
        dataloader_pin_memory=False,
        **{"per_device_train_batch_size": BATCH, "num_train_epochs": EPOCHS, "learning_rate": 0.05, "optim": "sgd",
        "save_strategy": "no", "logging_strategy": "no", "lr_scheduler_type": "constant", **given},
    )  # fmt: skip
    trainer = kind(
        tiny_language.model(WORDS), arguments, train_dataset=rows() if data is None else data, processing_class=WORDS,
        **also,
    )  # fmt: skip
    if sampler is not None:
        trainer.sampler = sampler
    return trainer


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in trainer.model.parameters()])


def by_hand(model: Any, row: dict[str, str]) -> float:
    """Mean loss of a row's completion and its end, token by token, alone and without padding."""
    prompt = WORDS(row["prompt"])["input_ids"]
    whole = WORDS(row["prompt"] + row["completion"] + WORDS.eos_token)["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([whole])).logits[0].double()
    losses = [
        functional.cross_entropy(logits[at - 1], torch.tensor(whole[at])) for at in range(len(prompt), len(whole))
    ]
    return float(torch.stack(losses).mean())


def own_losses() -> list[float]:
    return [by_hand(tiny_language.model(WORDS).eval(), row) for row in tiny_language.pairs(N)]


SAMPLERS: dict[str, Any] = {
    "rs2": lambda: Rs2(N, keep=0.5),
    "info_batch": lambda: InfoBatch(N, EPOCHS),
    "seta": lambda: Seta(N, EPOCHS, groups=2, window=0.5),
    "subset_schedule": lambda: SubsetSchedule(np.arange(N, dtype=np.float32), EPOCHS, keeps=(0.4, 1.0)),
    "order_dp": lambda: OrderDp(N),
    "ies": lambda: Ies(N, window=1, threshold=1e-4),
    "repb": lambda: Repb(N, window=8),
}


@pytest.mark.parametrize(
    "name",
    ["info_batch", *(pytest.param(name, marks=pytest.mark.nightly) for name in SAMPLERS if name != "info_batch")],
)
def test_every_kept_id_is_credited_with_its_own_loss(name: str, tmp_path: Path) -> None:
    """With a model that does not learn, each row's loss is that of the row alone, in any batch and with any padding."""
    sampler, epochs = SAMPLERS[name](), 6 if name == "ies" else EPOCHS
    trainer = trainer_of(tmp_path, sampler, learning_rate=0.0, num_train_epochs=epochs, gradient_accumulation_steps=2)
    told, losses = dict[int, list[float]](), own_losses()
    observe = sampler.observe

    def noted(ids: torch.Tensor, values: torch.Tensor) -> None:
        for row, value in zip(ids.tolist(), values.tolist(), strict=True):
            told.setdefault(row, []).append(value)
        observe(ids, values)

    sampler.observe = noted
    trainer.train()
    expected = SAMPLERS[name]()
    for epoch, ids in enumerate(trainer.epochs()):
        expected.set_epoch(epoch)
        if name != "ies" or epoch < 4:  # later the largest of changes that are all rounding says which row stays
            assert ids == expected.epoch_ids().tolist()
        every = torch.tensor([*ids, *expected.forward_only.tolist()])
        expected.observe(every, torch.tensor(losses)[every])
    for row, values in told.items():
        assert values == pytest.approx([losses[row]] * len(values), rel=2e-5)
    if name == "ies":
        assert [len(ids) for ids in trainer.epochs()] == [N] * 4 + [1, 1]
        assert {len(values) for values in told.values()} <= {epochs - 1, epochs}
        assert sampler.saved_backward == 2 * (N - 1)


@pytest.mark.nightly
def test_with_all_rows_it_trains_as_trl_itself(tmp_path: Path) -> None:
    """The same batches, accumulation and loss types give the same weights; TRL's own metrics are logged."""
    for given in ({}, {"gradient_accumulation_steps": 3, "loss_type": "dft"}):
        trained = []
        for kind in (trl.SFTTrainer, Pruned):
            sampler = FixedSubset(np.ones(N, dtype=np.bool_), shuffle=False) if kind is Pruned else None
            plain = {} if sampler else {"train_sampling_strategy": "sequential"}
            trainer = trainer_of(
                tmp_path, sampler, kind, num_train_epochs=2, logging_strategy="epoch", **given, **plain
            )
            before = weights(trainer).clone()
            trainer.train()
            assert (weights(trainer) - before).abs().max() > 1e-3
            trained.append((weights(trainer), trainer.state.log_history[0]))
        assert (trained[0][0] - trained[1][0]).abs().max() < 2e-6
        for name in ("loss", "entropy", "mean_token_accuracy", "num_tokens"):
            assert trained[1][1][name] == pytest.approx(trained[0][1][name], rel=1e-5)


@pytest.mark.parametrize("loss_type", ["nll", pytest.param("dft", marks=pytest.mark.nightly)])
def test_weights_multiply_each_rows_gradient(loss_type: str, tmp_path: Path) -> None:
    """One step over all rows, against autograd over single rows, each times its weight."""
    factors = torch.linspace(0, 3, N)

    class Weighting(FixedSubset):
        def weights(self, ids: torch.Tensor) -> torch.Tensor:
            return factors[ids]

    sampler = Weighting(np.ones(N, dtype=np.bool_))
    trainer = trainer_of(tmp_path, sampler, per_device_train_batch_size=N, max_steps=1, loss_type=loss_type,
                         learning_rate=1.0, max_grad_norm=0.0)  # fmt: skip
    start = weights(trainer).clone()
    trainer.train()
    model, total, tokens = tiny_language.model(WORDS), torch.zeros(()), 0
    for row, factor in zip(tiny_language.pairs(N), factors, strict=True):
        first = len(WORDS(row["prompt"])["input_ids"])
        whole = torch.tensor(WORDS(row["prompt"] + row["completion"] + WORDS.eos_token)["input_ids"])
        each = functional.cross_entropy(
            model(input_ids=whole[None]).logits[0, first - 1 : -1].float(), whole[first:], reduction="none"
        )
        total = total + factor * (each * (torch.exp(-each).detach() if loss_type == "dft" else 1)).sum()
        tokens += len(each)
    (total / tokens).backward()
    expected = start - torch.cat([value.grad.flatten() for value in model.parameters()])
    assert (weights(trainer) - expected).abs().max() < 1e-5


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.global_step == self.step


@pytest.mark.nightly
@pytest.mark.parametrize(("step", "name"), [(5, "info_batch"), (8, "ies"), (24, "ies")])
def test_a_stopped_run_goes_on_with_the_rows_that_were_left(step: int, name: str, tmp_path: Path) -> None:
    """In the middle of an epoch, and at the end of one before the forward passes of its left-out rows."""
    epochs = {"info_batch": EPOCHS, "ies": 6}[name]

    def run(folder: str, **given: Any) -> Any:
        return trainer_of(tmp_path / folder, SAMPLERS[name](), num_train_epochs=epochs, save_strategy="steps",
                          save_steps=step, **given)  # fmt: skip

    undisturbed = run("undisturbed")
    undisturbed.train()
    stopped = run("stopped", callbacks=[StopAt(step)])
    stopped.train()
    resumed = run("stopped")
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / f"checkpoint-{step}"))
    assert stopped.shown + resumed.shown == undisturbed.shown
    assert torch.equal(weights(resumed), weights(undisturbed))


@pytest.mark.nightly
def test_two_processes_share_batches_and_what_is_left_out(tmp_path: Path) -> None:
    """Both hold the same losses, each row's own, also of left-out rows."""
    script = Path(tiny_language.__file__).with_name("sft_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone",
               str(script), str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    losses = torch.tensor(own_losses())
    for rank in ranks:
        assert rank["saved"] == 2 * (N - 1)
        torch.testing.assert_close(rank["losses"], losses, rtol=2e-5, atol=0)
        torch.testing.assert_close(rank["history"][:, -4:], losses[:, None].expand(-1, 4), rtol=2e-5, atol=0)
    for epoch, rows in ((0, N), (3, N), (4, 1)):
        shown = [[i for at, ids in rank["shown"] if at == epoch for i in ids] for rank in ranks]
        assert len(set(shown[0] + shown[1])) == rows
        assert len(shown[0]) == len(shown[1])


@pytest.mark.nightly
def test_lora_trains_the_adapter_alone(tmp_path: Path) -> None:
    from peft import LoraConfig

    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = trainer_of(tmp_path, InfoBatch(N, EPOCHS), peft_config=adapter)
    trainer.train()
    assert len(trainer.epochs()[0]) == N
    assert min(len(ids) for ids in trainer.epochs()) < N
    base = dict(tiny_language.model(WORDS).named_parameters())
    for name, value in trainer.model.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert plain not in base or torch.equal(value, base[plain])
    assert any(value.abs().sum() > 0 for name, value in trainer.model.named_parameters() if "lora_B" in name)


def test_a_callback_hands_over_the_sampler_and_logs_what_epochs_leave_out(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, None, callbacks=[SamplerCallback(SAMPLERS["ies"]())], num_train_epochs=6,
                         learning_rate=0.0)  # fmt: skip
    trainer.train()
    told = [entry for entry in trainer.state.log_history if "sampler_rows" in entry]
    assert [entry["sampler_rows"] for entry in told] == [N] * 4 + [1, 1]
    assert [entry["sampler_backward_saved"] for entry in told] == [0] * 4 + [N - 1] * 2
    assert [entry["sampler_forward_only"] for entry in told] == [0] * 4 + [N - 1] * 2
    with pytest.raises(ValueError, match="does not follow the sampler of its SamplerCallback: make it of a class"):
        trainer_of(tmp_path, None, trl.SFTTrainer, callbacks=[SamplerCallback(Rs2(N, keep=0.5))]).train()


@pytest.mark.nightly
def test_the_program_of_the_page_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, each from its last checkpoint: a finished run has nothing left to do."""
    monkeypatch.setenv("SECATEUR_TINY_MODEL", tiny_language.saved(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)
    steps = attempt(PROGRAMS["trl"])
    sizes = [sum(len(ids) for at, ids, _ in steps if at == epoch) for epoch in range(5)]
    assert sizes[0] == sizes[-1] == 52 > min(sizes)
    assert any(weight > 1 for _, _, weights in steps for weight in weights)
    assert attempt(PROGRAMS["trl"]) == []


def refused(tmp_path: Path, says: str, **given: Any) -> None:
    with pytest.raises(ValueError, match=says):
        trainer_of(tmp_path, Rs2(N, keep=0.5), **given).train()


def test_what_cannot_be_had_is_refused_by_name(tmp_path: Path) -> None:
    short = [*tiny_language.pairs(N)[:-1], {"prompt": "many words " * 9, "completion": "red"}]
    shuffled = rows().add_column("sample_id", list(range(N))[::-1])
    for says, given in {
        "packing=True puts several rows into one sequence": {"packing": True, "max_length": 64},
        "padding_free=True puts several": {"padding_free": True, "max_length": None},
        "shuffle_dataset=True orders the rows": {"shuffle_dataset": True},
        "label_smoothing_factor=0.1 takes TRL another forward pass": {"label_smoothing_factor": 0.1},
        "compute_loss_func gives one number": {"compute_loss_func": lambda *_, **__: torch.zeros(())},
        r"TRL drops row 21 of the train_dataset: cut at max_length=24": {
            "data": datasets.Dataset.from_list(short), "max_length": 24},
        "row 0 of the prepared train_dataset has the sample_id 21": {"data": shuffled},
        "over 22 samples, the train_dataset holds 9": {"data": rows().select(range(9))},
    }.items():  # fmt: skip
        refused(tmp_path, says, **given)


def test_trainers_whose_losses_are_of_no_single_row_are_refused() -> None:
    with pytest.raises(TypeError, match=r"TRL's DPOTrainer learns from pairs.*goes with SFTTrainer"):
        type("PrunedDpo", (SampledTraining, trl.DPOTrainer), {})


THOUGHT_OF = {
    "refused": "packing padding_free shuffle_dataset",
    "honoured, by tests here": "max_length loss_type",
    "of data and templates, before rows have ids": "chat_template_path dataset_text_field dataset_kwargs "
    "dataset_num_proc eos_token truncation_mode completion_only_loss assistant_only_loss pad_token",
    "of the model": "model_init_kwargs trust_remote_code router_aux_loss_coef activation_offloading",
    "without a meaning here": "packing_strategy pad_to_multiple_of eval_packing",
}


def test_every_argument_of_trl_has_been_thought_of() -> None:
    """Fails for a new version with another argument: honour it, reject it, or add it to the list."""
    own = {field.name for field in dataclasses.fields(trl.SFTConfig) if field.init}
    plain = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert own - plain == set(" ".join(THOUGHT_OF.values()).split())


def test_trl_is_no_part_of_what_is_imported() -> None:
    assert "trl" not in sys.modules["secateur.trainers.loop.sampled_sft"].__dict__
