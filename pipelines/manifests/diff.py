"""Compare the kept samples of two manifests, as a whole and by class, and their declared origins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from secateur.pipelines.data.lazy import pl
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.kept_rows import group_of
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.places import Places

READ = ("policies", "dropped", "label_names", "types")
"""Keys of a manifest that describe the reading of its data, beside its provenance."""


@dataclass(frozen=True)
class ClassDifference:
    """Kept samples of one class: in both, in one alone; and the class's share of all that each keeps, 0 … 1."""

    name: str
    both: int
    only_a: int
    only_b: int
    share_a: float
    share_b: float


@dataclass(frozen=True)
class Difference:
    """The difference of two manifests' kept samples.

    `matched_by` names the key that identifies samples: the row where both have the same data in the same order, the
    content hash otherwise. `rows_only_a` and `rows_only_b` are rows of each one's own file, in its order, or `FILE:ROW`
    where it has several.
    `provenance` holds differing entries, by name, as (A's, B's).
    """

    matched_by: Literal["row", "content hash"]
    both: int
    rows_only_a: tuple[int | str, ...]
    rows_only_b: tuple[int | str, ...]
    classes: tuple[ClassDifference, ...]
    provenance: Mapping[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether both keep the same samples."""
        return not len(self.rows_only_a) and not len(self.rows_only_b)

    @property
    def jaccard(self) -> float:
        """Samples that both keep, as a share of those that either keeps."""
        return self.both / (self.both + len(self.rows_only_a) + len(self.rows_only_b))

    def answer(self) -> dict[str, Any]:
        """All fields but the rows, as JSON-able data."""
        return {
            "same": self.same,
            "matched_by": self.matched_by,
            "both": self.both,
            "only_a": len(self.rows_only_a),
            "only_b": len(self.rows_only_b),
            "jaccard": self.jaccard,
            "classes": [vars(each) for each in self.classes],
            "provenance": {name: {"a": a, "b": b} for name, (a, b) in self.provenance.items()},
        }


def compare(a: Manifest, b: Manifest) -> Difference:
    """Compare the kept samples of `a` and `b`.

    Samples of equal content are matched one to one. Raises ManifestError where the two cannot be compared: one of them
    keeps other units than rows, or they were made from different data and share no kept sample.
    """
    first, second = a.selection, b.selection
    same_data = (first.size, first.made_for) == (second.size, second.made_for)
    keys = ["row"] if same_data else ["content_hash", "ordinal"]
    mine, theirs = numbered(a.table), numbered(b.table)
    shared = mine.join(theirs, on=keys, how="semi")
    if not same_data and not shared.height:
        raise ManifestError(
            f"{a.path} and {b.path} have no sample in common: the one is of {data_of(a)}, the other of {data_of(b)}"
        )
    only_mine, only_theirs = mine.join(theirs, on=keys, how="anti"), theirs.join(mine, on=keys, how="anti")
    return Difference(
        matched_by="row" if same_data else "content hash",
        both=shared.height,
        rows_only_a=named(a, only_mine),
        rows_only_b=named(b, only_theirs),
        classes=tuple(by_class(a, b, shared, only_mine, only_theirs)),
        provenance=differing(described(a), described(b)),
    )


def named(manifest: Manifest, some: pl.DataFrame) -> tuple[int | str, ...]:
    """Some of the kept rows by the user's names: see `Places.named`."""
    rows = manifest.selection
    places = Places(rows.table, rows.origin, rows.size, whole=False)
    return tuple(map(places.named, some["row"].sort().to_list()))


def numbered(table: pl.DataFrame) -> pl.DataFrame:
    """Kept rows with a running number within equal content, in the order of rows."""
    return table.select("row", "content_hash", pl.col(group_of(table.columns)).alias("label")).with_columns(
        pl.int_range(pl.len()).over("content_hash").alias("ordinal")
    )


def data_of(manifest: Manifest) -> str:
    """The data of a manifest in words, with the columns by which it is hashed."""
    source = manifest.provenance
    revision = f" at revision {source.revision}" if source.revision else ""
    return f"{source.dataset}{revision} (hashed by {dict(source.columns) or 'its own columns'})"


def by_class(
    a: Manifest, b: Manifest, shared: pl.DataFrame, only_a: pl.DataFrame, only_b: pl.DataFrame
) -> Iterator[ClassDifference]:
    """One line per class of either manifest, in the order of labels."""
    names = {counted.label: counted.name for manifest in (b, a) for counted in manifest.declaration.payload.classes}
    counts = [dict(part["label"].value_counts().iter_rows()) for part in (shared, only_a, only_b)]
    for label in sorted(names):
        both, mine, theirs = (part.get(label, 0) for part in counts)
        yield ClassDifference(
            name=names[label] if names[label] is not None else str(label),  # type: ignore[arg-type]
            both=both,
            only_a=mine,
            only_b=theirs,
            share_a=(both + mine) / a.declaration.count,
            share_b=(both + theirs) / b.declaration.count,
        )


def described(manifest: Manifest) -> dict[str, Any]:
    """The origin of a manifest, one value per name."""
    origin: dict[str, Any] = {
        "rows of the data": manifest.declaration.of,
        "fingerprint": manifest.declaration.fingerprint,
        **manifest.provenance.model_dump(mode="json"),
    }
    origin |= {key: value for key, value in manifest.selection.origin.model_dump(mode="json").items() if key in READ}
    for card in origin.pop("scores"):
        origin[f"score {card['name']}"] = {key: card[key] for key in ("scorer", "version", "settings")}
    return {deep: inner for name, value in origin.items() for deep, inner in flattened(name, value).items()}


def flattened(name: str, value: Any) -> dict[str, Any]:
    """A mapping's values under dotted names; other values unchanged."""
    if not isinstance(value, dict):
        return {name: value}
    return {deep: inner for key, part in value.items() for deep, inner in flattened(f"{name}.{key}", part).items()}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Names whose values differ; None stands for a missing value."""
    return {name: (a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)}
