"""Payloads of a manifest: rows of a data set, masks of units, choices of a search space; one file for each kind."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.provenance import Declaration, FrozenModel, Unit


class Payload(ABC):
    """Kept units, and their form on disk.

    `Part` is the model of the kind's own entry in a manifest, under the key `payload`; its field `kind` identifies it.
    `units` are its possible units. A folder may be hostile: `check` looks at its claims before any file is opened,
    `read` at the files.
    """

    Part: ClassVar[type[FrozenModel]]
    units: ClassVar[tuple[Unit, ...]]

    @property
    def unit(self) -> Unit:
        """The kept unit: the first of `units`, unless the payload overrides it."""
        return self.units[0]

    @property
    @abstractmethod
    def count(self) -> int:
        """Kept units."""

    @property
    @abstractmethod
    def size(self) -> int:
        """All units."""

    @property
    @abstractmethod
    def made_for(self) -> str:
        """The object to which the units belong: see `Declaration`."""

    @property
    @abstractmethod
    def part(self) -> FrozenModel:
        """This payload's entry in the manifest."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""

    @classmethod
    @abstractmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """Raise ManifestError, or ValueError, for an impossible declaration."""

    @classmethod
    def check_count(cls, declaration: Declaration[Any]) -> None:
        """Raise ManifestError where a budget does not match the number of kept units."""
        if declaration.count != (budget := declaration.provenance.budget):
            raise ManifestError(f"{declaration.count} {declaration.unit}s are kept, but the budget is {budget}")

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> Self:
        """Read the files; raises ManifestError where they contradict the declaration."""

    @classmethod
    def described(cls, declaration: Declaration[Any]) -> dict[str, Any]:
        """Keys of the document for other readers."""
        return {}

    @abstractmethod
    def apply(self, target: Any, output: Path | None, **settings: Any) -> Any:
        """See `Manifest.apply`."""


def refuse_files(declaration: Declaration[Any], *names: str) -> None:
    """Raise ManifestError unless a manifest lists exactly these files."""
    if set(declaration.files) != set(names):
        listed = f"the file {' and '.join(names)} and no other" if names else "no files"
        raise ManifestError(f"it must list {listed}")


def refuse_suffix(output: Path, *known: str) -> None:
    """Raise ManifestError for an output file with none of these endings; without endings the output is a folder."""
    if known and output.suffix not in known:
        raise ManifestError(f"{output} would not show its format: let its name end in {' or '.join(known)}")


def refuse_settings(unit: Unit, settings: Mapping[str, Any], *known: str) -> None:
    """Raise ManifestError for settings of `Manifest.apply` that a unit does not have."""
    if strange := sorted(set(settings) - set(known)):
        raise ManifestError(f"{unit}s are applied without {strange[0]}: leave it out")
