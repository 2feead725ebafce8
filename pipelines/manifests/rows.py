"""Rows of a data set that a manifest keeps: a Croissant 1.1 description that any reader loads, and `kept.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt

from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.data.lazy import pa, pl
from secateur.pipelines.manifests import kept_rows
from secateur.pipelines.manifests.budgets import check_budget
from secateur.pipelines.manifests.described_rows import check_table, described
from secateur.pipelines.manifests.document import ROWS, ManifestError, explained
from secateur.pipelines.manifests.origin import Origin, check_places, places
from secateur.pipelines.manifests.payload import Payload, refuse_files, refuse_settings
from secateur.pipelines.manifests.provenance import Count, Declaration, FrozenModel, Name, Unit

if TYPE_CHECKING:
    from secateur.pipelines.data.columns import Columns
    from secateur.pipelines.data.source_kinds.parts import SourceFile

MOST_ROWS = 2**36
"""Largest number of rows of a mask; a manifest's claim alone must not allocate memory."""
MADE_FOR = "rows xxh3:"

HashRows = Callable[[Any], "pl.Series | Sequence[str]"]


class ClassCount(FrozenModel):
    """Number of a class's samples before and after the selection."""

    label: StrictInt
    name: str | None
    before: Count
    after: Count


class RowsPart(FrozenModel):
    """Entry of a manifest for kept rows."""

    kind: Literal["rows"] = Field(default="rows", description="the kind of manifest")
    columns: tuple[Name, ...] = Field(description="columns of the table of kept rows")
    classes: tuple[ClassCount, ...] = Field(description="numbers of each class before and after the selection")
    origin: Origin = Field(default=Origin(), description="files of the rows, and how they are read")


@dataclass(frozen=True, eq=False)
class Rows(Payload):
    """Kept rows of a data set of `rows_in_all` training samples.

    `table` has one record per kept row: `row` int64 ascending, its number among the training samples; `content_hash`
    (32 hexadecimal digits, xxh3-128); `label` int64 (`stratum`, of targets that are no classes). Where the samples lie
    in files of the user's: `file` int64, its place in `origin.files`; `file_row` int64, the row in that file from 0;
    and `path`, of pictures that have one, below the source's folder. Then `weight` float32 where the selection weights,
    and `score_<name>` float32 of each score.
    `fingerprint` covers the content hashes of all training samples, kept or not. `columns` are those by which rows of
    the data set are hashed: see `Provenance`. `home` is the folder of the manifest. `order` is the order in which an
    epoch of a training showed the rows, int64 places in `table`, some twice; None for the order of the rows.
    """

    Part = RowsPart
    units: ClassVar[tuple[Unit, ...]] = ("sample",)

    held: pl.DataFrame | pa.Table
    """The content of `table`; a manifest on disk is read as Arrow and converted on first access."""
    rows_in_all: int
    fingerprint: str
    classes: tuple[ClassCount, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    home: Path | None = None
    order: np.ndarray | None = None

    @classmethod
    def chosen(
        cls,
        samples: pl.DataFrame,
        keep: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        scores: Mapping[str, np.ndarray] | None = None,
        label_names: Sequence[str] | None = None,
        origin: Origin | None = None,
        known: str | None = None,
    ) -> Rows:
        """The rows that a mask keeps.

        `samples` holds all n rows: `row` 0 … n-1, `content_hash` (32 hexadecimal digits) and `label` or `stratum`
        int64, which `label_names` names; with `file`, `file_row` and perhaps `path` where `origin` lists files. `keep`
        is bool `[n]`; `weights` and each of `scores` float32 `[n]`. `known` is the fingerprint of samples that were
        checked already. Raises ManifestError for input that does not fit together.
        """
        with explained("these rows cannot be kept"):
            if known is None:
                kept_rows.check_samples(samples, keep)
            origin = origin or Origin()
            if not origin.files:
                samples = samples.drop(kept_rows.PLACES, strict=False)
            table = kept_rows.kept_table(samples, keep, weights, scores or {})
            group = kept_rows.group_of(samples.columns)
            classes = tuple(_histogram(samples[group], table[group], label_names))
            check_places(
                {name: table[name].to_numpy() for name in ("file", "file_row") if name in table.columns}, origin
            )
            whole = known or fingerprint(samples["content_hash"])
            return cls(table, samples.height, whole, classes, origin=origin)

    @cached_property
    def table(self) -> pl.DataFrame:
        """The kept rows, see above."""
        return self.held if isinstance(self.held, pl.DataFrame) else pl.DataFrame(pl.from_arrow(self.held))

    @property
    def count(self) -> int:
        return len(self.held)

    @property
    def size(self) -> int:
        return self.rows_in_all

    @property
    def made_for(self) -> str:
        return MADE_FOR + self.fingerprint

    @property
    def part(self) -> RowsPart:
        return RowsPart(columns=tuple(self.table.columns), classes=self.classes, origin=self.origin)

    def write(self, folder: Path) -> None:
        """See `Payload.write`."""
        kept_rows.write(self.table, folder / ROWS)

    @classmethod
    def check(cls, declaration: Declaration[Any]) -> None:
        """See `Payload.check`."""
        refuse_files(declaration, ROWS)
        check_rows(declaration)
        check_budget(declaration)

    @classmethod
    def read(cls, folder: Path, declaration: Declaration[Any], *, verify: bool) -> Rows:
        """See `Payload.read`."""
        part = declaration.payload
        table = kept_rows.read(folder / ROWS, part.columns, declaration.count)
        if verify:
            check_table(declaration, table)
        columns = declaration.provenance.columns
        return cls(table, declaration.of, declaration.fingerprint, part.classes, columns, part.origin, folder)

    @classmethod
    def described(cls, declaration: Declaration[Any]) -> dict[str, Any]:
        """The Croissant 1.1 description."""
        return described(declaration)

    @property
    def training_rows(self) -> np.ndarray:
        """Numbers of kept rows among the training samples, int64, ascending, as in a study's own arrays."""
        return self.table["row"].to_numpy()

    @property
    def rows(self) -> np.ndarray:
        """See `Manifest.rows`."""
        if len(self.origin.files) > 1:
            raise ManifestError(f"its rows lie in {len(self.origin.files)} files: `places` says file and row of each")
        return self.table["file_row"].to_numpy() if self.origin.files else self.training_rows

    @property
    def places(self) -> pl.DataFrame:
        """See `Manifest.places`."""
        return places(self.table, self.origin)

    @property
    def hashes(self) -> pl.Series:
        """Content hash of each kept row."""
        return self.table["content_hash"]

    @property
    def weights(self) -> np.ndarray | None:
        """Weight of each kept row, float32, or None for equal weights."""
        return self.table["weight"].to_numpy() if "weight" in self.table.columns else None

    def training_keep(self) -> np.ndarray:
        """Mask of the training samples, bool `[n]`."""
        return self._mask(self.size, self.training_rows)

    def keep(self, count: int | None = None) -> np.ndarray:
        """See `Manifest.keep`."""
        whole = int(self.origin.starts[-1]) if self.origin.files else self.size
        if count in (None, whole):
            return self._mask(whole, self.origin.positions(self.table) if self.origin.files else self.training_rows)
        if count == self.size:
            return self.training_keep()
        sizes = f"{self.size} rows" if whole == self.size else f"{whole} rows, {self.size} of them training samples"
        raise ManifestError(f"it is of {sizes}, not {count}; apply() finds the kept rows in data that has changed")

    def _mask(self, count: int, rows: np.ndarray) -> np.ndarray:
        if count > MOST_ROWS:
            raise ManifestError(f"it claims {count} rows, too many for a mask; use rows")
        mask = np.zeros(count, dtype=np.bool_)
        mask[rows] = True
        return mask

    def of_file(self, file: int) -> Rows:
        """The kept rows of one of the files, without a fingerprint, as its other rows are unknown."""
        table = self.table.filter(pl.col("file") == file).with_columns(pl.lit(0, pl.Int64).alias("file"))
        origin = self.origin.model_copy(update={"files": (self.origin.files[file],)})
        order = self.order
        if order is not None:
            mine = self.table["file"].to_numpy() == file
            order = (np.cumsum(mine) - 1)[order[mine[order]]]
        return Rows(table, self.rows_in_all, "", self.classes, self.columns, origin, order=order)

    def in_order(self, located: np.ndarray) -> np.ndarray:
        """Rows of data in memory in the order of return, from the rows `located` for kept samples: int64."""
        return np.sort(located) if self.order is None else located[self.order]

    def locate(self, hashes: pl.Series | Sequence[str]) -> np.ndarray:
        """See `Manifest.locate`."""
        there = hashes if isinstance(hashes, pl.Series) else pl.Series(hashes, dtype=pl.String)
        if there.len() == self.size and fingerprint(there) == self.fingerprint:
            return self.training_rows
        located = kept_rows.locate(self.standing(there), self.hashes, there)
        if (located < 0).any():
            raise self.missing(located, there.len())
        return located

    def missing(self, located: np.ndarray, rows: int) -> ManifestError:
        """The error for data of so many rows in which some kept samples have no row: -1 in `located`."""
        missing = np.flatnonzero(located < 0)
        return ManifestError(
            f"it was not made from this data: {len(missing)} of its {self.count} kept samples are missing from the "
            f"{rows} rows given ({' and '.join(map(self._shown, missing[:2].tolist()))})"
        )

    def standing(self, there: pl.Series) -> np.ndarray:
        """The row to try first for each kept sample in data with these hashes: its row in the files, or its number
        among the training samples, whichever matches more samples.
        """
        if not self.origin.files:
            return self.training_rows
        found = []
        for rows in (self.origin.positions(self.table), self.training_rows):
            near = np.flatnonzero(rows < there.len())
            same = (
                there.gather(rows[near]) == self.hashes.gather(near) if len(near) else pl.Series([], dtype=pl.Boolean)
            )
            found.append((int(same.sum() or 0), rows))
        return found[0][1] if found[0][0] >= found[1][0] else found[1][1]

    def _shown(self, place: int) -> str:
        """A kept sample for a message."""
        if not self.origin.files:
            return f"content hash {self.hashes[place]}"
        return self.origin.shown(self.table["file"][place], self.table["file_row"][place])

    def located(self, target: Any, hash_rows: HashRows | Mapping[str, Any] | None = None) -> np.ndarray:
        """Row of each kept sample in data in memory, int64 `[kept]`, aligned with `table`: see `Manifest.apply`."""
        if callable(hash_rows):
            return self.locate(hash_rows(target))
        from secateur.pipelines.manifests.given import given

        columns = self.columns_read(hash_rows)
        return self.located_in(given(target, columns).rows, columns, self._folders(None))[0]

    def columns_read(self, hash_rows: Mapping[str, Any] | None = None) -> Columns:
        """The columns for hashing rows; ManifestError where neither the manifest nor the caller names any."""
        from secateur.pipelines.data.columns import Columns

        named = hash_rows or self.columns
        if not named:
            raise ManifestError("it names no columns to hash; give them as hash_rows")
        return Columns(**named)

    def located_in(self, rows: SourceFile, columns: Columns, folders: Sequence[Path]) -> tuple[np.ndarray, int]:
        """`located`, with relative paths of pictures below one of the folders; and the number of rows.

        Raises ManifestError where kept samples are missing: see `found_rows`.
        """
        from secateur.pipelines.manifests.hashed_rows import found_rows

        return found_rows(self, rows, columns, folders)

    def apply(
        self,
        target: Any,
        output: Path | None,
        *,
        hash_rows: HashRows | Mapping[str, Any] | None = None,
        folder: Path | str | None = None,
        **settings: Any,
    ) -> Any:
        """See `Manifest.apply`."""
        refuse_settings(self.unit, settings)
        if isinstance(target, str | Path):
            from secateur.pipelines.manifests.row_files import write_kept

            return write_kept(self, Path(target), output, hash_rows)
        import datasets

        if isinstance(target, datasets.DatasetDict):
            return self._applied_to_splits(target, hash_rows, folder)
        from secateur.pipelines.manifests.given import given

        if callable(hash_rows):
            return given(target, None).take(self.in_order(self.locate(hash_rows(target))))
        columns = self.columns_read(hash_rows)
        data = given(target, columns)
        return data.take(self.in_order(self.located_in(data.rows, columns, self._folders(folder))[0]))

    def _folders(self, folder: Path | str | None) -> list[Path]:
        """Possible starts of relative paths of pictures: the caller's folder, else those above the manifest."""
        if folder is not None:
            return [Path(folder)]
        return [Path.cwd(), *([] if self.home is None else self.home.absolute().parents)]

    def _applied_to_splits(
        self, splits: Any, hash_rows: HashRows | Mapping[str, Any] | None, folder: Path | str | None
    ) -> Any:
        """The splits, with the training split pruned: `train`, else the one that holds all kept samples.

        ManifestError where no split does, or several and none is called `train`: a test split may hold them too.
        """
        kept, reasons = {}, {}
        for name in ["train"] if "train" in splits else list(splits):
            try:
                kept[name] = self.apply(splits[name], None, hash_rows=hash_rows, folder=folder)
            except ManifestError as error:
                reasons[name] = error
        if len(kept) > 1:
            raise ManifestError(f"the splits {', '.join(kept)} all hold its samples: apply it to one of them")
        if not kept:
            name, reason = next(iter(reasons.items()), ("no split", "there is none"))
            raise ManifestError(f"no split is the data that it was made from; {name}: {reason}")
        return type(splits)({name: kept.get(name, split) for name, split in splits.items()})


def check_rows(declaration: Declaration[Any]) -> None:
    """Raise ManifestError, or ValueError, for an impossible declaration of a manifest's table of rows."""
    digits = declaration.made_for.removeprefix(MADE_FOR)
    if len(digits) != 32 or set(digits) - set("0123456789abcdef") or not declaration.made_for.startswith(MADE_FOR):
        raise ManifestError(f"made_for: {declaration.made_for!r} is no fingerprint of rows")
    kept_rows.check_columns(declaration.payload.columns, [card.name for card in declaration.provenance.scores])


def _histogram(before: pl.Series, after: pl.Series, names: Sequence[str] | None) -> Iterator[ClassCount]:
    was, now = (dict(series.value_counts().iter_rows()) for series in (before, after))
    labels = sorted(set(was) | set(range(len(names or ()))))
    if names is not None and labels != list(range(len(names))):
        raise ManifestError(f"labels run from {labels[0]} to {labels[-1]}, but {len(names)} label names are given")
    for label in labels:
        name = None if names is None else names[label]
        yield ClassCount(label=label, name=name, before=was.get(label, 0), after=now.get(label, 0))
