"""A pruned fine-tuning delta on disk: the checkpoint that it makes, and beside it the manifest of what stays."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from secateur.pipelines.deltas.sources import DeltaSource
from secateur.pipelines.deltas.stream import (
    DeltaChoice,
    Scored,
    TensorCount,
    check_inputs,
    cut_over_all,
    divisors_of,
    write_pruned,
)
from secateur.pipelines.files.whole_files import new_folder
from secateur.pipelines.manifests.document import explained, refuse_other_contents
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Group, Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.storage.packed_masks import BITS, PackedMasks
from secateur.trainers.contract import Progress
from secateur.trainers.passes.layer_inputs import LayerInputs
from secateur.trainers.pruning.kept import Kept


@dataclass(frozen=True)
class PrunedDelta:
    """What was written: the manifest, counts by tensor, and the tensors that were copied."""

    manifest: Manifest
    tensors: Mapping[str, TensorCount]
    copied: tuple[str, ...]

    @property
    def kept(self) -> int:
        """Entries that stay."""
        return self.manifest.declaration.count

    @property
    def of(self) -> int:
        """Entries in all."""
        return self.manifest.declaration.of


def prune_deltas(
    source: DeltaSource,
    folder: Path,
    choice: DeltaChoice,
    *,
    inputs: Mapping[str, LayerInputs] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PrunedDelta:
    """Write base + kept delta / q and its manifest into a new folder, whole or not at all.

    `inputs` are those of the layers by the name of their weight, for `wanda`, `moments` and `bound`. Holds a byte per
    entry of one tensor and blocks of a few MB. Raises ValueError before anything is computed for inputs that are
    missing or do not fit, and for a folder that holds anything but an earlier result; later, naming the tensor, for a
    delta that is not finite and a result that its type cannot hold.
    """
    inputs = inputs or {}
    check_inputs(source, choice, inputs)
    if overwrite:
        with explained(f"cannot write manifest {folder}"):
            refuse_other_contents(folder)
    scored = Scored(source, choice, inputs)
    with new_folder(folder, overwrite=overwrite) as partial:
        divisors = divisors_of(source, choice, inputs, scored.budgets)
        cut = cut_over_all(scored)
        counts = write_pruned(source, partial, lambda name: scored.masks(name, cut), divisors, progress)
        written = Manifest.seal(partial, masks_in(partial, source, counts), provenance_of(source, choice, counts))
    copied = tuple(name for name in source.layout.tensors if name not in counts)
    return PrunedDelta(Manifest(folder, written.declaration, written.payload), counts, copied)


def masks_in(folder: Path, source: DeltaSource, counts: Mapping[str, TensorCount]) -> Masks:
    """The masks that lie in a folder."""
    shapes = {name: source.layout.tensors[name].shape for name in counts}
    settings = {"q": {name: each.q for name, each in counts.items()}}
    kept = Kept("delta", PackedMasks(folder / BITS, shapes), source.made_for, settings)
    return Masks(kept, tuple(Group(name=name, shape=shapes[name], kept=each.kept) for name, each in counts.items()))


def provenance_of(source: DeltaSource, choice: DeltaChoice, counts: Mapping[str, TensorCount]) -> Provenance:
    """How the entries were chosen; raises ValueError where nothing stays."""
    budget = sum(each.kept for each in counts.values())
    if not budget:
        raise ValueError(f"nothing of the delta stays at keep {choice.keep}: raise it")
    return Provenance(
        dataset=(source.layout.folder or source.layout.path).absolute().name,
        revision=source.made_for,
        selection=choice.select,
        selector=f"deltas.{choice.select}",
        selector_version="1",
        settings=asdict(choice) | {"rescale": choice.rescaling},
        keep=choice.keep,
        budget=budget,
        seed=choice.seed,
    )
