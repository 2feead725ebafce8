"""Vectors by which an audit compares rows: the caller's own files, a column, or a pretrained model.

Their names are those of `embeddings` in a study, `{"file": …}`, `{"column": …}` and `{"encoder": …}`, or a name alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from secateur.pipelines.audits.contract import Vectors
from secateur.pipelines.audits.reading import PartFiles
from secateur.pipelines.audits.vectors import brought, of_encoder
from secateur.pipelines.data.array_files import ENDING, array_at, no_array
from secateur.pipelines.data.own_vectors import lists_in
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.studies.rejections import did_you_mean

TRAIN = "train"


@dataclass(frozen=True)
class AskedVectors:
    """Arrays by the name of their part, with their names for messages; or the name of a column or model."""

    arrays: Mapping[str, Shaped[np.ndarray, "m d"]]
    said: Mapping[str, str]
    name: str | None = None
    column: bool | None = None
    """Whether the name is a column's; None if unknown."""
    settings: Mapping[str, Any] | None = None
    """Further settings of the model."""


def asked_vectors(given: Any, *, near: bool = True) -> AskedVectors | None:
    """The vectors in a caller's argument; files are opened as memory maps.

    An array or a path that ends in .npy belongs to the training rows; a mapping, or texts `PART=FILE`, to the parts by
    name; any other text is a column of the data or a model. Raises SourceError for anything else, and for vectors
    without `near`.
    """
    if given is None or (isinstance(given, list | tuple) and not given):
        return None
    if not near:
        raise SourceError(
            "embeddings: vectors find near copies, and near=False leaves near copies out: drop one of the two"
        )
    if isinstance(given, list | tuple):
        if len(given) == 1 and isinstance(given[0], str) and not given[0].endswith(ENDING):
            return named(given[0])
        given = by_part(given)
    elif isinstance(given, str | Path) and not str(given).endswith(ENDING):
        return named(given)
    elif isinstance(given, Mapping) and {"encoder", "column", "kind"} & given.keys():
        return as_in_a_study(given)
    elif not isinstance(given, Mapping):
        given = {TRAIN: given}
    opened = {TRAIN if part == "file" else str(part): opened_array(one) for part, one in given.items()}
    arrays = {part: array for part, (array, _) in opened.items()}
    return AskedVectors(arrays, {part: said for part, (_, said) in opened.items()})


def as_in_a_study(given: Mapping[str, Any]) -> AskedVectors:
    """The vectors for the keys of a study's `embeddings`."""
    if "column" in given:
        if more := [key for key in given if key != "column"]:
            raise SourceError(f"embeddings: {more[0]} does not go with a column; leave it out")
        return AskedVectors({}, {}, str(given["column"]), True)
    if given.get("kind", "encoder") != "encoder" or not given.get("encoder"):
        raise SourceError(
            "embeddings: an audit takes an encoder, a column of vectors or files of them; words, looks and columns it "
            "compares without"
        )
    return AskedVectors({}, {}, str(given["encoder"]), False, {**given, "kind": "encoder"})


def by_part(given: Sequence[Any]) -> dict[str, str]:
    """Files by their part; raises SourceError for a text without a file, and for two files of one part."""
    found: dict[str, str] = {}
    for one in map(str, given):
        part, equals, file = one.rpartition("=")
        if not one.endswith(ENDING):
            raise SourceError(
                f"--embeddings {one}: name one column or model alone, or a file for each part, as PART=FILE{ENDING}"
            )
        if not equals or Path(one).is_file():
            part, file = TRAIN, one
        if part in found:
            raise SourceError(
                f"--embeddings {one}: {found[part]} is of {part}, too; write PART=FILE{ENDING} for others"
            )
        found[part] = file
    return found


def files_in(given: Any) -> list[str]:
    """Paths in a caller's argument, which no output may overwrite."""
    if isinstance(given, Mapping):
        given = [one for one in given.values() if isinstance(one, str | Path)]
    several = given if isinstance(given, list | tuple) else [given]
    return [part for one in several if isinstance(one, str | Path) for part in (str(one), str(one).rpartition("=")[2])]


def opened_array(given: Any) -> tuple[Shaped[np.ndarray, "m d"], str]:
    """An array, or a file of one as a memory map, and its name for messages; SourceError for anything else."""
    said = "the array" if not isinstance(given, str | Path) else str(given)
    if isinstance(given, str | Path):
        given = array_at(given, "embeddings")
    found = np.asarray(given) if not isinstance(given, np.ndarray) else given
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise SourceError(
            f"embeddings: {said} holds {found.dtype} of shape {list(found.shape)}, and numbers [rows, dimensions] are "
            "needed"
        )
    return found, said


def named(given: str | Path) -> AskedVectors:
    """A column or a model by its name; raises SourceError for an empty name and for other files of arrays."""
    name = str(given)
    if not name.strip():
        raise SourceError(f"embeddings: the name is empty; name a FILE{ENDING}, a column, or a model")
    if Path(name).suffix in (".npz", ".pt", ".pkl") or Path(name).expanduser().is_file():
        raise SourceError(no_array(name, "embeddings"))
    return AskedVectors({}, {}, name)


def refuse_alone(asked: AskedVectors) -> None:
    """Raise SourceError for vectors of other parts without those of training, which these would be compared with."""
    if TRAIN not in asked.arrays:
        given = ", ".join(asked.arrays)
        raise SourceError(
            f"embeddings: vectors of {given or 'no part'} are compared with those of train, which has none; name them "
            f"as well: --embeddings FILE{ENDING}, or a mapping with {TRAIN!r}"
        )


def lacking(vectors: Vectors, parts: Mapping[int, PartFiles]) -> list[str]:
    """A note on the parts without vectors; empty where all have some, and where a model makes them."""
    without = [part.name for number, part in parts.items() if vectors.held and number not in vectors.counts]
    if not without:
        return []
    have = "has" if len(without) == 1 else "have"
    return [
        f"near copies by embeddings: {', '.join(without)} {have} no vectors, so other measures alone compare these rows"
    ]


def vectors_for(asked: AskedVectors, parts: Mapping[int, PartFiles], columns: Iterable[str], kind: str) -> Vectors:
    """Vectors of the parts of an audit; `columns` are those of the training rows, `kind` is text, image or features.
    Raises SourceError, or ValueError for a model that cannot be loaded.
    """
    numbers = {part.name: number for number, part in parts.items()}
    if asked.name is None:
        if unknown := [name for name in asked.arrays if name not in numbers]:
            raise SourceError(
                f"embeddings: there is no part {unknown[0]!r}; {did_you_mean(unknown[0], numbers)}there are: "
                f"{', '.join(numbers)}"
            )
        refuse_alone(asked)
        arrays = {numbers[name]: array for name, array in sorted(asked.arrays.items(), key=lambda one: numbers[one[0]])}
        return brought(arrays, {numbers[name]: said for name, said in asked.said.items()}, "vectors of yours")
    there = list(columns)
    if asked.column or (asked.column is None and asked.name in there):
        return of_column(asked.name, parts, there)
    return named_model(asked, there, kind)


def of_column(name: str, parts: Mapping[int, PartFiles], there: Sequence[str]) -> Vectors:
    """Vectors of a column of lists in every part; SourceError for a part without it."""
    for part in parts.values():
        held = there if part.name == TRAIN else list(part.files[0].columns)
        if name not in held:
            raise SourceError(
                f"embeddings: {part.name} has no column {name!r}; {did_you_mean(name, held)}there are: "
                f"{', '.join(held)}"
            )
    arrays = {number: lists_in(part.files, name, "embeddings") for number, part in parts.items()}
    said = {number: f"column {name!r} of {part.name}" for number, part in parts.items()}
    return brought(arrays, said, f"column {name}")


def named_model(asked: AskedVectors, there: Sequence[str], kind: str) -> Vectors:
    """Vectors of a pretrained model by its name or folder."""
    from secateur.trainers.passes.embeddings import EmbeddingSettings

    name = str(asked.name)
    known = asked.column is False or Path(name).expanduser().is_dir()
    near = "" if known else did_you_mean(name, there)
    if near or not (known or "/" in name):  # fail before a search on the hub
        raise SourceError(
            f"embeddings: the data have no column {name!r}; {near}there are: {', '.join(there)}. Name a model by its "
            f"folder, or one of the hub as AUTHOR/{name.rpartition('/')[2]}"
        )
    settings = EmbeddingSettings.model_validate(asked.settings or {"kind": "encoder", "encoder": name})
    return of_encoder(settings, kind)
