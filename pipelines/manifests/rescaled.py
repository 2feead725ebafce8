"""Write a base plus the rescaled entries that a manifest keeps of a fine-tuning delta: the pruned checkpoint again."""

import glob
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from secateur.pipelines.deltas.files import FLOATS, Checkpoint, fingerprint, listed, spans
from secateur.pipelines.deltas.sources import CONFIG, AdapterDelta, DeltaSource, FactorDelta, TunedDelta
from secateur.pipelines.deltas.stream import Blocks, write_pruned
from secateur.pipelines.files.whole_files import new_folder
from secateur.pipelines.storage.packed_masks import BITS
from secateur.selectors.masks.delta_masks import ENTRIES
from secateur.trainers.models.identity import is_made_for_state
from secateur.trainers.pruning.kept import Kept


def write_rescaled(kept: Kept, base: Path, output: Path, *, tuned: Path | str | None = None) -> None:
    """Write base + kept delta / q as a folder with the files of `tuned`, a checkpoint or the folder of a LoRA adapter.

    Without `tuned`, `base` is the folder of an adapter whose factors were pruned each by itself. Raises ValueError for
    checkpoints that do not belong to the deltas.
    """
    divisors = divisors_in(kept)
    source = source_for(kept, base, None if tuned is None else Path(tuned))

    def masks(name: str) -> Blocks:
        mask = kept.groups[name].reshape(-1)
        for first, stop in spans(source.layout.tensors[name], ENTRIES, whole_rows=source.by_rows):
            yield first, stop, mask[first:stop]

    with new_folder(output) as partial:
        write_pruned(source, partial, masks, divisors)
        (partial / BITS).unlink()  # the manifest holds the masks


def divisors_in(kept: Kept) -> dict[str, float]:
    """The q of every tensor; raises ValueError for a manifest without it."""
    q = kept.settings.get("q")
    if not isinstance(q, dict) or q.keys() != kept.groups.keys():
        raise ValueError("it does not say by how much the deltas of its tensors are rescaled")
    if bad := [name for name, each in q.items() if not isinstance(each, int | float) or not each > 0]:
        raise ValueError(f"deltas are divided by q, which is no number above 0 for {listed(bad)}")
    return {name: float(q[name]) for name in kept.groups}


def source_for(kept: Kept, base: Path, tuned: Path | None) -> DeltaSource:
    """The delta of a manifest; raises ValueError for checkpoints of any other."""
    source: DeltaSource
    only = [glob.escape(name) for name in kept.groups]
    if tuned is None and not (base / CONFIG).is_file():
        raise ValueError("a delta has two sides: name the fine-tuned checkpoint or adapter, too (tuned, --tuned)")
    if tuned is None:
        source = FactorDelta.of(base, only)
    elif (tuned / CONFIG).is_file():
        source = AdapterDelta.of(Checkpoint.read(base), tuned, only)
    else:
        source = tuned_delta(kept, Checkpoint.read(base), Checkpoint.read(tuned))
    if kept.made_for.startswith("weights "):
        sides = ((kept.made_for, tuned), (str(kept.settings.get("base")), base))
        same = all(side is not None and is_made_for_state(text, tensors_of(side)) for text, side in sides)
    else:
        same = source.made_for == kept.made_for
    if not same:
        raise ValueError(f"the deltas were kept of another base or another fine-tuning of it ({kept.made_for})")
    return source


def tuned_delta(kept: Kept, base: Checkpoint, tuned: Checkpoint) -> TunedDelta:
    """The delta of the tensors that a manifest names; other tensors of the two checkpoints are ignored."""
    for checkpoint in (base, tuned):
        stored = {name: checkpoint.tensors.get(name) for name in kept.groups}
        wrong = [
            name
            for name, mask in ((name, kept.groups[name]) for name in kept.groups)
            if (each := stored[name]) is None or each.shape != np.shape(mask) or each.dtype not in FLOATS
        ]
        if wrong:
            raise ValueError(
                f"{checkpoint.path} lacks tensors of the manifest, or shapes them otherwise: {listed(wrong)}"
            )
    names = tuple(kept.groups)
    return TunedDelta(tuned, names, {name: name for name in names}, fingerprint((base, tuned), names), base)


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, in memory."""
    return {name: value for file in Checkpoint.read(path).files for name, value in load_file(file).items()}
