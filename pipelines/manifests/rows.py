"""Rows of a data set that a manifest keeps: a Croissant 1.1 description that any reader loads, and `kept.parquet`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
import xxhash
from pydantic import StrictInt

from secateur.pipelines.manifests import croissant, kept_rows
from secateur.pipelines.manifests.document import ROWS, ManifestError, explained
from secateur.pipelines.manifests.payload import Payload, refuse_files, refuse_settings
from secateur.pipelines.manifests.provenance import Count, Declaration, FrozenModel, Name, Unit
from secateur.selectors.contract import resolve_keep

if TYPE_CHECKING:
    import datasets

MOST_ROWS = 2**36
"""Rows that a mask may be of; what a manifest claims costs nothing to claim."""
MADE_FOR = "rows xxh3:"

HashRows = Callable[["datasets.Dataset"], "pl.Series | Sequence[str]"]


class ClassCount(FrozenModel):
    """How many samples of a class there were before and are after."""

    label: StrictInt
    name: str | None
    before: Count
    after: Count


class RowsPart(FrozenModel):
    """What a manifest says of kept rows: the columns of their table, and how many of each class there were and are."""

    kind: Literal["rows"] = "rows"
    columns: tuple[Name, ...]
    classes: tuple[ClassCount, ...]


@dataclass(frozen=True, eq=False)
class Rows(Payload):
    """Rows that stay of a data set of `rows_in_all`.

    `table` has one record per kept row: `row` int64 ascending, `content_hash` (32 hexadecimal digits, xxh3-128),
    `label` int64 (`stratum`, of targets that are no classes), `weight` float32 where the selection weights, and
    `score_<name>` float32 of each score.
    `fingerprint` is that of the content hashes of all rows, kept or not. `columns` are those that rows of the data set
    are hashed by: see `Provenance`.
    """

    Part = RowsPart
    units: ClassVar[tuple[Unit, ...]] = ("sample",)

    table: pl.DataFrame
    rows_in_all: int
    fingerprint: str
    classes: tuple[ClassCount, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def chosen(
        cls,
        samples: pl.DataFrame,
        keep: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        scores: Mapping[str, np.ndarray] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> "Rows":
        """The rows that a mask keeps.

        `samples` holds all n rows: `row` 0 … n-1, `content_hash` (32 hexadecimal digits) and `label` or `stratum`
        int64, which `label_names` names. `keep` is bool `[n]`; `weights` and each of `scores` float32 `[n]`. Raises
        ManifestError for input that does not fit together.
        """
        with explained("these rows cannot be kept"):
            kept_rows.check_samples(samples, keep)
            table = kept_rows.kept_table(samples, keep, weights, scores or {})
            group = kept_rows.group_of(samples.columns)
            classes = tuple(_histogram(samples[group], table[group], label_names))
            return cls(table, samples.height, fingerprint(samples["content_hash"]), classes)

    @property
    def count(self) -> int:
        return self.table.height

    @property
    def size(self) -> int:
        return self.rows_in_all

    @property
    def made_for(self) -> str:
        return MADE_FOR + self.fingerprint

    @property
    def part(self) -> RowsPart:
        return RowsPart(columns=tuple(self.table.columns), classes=self.classes)

    def write(self, folder: Path) -> None:
        """See `Payload.write`."""
        kept_rows.write(self.table, folder / ROWS)

    @classmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """See `Payload.check`."""
        refuse_files(declaration, ROWS)
        digits = declaration.made_for.removeprefix(MADE_FOR)
        if len(digits) != 32 or set(digits) - set("0123456789abcdef") or not declaration.made_for.startswith(MADE_FOR):
            raise ManifestError(f"made_for: {declaration.made_for!r} is no fingerprint of rows")
        kept_rows.check_columns(declaration.payload.columns, [card.name for card in declaration.provenance.scores])
        count, of, keep = declaration.count, declaration.of, declaration.provenance.keep
        if count != (resolved := resolve_keep(keep, of)):
            raise ManifestError(f"{count} rows are kept, but keep {keep} of {of} comes to {resolved}")

    @classmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> "Rows":
        """See `Payload.read`."""
        part = declaration.payload
        table = kept_rows.read(folder / ROWS, part.columns, declaration.count)
        if verify:
            _check_table(declaration, table)
        return cls(table, declaration.of, declaration.fingerprint, part.classes, declaration.provenance.columns)

    @classmethod
    def described(cls, declaration: Declaration[Any]) -> dict[str, Any]:
        """The Croissant 1.1 description."""
        source, seal = declaration.provenance, declaration.files[ROWS]
        what = f"{source.dataset} at revision {source.revision}" if source.revision else source.dataset
        how = f"selection {source.selection} by {source.selector} version {source.selector_version}, seed {source.seed}"
        return croissant.describe(
            name=f"{source.dataset}: {source.selection}",
            description=f"The rows listed are KEPT: {declaration.count} of {declaration.of} {declaration.unit}s of "
            f"{what}, {how}.",
            file=croissant.ParquetFile(ROWS, seal.bytes, seal.sha256),
            columns=tuple(_columns(declaration)),
            derived_from=f"{what}, fingerprint {declaration.fingerprint}",
            generated_by=how,
            agent=" ".join(("secateur", *(version for name, version in source.versions.items() if name == "secateur"))),
            extra={key: value for key in ("license", "url") if (value := getattr(source, key)) is not None},
        )

    @property
    def rows(self) -> np.ndarray:
        """Kept rows, int64, ascending."""
        return self.table["row"].to_numpy()

    @property
    def hashes(self) -> pl.Series:
        """Content hash of each kept row."""
        return self.table["content_hash"]

    @property
    def weights(self) -> np.ndarray | None:
        """Weight of each kept row, float32, or None where all weigh the same."""
        return self.table["weight"].to_numpy() if "weight" in self.table.columns else None

    def keep(self, count: int | None = None) -> np.ndarray:
        """See `Manifest.keep`."""
        if count is not None and count != self.size:
            raise ManifestError(
                f"it is of {self.size} rows, not {count}; apply() finds the kept rows in data that has changed"
            )
        if self.size > MOST_ROWS:
            raise ManifestError(f"it claims {self.size} rows, too many for a mask; use rows")
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[self.rows] = True
        return mask

    def locate(self, hashes: pl.Series | Sequence[str]) -> np.ndarray:
        """See `Manifest.locate`."""
        there = hashes if isinstance(hashes, pl.Series) else pl.Series(hashes, dtype=pl.String)
        if there.len() == self.size and fingerprint(there) == self.fingerprint:
            return self.rows
        located = kept_rows.locate(self.rows, self.hashes, there)
        missing = np.flatnonzero(located < 0)
        if len(missing):
            shown = " and ".join(self.hashes[int(position)] for position in missing[:2])
            raise ManifestError(
                f"it was not made from this data: {len(missing)} of its {self.count} kept samples are missing from the "
                f"{there.len()} rows given (content hash {shown})"
            )
        return located

    def hashes_of(
        self, dataset: "datasets.Dataset", hash_rows: HashRows | Mapping[str, Any] | None = None
    ) -> pl.Series | Sequence[str]:
        """Content hashes of a data set's rows, by the columns that the manifest names or as `hash_rows` says.

        Raises ManifestError for anything but one split, and where the rows have no such columns.
        """
        import datasets

        if not isinstance(dataset, datasets.Dataset):
            raise ManifestError(f"a manifest is applied to one split, a datasets.Dataset, not {type(dataset).__name__}")
        if callable(hash_rows):
            return hash_rows(dataset)
        columns = hash_rows or self.columns
        if not columns:
            raise ManifestError("it names no columns to hash; give them as hash_rows")
        from secateur.pipelines.data.columns import Columns
        from secateur.pipelines.data.identity import content_hashes

        try:
            return content_hashes(dataset, Columns(**columns))
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(
                f"it does not go with this data, whose columns are {dataset.column_names}: rows are hashed by "
                f"{dict(columns)}, which failed with {error}"
            ) from error

    def apply(
        self,
        target: Any,
        output: Path | None,
        *,
        hash_rows: HashRows | Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Any:
        """See `Manifest.apply`."""
        refuse_settings(self.unit, settings)
        if isinstance(target, str | Path):
            from secateur.pipelines.manifests.row_files import write_kept

            names = [counted.name for counted in self.classes if counted.name]
            whole = names if len(names) == len(self.classes) else None
            columns = self.columns if hash_rows is None or callable(hash_rows) else hash_rows
            return write_kept(
                Path(target), output, columns, whole, lambda data: self.locate(self.hashes_of(data, hash_rows))
            )
        rows = self.locate(self.hashes_of(target, hash_rows))
        return target.select(np.sort(rows))


def fingerprint(hashes: pl.Series) -> str:
    """xxh3-128 of content hashes in their order, as hexadecimal text one after another: 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    for start in range(0, hashes.len(), 1 << 20):
        digest.update("".join(hashes.slice(start, 1 << 20).to_list()).encode())
    return digest.hexdigest()


def _histogram(before: pl.Series, after: pl.Series, names: Sequence[str] | None) -> Iterator[ClassCount]:
    was, now = (dict(series.value_counts().iter_rows()) for series in (before, after))
    labels = sorted(set(was) | set(range(len(names or ()))))
    if names is not None and labels != list(range(len(names))):
        raise ManifestError(f"labels run from {labels[0]} to {labels[-1]}, but {len(names)} label names are given")
    for label in labels:
        name = None if names is None else names[label]
        yield ClassCount(label=label, name=name, before=was.get(label, 0), after=now.get(label, 0))


def _columns(declaration: Declaration[Any]) -> Iterator[croissant.Column]:
    meanings = {
        "row": "Kept row of the data set, counted from 0.",
        "content_hash": "xxh3-128 of the sample's canonical bytes and target.",
        "label": "Class of the sample.",
        "stratum": "Group that the sample's target falls into: a range of numbers, or its rarest label.",
        "weight": "Weight of the sample in training.",
    }
    for card in declaration.provenance.scores:
        meanings[kept_rows.SCORE + card.name] = (
            f"Score {card.name} version {card.version}: high means {card.high_means}."
        )
    for name in declaration.payload.columns:
        yield croissant.Column(name, kept_rows.croissant_types(name), meanings[name])


def _check_table(declaration: Declaration[Any], table: pl.DataFrame) -> None:
    kept_rows.check(table, declaration.of)
    classes = declaration.payload.classes
    labels = [counted.label for counted in classes]
    if labels != sorted(set(labels)):
        raise ManifestError("its classes are not in ascending order, each once")
    if sum(counted.before for counted in classes) != declaration.of:
        raise ManifestError("its class histogram before does not add up to the number of rows")
    if any(counted.after > counted.before for counted in classes):
        raise ManifestError("its class histogram has more samples after than before")
    after = {counted.label: counted.after for counted in classes if counted.after}
    if after != dict(table[kept_rows.group_of(table.columns)].value_counts().iter_rows()):
        raise ManifestError("its class histogram after differs from the labels of the kept rows")
    if declaration.count == declaration.of and fingerprint(table["content_hash"]) != declaration.fingerprint:
        raise ManifestError("its fingerprint differs from the content hashes, though every row is kept")
