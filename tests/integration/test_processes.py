"""Two processes on the CPU, launched as `accelerate launch` does for GPUs, train like one: the same ids in the same
order, the same scores in both, and weights and metrics that differ from those of one by rounding only."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = r"""
import sys
from pathlib import Path
import numpy as np
import torch
from secateur.scorers.contract import Observer
from secateur.scorers.observers.el2n import El2n
from secateur.scorers.observers.forgetting import Forgetting
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train
from secateur.trainers.processes import processes_here
from secateur.trainers.loop.snapshots import Snapshots

CPU, SAMPLES, EPOCHS = torch.device("cpu"), 131, 6


class Ids(Observer):
    def __init__(self, stop_at=None):
        super().__init__(SAMPLES, CPU)
        self.batches, self.stop = [], [stop_at]  # no setting, by which snapshots tell runs apart

    def update(self, batch):
        self.batches.append(batch.ids.numpy().copy())
        if len(self.batches) == self.stop[0]:
            raise KeyboardInterrupt

    def reduce(self):
        return self.presentations


generator = np.random.default_rng(0)
labels = generator.integers(0, 3, SAMPLES)
data = Data((generator.normal(size=(SAMPLES, 5)) + 2 * np.eye(3, 5)[labels]).astype(np.float32), labels, 3)
folder = Path(sys.argv[1])
# 131 = 5 * 26 + 1: batches of an odd size, and in a full epoch a last one that one process alone has a sample of.
config = TrainingConfig(epochs=EPOCHS, batch_size=26, accumulate=3, learning_rate=0.01)
told, logged = [], []


class Log:
    def log(self, values, *, step):
        logged.append([step, values["loss"], values["objective"], values["epoch_samples"]])


def run(name, *, sampler=True, snapshots=None, stop_at=None):
    watchers = [Ids(stop_at), El2n(SAMPLES, CPU), Forgetting(SAMPLES, CPU)]
    drawn = InfoBatch(SAMPLES, EPOCHS, prune=0.4, seed=2) if sampler else None
    trained = train(
        data, config, seed=1, sampler=drawn, observers=watchers, device=CPU, snapshots=snapshots, trackers=[Log()],
        progress=lambda *_: told.append("progress"), checkpoint=lambda *_: told.append("checkpoint"),
    )
    metrics = evaluate(trained.model, data)
    np.savez(
        folder / f"{name}-{processes_here(CPU)[0].rank}.npz",
        ids=np.concatenate(watchers[0].batches), sizes=[len(each) for each in watchers[0].batches],
        el2n=watchers[1].scores(), forgetting=watchers[2].scores(),
        losses=drawn.observed.losses.numpy() if sampler else 0,
        weights=np.concatenate([value.flatten().numpy() for value in trained.model.state_dict().values()]),
        metrics=[metrics["accuracy"], metrics["loss"]], samples=trained.epoch_samples, told=len(told), logged=logged,
    )


run("sampled")
told.clear(), logged.clear()
run("static", sampler=False)
for stop_at in (4, 9, None):
    try:
        run("resumed", snapshots=Snapshots(folder / "state", steps=2), stop_at=stop_at)
    except KeyboardInterrupt:
        pass
"""


def results(name: str, folder: Path, ranks: int) -> list[dict[str, np.ndarray]]:
    return [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in range(ranks)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Outputs of the script in one process, and in two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    script = one / "script.py"
    script.write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), str(one)])
        runpy.run_path(str(script))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(script), str(two)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return one, two


@pytest.mark.parametrize("name", ["sampled", "static"])
def test_two_processes_train_as_one(name: str, folders: tuple[Path, Path]) -> None:
    (one,), (first, second) = results(name, folders[0], 1), results(name, folders[1], 2)
    for rank in (first, second):
        for exact in ("ids", "sizes", "forgetting", "samples"):
            np.testing.assert_array_equal(rank[exact], one[exact])
        for close in ("el2n", "losses", "weights", "metrics"):
            np.testing.assert_allclose(rank[close], one[close], rtol=2e-3, atol=2e-5)
    for same in ("el2n", "losses", "weights"):
        np.testing.assert_array_equal(first[same], second[same])
    assert len(set(one["samples"])) > 1 or name == "static"
    assert 1 in one["sizes"] or name == "sampled"
    np.testing.assert_allclose(first["logged"], one["logged"], rtol=1e-3)


def test_the_first_process_alone_writes(folders: tuple[Path, Path]) -> None:
    first, second = results("sampled", folders[1], 2)
    assert first["told"] == 12  # progress and a checkpoint after each of 6 epochs
    assert second["told"] == 0
    assert len(first["logged"]) == 6
    assert len(second["logged"]) == 0


def test_two_processes_go_on_from_a_snapshot_with_the_same_bits(folders: tuple[Path, Path]) -> None:
    for undisturbed, resumed in zip(results("sampled", folders[1], 2), results("resumed", folders[1], 2), strict=True):
        for name in ("el2n", "forgetting", "losses", "weights", "metrics", "samples"):
            np.testing.assert_array_equal(resumed[name], undisturbed[name])
        assert len(resumed["ids"]) < len(undisturbed["ids"])
    assert not (folders[1] / "state").exists()
