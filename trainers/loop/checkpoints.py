"""Checkpoints of a training run, spread evenly over it; the last one is the trained model itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from secateur.trainers.models import registry as models
from secateur.trainers.models.stored_state import beside, load_stored, stored_state


class CheckpointWriter:
    """Writes `checkpoint-01.safetensors` … into a folder, at the ends of the epochs that pass each share of the run.

    With `count` K these are the first epochs to end at or after 1/K, 2/K, … (K-1)/K of all steps; the K-th is the
    trained model, which `models.save` writes. A run of fewer epochs has fewer checkpoints.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count, self.written = folder, count, 0

    def __call__(self, model: nn.Module, done: int, total: int) -> None:
        """Called at the end of each epoch with the model, steps done, total steps."""
        due = done * self.count // total
        if self.written < due < self.count:
            self.written = due
            weights = {name: value.cpu().contiguous() for name, value in stored_state(model).items()}
            save_file(weights, self.folder / f"checkpoint-{due:02d}.safetensors")

    def state_dict(self) -> dict[str, int]:
        """The last checkpoint number; a run resumed from a snapshot writes later checkpoints again, identically."""
        return {"written": self.written}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resume in the same folder."""
        self.written = state["written"]


def load_checkpoints(folder: Path) -> list[nn.Module]:
    """All checkpoints of a run, oldest first, in evaluation mode on the CPU; the last is the trained model."""
    last = models.load(folder)
    earlier = []
    for path in sorted(folder.glob("checkpoint-*.safetensors")):
        model = beside(last)
        load_stored(model, load_file(path))
        earlier.append(model)
    return [*earlier, last]


def fingerprint(folders: list[Path]) -> str:
    """SHA-256 over the weights of all checkpoints of several runs: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
