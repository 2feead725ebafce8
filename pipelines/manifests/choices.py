"""Choices of a search space that a manifest keeps: the remaining choices at each position of an architecture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import xxhash
from pydantic import Field, FiniteFloat, StrictBool

from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.payload import Payload, refuse_files, refuse_settings, refuse_suffix
from secateur.pipelines.manifests.provenance import Declaration, FrozenModel, Text, Unit
from secateur.scorers.architectures.encoding import Alive, ArchitectureSpace


class Choice(FrozenModel):
    """A choice, whether it is kept, and its mean contribution to the predicted accuracy."""

    name: Text
    kept: StrictBool
    contribution: FiniteFloat


class Place(FrozenModel):
    """A position of the architectures: choices that are always kept, as no feature encodes them, and the others."""

    name: Text
    always: tuple[Text, ...]
    choices: tuple[Choice, ...]

    @property
    def names(self) -> list[str]:
        """All original choices, in order."""
        return [*self.always, *(choice.name for choice in self.choices)]

    @property
    def left(self) -> list[str]:
        """Kept choices, in order."""
        return [*self.always, *(choice.name for choice in self.choices if choice.kept)]


class ChoicesPart(FrozenModel):
    """Entry of a manifest for a pruned search space."""

    kind: Literal["choices"] = "choices"
    positions: Annotated[tuple[Place, ...], Field(min_length=1)]


@dataclass(frozen=True, eq=False)
class Choices(Payload):
    """The positions of a search space with their choices, kept and dropped."""

    Part = ChoicesPart
    units: ClassVar[tuple[Unit, ...]] = ("choice",)

    positions: tuple[Place, ...]

    @classmethod
    def of(cls, space: ArchitectureSpace, alive: Alive, contributions: np.ndarray) -> "Choices":
        """The payload of a space from a mask of kept choices and their contributions, both `[features]`."""
        facts = zip(alive.tolist(), contributions.astype(np.float64).tolist(), strict=True)
        places = []
        for position in space.positions:
            always, rest = position.choices[: int(position.silent)], position.choices[int(position.silent) :]
            some = zip(rest, islice(facts, len(rest)), strict=True)
            choices = tuple(Choice(name=name, kept=kept, contribution=mean) for name, (kept, mean) in some)
            places.append(Place(name=position.name, always=always, choices=choices))
        return cls(tuple(places))

    @property
    def count(self) -> int:
        return sum(choice.kept for place in self.positions for choice in place.choices)

    @property
    def size(self) -> int:
        return sum(len(place.choices) for place in self.positions)

    @property
    def made_for(self) -> str:
        return made_for({place.name: place.names for place in self.positions})

    @property
    def part(self) -> ChoicesPart:
        return ChoicesPart(positions=self.positions)

    @property
    def left(self) -> dict[str, list[str]]:
        """Kept choices of each position."""
        return {place.name: place.left for place in self.positions}

    def write(self, folder: Path) -> None:
        """Write no file: manifest.json lists the few choices."""

    @classmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """See `Payload.check`."""
        refuse_files(declaration)
        positions = declaration.payload.positions
        if len({place.name for place in positions}) < len(positions):
            raise ManifestError("its positions do not have names of their own")

    @classmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> "Choices":
        """See `Payload.read`."""
        return cls(declaration.payload.positions)

    def apply(self, target: Any, output: Path | None, **settings: Any) -> Any:
        """See `Manifest.apply`; returns a mapping for a mapping of positions to their choices."""
        refuse_settings(self.unit, settings)
        if isinstance(target, Mapping):
            return self.pruned(target)
        if not isinstance(target, str | Path):
            raise ManifestError(f"choices are applied to a mapping or a path, not to a {type(target).__name__}")
        if output is None:
            raise ManifestError("name the file to write as output, .json or .yaml")
        refuse_suffix(output, ".json", ".yaml", ".yml")
        left = self.pruned(positions_in(Path(target)))
        import yaml

        text = json.dumps(left, indent=2) if output.suffix == ".json" else yaml.safe_dump(left, sort_keys=False)
        write_bytes(output, text.encode())
        return output

    def pruned(self, positions: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Kept choices of each position; raises ManifestError for other positions or choices than the manifest's."""
        if made_for({name: list(map(str, values)) for name, values in positions.items()}) != self.made_for:
            mine, theirs = (", ".join(map(str, names)) for names in (self.left, positions))
            raise ManifestError(
                f"it is of another search space: its positions are {mine}, not {theirs}, or their choices differ"
            )
        return {name: [value for value in positions[name] if str(value) in left] for name, left in self.left.items()}


def made_for(positions: Mapping[str, list[str]]) -> str:
    """`choices xxh3:…`, the fingerprint of positions and their choices."""
    return f"choices xxh3:{xxhash.xxh3_128_hexdigest(json.dumps(list(positions.items())).encode())}"


def choices_in_table(part: Mapping[str, Any], base: Path) -> dict[str, list[str]]:
    """Positions of a study's table; their choices are the distinct values of their columns."""
    from secateur.pipelines.runs.architectures import positions_of, read_columns
    from secateur.pipelines.studies.architectures import TableSpace

    space = TableSpace.model_validate(part)
    table = read_columns(base / space.path, list(space.positions))
    return {position.name: list(position.choices) for position in positions_of(space, table)}


def positions_in(path: Path) -> dict[str, Any]:
    """Positions of a study of `kind: search`, or of a YAML or JSON file with a list of choices for each position."""
    if not path.is_file():
        raise ManifestError(f"there is no file {path}")
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except yaml.YAMLError as error:
        raise ManifestError(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if isinstance(content, dict) and isinstance(content.get("space"), dict):
        part = next((part for part in content["space"].values() if isinstance(part, dict)), {})
        content = part.get("positions")
        if isinstance(content, list):
            content = choices_in_table(part, path.parent)
    if not isinstance(content, dict) or not all(isinstance(values, list) for values in content.values()):
        raise ManifestError(
            f"{path} holds no mapping of positions to lists of choices, neither by itself nor in the space of a study"
        )
    return content
