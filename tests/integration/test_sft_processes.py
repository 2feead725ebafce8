"""Language models in two processes on the CPU, equal to one process up to rounding. Both are forks of this process,
which has loaded the libraries, and meet through a file."""

import multiprocessing
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import PartialState
from sft_rows import encoded, rows_of
from torch import distributed

from secateur.scorers.observers.loss import Loss
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.objective import distil
from secateur.trainers.distillation.token_teacher import TokenTeacher, cache_tokens
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models

CPU, ROWS, EPOCHS = torch.device("cpu"), 41, 3


def trained(data: Data, config: TrainingConfig, objective: Any, out: Path, state: Path) -> None:
    """Train under InfoBatch, and write the results under the rank of this process."""
    watcher, sampler = Loss(ROWS, CPU), InfoBatch(ROWS, EPOCHS, prune=0.4, seed=2)
    done = train(
        data, config, seed=1, sampler=sampler, observers=[watcher], objective=objective, device=CPU,
        snapshots=Snapshots(state, steps=2),
    )  # fmt: skip
    learned = [value.detach().flatten() for value in done.model.parameters() if value.requires_grad]
    np.savez(
        out / f"{os.environ.get('RANK', '0')}.npz",
        weights=torch.cat(learned).numpy(),
        losses=watcher.reduce().numpy(),
        shown=watcher.presentations.numpy(),
        sizes=done.epoch_samples,
        tokens=done.tokens_seen,
    )


def joined(rank: int, out: Path, *what: Any) -> None:
    """One of two processes; ignores torch's warnings about its launch variables."""
    warnings.simplefilter("ignore")
    PartialState._reset_state()  # earlier tests may have left one to inherit
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    distributed.init_process_group("gloo", init_method=f"file://{out}/join", rank=rank, world_size=2)
    trained(*what[:3], out, *what[3:])
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["full", "adapters"])
def test_two_processes_train_a_language_model_as_one(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    data, small = encoded(rows_of(ROWS))[0], {"layers": 1, "width": 16, "heads": 2}
    config = TrainingConfig(
        model="language_model", model_settings=small, epochs=EPOCHS, batch_size=10, accumulate=2, learning_rate=0.01,
        length_buckets=3,
    )  # fmt: skip
    teacher = models.build(config, data.inputs.shape[1:], data.task, seed=5, learned=data.model_settings)
    if kind == "adapters":
        causal = AutoModelForCausalLM.from_config(teacher[1].body.config)
        causal.save_pretrained(tmp_path / "base")
        chosen = {"pretrained": str(tmp_path / "base"), "lora": {"rank": 2}, "gradient_checkpointing": True}
        config = config.model_copy(update={"model_settings": chosen})
    told = TokenTeacher(cached=cache_tokens(teacher, data, top_k=4, temperature=2.0))
    what = (data, config, distil(told, alpha=0.5, temperature=2.0))
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    trained(*what, tmp_path / "one", tmp_path / "state-of-one")
    forked = multiprocessing.get_context("fork")
    started = [
        forked.Process(target=joined, args=(rank, tmp_path / "two", *what, tmp_path / "state")) for rank in (0, 1)
    ]
    for each in started:
        each.start()
    for each in started:
        each.join(120)
    assert [each.exitcode for each in started] == [0, 0]
    one = dict(np.load(tmp_path / "one" / "0.npz"))
    for rank in (0, 1):
        other = dict(np.load(tmp_path / "two" / f"{rank}.npz"))
        for exact in ("shown", "sizes", "tokens"):
            np.testing.assert_array_equal(other[exact], one[exact])
        for close in ("weights", "losses"):
            np.testing.assert_allclose(other[close], one[close], rtol=2e-3, atol=1e-4)
