"""A manifest: a folder that lists the kept units of something, and how they were chosen.

`manifest.json` is the document, files beside it hold its long parts; units are listed if they are kept, never if they
are dropped. The folder does not depend on the time or place of writing, so equal choices give equal bytes. A change of
any byte is found, and every claim of a hostile folder is checked by count before use.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from secateur.pipelines.files.whole_files import new_folder
from secateur.pipelines.manifests.choices import Choices
from secateur.pipelines.manifests.document import (
    DOCUMENT,
    ManifestError,
    check_seals,
    check_told,
    declared,
    explained,
    parse_document,
    refuse_other_contents,
    seals_of,
    short,
    write_document,
)
from secateur.pipelines.manifests.epochs import Epochs
from secateur.pipelines.manifests.masks import Masks
from secateur.pipelines.manifests.payload import Payload
from secateur.pipelines.manifests.provenance import Declaration, Provenance
from secateur.pipelines.manifests.rows import HashRows, Rows
from secateur.trainers.pruning.kept import Kept

if TYPE_CHECKING:
    import polars as pl

PAYLOADS: Final[Mapping[str, type[Payload]]] = {
    "rows": Rows,
    "epochs": Epochs,
    "masks": Masks,
    "choices": Choices,
}
"""Payloads by their `kind`."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """A manifest's declaration and its payload of kept units.

    >>> import tempfile, polars as pl
    >>> hashes = [f"{row:032x}" for row in range(4)]
    >>> samples = pl.DataFrame({"row": range(4), "content_hash": hashes, "label": [0, 0, 1, 1]})
    >>> rows = Rows.chosen(samples, np.array([True, False, True, True]))
    >>> told = Provenance(dataset="toy", revision="1", selection="by hand", selector="top", selector_version="1",
    ...                   settings={}, keep=3, budget=3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Manifest.write(f"{folder}/kept", rows, told)
    ...     Manifest.load(f"{folder}/kept").payload.table["row"].to_list()
    [0, 2, 3]
    """

    path: Path
    declaration: Declaration[Any]
    payload: Payload

    @classmethod
    def write(
        cls,
        folder: Path | str,
        payload: Payload,
        provenance: Provenance,
        *,
        overwrite: bool = False,
        verify: bool = True,
    ) -> "Manifest":
        """Write the folder, whole or not at all, and read it back; a caller that reads it itself passes `verify=False`.

        Raises ManifestError for a payload and a provenance that do not fit together, and where the target exists
        without `overwrite` or holds anything but a manifest.
        """
        folder = Path(folder)
        with explained(f"cannot write manifest {folder}"):
            refuse_other_contents(folder)
            with new_folder(folder, overwrite=overwrite) as partial:
                payload.write(partial)
                written = cls.seal(partial, payload, provenance, verify=verify)
        return cls(folder, written.declaration, written.payload)

    @classmethod
    def seal(cls, folder: Path, payload: Payload, provenance: Provenance, *, verify: bool = True) -> "Manifest":
        """Write the manifest.json of files that stand in a folder already; with `verify`, read all of it back."""
        declaration: Declaration[Any] = Declaration[payload.Part](  # type: ignore[name-defined]
            format=1,
            kept=True,
            unit=payload.unit,
            count=payload.count,
            of=payload.size,
            made_for=payload.made_for,
            payload=payload.part,
            files=seals_of(folder),
            provenance=provenance,
            root="",
        )
        check(declaration, type(payload))
        document = payload.described(declaration) | {"secateur": declaration.model_dump(mode="json")}
        write_document(folder, document)
        if verify:
            return cls.load(folder)
        return cls(folder, declaration.model_copy(update={"root": document["secateur"]["root"]}), payload)

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> "Manifest":
        """Read a manifest of any kind from its folder or its manifest.json.

        Structure, root, sizes and counts are always checked; `verify` adds the SHA-256 of the files and the agreement
        of their content with the document. Raises ManifestError with the first fault.
        """
        folder = Path(path).parent if Path(path).name == DOCUMENT else Path(path)
        with explained(f"manifest {folder}"):
            document = parse_document(folder / DOCUMENT)
            kind = payload_of(document)
            declaration = declared(document, kind.Part)
            check(declaration, kind)
            check_told(document, kind.described(declaration))
            check_seals(folder, declaration.files, contents=verify)
            payload = kind.read(folder, declaration, verify=verify)
            for name, value in {"count": payload.count, "of": payload.size, "made_for": payload.made_for}.items():
                if value != (said := getattr(declaration, name)):
                    raise ManifestError(f"{name}: its {declaration.unit}s give {value}, it says {said}")
        return cls(folder, declaration, payload)

    def verify(self) -> None:
        """Read the folder again and check everything in it.

        Raises ManifestError with the first fault, including a change since this manifest was loaded.
        """
        if Manifest.load(self.path).declaration != self.declaration:
            raise ManifestError(f"manifest {self.path} is another one than was loaded from there")

    @property
    def provenance(self) -> Provenance:
        """The origin of the choice."""
        return self.declaration.provenance

    @property
    def selection(self) -> Rows:
        """The kept rows of a data set; raises ManifestError for a manifest of other units."""
        if isinstance(self.payload, Epochs):
            raise ManifestError(
                f"manifest {self.path} keeps other samples in each of its {len(self.payload.sizes)} epochs: name one "
                "(--epoch, or manifest.at(epoch)), counted from 0"
            )
        if not isinstance(self.payload, Rows):
            raise ManifestError(
                f"manifest {self.path} keeps {self.declaration.unit}s, and only rows of a data set are listed, "
                "explained, compared and exported"
            )
        return self.payload

    @property
    def epochs(self) -> Epochs:
        """The epochs of a selection in training; raises ManifestError for any other manifest."""
        if not isinstance(self.payload, Epochs):
            raise ManifestError(
                f"manifest {self.path} keeps the same {self.declaration.unit}s throughout: it has no epochs, leave the "
                "epoch out"
            )
        return self.payload

    def at(self, epoch: int) -> "Manifest":
        """The rows of one epoch of a selection in training, as a manifest to export, compare and explain.

        Raises ManifestError for a manifest without epochs, and for an epoch that does not exist.
        """
        with explained(f"manifest {self.path}"):
            return self.of_rows(self.epochs.at(epoch), f"epoch {epoch}")

    def of_rows(self, rows: Rows, what: str) -> "Manifest":
        """This manifest for some of its rows; `what` is added to the name of its selection."""
        source = self.provenance
        said = source.model_copy(update={"selection": f"{source.selection}, {what}", "budget": rows.count})
        told = {"payload": rows.part, "count": rows.count, "provenance": said}
        return Manifest(self.path, self.declaration.model_copy(update=told), rows)

    @property
    def kept(self) -> Kept:
        """The mask of kept units; raises ManifestError for a manifest of rows or choices."""
        if not isinstance(self.payload, Masks):
            raise ManifestError(
                f"manifest {self.path} keeps {self.declaration.unit}s, which are no mask of weights, channels, deltas, "
                "heads or tokens"
            )
        return self.payload.kept

    @property
    def table(self) -> "pl.DataFrame":
        """The kept rows: see `Rows`."""
        return self.selection.table

    @property
    def rows(self) -> np.ndarray:
        """Rows of the user's file that stay, int64, ascending, from 0 and a header not counted.

        Raises ManifestError where the samples lie in several files: `places` has file and row. For a task's own samples
        these are `training_rows`.
        """
        with explained(f"manifest {self.path}"):
            return self.selection.rows

    @property
    def places(self) -> "pl.DataFrame":
        """The user's place of each kept sample: `file` by name, `row` in it, and `path` of pictures that have one."""
        return self.selection.places

    @property
    def training_rows(self) -> np.ndarray:
        """Numbers of the kept samples among the study's training samples, int64, ascending."""
        return self.selection.training_rows

    @property
    def weights(self) -> np.ndarray | None:
        """Weight of each kept row, float32, or None for equal weights."""
        return self.selection.weights

    def keep(self, count: int | None = None) -> np.ndarray:
        """Mask of the rows of the user's file, bool `[rows]`, true where one is kept; several files are concatenated.

        With the number of training samples as `count`, a mask of these; raises ManifestError for any other count.
        """
        with explained(f"manifest {self.path}"):
            return self.selection.keep(count)

    def locate(self, hashes: "pl.Series | Sequence[str]") -> np.ndarray:
        """Row of each kept sample in data with these content hashes, int64 `[kept]`, aligned with `table`.

        If the data is the manifest's file, or its training samples, these are the original rows. A moved sample is
        found by its content hash, equal samples as many times as they were kept. Raises ManifestError where kept
        samples are missing.
        """
        with explained(f"manifest {self.path}"):
            return self.selection.locate(hashes)

    def apply(
        self,
        target: Any,
        hash_rows: "HashRows | Mapping[str, Any] | None" = None,
        *,
        output: Path | str | None = None,
        **settings: Any,
    ) -> Any:
        """Keep the manifest's units of a target; raises ManifestError, with the reason, for a target that does not fit.

        Rows of a `datasets.Dataset`, of a table of pandas, polars or Arrow, of a list of dicts or of a map-style torch
        data set come back as the same type (the last as a torch `Subset`), in its order, with its own columns and
        values; of a `DatasetDict` those splits that hold all kept samples are pruned. Rows are hashed by the columns
        that the manifest names; moved rows are found by content hash. Labels may be texts, booleans and numbers as in
        the file, or numbers of the study's classes. Values that pandas, polars, `datasets` and torch changed on reading
        the file are recognised where a hash proves the original. `hash_rows` names other columns, or is a function from
        the data to its content hashes; `folder` is where relative paths of pictures start (by default the working
        directory, or a folder above the manifest).

        Any other target is a path; its kept part is written to `output`, whole or not at all: rows of a file, of a
        folder that `datasets` saved or of a folder of pictures; weights and channels of a safetensors checkpoint;
        deltas of a base, with `tuned`; heads of a model's folder; tokens of a prompt's file, with `model`, or of the
        manifest's own template for a model's folder; choices of a study or of a file of positions. Returns the output.

        A manifest of a selection in training needs the `epoch`, from 0: its rows come back in the order of training,
        twice where the epoch showed one twice; `epochs.shown(epoch)` has their weights.
        """
        name = target if isinstance(target, str | Path) else type(target).__name__
        with explained(f"manifest {self.path} cannot be applied to {name}"):
            if hash_rows is not None:
                if not callable(hash_rows) and not isinstance(hash_rows, Mapping):
                    raise ManifestError(f"hash_rows is a mapping of columns or a function, not {hash_rows!r}")
                settings["hash_rows"] = hash_rows
            if output is not None:
                if not isinstance(output, str | Path) or not isinstance(target, str | Path):
                    raise ManifestError("output is the path to write for a target that is a path")
                output = Path(output)
                if os.path.lexists(output):
                    raise ManifestError(f"{output} exists already: name another path to write")
            return self.payload.apply(target, output, **settings)


def check(declaration: Declaration[Any], kind: type[Payload]) -> None:
    """Raise ManifestError, or ValueError, for an impossible declaration of a manifest of this kind."""
    unit = declaration.unit
    if not declaration.kept:
        raise ManifestError(f"it does not say that its {unit}s are the kept ones")
    if unit not in kind.units:
        raise ManifestError(f"its unit is {unit!r}, its payload is of {' or '.join(kind.units)}")
    kind.check_count(declaration)
    kind.check(declaration)


def payload_of(document: Mapping[str, Any]) -> type[Payload]:
    """The kind of payload that a document declares."""
    part = document["secateur"].get("payload")
    kind = part.get("kind") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in PAYLOADS:
        raise ManifestError(f"its payload is of kind {short(kind)}, which is none of {', '.join(PAYLOADS)}")
    return PAYLOADS[kind]
