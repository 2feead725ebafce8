"""What an experiment kept, exported: a folder with a mask of weights, channels, deltas, heads or prompt tokens.

`manifest.json` says what is kept, of what, and how it was chosen; `kept.safetensors` holds a mask per group as packed
bits. True bits are the units that stay. The same mask from the same experiment gives the same bytes, a change of any
byte is found, and nothing that a hostile folder claims is believed before it has been counted.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import safetensors
import safetensors.numpy
import torch
from pydantic import Field, JsonValue, StrictBool, StrictInt, StringConstraints
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from secateur.pipelines.manifests.document import (
    DOCUMENT,
    ManifestError,
    check_seals,
    explained,
    folder_of,
    parse_document,
    read_document,
    refuse_other_contents,
    seal_of,
    write_document,
)
from secateur.pipelines.manifests.provenance import Count, FileSeal, FrozenModel, Provenance, Text
from secateur.pipelines.storage.whole_files import new_file, new_folder
from secateur.trainers.models.identity import is_made_for_state
from secateur.trainers.pruning.kept import Kept, Unit

BITS: Final = "kept.safetensors"
LISTED: Final = ("head", "token", "channel")
"""Units of which there are few: what stays is listed in manifest.json, too, for people to read."""
MOST_LISTED = 20_000
GroupName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", min_length=1, max_length=500)]


class Group(FrozenModel):
    """The units of one layer, tensor or prompt: the shape of its mask and how many stay; `listed` are their places."""

    name: GroupName
    shape: Annotated[tuple[Annotated[StrictInt, Field(ge=1, lt=2**40)], ...], Field(min_length=1, max_length=8)]
    kept: Count
    listed: tuple[tuple[Count, ...], ...] | None = None

    @property
    def size(self) -> int:
        """Units in all."""
        return math.prod(self.shape)


class UnitDeclaration(FrozenModel):
    """What a manifest of units says of itself, under the key `secateur` of manifest.json.

    `made_for` is what the mask belongs to; `settings` what applying it needs besides, such as a rescaling factor.
    """

    format: Literal[1]
    kept: StrictBool
    unit: Unit
    count: Count
    of: Count
    made_for: Text
    settings: dict[str, JsonValue]
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    files: dict[Literal["kept.safetensors"], FileSeal]
    provenance: Provenance
    root: str


@dataclass(frozen=True, eq=False)
class UnitManifest:
    """A mask of units on disk: what the folder says of itself, and the mask."""

    path: Path
    declaration: UnitDeclaration
    kept: Kept

    @classmethod
    def write(
        cls, folder: Path | str, kept: Kept, provenance: Provenance, *, overwrite: bool = False
    ) -> "UnitManifest":
        """Write the folder, whole or not at all, and read it back.

        Masks are bool arrays, one per group, of at least one unit each. Raises ManifestError for masks that are
        anything else, a budget that is not the count, and where the target exists without `overwrite` or holds
        anything but a manifest.
        """
        folder = Path(folder)
        with explained(f"cannot write manifest {folder}"):
            check_kept(kept)
            if provenance.budget != kept.count:
                raise ManifestError(f"{kept.count} {kept.unit}s are kept, but the budget is {provenance.budget}")
            refuse_other_contents(folder, {BITS})
            with new_folder(folder, overwrite=overwrite) as partial:
                (partial / BITS).write_bytes(packed(kept.groups))
                declaration = UnitDeclaration(
                    format=1,
                    kept=True,
                    unit=kept.unit,
                    count=kept.count,
                    of=kept.of,
                    made_for=kept.made_for,
                    settings=dict(kept.settings),
                    groups=tuple(groups_of(kept)),
                    files={BITS: seal_of(partial / BITS)},
                    provenance=provenance,
                    root="",
                )
                write_document(partial, {"secateur": declaration.model_dump(mode="json")})
                written = cls.load(partial)
        return cls(folder, written.declaration, written.kept)

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> "UnitManifest":
        """Read a manifest from its folder or its manifest.json; raises ManifestError with the one thing that is wrong.

        Structure, root, sizes and counts are always checked; `verify` adds the SHA-256 of the file of masks.
        """
        folder = folder_of(path)
        with explained(f"manifest {folder}"):
            declaration, document = read_document(folder / DOCUMENT, UnitDeclaration)
            check_declaration(declaration, document)
            check_seals(folder, declaration.files, contents=verify)
            masks = unpacked((folder / BITS).read_bytes(), declaration.groups)
            kept = Kept(declaration.unit, masks, declaration.made_for, declaration.settings)
            if tuple(groups_of(kept)) != declaration.groups:
                raise ManifestError(f"what {BITS} keeps is not what {DOCUMENT} counts and lists")
        return cls(folder, declaration, kept)

    def verify(self) -> None:
        """Read the folder again and check everything in it.

        Raises ManifestError with the one thing that is wrong, a change since this manifest was loaded included.
        """
        if UnitManifest.load(self.path).declaration != self.declaration:
            raise ManifestError(f"manifest {self.path} is another one than was loaded from there")

    @property
    def provenance(self) -> Provenance:
        """Where the mask comes from."""
        return self.declaration.provenance


def check_kept(kept: Kept) -> None:
    """Raise ManifestError for what is no mask: another type than bool, no units, or nothing that stays."""
    for name, mask in kept.groups.items():
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or not mask.size or not mask.ndim:
            told = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise ManifestError(f"the mask of {name!r} must be a bool array of units, it is {told}")
    if not kept.count:
        raise ManifestError(f"nothing is kept of {kept.of} {kept.unit}s")


def groups_of(kept: Kept) -> Iterator[Group]:
    """The groups of a mask, in its order."""
    for name, mask in kept.groups.items():
        count, listed = int(np.count_nonzero(mask)), None
        if kept.unit in LISTED and count <= MOST_LISTED:
            listed = tuple(tuple(place) for place in np.argwhere(mask).tolist())
        yield Group(name=name, shape=mask.shape, kept=count, listed=listed)


def packed(masks: Mapping[str, np.ndarray]) -> bytes:
    """Safetensors bytes: per group uint8 `[ceil(units / 8)]`, the first unit in the lowest bit, and shapes as text."""
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()}, ensure_ascii=False)
    bits = {name: np.packbits(mask.reshape(-1), bitorder="little") for name, mask in masks.items()}
    return safetensors.numpy.save(bits, {"shapes": shapes})


def unpacked(content: bytes, groups: tuple[Group, ...]) -> dict[str, np.ndarray]:
    """Masks by group; raises ManifestError for bytes that `packed` would not have written of these groups."""
    if 8 * len(content) < sum(group.size for group in groups):
        raise ManifestError(f"{BITS} has {len(content)} bytes, too few for the units that its groups claim")
    try:
        tensors = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ManifestError(f"{BITS} is no safetensors file: {error}") from error
    masks = {}
    for group in groups:
        told: Mapping[str, Any] = tensors.get(group.name, {})
        if told.get("dtype") != "U8" or list(told.get("shape", ())) != [-(-group.size // 8)]:
            raise ManifestError(f"{BITS} holds no packed mask of {group.size} units called {group.name!r}")
        bits = np.frombuffer(told["data"], dtype=np.uint8)
        mask = np.unpackbits(bits, count=group.size, bitorder="little")
        masks[group.name] = mask.astype(np.bool_).reshape(group.shape)
    if packed(masks) != content:  # other tensors, other metadata, bits behind the last unit
        raise ManifestError(f"{BITS} holds something besides the masks of its groups")
    return masks


def check_declaration(declaration: UnitDeclaration, document: Mapping[str, Any]) -> None:
    """Raise ManifestError where a manifest says what cannot be."""
    if set(document) != {"secateur"}:
        raise ManifestError("it holds something besides what it says of itself")
    if not declaration.kept:
        raise ManifestError("it does not say that its units are the kept ones")
    if set(declaration.files) != {BITS}:
        raise ManifestError(f"it must list the file {BITS} and no other")
    names = [group.name for group in declaration.groups]
    if len(set(names)) < len(names) or "__metadata__" in names:
        raise ManifestError("its groups do not have names of their own")
    counts = (sum(group.kept for group in declaration.groups), sum(group.size for group in declaration.groups))
    if counts != (declaration.count, declaration.of):
        raise ManifestError(
            f"its groups keep {counts[0]} of {counts[1]}, it says {declaration.count} of {declaration.of}"
        )
    if declaration.provenance.budget != declaration.count or not declaration.count:
        raise ManifestError(f"it keeps {declaration.count}, but its budget is {declaration.provenance.budget}")


def is_of_units(path: Path | str) -> bool:
    """Whether a manifest that can be read is one of units, and not of samples or choices."""
    with explained(f"manifest {folder_of(path)}"):
        return "groups" in parse_document(folder_of(path) / DOCUMENT)["secateur"]


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
