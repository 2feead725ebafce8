"""A transformers Trainer under a sampler trains as without it, or rejects incompatible arguments by name."""

import dataclasses
import shutil
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from secateur.selectors.samplers.contract import EpochSampler, Shard
from secateur.selectors.samplers.fixed_subset import FixedSubset
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.subset_schedule import SubsetSchedule
from secateur.trainers.loop.own_loop import SampledTraining, WithIds, last_checkpoint
from secateur.trainers.loop.trainer_arguments import refuse

N, BATCH, WORDS, LENGTH = 50, 8, 20, 6
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
         "vocab_size": WORDS, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
WITHOUT_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


class Pruned(SampledTraining, Trainer):
    """A user's class."""


class Rows(Dataset[Any]):
    """Row i has its own number, or its own tokens with a different number of labels that count."""

    def __init__(self, kind: str = "numbers", rows: int = N) -> None:
        self.kind, self.rows = kind, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        if self.kind == "numbers":
            return {"inputs": torch.tensor([row / N]), "labels": row % 2}
        tokens = torch.from_numpy(np.random.default_rng(row).integers(1, WORDS, LENGTH))
        if self.kind == "classes":
            return {"input_ids": tokens, "labels": row % 3}
        labels = tokens.flip(0).clone()
        labels[: row % (LENGTH - 1)] = -100
        return {"input_ids": tokens, "labels": labels}


class Net(nn.Module):
    """A user's own module, with its own loss, which `weight` multiplies."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.weight = nn.Linear(1, 2), weight
        self.config = types.SimpleNamespace(is_encoder_decoder=False)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, Any]:
        logits = self.linear(inputs)
        if labels is None:
            return {"logits": logits}
        return {"loss": self.weight * nn.functional.cross_entropy(logits, labels), "logits": logits}


MODELS: dict[str, tuple[str, Any]] = {
    "numbers": ("numbers", Net),
    "classes": ("classes", lambda: BertForSequenceClassification(BertConfig(**SMALL, num_labels=3))),
    "causal": ("tokens", lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=8, n_layer=1, n_head=2, **WITHOUT_DROPOUT))),
    "masked": ("tokens", lambda: BertForMaskedLM(BertConfig(**SMALL))),
    "translating": ("tokens", lambda: T5ForConditionalGeneration(T5Config(
        vocab_size=WORDS, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0))),
}  # fmt: skip


def trainer_of(kind: type[Trainer], folder: Path, data: Any, model: Any, sampler: Any = None, **given: Any) -> Any:
    """A trainer of this kind, by default without saving and reports."""
    also = {name: given.pop(name) for name in ("compute_loss_func", "model_init", "callbacks") if name in given}
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
        **{"per_device_train_batch_size": BATCH, "num_train_epochs": 2, "learning_rate": 0.1, "optim": "sgd",
        "remove_unused_columns": False, "save_strategy": "no", **given},
    )  # fmt: skip
    trainer: Any = kind(model, arguments, train_dataset=data, **also)
    if sampler is not None:
        trainer.sampler = sampler
    return trainer


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trainer.model.parameters()])


ALL = {
    "as it is": {},
    "in one": {"gradient_accumulation_steps": 3},
    "smoothed": {"label_smoothing_factor": 0.4, "gradient_accumulation_steps": 2, "dataloader_drop_last": True},
}


@pytest.mark.parametrize(("model", "case"), [
    ("numbers", "as it is"), ("numbers", "in one"), ("numbers", "smoothed"), ("classes", "in one"),
    ("causal", "as it is"), ("causal", "in one"), ("causal", "smoothed"), ("masked", "in one"),
    ("translating", "in one"),
])  # fmt: skip
def test_with_all_samples_it_trains_as_the_trainer_itself(model: str, case: str, tmp_path: Path) -> None:
    """The same batches, all rows in their order, give the same weights up to rounding.

    Accumulated steps are compared with batches of three times the size: for some models of the library, three steps of
    the Trainer's own take the sum instead of the mean.
    """
    kind, make = MODELS[model]
    given, trained = ALL[case], []
    for trainer_kind, data in ((Trainer, Rows(kind)), (Pruned, WithIds(Rows(kind)))):
        torch.manual_seed(3)
        sampler = FixedSubset(np.ones(N, dtype=np.bool_), shuffle=False) if trainer_kind is Pruned else None
        plain = {"train_sampling_strategy": "sequential"} if sampler is None else {}
        if case == "in one" and sampler is None:
            plain |= {"per_device_train_batch_size": 3 * BATCH, "gradient_accumulation_steps": 1}
        trainer = trainer_of(trainer_kind, tmp_path, data, make(), sampler, **{**given, **plain})
        before = weights(trainer).clone()
        trainer.train()
        assert not torch.equal(weights(trainer), before)
        trained.append((weights(trainer), trainer.state.global_step))
    assert trained[0][1] == trained[1][1]
    assert (trained[0][0] - trained[1][0]).abs().max().item() < 2e-6


def test_the_sampler_is_told_losses_without_smoothing(tmp_path: Path) -> None:
    trainer = trainer_of(Pruned, tmp_path, WithIds(Rows()), Net(), InfoBatch(N, 2), label_smoothing_factor=0.4,
                         num_train_epochs=1, learning_rate=0.0)  # fmt: skip
    trainer.train()
    trainer.sampler.observed.merge(0)
    rows = Rows()
    inputs, labels = torch.stack([rows[row]["inputs"] for row in range(N)]), torch.arange(N) % 2
    plain = nn.functional.cross_entropy(trainer.model.linear(inputs), labels, reduction="none")
    assert torch.allclose(trainer.sampler.observed.losses, plain, atol=1e-6)


class Recording(SampledTraining, Trainer):
    """Records (epoch, global step, ids) of each batch of its last attempt, and can fail once like a full GPU."""

    shown: list[tuple[int, int, list[int]]]
    fails_at = -1

    def get_train_dataloader(self) -> Any:
        self.shown = []
        return super().get_train_dataloader()

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        if self.fails_at == len(self.shown):
            self.fails_at = -1
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        step: Any = super().training_step
        self.shown.append((self.sampler.epoch, self.state.global_step, inputs["sample_id"].tolist()))
        return step(model, inputs, *rest)

    def epochs(self) -> list[list[int]]:
        """Ids by epoch."""
        last = self.shown[-1][0]
        return [[i for at, _, ids in self.shown if at == epoch for i in ids] for epoch in range(last + 1)]


def recording(folder: Path, sampler: EpochSampler, fails_at: int = -1, **given: Any) -> Any:
    trainer = trainer_of(Recording, folder, WithIds(Rows()), Net(), sampler, **given)
    trainer.fails_at = fails_at
    return trainer


def alone(make: Any, epochs: int) -> list[list[int]]:
    """The sampler's epochs with the losses of a model that does not learn."""
    sampler, drawn = make(), []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        drawn.append(sampler.epoch_ids().tolist())
        ids = torch.tensor(drawn[-1])
        rows = Rows()
        logits = Net().linear(torch.stack([rows[row]["inputs"] for row in drawn[-1]]))
        sampler.observe(ids, nn.functional.cross_entropy(logits, ids % 2, reduction="none"))
    return drawn


@pytest.mark.parametrize("together", [1, 2])
def test_max_steps_is_met_and_each_epoch_ends_with_its_last_step(together: int, tmp_path: Path) -> None:
    trainer = recording(
        tmp_path, InfoBatch(N, 4), max_steps=30, gradient_accumulation_steps=together, learning_rate=0.0
    )
    trainer.train()
    assert trainer.state.global_step == 30
    epochs = trainer.epochs()
    assert len({len(ids) for ids in epochs}) > 1
    expected = alone(lambda: InfoBatch(N, 4), len(epochs))
    assert epochs[:-1] == expected[:-1]
    assert epochs[-1] == expected[-1][: len(epochs[-1])]
    steps = {epoch: {step for at, step, _ in trainer.shown if at == epoch} for epoch in range(len(epochs))}
    batches = [-(-len(ids) // BATCH) for ids in expected]
    assert [len(steps[epoch]) for epoch in range(len(epochs) - 1)] == [-(-n // together) for n in batches[:-1]]


def test_epochs_may_grow_and_the_last_may_be_a_part(tmp_path: Path) -> None:
    """Planned epochs of 10, 25 and 50 samples, the last one half: learning rates end at zero, and the end is saved."""

    def make() -> SubsetSchedule:
        return SubsetSchedule(np.arange(N, dtype=np.float32), 3, keeps=(10, 25, 50))

    trainer = recording(tmp_path, make(), num_train_epochs=2.5, save_strategy="steps", save_steps=100)
    trainer.train()
    assert [len(ids) for ids in trainer.epochs()] == [10, 25, 4 * BATCH]
    assert trainer.state.global_step == trainer.state.max_steps == 2 + 4 + 4
    assert set(trainer.lr_scheduler.get_last_lr()) == {0.0}
    assert (tmp_path / "checkpoint-10").exists()


def test_the_last_step_is_saved_where_lengths_were_not_known(tmp_path: Path) -> None:
    trainer = recording(tmp_path, InfoBatch(N, 3), num_train_epochs=3, save_strategy="steps", save_steps=1000)
    trainer.train()
    assert [path.name for path in tmp_path.iterdir()] == [f"checkpoint-{trainer.state.global_step}"]
    assert trainer.state.global_step < 3 * 7


def test_a_smaller_batch_and_another_run_begin_with_a_fresh_sampler(tmp_path: Path) -> None:
    trainer = recording(tmp_path, InfoBatch(N, 3), fails_at=9, num_train_epochs=3, auto_find_batch_size=True,
                        learning_rate=0.0)  # fmt: skip
    trainer.train()
    expected = alone(lambda: InfoBatch(N, 3), 3)
    assert trainer.epochs() == expected
    assert len(trainer.shown[-1][2]) < BATCH
    trainer.train()
    assert trainer.epochs() == expected


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def refused(tmp_path: Path, says: str, data: Any = None, sampler: Any = None, model: Any = None, **given: Any) -> None:
    """Training with these arguments raises a ValueError with this text before the first step."""
    data, sampler = WithIds(Rows()) if data is None else data, Rs2(N, keep=0.5) if sampler is None else sampler
    trainer = trainer_of(Pruned, tmp_path, data, model or Net(), sampler, **given)
    with pytest.raises(ValueError, match=says):
        trainer.train()
    assert trainer.state.global_step == 0


def test_what_cannot_be_had_is_refused_by_name(tmp_path: Path) -> None:
    for says, given in {
        "over 40 samples, the train_dataset holds 50": {"sampler": InfoBatch(40, 4)},
        "a training batch has inputs, labels and no 'sample_id': .*WithIds": {"data": Rows()},
        "train_sampling_strategy='group_by_length'": {"train_sampling_strategy": "group_by_length"},
        "train_sampling_strategy='sequential'": {"train_sampling_strategy": "sequential"},
        "data_seed=3": {"data_seed": 3},
        "dataloader_in_order=False": {"dataloader_in_order": False, "dataloader_num_workers": 1},
        "compute_loss_func": {"compute_loss_func": lambda outputs, labels, num_items_in_batch: outputs},
        "dataloader_drop_last=True leaves no whole batch": {"dataloader_drop_last": True, "sampler": Rs2(N, keep=5)},
        "remove_unused_columns=True": {"remove_unused_columns": True},
        r"Shard\(0, 2\)": {"sampler": Rs2(N, keep=0.5, shard=Shard(0, 2))},
        "the model's own loss .* trains on something else": {"model": Net(weight=2.0)},
    }.items():
        refused(tmp_path, says, **given)

    class OwnLosses(Pruned):
        def sample_losses(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
            return outputs["logits"][:, 0]

    trainer = trainer_of(OwnLosses, tmp_path, WithIds(Rows()), Net(), Rs2(N, keep=0.5), label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1 has no effect on a sample_losses of your own"):
        trainer.train()


@pytest.mark.parametrize("wrong", [None, "dispatch_batches", "even_batches", "parallelism_config", "use_liger_kernel"])
def test_what_cannot_be_had_elsewhere_is_refused_by_name(wrong: str | None, tmp_path: Path) -> None:
    """With two processes, split sequences or fused losses, all simulated."""
    trainer = trainer_of(Pruned, tmp_path, WithIds(Rows()), Net(), Rs2(N, keep=0.5))
    accelerate = types.SimpleNamespace(
        dispatch_batches=wrong == "dispatch_batches", even_batches=wrong != "even_batches"
    )
    believed = {"world_size": 2, "use_liger_kernel": wrong == "use_liger_kernel", "accelerator_config": accelerate}
    trainer.args = types.SimpleNamespace(**{**vars(trainer.args), **believed})
    trainer.get_cp_size = lambda: 2 if wrong == "parallelism_config" else 1
    if wrong is None:
        refuse(trainer, own_losses=False)
    else:
        with pytest.raises(ValueError, match=wrong):
            refuse(trainer, own_losses=False)


def test_a_checkpoint_that_cannot_be_resumed_says_why(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 3}
    for folder, given in {"model": {"save_only_model": True}, "whole": {}}.items():
        trainer = recording(tmp_path / folder, Rs2(N, keep=1.0), callbacks=[StopAt(3)], **saving, **given)
        trainer.train()
    for folder, says, given in (
        ("model", "has no sampler_0.pt, so it was saved with save_only_model=True", {}),
        (
            "whole",
            "after 24 samples of epoch 0, which are no whole number of steps of 7",
            {"per_device_train_batch_size": 7},
        ),
    ):
        trainer = recording(tmp_path, Rs2(N, keep=1.0), **given)
        with pytest.raises(ValueError, match=says):
            trainer.train(resume_from_checkpoint=str(tmp_path / folder / "checkpoint-3"))
    # Skip half-written folders of a kill, but not those saved without a sampler, so that the error gives the reason.
    assert last_checkpoint(tmp_path / "nothing") is last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "model") == str(tmp_path / "model" / "checkpoint-3")
    for place, (name, content) in enumerate({"scheduler.pt": b"", "trainer_state.json": b'{"epoch": 0.'}.items(), 10):
        (tmp_path / "whole" / f"checkpoint-{place}").mkdir()
        (tmp_path / "whole" / f"checkpoint-{place}" / name).write_bytes(content)
    (tmp_path / "whole" / "checkpoint-last").mkdir()
    fewer = shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "whole" / "checkpoint-12")
    state = torch.load(fewer / "sampler_0.pt", weights_only=True)
    torch.save({**state, "processes": 2}, fewer / "sampler_0.pt")
    assert last_checkpoint(tmp_path / "whole") == str(tmp_path / "whole" / "checkpoint-3")
    torch.save({**state, "processes": 2}, fewer / "sampler_1.pt")
    assert last_checkpoint(tmp_path / "whole") == str(fewer)

    smaller = recording(tmp_path, Rs2(N, keep=1.0), per_device_train_batch_size=BATCH // 2)
    smaller.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert smaller.shown[0][2] == Rs2(N, keep=1.0).epoch_ids()[24 : 24 + BATCH // 2].tolist()
    again = recording(tmp_path, Rs2(N, keep=1.0), ignore_data_skip=True)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert again.epochs() == [Rs2(N, keep=1.0).epoch_ids().tolist(), again.epochs()[1]]


CARED_FOR = (
    "accelerator_config auto_find_batch_size average_tokens_across_devices data_seed dataloader_drop_last "
    "dataloader_in_order dataloader_num_workers dataloader_persistent_workers dataloader_prefetch_factor "
    "gradient_accumulation_steps ignore_data_skip label_names label_smoothing_factor length_column_name "
    "liger_kernel_config max_steps num_train_epochs parallelism_config per_device_train_batch_size "
    "remove_unused_columns save_only_model save_strategy train_sampling_strategy use_liger_kernel"
)
"""Arguments that affect a sampler, its losses or its state: honoured or rejected, with tests here and of loops."""
LEFT_ALONE = {
    "of the optimiser and the model": "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim "
    "optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules max_grad_norm bf16 fp16 tf32 "
    "use_cache activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing "
    "gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode neftune_noise_alpha "
    "torch_empty_cache_steps "
    "full_determinism seed use_cpu",
    "of reports": "logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level "
    "include_num_input_tokens_seen log_level_replica disable_tqdm report_to run_name project trackio_space_id "
    "trackio_bucket_id trackio_static_space_id debug skip_memory_metrics",
    "of evaluation": "bf16_full_eval fp16_full_eval eval_strategy eval_steps eval_delay per_device_eval_batch_size "
    "prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps "
    "include_for_metrics batch_eval_metrics load_best_model_at_end metric_for_best_model greater_is_better",
    "of when and where checkpoints are saved": "output_dir save_steps save_on_each_node save_total_limit "
    "enable_jit_checkpoint push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push "
    "hub_revision restore_callback_states_from_checkpoint resume_from_checkpoint",
    "of how batches and gradients travel": "dataloader_pin_memory dataloader_multiprocessing_context "
    "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp "
    "fsdp_config deepspeed local_rank",
    "of scripts": "do_train do_eval do_predict",
}


def test_every_argument_has_been_thought_of() -> None:
    """Fails for a new version of the library with another argument: honour it, reject it, or add it to the list."""
    thought_of = " ".join((CARED_FOR, *LEFT_ALONE.values())).split()
    assert sorted(thought_of) == sorted(field.name for field in dataclasses.fields(TrainingArguments) if field.init)
