"""Write safetensors checkpoints with only the weights or channels that a manifest keeps."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from secateur.pipelines.files.whole_files import new_file
from secateur.trainers.models.identity import is_made_for_state
from secateur.trainers.pruning.channels import cuts_of
from secateur.trainers.pruning.kept import Kept

State = dict[str, torch.Tensor]


def write_masked(kept: Kept, checkpoint: Path, output: Path) -> None:
    """Write the checkpoint with dropped weights set to zero; masks name their tensors.

    Raises ValueError for the checkpoint of another model than the mask's, and for a file that is not safetensors.
    """
    tensors, metadata = read_for(kept, checkpoint)
    for name, mask in kept.groups.items():
        if name not in tensors or tuple(tensors[name].shape) != mask.shape:
            there = list(tensors[name].shape) if name in tensors else "absent"
            raise ValueError(f"the mask of {name} is of shape {list(mask.shape)}, the tensor is {there}")
        tensors[name].masked_fill_(~torch.from_numpy(mask), 0)
    with new_file(output) as partial:
        save_file(tensors, partial, metadata=metadata)


def write_smaller(kept: Kept, checkpoint: Path, output: Path) -> None:
    """Write the checkpoint of the smaller network: without dropped channels and without the weights that read them.

    The manifest names the tensors from which a layer's channels are cut. Raises ValueError for the checkpoint of
    another model than the manifest's, a manifest that names no tensors, and a file that is not safetensors.
    """
    tensors, metadata = read_for(kept, checkpoint)
    for layer, mask in kept.groups.items():
        if not mask.any():
            raise ValueError(f"layer {layer!r} would keep no channel, which cuts the network")
        for cut in cuts_of(kept, layer):
            there = list(tensors[cut.tensor].shape) if cut.tensor in tensors else []
            if not 0 <= cut.axis < len(there) or there[cut.axis] != mask.size * cut.entries:
                raise ValueError(
                    f"{mask.size} channels of {layer!r} cannot be cut out of {cut.tensor!r}, which is {there}"
                )
            stays = torch.from_numpy(np.flatnonzero(np.repeat(mask, cut.entries)))
            tensors[cut.tensor] = tensors[cut.tensor].index_select(cut.axis, stays)
    with new_file(output) as partial:
        save_file(tensors, partial, metadata=metadata)


def read_for(kept: Kept, checkpoint: Path) -> tuple[State, dict[str, str] | None]:
    """Read a checkpoint and its metadata; raises ValueError where the mask was made for another checkpoint."""
    try:
        with safe_open(checkpoint, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
    except SafetensorError as error:
        raise ValueError(f"{checkpoint} is no safetensors file: {error}") from error
    if not is_made_for_state(kept.made_for, tensors):
        raise ValueError(f"{checkpoint} is another model than the mask was made for ({kept.made_for})")
    return tensors, metadata
