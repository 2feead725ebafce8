"""What a manifest can keep: rows of a data set, masks of units, choices of a search space; one file for each kind."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.provenance import Declaration, FrozenModel, Unit


class Payload(ABC):
    """What is kept, and its form on disk.

    `Part` is the model of what only this kind of manifest says of itself, under the key `payload`; its field `kind`
    tells it from others. `units` are those that it may be of. What a folder claims is read with suspicion: `check`
    looks at what it says before any file is opened, `read` at the files.
    """

    Part: ClassVar[type[FrozenModel]]
    units: ClassVar[tuple[Unit, ...]]

    @property
    def unit(self) -> Unit:
        """What is kept: the first of `units`, unless the payload knows better."""
        return self.units[0]

    @property
    @abstractmethod
    def count(self) -> int:
        """Units that stay."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Units in all."""

    @property
    @abstractmethod
    def made_for(self) -> str:
        """What the units belong to: see `Declaration`."""

    @property
    @abstractmethod
    def part(self) -> FrozenModel:
        """What the manifest says of this payload."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""

    @classmethod
    @abstractmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """Raise ManifestError, or ValueError, where a manifest says what cannot be."""

    @classmethod
    def check_count(cls, declaration: Declaration[Any]) -> None:
        """Raise ManifestError where a budget does not come to the units that stay."""
        if declaration.count != (budget := declaration.provenance.budget):
            raise ManifestError(f"{declaration.count} {declaration.unit}s are kept, but the budget is {budget}")

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> Self:
        """Read the files; raises ManifestError where they hold something else than is declared."""

    @classmethod
    def described(cls, declaration: Declaration[Any]) -> dict[str, Any]:
        """Keys of the document for other readers."""
        return {}

    @abstractmethod
    def apply(self, target: Any, output: Path | None, **settings: Any) -> Any:
        """See `Manifest.apply`."""


def refuse_files(declaration: Declaration[Any], *names: str) -> None:
    """Raise ManifestError unless a manifest lists these files and no other."""
    if set(declaration.files) != set(names):
        listed = f"the file {' and '.join(names)} and no other" if names else "no files"
        raise ManifestError(f"it must list {listed}")


def refuse_suffix(output: Path, *known: str) -> None:
    """Raise ManifestError where a file is to be written that ends in none of these; without any, a folder is."""
    if known and output.suffix not in known:
        raise ManifestError(f"{output} would not show its format: let its name end in {' or '.join(known)}")


def refuse_settings(unit: Unit, settings: Mapping[str, Any], *known: str) -> None:
    """Raise ManifestError for settings of `Manifest.apply` that a unit has no use for."""
    if strange := sorted(set(settings) - set(known)):
        raise ManifestError(f"{unit}s are applied without {strange[0]}: leave it out")
