"""A mask of weights applied to a safetensors checkpoint."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from secateur.pipelines.files import new_file
from secateur.trainers.experiment import Kept
from secateur.trainers.model_identity import is_made_for_state


def write_masked(checkpoint: Path, kept: Kept, output: Path) -> None:
    """Write the checkpoint with zeros where the mask keeps nothing, whole or not at all; masks name their tensors.

    Raises ValueError for units other than weights, a checkpoint of another model than the mask was made for, and a file
    that is no safetensors.
    """
    if kept.unit != "weight":
        raise ValueError(f"the manifest keeps {kept.unit}s, and only a mask of weights is applied to a checkpoint")
    try:
        with safe_open(checkpoint, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = file.metadata()
    except SafetensorError as error:
        raise ValueError(f"{checkpoint} is no safetensors file: {error}") from error
    for name, mask in kept.groups.items():
        if name not in tensors or tuple(tensors[name].shape) != mask.shape:
            there = list(tensors[name].shape) if name in tensors else "absent"
            raise ValueError(f"{checkpoint}: the mask of {name} is of shape {list(mask.shape)}, the tensor is {there}")
    if not is_made_for_state(kept.made_for, tensors):
        raise ValueError(f"{checkpoint} is another model than the mask was made for ({kept.made_for})")
    for name, mask in kept.groups.items():
        tensors[name].masked_fill_(~torch.from_numpy(mask), 0)
    with new_file(output) as partial:
        save_file(tensors, partial, metadata=told)
