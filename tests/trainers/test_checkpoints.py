"""Checkpoints have the right steps, load unchanged, and their fingerprint follows their weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.checkpoints import CheckpointWriter, fingerprint, load_checkpoints
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models

CPU = torch.device("cpu")


def data() -> Data:
    random = np.random.default_rng(0)
    return Data(random.normal(size=(40, 3)).astype(np.float32), random.integers(0, 3, 40), 3)


def run(folder: Path, *, count: int, epochs: int, seed: int = 0) -> dict[int, dict[str, torch.Tensor]]:
    """Train a proxy with its checkpoints in a folder; returns the weights at the end of each epoch."""
    config = TrainingConfig(model="mlp", model_settings={"hidden": (4,)}, epochs=epochs, batch_size=10)
    writer, seen = CheckpointWriter(folder, count), {}

    def watch(model: torch.nn.Module, done: int, total: int) -> None:
        seen[done * epochs // total] = {name: value.clone() for name, value in model.state_dict().items()}
        writer(model, done, total)

    trained = train(data(), config, seed=seed, device=CPU, checkpoint=watch)
    models.save(trained.model, folder, config, (3,))
    return seen


@pytest.mark.parametrize(
    ("count", "epochs", "kept"),
    [(1, 5, [5]), (3, 6, [2, 4, 6]), (4, 10, [3, 5, 8, 10]), (5, 5, [1, 2, 3, 4, 5]), (8, 3, [1, 2, 3])],
)
def test_checkpoints_are_the_first_epochs_to_pass_each_share(
    count: int, epochs: int, kept: list[int], tmp_path: Path
) -> None:
    seen = run(tmp_path, count=count, epochs=epochs)
    loaded = load_checkpoints(tmp_path)
    assert len(loaded) == len(kept)
    for model, epoch in zip(loaded, kept, strict=True):
        assert not model.training
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, seen[epoch][name], rtol=0, atol=0)


def test_checkpoints_do_not_share_their_weights(tmp_path: Path) -> None:
    run(tmp_path, count=3, epochs=3)
    loaded = load_checkpoints(tmp_path)
    before = [value.clone() for value in loaded[-1].parameters()]
    with torch.no_grad():
        for value in loaded[0].parameters():
            value.zero_()
    assert all(torch.equal(one, other) for one, other in zip(before, loaded[-1].parameters(), strict=True))


def test_the_fingerprint_is_of_every_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "again", "other")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        folder.mkdir()
        run(folder, count=2, epochs=2, seed=seed)
    first, again, other = (fingerprint([folder]) for folder in folders)
    assert len(first) == 64
    assert first == again != other
    assert fingerprint(folders[:2]) not in (first, other)
    (folders[1] / "notes.txt").write_text("not a weight")
    assert fingerprint([folders[1]]) == first
    (folders[1] / "checkpoint-01.safetensors").unlink()
    assert fingerprint([folders[1]]) != first
