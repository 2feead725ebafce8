"""Write a pruned fine-tuning delta: its checkpoint, and beside it the manifest of the kept entries."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from secateur.pipelines.deltas.q_search import QSearch, search_q, tried_file
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
from secateur.pipelines.files.whole_files import OVERWRITE, new_folder, refuse_target
from secateur.pipelines.manifests.document import explained, refuse_other_contents
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Group, Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.storage.packed_masks import BITS, PackedMasks
from secateur.trainers.contract import Progress
from secateur.trainers.passes.layer_inputs import LayerInputs
from secateur.trainers.pruning.delta_rescaling import FoundQ
from secateur.trainers.pruning.kept import Kept


@dataclass(frozen=True)
class PrunedDelta:
    """The written result: the manifest, counts by tensor, the copied tensors, and the search for q if there was one."""

    manifest: Manifest
    tensors: Mapping[str, TensorCount]
    copied: tuple[str, ...]
    found: FoundQ | None = None

    @property
    def kept(self) -> int:
        """Kept entries."""
        return self.manifest.declaration.count

    @property
    def of(self) -> int:
        """All entries."""
        return self.manifest.declaration.of


def prune_deltas(
    source: DeltaSource,
    folder: Path,
    choice: DeltaChoice,
    *,
    inputs: Mapping[str, LayerInputs] | None = None,
    search: QSearch | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PrunedDelta:
    """Write base + kept delta / q and its manifest into a new folder, whole or not at all.

    `inputs` are the layers' inputs by the name of their weight, for `wanda` and for a q by layer; `search` judges the
    values that a rescaling by `search` tries. Memory holds a byte per entry of one tensor and blocks of a few MB.
    Raises ValueError before any computation for inputs that are missing or do not fit, and for a folder that holds
    anything but an earlier result; later, with the tensor's name, for a delta that is not finite and a result out of
    its type's range.
    """
    inputs = inputs or {}
    check_inputs(source, choice, inputs)
    check_search(choice, search)
    if overwrite:
        with explained(f"cannot write manifest {folder}"):
            refuse_other_contents(folder)
    refuse_target(folder, overwrite=overwrite, option=OVERWRITE)
    scored, found, asked = Scored(source, choice, inputs), None, choice
    if search:
        found = search_q(source, folder, choice, inputs, search, progress)
        choice = replace(choice, rescale=found.q)
    with new_folder(folder, overwrite=overwrite) as partial:
        divisors = divisors_of(source, choice, inputs, scored.budgets)
        cut = cut_over_all(scored)
        counts = write_pruned(source, partial, lambda name: scored.masks(name, cut), divisors, progress)
        provenance = provenance_of(source, asked, counts, searched(search, found))
        written = Manifest.seal(partial, masks_in(partial, source, counts), provenance)
    if search:
        tried_file(folder).unlink(missing_ok=True)
    copied = tuple(name for name in source.layout.tensors if name not in counts)
    return PrunedDelta(Manifest(folder, written.declaration, written.payload), counts, copied, found)


def check_search(choice: DeltaChoice, search: QSearch | None) -> None:
    """Raise ValueError where a search for q has no score, or a score has no search."""
    if (choice.rescaling == "search") != (search is not None):
        raise ValueError(
            "a q by search needs a score that judges checkpoints, module:function (--score), and a score is for a "
            "rescaling by search alone (--rescale search)"
        )


def searched(search: QSearch | None, found: FoundQ | None) -> dict[str, Any]:
    """Entry of a manifest for the search of its q."""
    if search is None or found is None:
        return {}
    tried = [list(pair) for pair in found.tried]
    return {"search": {"score": search.name, "draws": search.draws, "q": found.q, "tried": tried}}


def masks_in(folder: Path, source: DeltaSource, counts: Mapping[str, TensorCount]) -> Masks:
    """The masks in a folder."""
    shapes = {name: source.layout.tensors[name].shape for name in counts}
    settings = {"q": {name: each.q for name, each in counts.items()}}
    kept = Kept("delta", PackedMasks(folder / BITS, shapes), source.made_for, settings)
    return Masks(kept, tuple(Group(name=name, shape=shapes[name], kept=each.kept) for name, each in counts.items()))


def provenance_of(
    source: DeltaSource, choice: DeltaChoice, counts: Mapping[str, TensorCount], found: dict[str, Any]
) -> Provenance:
    """How the entries were chosen; raises ValueError where no entry is kept."""
    budget = sum(each.kept for each in counts.values())
    if not budget:
        raise ValueError(f"nothing of the delta stays at keep {choice.keep}: raise it")
    return Provenance(
        dataset=(source.layout.folder or source.layout.path).absolute().name,
        revision=source.made_for,
        selection=choice.select,
        selector=f"deltas.{choice.select}",
        selector_version="1",
        settings=asdict(choice) | {"rescale": choice.rescaling} | found,
        keep=choice.keep,
        budget=budget,
        seed=choice.seed,
    )
