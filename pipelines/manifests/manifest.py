"""The exported selection: a folder that says which rows are kept, of which data, and how they were chosen.

`manifest.json` is a Croissant 1.1 description that any Croissant reader loads; `kept.parquet` lists the kept rows. The
rows are those that stay, never those that go. Nothing in the folder depends on when or where it was written, so the
same selection gives the same bytes, and a change of any byte is found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import xxhash

from secateur.pipelines.manifests import croissant, kept_rows
from secateur.pipelines.manifests.document import (
    DOCUMENT,
    ManifestError,
    check_seals,
    explained,
    folder_of,
    read_document,
    refuse_other_contents,
    seal_of,
    write_document,
)
from secateur.pipelines.manifests.provenance import ClassCount, Declaration, Provenance, Unit
from secateur.pipelines.storage.whole_files import new_folder
from secateur.selectors.contract import resolve_keep

if TYPE_CHECKING:
    import datasets

__all__ = ["DOCUMENT", "ROWS", "HashRows", "Manifest", "ManifestError", "fingerprint"]

ROWS: Final = "kept.parquet"

MOST_ROWS = 2**36
"""Rows that a mask may be of; what a manifest claims costs nothing to claim."""

HashRows = Callable[["datasets.Dataset"], "pl.Series | Sequence[str]"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """A selection on disk: what it says of itself and its table of kept rows.

    `table` has one record per kept row: `row` int64 ascending, `content_hash` (32 hexadecimal digits, xxh3-128),
    `label` int64, `weight` float32 where the selection weights, and `score_<name>` float32 of each score.
    """

    path: Path
    declaration: Declaration
    table: pl.DataFrame

    @classmethod
    def write(
        cls,
        folder: Path | str,
        samples: pl.DataFrame,
        keep: np.ndarray,
        provenance: Provenance,
        *,
        weights: np.ndarray | None = None,
        scores: Mapping[str, np.ndarray] | None = None,
        label_names: Sequence[str] | None = None,
        unit: Unit = "sample",
        overwrite: bool = False,
    ) -> "Manifest":
        """Write the folder, whole or not at all, and read it back.

        `samples` holds all n rows: `row` 0 … n-1, `content_hash` (32 hexadecimal digits) and `label` int64. `keep` is
        bool `[n]`; `weights` and each of `scores` float32 `[n]`. `unit` says what a row is.
        Raises ManifestError for input that does not fit together, and where the target exists without `overwrite` or
        holds anything but a manifest.
        """
        folder = Path(folder)
        with explained(f"cannot write manifest {folder}"):
            kept_rows.check_samples(samples, keep)
            _check_provenance(provenance, keep, scores or {})
            refuse_other_contents(folder, {ROWS})
            table = kept_rows.kept_table(samples, keep, weights, scores or {})
            with new_folder(folder, overwrite=overwrite) as partial:
                kept_rows.write(table, partial / ROWS)
                declaration = Declaration(
                    format=1,
                    kept=True,
                    unit=unit,
                    count=table.height,
                    of=samples.height,
                    fingerprint=fingerprint(samples["content_hash"]),
                    columns=tuple(table.columns),
                    classes=tuple(_histogram(samples["label"], table["label"], label_names)),
                    files={ROWS: seal_of(partial / ROWS)},
                    provenance=provenance,
                    root="",
                )
                write_document(partial, _document(declaration))
                written = cls.load(partial)
        return cls(folder, written.declaration, written.table)

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> "Manifest":
        """Read a manifest from its folder or its manifest.json.

        Structure, root and sizes are always checked; `verify` adds the SHA-256 of the files and that what they hold
        agrees with what is said of them. Raises ManifestError with the one thing that is wrong.
        """
        folder = folder_of(path)
        with explained(f"manifest {folder}"):
            declaration, document = read_document(folder / DOCUMENT, Declaration)
            _check_document(declaration, document)
            check_seals(folder, declaration.files, contents=verify)
            table = kept_rows.read(folder / ROWS, declaration.columns, declaration.count)
            if verify:
                _check_table(declaration, table)
        return cls(folder, declaration, table)

    def verify(self) -> None:
        """Read the folder again and check everything in it.

        Raises ManifestError with the one thing that is wrong, a change since this manifest was loaded included.
        """
        if Manifest.load(self.path).declaration != self.declaration:
            raise ManifestError(f"manifest {self.path} is another one than was loaded from there")

    @property
    def provenance(self) -> Provenance:
        """Where the selection comes from."""
        return self.declaration.provenance

    @property
    def rows(self) -> np.ndarray:
        """Kept rows of the data set that it was made from, int64, ascending."""
        return self.table["row"].to_numpy()

    @property
    def hashes(self) -> pl.Series:
        """Content hash of each kept row, 32 hexadecimal digits."""
        return self.table["content_hash"]

    @property
    def weights(self) -> np.ndarray | None:
        """Weight of each kept row, float32, or None where all weigh the same."""
        return self.table["weight"].to_numpy() if "weight" in self.table.columns else None

    def keep(self, count: int | None = None) -> np.ndarray:
        """Keep mask, bool `[n]`; raises ManifestError where `count` is not the n that it was made of."""
        if count is not None and count != self.declaration.of:
            raise ManifestError(
                f"manifest {self.path} is of {self.declaration.of} rows, not {count}; "
                f"apply() finds the kept rows in data that has changed"
            )
        if self.declaration.of > MOST_ROWS:
            raise ManifestError(
                f"manifest {self.path} claims {self.declaration.of} rows, too many for a mask; use rows"
            )
        mask = np.zeros(self.declaration.of, dtype=np.bool_)
        mask[self.rows] = True
        return mask

    def locate(self, hashes: pl.Series | Sequence[str]) -> np.ndarray:
        """Row of each kept sample in data with these content hashes, int64 `[kept]`, aligned with `table`.

        Where the data is what the manifest was made from these are `rows`. A sample that moved is found by its content
        hash, equal samples as many times as they were kept. Raises ManifestError where kept samples are missing.
        """
        found = hashes if isinstance(hashes, pl.Series) else pl.Series(hashes, dtype=pl.String)
        if found.len() == self.declaration.of and fingerprint(found) == self.declaration.fingerprint:
            return self.rows
        located = kept_rows.locate(self.rows, self.hashes, found)
        missing = np.flatnonzero(located < 0)
        if len(missing):
            shown = " and ".join(self.hashes[int(position)] for position in missing[:2])
            raise ManifestError(
                f"manifest {self.path} was not made from this data: {len(missing)} of its {self.declaration.count} "
                f"kept samples are missing from the {found.len()} rows given (content hash {shown})"
            )
        return located

    def apply(
        self, dataset: "datasets.Dataset", hash_rows: "HashRows | Mapping[str, Any] | None" = None
    ) -> "datasets.Dataset":
        """The kept rows of a data set, in its order.

        Rows are hashed by the columns that the manifest names; `hash_rows` gives other columns, or a function from the
        data set to its content hashes. Rows that moved are found by content hash. Raises ManifestError, with the
        reason, for data that the manifest was not made from.
        """
        rows = self.locate(self.hashes_of(dataset, hash_rows))
        return dataset.select(np.sort(rows))

    def hashes_of(
        self, dataset: "datasets.Dataset", hash_rows: "HashRows | Mapping[str, Any] | None" = None
    ) -> "pl.Series | Sequence[str]":
        """Content hashes of a data set's rows, by the columns that the manifest names or as `hash_rows` says.

        Raises ManifestError for anything but one split, and where the rows have no such columns.
        """
        import datasets

        if not isinstance(dataset, datasets.Dataset):
            raise ManifestError(f"a manifest is applied to one split, a datasets.Dataset, not {type(dataset).__name__}")
        if callable(hash_rows):
            return hash_rows(dataset)
        columns = hash_rows or self.provenance.columns
        if not columns:
            raise ManifestError(f"manifest {self.path} names no columns to hash; give them as hash_rows")
        from secateur.pipelines.data.columns import Columns
        from secateur.pipelines.data.identity import content_hashes

        try:
            return content_hashes(dataset, Columns(**columns))
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(
                f"manifest {self.path} cannot be applied to this data, whose columns are {dataset.column_names}: "
                f"rows are hashed by {dict(columns)}, which failed with {error}"
            ) from error


def fingerprint(hashes: pl.Series) -> str:
    """xxh3-128 of content hashes in their order, as hexadecimal text one after another: 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    for start in range(0, hashes.len(), 1 << 20):
        digest.update("".join(hashes.slice(start, 1 << 20).to_list()).encode())
    return digest.hexdigest()


def _check_provenance(provenance: Provenance, keep: np.ndarray, scores: Mapping[str, np.ndarray]) -> None:
    kept, asked = int(np.count_nonzero(keep)), resolve_keep(provenance.keep, len(keep))
    if kept != provenance.budget or kept != asked:
        raise ManifestError(
            f"{kept} samples are kept, but the budget is {provenance.budget} and keep {provenance.keep} of "
            f"{len(keep)} comes to {asked}"
        )
    if unknown := sorted(set(scores) - {card.name for card in provenance.scores}):
        raise ManifestError(f"no score card says what the scores {unknown} mean")


def _histogram(before: pl.Series, after: pl.Series, names: Sequence[str] | None) -> Iterator[ClassCount]:
    was, now = (dict(series.value_counts().iter_rows()) for series in (before, after))
    labels = sorted(set(was) | set(range(len(names or ()))))
    if names is not None and labels != list(range(len(names))):
        raise ManifestError(f"labels run from {labels[0]} to {labels[-1]}, but {len(names)} label names are given")
    for label in labels:
        name = None if names is None else names[label]
        yield ClassCount(label=label, name=name, before=was.get(label, 0), after=now.get(label, 0))


def _document(declaration: Declaration) -> dict[str, Any]:
    source, seal = declaration.provenance, declaration.files[ROWS]
    what = f"{source.dataset} at revision {source.revision}" if source.revision else source.dataset
    how = f"selection {source.selection} by {source.selector} version {source.selector_version}, seed {source.seed}"
    return croissant.describe(
        name=f"{source.dataset}: {source.selection}",
        description=f"The rows listed are KEPT: {declaration.count} of {declaration.of} {declaration.unit}s of {what}, "
        f"{how}.",
        file=croissant.ParquetFile(ROWS, seal.bytes, seal.sha256),
        columns=tuple(_columns(declaration)),
        derived_from=f"{what}, fingerprint {declaration.fingerprint}",
        generated_by=how,
        agent=" ".join(("secateur", *(version for name, version in source.versions.items() if name == "secateur"))),
        extra={key: value for key in ("license", "url") if (value := getattr(source, key)) is not None},
        own=declaration.model_dump(mode="json"),
    )


def _columns(declaration: Declaration) -> Iterator[croissant.Column]:
    meanings = {
        "row": "Kept row of the data set, counted from 0.",
        "content_hash": "xxh3-128 of the sample's canonical bytes and label.",
        "label": "Class of the sample.",
        "weight": "Weight of the sample in training.",
    }
    for card in declaration.provenance.scores:
        meanings[kept_rows.SCORE + card.name] = (
            f"Score {card.name} version {card.version}: high means {card.high_means}."
        )
    for name in declaration.columns:
        yield croissant.Column(name, kept_rows.croissant_types(name), meanings[name])


def _check_document(declaration: Declaration, document: Mapping[str, Any]) -> None:
    """What Croissant readers are told must be what we are told; prose may change from version to version."""
    if not declaration.kept:
        raise ManifestError("it does not say that its rows are the kept ones")
    if set(declaration.files) != {ROWS}:
        raise ManifestError(f"it must list the file {ROWS} and no other")
    kept_rows.check_columns(declaration.columns, [card.name for card in declaration.provenance.scores])
    told, expected = _without_prose(document), _without_prose(_document(declaration))
    for key in sorted(told.keys() | expected.keys()):
        if key != "secateur" and told.get(key) != expected.get(key):
            raise ManifestError(f"its Croissant `{key}` is not what its own part declares")
    resolved = resolve_keep(declaration.provenance.keep, declaration.of)
    if not declaration.count == declaration.provenance.budget == resolved:
        raise ManifestError(
            f"it lists {declaration.count} kept rows, but its budget is {declaration.provenance.budget} "
            f"and keep {declaration.provenance.keep} of {declaration.of} comes to {resolved}"
        )


def _without_prose(value: Any) -> Any:
    """A JSON value less its names and descriptions, however deep they stand."""
    if isinstance(value, dict):
        return {key: _without_prose(inner) for key, inner in value.items() if key not in croissant.PROSE}
    return [_without_prose(inner) for inner in value] if isinstance(value, list) else value


def _check_table(declaration: Declaration, table: pl.DataFrame) -> None:
    kept_rows.check(table, declaration.of)
    classes = declaration.classes
    labels = [counted.label for counted in classes]
    if labels != sorted(set(labels)):
        raise ManifestError("its classes are not in ascending order, each once")
    if sum(counted.before for counted in classes) != declaration.of:
        raise ManifestError("its class histogram before does not add up to the number of rows")
    if any(counted.after > counted.before for counted in classes):
        raise ManifestError("its class histogram has more samples after than before")
    after = {counted.label: counted.after for counted in classes if counted.after}
    if after != dict(table["label"].value_counts().iter_rows()):
        raise ManifestError("its class histogram after differs from the labels of the kept rows")
    if declaration.count == declaration.of and fingerprint(table["content_hash"]) != declaration.fingerprint:
        raise ManifestError("its fingerprint differs from the content hashes, though every row is kept")
