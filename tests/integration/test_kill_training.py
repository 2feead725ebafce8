"""A training killed by SIGKILL at random moments, and restarted each time, ends bit-identical to an undisturbed one:
weights, scores, metrics, and its sampler's next draw."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = r"""
import hashlib, json, os, signal, sys, time
from pathlib import Path
import numpy as np
import torch
from torch import nn
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.dual import Dual
from secateur.scorers.observers.el2n import El2n
from secateur.scorers.observers.forgetting import Forgetting
from secateur.scorers.observers.tdds import Tdds
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.loop import snapshots as module
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.loop.checkpoints import CheckpointWriter, fingerprint
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train
from secateur.trainers.loop.snapshots import Snapshots

CPU, SAMPLES, EPOCHS = torch.device("cpu"), 150, 6


def noisy(shape, classes, *, hidden=24):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(int(np.prod(shape)), hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(hidden, classes),
    )


def data():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, SAMPLES)
    images = generator.integers(0, 120, (SAMPLES, 6, 6, 1)) + 40 * labels[:, None, None, None]
    return Data(images.astype(np.uint8), labels, 3)


def run(root, snapshots):
    config = TrainingConfig(
        model="__main__:noisy", epochs=EPOCHS, batch_size=16, accumulate=2,
        augmentation=Augmentation(crop_padding=1, flip=True),
    )
    kinds = [(Aum, {}), (El2n, {}), (Forgetting, {}), (Dual, {"window": 3, "epochs": 6}), (Tdds, {"window": 3})]
    watchers = [kind(SAMPLES, CPU, **settings) for kind, settings in kinds]
    sampler = InfoBatch(SAMPLES, EPOCHS, prune=0.4, seed=5)
    (root / "checkpoints").mkdir(parents=True, exist_ok=True)
    trained = train(
        data(), config, seed=3, sampler=sampler, observers=watchers, device=CPU, snapshots=snapshots,
        checkpoint=CheckpointWriter(root / "checkpoints", 3),
    )
    sampler.set_epoch(EPOCHS)
    digest = lambda value: hashlib.sha256(value).hexdigest()
    metrics = evaluate(trained.model, data())
    (root / "result.json").write_text(json.dumps({
        "weights": {name: digest(value.numpy().tobytes()) for name, value in trained.model.state_dict().items()},
        "scores": [digest(watcher.scores().tobytes()) for watcher in watchers],
        "losses": digest(sampler.observed.losses.numpy().tobytes()),
        "next": digest(sampler.epoch_ids().tobytes()),
        "metrics": [metrics[name] for name in ("accuracy", "loss", "calibration_error")],
        "checkpoints": fingerprint([root / "checkpoints"]),
        "cost": [trained.steps, trained.epochs, trained.samples_seen, list(trained.epoch_samples)],
    }))


def forked(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def killed_in_the_middle_of_writing():
    module.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)


def position(path):
    if not path.exists():
        return [0, 0]
    at = torch.load(path, weights_only=True)["state"]["position"]
    return [at["epoch"], at["step"]]


root, seed = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)  # a forked process has no threads but its own
run(root / "warm", None)  # what torch imports when it is first used, once for all
begun = time.perf_counter()
assert os.waitpid(forked(lambda: run(root / "calm", Snapshots(root / "calm" / "state", steps=1))), 0)[1] == 0
usual = time.perf_counter() - begun
random, seen = np.random.default_rng(seed), []
snapshots = Snapshots(root / "killed" / "state", steps=1)
for attempt in range(7):
    def work():
        if attempt == 3:
            killed_in_the_middle_of_writing()
        run(root / "killed", snapshots)
    child = forked(work)
    if attempt != 3:
        time.sleep(random.uniform(0.1, 0.4) * usual)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        assert status == 0
        break
    seen.append(position(snapshots.path))
else:
    assert os.waitpid(forked(lambda: run(root / "killed", snapshots)), 0)[1] == 0
print(json.dumps({"places": seen, "left": sorted(path.name for path in root.rglob("snapshot*"))}))
"""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_run_killed_again_and_again_ends_with_the_same_bits(seed: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert len(told["places"]) >= 2  # kills
    assert any(step for _, step in told["places"])  # at least one run resumed in the middle of an epoch
    assert told["left"] == []
    calm, killed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("calm", "killed"))
    assert killed == calm
    assert len(set(calm["cost"][3])) > 1  # the sampler did change the length of epochs
