"""Weights, channels, deltas, heads or prompt tokens that a manifest keeps: a mask per group in `kept.safetensors`."""

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, cast, get_args

import numpy as np
from pydantic import Field, JsonValue, StrictInt, StringConstraints

from secateur.pipelines.manifests.document import ManifestError, explained
from secateur.pipelines.manifests.payload import Payload, refuse_files, refuse_settings, refuse_suffix
from secateur.pipelines.manifests.provenance import Count, Declaration, FrozenModel, Unit
from secateur.pipelines.storage.packed_masks import BITS, PackedMasks, write_masks
from secateur.scorers.contract import Unit as MaskUnit
from secateur.trainers.pruning.kept import Kept

LISTED: Final = ("head", "token", "channel")
"""Units in small numbers: manifest.json lists the kept ones, too, for people to read."""
MOST_LISTED = 20_000
WRITERS: Final = {
    "weight": ("checkpoints", "write_masked"),
    "channel": ("checkpoints", "write_smaller"),
    "delta": ("rescaled", "write_rescaled"),
    "head": ("language", "write_without_heads"),
    "token": ("language", "write_prompt"),
}
"""Module and function that apply masks, by unit."""
GroupName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", min_length=1, max_length=500)]


class Group(FrozenModel):
    """The units of one layer, tensor or prompt: the shape of its mask and its kept units; `listed` are their places."""

    name: GroupName
    shape: Annotated[tuple[Annotated[StrictInt, Field(ge=1, lt=2**40)], ...], Field(max_length=8)]
    kept: Count
    listed: tuple[tuple[Count, ...], ...] | None = None

    @property
    def size(self) -> int:
        """All units."""
        return math.prod(self.shape)


class MasksPart(FrozenModel):
    """Entry of a manifest for masks; `settings` are values for applying them, such as a rescaling factor."""

    kind: Literal["masks"] = "masks"
    settings: dict[str, JsonValue]
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]


@dataclass(frozen=True, eq=False)
class Masks(Payload):
    """Kept units: `kept` holds a mask per group, which is unpacked on access; `groups` counts the units."""

    Part = MasksPart
    units: ClassVar[tuple[Unit, ...]] = get_args(MaskUnit)[1:]  # all but samples, which are rows

    kept: Kept
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, kept: Kept) -> "Masks":
        """Masks in memory: bool arrays, one per group, of at least one unit each; raises ManifestError for others."""
        for name, mask in kept.groups.items():
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or not mask.size:
                kind = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
                raise ManifestError(f"the mask of {name!r} must be a bool array of units, it is {kind}")
        groups = []
        with explained("these masks cannot be kept"):
            for name, mask in kept.groups.items():
                count = int(np.count_nonzero(mask))
                groups.append(Group(name=name, shape=mask.shape, kept=count, listed=places_of(kept, name, count)))
        return cls(kept, tuple(groups))

    @property
    def unit(self) -> Unit:
        return self.kept.unit

    @property
    def count(self) -> int:
        return sum(group.kept for group in self.groups)

    @property
    def size(self) -> int:
        return sum(group.size for group in self.groups)

    @property
    def made_for(self) -> str:
        return self.kept.made_for

    @property
    def part(self) -> MasksPart:
        return MasksPart(settings=dict(self.kept.settings), groups=self.groups)

    def write(self, folder: Path) -> None:
        """See `Payload.write`."""
        write_masks(self.kept.groups, folder / BITS)

    @classmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """See `Payload.check`. Beside deltas lies the pruned checkpoint, whose files are sealed with them."""
        if declaration.unit != "delta" or BITS not in declaration.files:
            refuse_files(declaration, BITS)
        names = [group.name for group in declaration.payload.groups]
        if len(set(names)) < len(names) or "__metadata__" in names:
            raise ManifestError("its groups do not have names of their own")

    @classmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> "Masks":
        """See `Payload.read`; the masks are counted either way, without being unpacked at once."""
        part = declaration.payload
        masks = PackedMasks(folder / BITS, {group.name: group.shape for group in part.groups})
        kept = Kept(cast(MaskUnit, declaration.unit), masks, declaration.made_for, part.settings)
        for group in part.groups:
            listed = places_of(kept, group.name, group.kept) if masks.count(group.name) == group.kept else ()
            if listed != group.listed:
                raise ManifestError(f"what {BITS} keeps of {group.name!r} is not what manifest.json counts and lists")
        return cls(kept, part.groups)

    def apply(self, target: Any, output: Path | None, **settings: Any) -> Path:
        """See `Manifest.apply`."""
        if not isinstance(target, str | Path):
            raise ManifestError(f"{self.unit}s are applied to a path, not to a {type(target).__name__}")
        if output is None:
            raise ManifestError("name the file or folder to write as output")
        write = writer_of(self.unit)
        refuse_settings(self.unit, settings, *inspect.signature(write).parameters)
        refuse_suffix(output, *([".safetensors"] if self.unit in ("weight", "channel") else []))
        write(self.kept, Path(target), output, **settings)
        return output


def places_of(kept: Kept, name: str, count: int) -> tuple[tuple[int, ...], ...] | None:
    """Places of the `count` kept units of a group, None for too many to list."""
    if kept.unit not in LISTED or count > MOST_LISTED:
        return None
    return tuple(tuple(place) for place in np.argwhere(kept.groups[name]).tolist())


def writer_of(unit: Unit) -> Callable[..., None]:
    """The function that writes a target without its masked units; imported on demand, as it loads torch."""
    if unit not in WRITERS:
        raise ManifestError(f"nothing here applies masks of {unit}s: take them from Manifest.load(path).payload.kept")
    module, name = WRITERS[unit]
    writer: Callable[..., None] = getattr(importlib.import_module(f"secateur.pipelines.manifests.{module}"), name)
    return writer
