"""Snapshots: a run resumes with the same bits from any step, and never from the state of another run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.scorers.contract import Observer, TrainingBatch
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.tdds import Tdds
from secateur.selectors.samplers.contract import EpochSampler
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.seta import Seta
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop import snapshots as saving
from secateur.trainers.loop.checkpoints import CheckpointWriter
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train

CPU, SAMPLES = torch.device("cpu"), 60
CONFIG = TrainingConfig(model="tabular_mlp", model_settings={"dropout": 0.3}, epochs=4, batch_size=16)


def blobs(seed: int = 0) -> Data:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, SAMPLES)
    inputs = generator.normal(size=(SAMPLES, 5)) + 2 * np.eye(3, 5)[labels]
    return Data(inputs.astype(np.float32), labels, 3, {"kind": "codes", "categories": [0] * 5})


class Stop(Observer):
    """Raises at the batch with this number."""

    def __init__(self, at: int | None) -> None:
        super().__init__(SAMPLES, CPU)
        self.left = [at]

    def update(self, batch: TrainingBatch) -> None:
        if self.left[0] == 0:
            raise KeyboardInterrupt
        if self.left[0] is not None:
            self.left[0] -= 1

    def reduce(self) -> torch.Tensor:
        return self.presentations


def sampler_of(name: str | None) -> EpochSampler | None:
    kinds: dict[str, Any] = {
        "info_batch": lambda: InfoBatch(SAMPLES, 4, seed=1),
        "rs2": lambda: Rs2(SAMPLES, keep=0.4, seed=1),
        "seta": lambda: Seta(SAMPLES, 4, seed=1),
    }
    return kinds[name]() if name else None


def run(
    name: str | None = None, stop: int | None = None, snapshots: Snapshots | None = None, **changes: Any
) -> tuple[Any, ...]:
    arguments: dict[str, Any] = {"data": blobs(), "config": CONFIG, "seed": 0, "sampler": sampler_of(name)}
    watchers = [Stop(stop), Aum(SAMPLES, CPU), Tdds(SAMPLES, CPU, window=2)]
    trained = train(**(arguments | changes), observers=watchers, device=CPU, snapshots=snapshots)
    weights = {name: value.numpy().tobytes() for name, value in trained.model.state_dict().items()}
    states = [value.numpy().tobytes() for watcher in watchers for value in watcher.state_dict().values()]
    return weights, states, trained.steps, trained.epochs, trained.samples_seen, trained.epoch_samples


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from([None, "info_batch", "rs2", "seta"]),
    by_steps=st.booleans(),
    every=st.sampled_from([{"steps": 1}, {"steps": 3}, {"epochs": 1}, {"seconds": 1e-9}]),
    stops=st.lists(st.integers(0, 9), min_size=1, max_size=3),
)
def test_a_run_that_stopped_anywhere_goes_on_with_the_same_bits(
    name: str | None, by_steps: bool, every: dict[str, Any], stops: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = CONFIG.model_copy(update={"epochs": None, "steps": 11}) if by_steps else CONFIG
    folder = tmp_path_factory.mktemp("run")
    for stop in stops:
        try:
            run(name, stop, Snapshots(folder, **every), config=config)
        except KeyboardInterrupt:
            continue
        break
    assert run(name, None, Snapshots(folder, **every), config=config) == run(name, config=config)
    assert not folder.exists()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop=10, snapshots=Snapshots(tmp_path, steps=2))
    with pytest.raises(KeyboardInterrupt):
        run(stop=5, snapshots=Snapshots(tmp_path, steps=2))
    # Steps 0 … 9 ran and were saved, then 10 … 14 ran and 10 … 13 were saved: two of sixteen remain.
    run(stop=2, snapshots=Snapshots(tmp_path, steps=2))


@pytest.mark.parametrize(
    ("every", "saved"),
    [
        ({"steps": 3}, [3, 6, 9, 12, 15]),
        ({"steps": 16}, [16]),
        ({"steps": 17}, []),
        ({"epochs": 2}, [8, 16]),
        ({"steps": 5, "epochs": 1}, [4, 5, 8, 10, 12, 15, 16]),
        ({"seconds": 1e9}, []),
        ({"seconds": 1e-9}, [*range(1, 17)]),
    ],
)
def test_the_state_is_saved_as_often_as_was_asked(every: dict[str, Any], saved: list[int], tmp_path: Path) -> None:
    found = []

    class Told(Snapshots):
        def write(self, made_of: Any, state: Any) -> None:
            found.append(state["position"]["steps_done"])

    run(snapshots=Told(tmp_path, **every))
    assert found == saved


def test_time_is_up_at_the_interval_and_a_folder_with_something_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, folder = [100.0], tmp_path / "missing" / "run"
    monkeypatch.setattr(saving, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    by_time, by_steps = Snapshots(folder, seconds=10.0), Snapshots(folder, steps=1)
    due = []
    for now[0] in (100.0, 109.9, 110.0, 110.1):
        due.append(by_time.due_by_time())
        assert not by_steps.due_by_time()
    assert due == [False, False, True, True]
    by_time.write({}, {"a": 1})
    assert not by_time.due_by_time(), "the interval begins anew"
    assert Snapshots(folder, steps=1).read({}) == {"a": 1}
    (folder / "notes.txt").write_text("mine")
    by_time.finish()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    for _ in range(2):  # The second call finds no snapshot and no folder.
        by_time.finish()
    assert [path.name for path in folder.parent.iterdir()] == []


def test_a_kept_snapshot_is_the_trained_model(tmp_path: Path) -> None:
    first = run("info_batch", snapshots=Snapshots(tmp_path, epochs=3, keep=True))
    assert run("info_batch", stop=0, snapshots=Snapshots(tmp_path, epochs=3, keep=True)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot.pt"]


def objective(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
    return batch.losses


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, r"seed 0 \(here 1\)"),
        ({"config": CONFIG.model_copy(update={"learning_rate": 0.1})}, r"config learning_rate 0.001 \(here 0.1\)"),
        ({"data": blobs(1)}, r"data '\w{32}' \(here '\w{32}'\)"),
        ({"sampler": None, "keep": np.arange(SAMPLES) < 50}, r"rows trained on 60 \(here 50\)"),
        ({"sampler": InfoBatch(SAMPLES, 4, prune=0.3, seed=1)}, r"sampler's prune 0.5 \(here 0.3\)"),
        ({"sampler": None}, r"sampler's prune 0.5 \(here None\)"),
        ({"objective": objective}, r"objective None \(here '.*:objective'\)"),
    ],
)
def test_the_snapshot_of_another_run_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    run("info_batch", snapshots=Snapshots(tmp_path, epochs=1, keep=True))
    before = (tmp_path / "snapshot.pt").read_bytes()
    with pytest.raises(ValueError, match=rf"snapshot of another run: .*{said}.* or delete"):
        run("info_batch", snapshots=Snapshots(tmp_path, epochs=1, keep=True), **changes)
    assert (tmp_path / "snapshot.pt").read_bytes() == before


def test_what_the_caller_says_of_a_run_and_its_observers_count(tmp_path: Path) -> None:
    run(snapshots=Snapshots(tmp_path, epochs=1, keep=True, of={"teacher": "a"}))
    with pytest.raises(ValueError, match=r"teacher 'a' \(here 'b'\)"):
        run(snapshots=Snapshots(tmp_path, epochs=1, keep=True, of={"teacher": "b"}))
    for other in ([], [Tdds(SAMPLES, CPU, window=3)]):
        with pytest.raises(ValueError, match="observers"):
            train(blobs(), CONFIG, seed=0, observers=other, device=CPU, snapshots=Snapshots(tmp_path, epochs=1))


def test_objectives_say_what_they_are_made_of(tmp_path: Path) -> None:
    def made(alpha: float) -> Any:
        def losses_of(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
            return alpha * batch.losses

        losses_of.made_of = {"alpha": alpha}  # type: ignore[attr-defined]
        return losses_of

    run(snapshots=Snapshots(tmp_path, epochs=1, keep=True), objective=made(0.5))
    with pytest.raises(ValueError, match=r"objective \{'alpha': 0.5\} \(here \{'alpha': 0.7\}\)"):
        run(snapshots=Snapshots(tmp_path, epochs=1, keep=True), objective=made(0.7))


def test_what_is_no_snapshot_is_refused_and_half_a_one_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "snapshot.partial").write_bytes(b"half")
    run(snapshots=Snapshots(tmp_path, epochs=1, keep=True))
    assert not (tmp_path / "snapshot.partial").exists()
    whole = (tmp_path / "snapshot.pt").read_bytes()
    for spoilt in (whole[: len(whole) // 2], b"", b"text"):
        (tmp_path / "snapshot.pt").write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"snapshot.pt is not a snapshot of a run.*delete"):
            run(snapshots=Snapshots(tmp_path, epochs=1))


@pytest.mark.parametrize("interval", [{}, {"steps": 0}, {"seconds": -1.0}])
def test_snapshots_need_an_interval(interval: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="interval above 0"):
        Snapshots(tmp_path, **interval)


def test_checkpoints_of_a_run_that_went_on_are_those_of_an_undisturbed_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    run(checkpoint=CheckpointWriter(tmp_path / "whole", 3))
    for stop in (9, 3, None):
        try:
            writer = CheckpointWriter(tmp_path / "parts", 3)
            run(stop=stop, snapshots=Snapshots(tmp_path / "state", steps=1), checkpoint=writer)
        except KeyboardInterrupt:
            continue
    whole, parts = (sorted((tmp_path / name).iterdir()) for name in ("whole", "parts"))
    assert [path.name for path in parts] == [path.name for path in whole]
    assert [path.read_bytes() for path in parts] == [path.read_bytes() for path in whole]
    assert len(whole) == 2
