"""An epoch's left-out samples get a forward pass at its end with the model of then, and no backward pass."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from secateur.scorers.contract import Observer, TrainingBatch
from secateur.selectors.samplers.ies import Ies
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import Trained, train

CPU, SAMPLES = torch.device("cpu"), 60
CONFIG = TrainingConfig(model="tabular_mlp", model_settings={"dropout": 0.3}, epochs=7, batch_size=16, accumulate=2)


def blobs() -> Data:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, SAMPLES)
    inputs = generator.normal(size=(SAMPLES, 5)) + 3 * np.eye(3, 5)[labels]
    return Data(inputs.astype(np.float32), labels, 3, {"kind": "codes", "categories": [0] * 5})


class Stop(Observer):
    """Raises at the batch with this number."""

    def __init__(self, at: int) -> None:
        super().__init__(SAMPLES, CPU)
        self.left = [at]  # A list is no setting, so it does not identify the run.

    def update(self, batch: TrainingBatch) -> None:
        self.left[0] -= 1
        if not self.left[0]:
            raise KeyboardInterrupt

    def reduce(self) -> torch.Tensor:
        return self.presentations


def run(stop: int = -1, **given: Any) -> tuple[Ies, Trained | None]:
    """A training that leaves samples out from the fifth epoch on."""
    sampler = Ies(SAMPLES, threshold=0.2, window=1, seed=2)
    try:
        return sampler, train(blobs(), CONFIG, seed=1, sampler=sampler, observers=[Stop(stop)], device=CPU, **given)
    except KeyboardInterrupt:
        return sampler, None


def test_what_is_left_out_is_told_as_the_model_is_at_the_end_of_the_epoch() -> None:
    data, told = blobs(), list[tuple[int, torch.Tensor, torch.Tensor]]()
    observe = Ies.observe

    def noted(self: Ies, ids: torch.Tensor, losses: torch.Tensor) -> None:
        if not losses.requires_grad and set(ids.tolist()) <= set(self.forward_only.tolist()):
            told.append((self.epoch, ids, losses.clone()))
        observe(self, ids, losses)

    compared = []

    def compare(model: torch.nn.Module, steps: int, expected: int) -> None:
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(np.asarray(data.inputs)))
        own = functional.cross_entropy(logits, torch.from_numpy(data.targets), reduction="none")
        for _, ids, losses in told[len(compared) :]:
            torch.testing.assert_close(losses, own[ids], atol=1e-6, rtol=1e-5)
            compared.append(len(ids))

    Ies.observe = noted  # type: ignore[method-assign]
    try:
        sampler, trained = run(checkpoint=compare)
    finally:
        Ies.observe = observe  # type: ignore[method-assign]
    assert trained is not None
    assert len(compared) == len(told) > 1
    assert [epoch for epoch, *_ in told] == sorted(epoch for epoch, *_ in told)
    assert min(epoch for epoch, *_ in told) == 4
    assert trained.samples_seen == SAMPLES * 7 - sampler.saved_backward < SAMPLES * 7
    assert sum(compared) == sampler.saved_backward


def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    sampler, undisturbed = run()
    assert undisturbed is not None
    for stop in (18, 19):  # After an epoch with left-out samples, and within the next one.
        folder = tmp_path / str(stop)
        assert run(stop, snapshots=Snapshots(folder, steps=1))[1] is None
        again, resumed = run(snapshots=Snapshots(folder, steps=1))
        assert resumed is not None
        assert again.saved_backward == sampler.saved_backward
        for name, value in undisturbed.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value)
