"""In-training selectors in users' training loops, each with the real library.

In every loop, the ids of the batches are those that the sampler drew, epochs differ in length, and every loss is
credited to its own sample: the model's loss is a function of the id, which reveals a wrong credit.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from secateur.selectors.samplers.contract import EpochSampler, Shard
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.seta import Seta
from secateur.trainers.loop.own_loop import SampledTraining, WithIds

N, EPOCHS, BATCH = 50, 5, 8


class Rows(Dataset[Any]):
    """Sample i holds the number i, as a pair or as a mapping; a class at module level, which workers can pickle."""

    def __init__(self, mapping: bool = False) -> None:
        self.mapping = mapping

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        inputs, label = torch.tensor([float(row)]), row % 2
        return {"inputs": inputs, "labels": label} if self.mapping else (inputs, label)


class Telling(nn.Module):
    """A model whose loss on sample i is i + 1 times a weight that starts at 1 and hardly changes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        losses = (inputs[:, 0] + 1) * self.scale
        return {"loss": losses.mean(), "logits": losses[:, None]}


def credited(sampler: EpochSampler, shown: list[list[int]]) -> None:
    """Check that every sample's stored loss is its own, from the last merged epoch with that sample."""
    assert sampler.observed is not None
    losses, last = sampler.observed.losses, sampler.observed.last_seen
    for row in range(N):
        epochs = [epoch for epoch, ids in enumerate(shown) if row in ids]
        assert last[row].item() == (epochs[-1] if epochs else -1)
        assert losses[row].item() == pytest.approx(row + 1, rel=1e-3) if epochs else losses[row].isnan()


def expected_epochs(make: Any) -> list[list[int]]:
    """The sampler's epochs for the losses of the model."""
    sampler, epochs = make(), []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        ids = torch.tensor(epochs[-1])
        sampler.observe(ids, (ids + 1).float())
    return epochs


def info_batch() -> InfoBatch:
    """Epochs of 50, 38, 38, 38, 50: the rule at 0.5, with annealing in the last epoch."""
    return InfoBatch(N, EPOCHS)


@pytest.mark.parametrize(
    ("make", "workers"),
    [(info_batch, 0), (info_batch, 2), (lambda: Rs2(N, keep=0.4), 0), (lambda: Seta(N, EPOCHS), 0)],
    ids=["InfoBatch", "InfoBatch in workers", "Rs2", "Seta"],  # samplers run in no worker
)
def test_plain_torch(make: Any, workers: int) -> None:
    sampler, model = make(), Telling()
    context = "spawn" if workers else None
    loader = DataLoader(WithIds(Rows()), BATCH, sampler=sampler, num_workers=workers, multiprocessing_context=context,
                        persistent_workers=workers > 0)  # fmt: skip
    optimiser, shown = torch.optim.SGD(model.parameters(), 1e-9), []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        shown.append([])
        steps = 0
        for ids, (inputs, _) in loader:
            assert ids.dtype == torch.int64
            losses = model(inputs)["logits"][:, 0]
            sampler.observe(ids, losses)
            (sampler.weights(ids) * losses).mean().backward()
            optimiser.step()
            shown[-1] += ids.tolist()
            steps += 1
        assert steps == len(loader) == sampler.plan(EPOCHS)[epoch].steps(BATCH)
    assert shown == expected_epochs(make)
    if sampler.observed is not None:
        sampler.observed.merge(EPOCHS - 1)
        credited(sampler, shown)
        assert len({len(ids) for ids in shown}) > 1


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_stateful_data_loader_with_workers_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Its snapshots are taken when a batch is fetched, before the losses of prefetched batches are known."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader_of(sampler: EpochSampler) -> Any:
        return StatefulDataLoader(
            WithIds(Rows()), BATCH, sampler=sampler, num_workers=2, multiprocessing_context="fork"
        )

    def epoch_of(sampler: EpochSampler, loader: Any, stop: int | None = None) -> list[int]:
        shown: list[int] = []
        for step, (ids, (inputs, _)) in enumerate(loader, 1):
            sampler.observe(ids, inputs[:, 0] + 1)
            shown += ids.tolist()
            if step == stop:
                torch.save(loader.state_dict(), tmp_path / "loader.pt")
                torch.save(sampler.state_dict(), tmp_path / "sampler.pt")
                break
        return shown

    expected = expected_epochs(info_batch)
    sampler = info_batch()
    for epoch in range(2):
        sampler.set_epoch(epoch)
        ids = torch.tensor(list(sampler))
        sampler.observe(ids, (ids + 1).float())
    sampler.set_epoch(2)
    before = epoch_of(sampler, loader_of(sampler), stop=2)

    sampler = info_batch()
    loader = loader_of(sampler)
    sampler.load_state_dict(torch.load(tmp_path / "sampler.pt", weights_only=True))
    loader.load_state_dict(torch.load(tmp_path / "loader.pt", weights_only=True))
    after = epoch_of(sampler, loader)
    assert before + after == expected[2]
    sampler.set_epoch(3)
    assert epoch_of(sampler, loader) == expected[3]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stateful_data_loader_cannot_send_a_sampler_back() -> None:
    """Its state holds the sampler's, which it loads on iteration, and so after set_epoch."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader_of(sampler: EpochSampler) -> Any:
        return StatefulDataLoader(WithIds(Rows()), BATCH, sampler=sampler)

    sampler = Rs2(N, keep=0.4)
    loader = loader_of(sampler)
    list(loader)
    state = loader.state_dict()  # at the end of epoch 0
    for epochs, left in ((range(2), [0, 20]), (range(1, 2), None)):
        sampler = Rs2(N, keep=0.4)
        loader = loader_of(sampler)
        loader.load_state_dict(state)
        shown = []
        for epoch in epochs:
            sampler.set_epoch(epoch)
            if left is None:
                with pytest.raises(ValueError, match=r"the epoch of the state, `for epoch in range\(0, epochs"):
                    list(loader)
            else:
                shown.append(sum(len(ids) for ids, _ in loader))
        assert shown == (left or [])


def test_plain_data_loader_resumes_in_the_middle_of_an_epoch() -> None:
    """With prefetching workers the sampler is ahead of the loop, which passes the number of samples trained on."""
    sampler = Rs2(N, keep=1.0)
    loader = DataLoader(WithIds(Rows()), BATCH, sampler=sampler, num_workers=1, multiprocessing_context="fork")
    batches = iter(loader)
    done = [*next(batches)[0].tolist(), *next(batches)[0].tolist()]
    state = sampler.state_dict(consumed=len(done))
    assert state["position"] < sampler.state_dict()["position"]
    other = Rs2(N, keep=1.0)
    other.load_state_dict(state)
    left = [i for ids, _ in DataLoader(WithIds(Rows()), BATCH, sampler=other) for i in ids.tolist()]
    assert done + left == sampler.epoch_ids().tolist()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*num_workers")
def test_lightning() -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.sampler, self.shown = Telling(), info_batch(), [[] for _ in range(EPOCHS)]

        def train_dataloader(self) -> Any:
            self.sampler.set_epoch(self.current_epoch)
            return DataLoader(WithIds(Rows()), BATCH, sampler=self.sampler)

        def training_step(self, batch: Any, step: int) -> torch.Tensor:
            ids, (inputs, _) = batch
            losses = self.model(inputs)["logits"][:, 0]
            self.sampler.observe(ids, losses)
            self.shown[self.current_epoch] += ids.tolist()
            return (self.sampler.weights(ids) * losses).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-9)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, reload_dataloaders_every_n_epochs=1, accelerator="cpu", logger=False, log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module)
    assert module.shown == expected_epochs(info_batch)
    module.sampler.observed.merge(EPOCHS - 1)
    credited(module.sampler, module.shown)


def trainer_of(folder: Path, sampler: EpochSampler, shown: list[list[int]], **arguments: Any) -> Any:
    """A Trainer of the library with the mixin, which records the ids of its batches."""
    from transformers import Trainer, TrainingArguments

    class PrunedTrainer(SampledTraining, Trainer):
        def sample_losses(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
            return outputs["logits"][:, 0]

        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            if model.training:
                shown[self.sampler.epoch] += inputs["sample_id"].tolist()
            return super().compute_loss(model, inputs, *rest, **named)

    given = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS, learning_rate=1e-9,
        use_cpu=True, remove_unused_columns=False, report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
        **{"save_strategy": "no", **arguments},
    )  # fmt: skip
    data = Rows(mapping=True)
    trainer = PrunedTrainer(Telling(), given, train_dataset=WithIds(data), eval_dataset=data)
    trainer.sampler = sampler
    return trainer


def test_transformers_trainer(tmp_path: Path) -> None:
    shown: list[list[int]] = [[] for _ in range(EPOCHS)]
    trainer = trainer_of(tmp_path, info_batch(), shown)
    trainer.train()
    assert shown == expected_epochs(info_batch)
    trainer.sampler.observed.merge(EPOCHS - 1)
    credited(trainer.sampler, shown)
    assert trainer.state.global_step == sum(-(-len(ids) // BATCH) for ids in shown)
    assert trainer.evaluate()["eval_loss"] == pytest.approx((N + 1) / 2, rel=1e-3)


@pytest.mark.parametrize("step", [7, 12])
def test_transformers_trainer_resumes_where_it_was(tmp_path: Path, step: int) -> None:
    """Epochs of 7, 5, 5, 5, 7 steps: stops after the first and after the second; another file tests random places."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            control.should_training_stop = state.global_step == step

    expected = expected_epochs(info_batch)
    shown: list[list[int]] = [[] for _ in range(EPOCHS)]
    first = trainer_of(tmp_path, info_batch(), shown, save_strategy="steps", save_steps=step)
    first.add_callback(Stop())
    first.train()
    again: list[list[int]] = [[] for _ in range(EPOCHS)]
    second = trainer_of(tmp_path, info_batch(), again)
    second.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert [before + after for before, after in zip(shown, again, strict=True)] == expected
    second.sampler.observed.merge(EPOCHS - 1)
    credited(second.sampler, expected)


def test_transformers_trainer_says_what_is_missing(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, info_batch(), [])
    trainer.args.remove_unused_columns = True
    with pytest.raises(ValueError, match="remove_unused_columns"):
        trainer.get_train_dataloader()
    trainer.sampler = None
    with pytest.raises(ValueError, match=r"set trainer\.sampler before"):
        trainer.get_train_dataloader()
    with pytest.raises(TypeError, match="before a transformers Trainer"):
        type("Alone", (SampledTraining,), {})


LOOPS = ("accelerate_loop", "sharded_loop")
"""In this order, because accelerate creates the process group for both."""


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run this file's functions LOOPS in two gloo processes; returns their results by name."""
    folder = tmp_path_factory.mktemp("two")
    code = (
        "import sys, torch, runpy\n"
        "from pathlib import Path\n"
        "module = runpy.run_path(sys.argv[1], run_name='loops')\n"
        "import os; result = {loop: module[loop]() for loop in module['LOOPS']}\n"
        "torch.save(result, Path(sys.argv[2]) / f\"{os.environ['RANK']}.pt\")\n"
    )
    script = folder / "main.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone",
               str(script), __file__, str(folder)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def accelerate_loop() -> dict[str, Any]:
    """The loop of an accelerate user; accelerate splits batches, so the sampler has no shard."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    sampler, model = info_batch(), Telling()
    optimiser = torch.optim.SGD(model.parameters(), 1e-9)
    loader = DataLoader(WithIds(Rows()), BATCH, sampler=sampler)
    model, optimiser, loader = accelerator.prepare(model, optimiser, loader)
    shown = []
    for _ in range(EPOCHS):
        shown.append([])
        for ids, (inputs, _) in loader:
            losses = model(inputs)["logits"][:, 0]
            sampler.observe(ids, losses)
            accelerator.backward((sampler.weights(ids) * losses).mean())
            optimiser.step()
            shown[-1].append(ids.tolist())
    sampler.set_epoch(EPOCHS)
    return {"shown": shown, "losses": sampler.observed.losses, "last": sampler.observed.last_seen}


def sharded_loop() -> dict[str, Any]:
    """A hand-written loop with a shard per rank: an odd number of samples, DistributedDataParallel."""
    import torch.distributed as distributed

    shard = Shard(distributed.get_rank(), distributed.get_world_size())
    sampler = InfoBatch(N, EPOCHS, shard=shard, prune=0.3)
    model = nn.parallel.DistributedDataParallel(Telling())
    optimiser = torch.optim.SGD(model.parameters(), 1e-9)
    loader = DataLoader(WithIds(Rows()), BATCH, sampler=sampler)
    shown = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        shown.append([])
        for ids, (inputs, _) in loader:
            losses = model(inputs)["logits"][:, 0]
            sampler.observe(ids, losses)
            (sampler.weights(ids) * losses).mean().backward()
            optimiser.step()
            shown[-1].append(ids.tolist())
    sampler.set_epoch(EPOCHS)
    distributed.destroy_process_group()
    return {"shown": shown, "losses": sampler.observed.losses, "last": sampler.observed.last_seen}


@pytest.mark.parametrize("loop", LOOPS)
def test_two_processes(loop: str, in_two_processes: list[dict[str, Any]]) -> None:
    """Both ranks take the same number of steps, cover the epoch together, and hold the same losses."""
    ranks = [rank[loop] for rank in in_two_processes]
    make = info_batch if loop == "accelerate_loop" else lambda: InfoBatch(N, EPOCHS, prune=0.3)
    lengths = set()
    for epoch, expected in enumerate(expected_epochs(make)):
        batches = [rank["shown"][epoch] for rank in ranks]
        assert len(batches[0]) == len(batches[1])
        together = {sample for rank in batches for batch in rank for sample in batch}
        assert together == set(expected)
        lengths.add(len(expected))
    assert len(lengths) > 1
    for rank in ranks:
        assert rank["losses"].tolist() == pytest.approx([row + 1 for row in range(N)], rel=1e-3)
        assert torch.equal(rank["losses"], ranks[0]["losses"])
        assert (rank["last"] == EPOCHS - 1).all()
