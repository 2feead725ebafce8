"""What is wrong with a data set, before anything is trained on it: the asset check's findings, without Dagster.

Two samples are duplicates where a model is shown the same (equal `input_hash`), whatever their targets; where the
targets differ they conflict. Samples with a fault are counted as such and not as duplicates or shared rows: all nulls
are alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import inspect_samples
from secateur.scorers.contract import rows_text

if TYPE_CHECKING:
    import datasets

SHOWN = 5
"""Faults spelled out per split; the count says how many there are."""


@dataclass(frozen=True)
class SplitReport:
    """Findings within one split.

    `faults` are rows with what is wrong with them, in the order of the rows; `duplicates` are groups of rows with the
    same input and target; `conflicts` groups of rows with the same input and different targets; `class_counts` are
    samples per class or label, none where targets are numbers.
    """

    split: Literal["train", "test"]
    samples: int
    faults: tuple[tuple[int, str], ...]
    duplicates: tuple[tuple[int, ...], ...]
    conflicts: tuple[tuple[int, ...], ...]
    class_counts: tuple[int, ...]

    @property
    def duplicate_rows(self) -> int:
        """Rows that could go without losing a distinct sample: all but one of each group."""
        return sum(len(group) - 1 for group in self.duplicates)

    @property
    def conflicting_rows(self) -> int:
        """Rows that share their input with a row of another target."""
        return sum(map(len, self.conflicts))


@dataclass(frozen=True)
class DataReport:
    """Findings in both splits, and rows of `test` whose input is in `train` too."""

    train: SplitReport
    test: SplitReport
    shared_train_rows: tuple[int, ...]
    shared_test_rows: tuple[int, ...]
    relabelled_test_rows: tuple[int, ...]
    """Shared rows whose target no equal training row has."""
    label_names: tuple[str, ...]
    unlabelled: Mapping[str, int] = field(default_factory=dict)
    """Rows of each split that were left out for want of a label."""

    @property
    def unusable(self) -> bool:
        """Whether a sample cannot be shown to a model at all; the rest may be as it should be."""
        return any("image" in fault for split in (self.train, self.test) for _, fault in split.faults)

    def problems(self) -> list[str]:
        """One sentence per kind of finding; empty where there is nothing to report."""
        found = [
            f"{count} {split} {'row' if count == 1 else 'rows'} without a label left out"
            for split, count in self.unlabelled.items()
            if count
        ]
        found += [sentence for split in (self.train, self.test) for sentence in self._within(split)]
        for part in (self.train, self.test):
            if absent := self._classes(part, 0):
                found.append(f"{_many(absent, 'class', 'classes')} absent from {part.split}: {_list(absent)}")
            if single := self._classes(part, 1):
                found.append(f"{_many(single, 'class', 'classes')} with one {part.split} sample: {_list(single)}")
        if self.shared_test_rows:
            rows = np.array(self.shared_test_rows)
            relabelled = len(self.relabelled_test_rows)
            found.append(
                f"{_many(rows, 'test sample')} also in train ({rows_text(rows)} of test"
                f"{f'; {relabelled} with another label' if relabelled else ''}): results on test are too good"
            )
        return found

    def counts(self) -> dict[str, int]:
        """Numbers for the UI, by name."""
        numbers: dict[str, int] = {}
        for part in (self.train, self.test):
            numbers |= {
                f"{part.split}_samples": part.samples,
                f"{part.split}_faults": len(part.faults),
                f"{part.split}_duplicate_groups": len(part.duplicates),
                f"{part.split}_duplicate_rows": part.duplicate_rows,
                f"{part.split}_conflicting_groups": len(part.conflicts),
                f"{part.split}_conflicting_rows": part.conflicting_rows,
                f"{part.split}_classes_below_two": sum(count < 2 for count in part.class_counts),
            }
        return numbers | {
            "shared_train_rows": len(self.shared_train_rows),
            "shared_test_rows": len(self.shared_test_rows),
            "relabelled_test_rows": len(self.relabelled_test_rows),
        }

    def _within(self, part: SplitReport) -> list[str]:
        found = []
        if part.faults:
            told = "; ".join(f"row {row}: {fault}" for row, fault in part.faults[:SHOWN])
            more = "; …" if len(part.faults) > SHOWN else ""
            found.append(f"{_many(part.faults, f'{part.split} sample')} empty or undecodable ({told}{more})")
        if part.duplicates:
            groups = f"{_many(part.duplicates, 'group')} of equal {part.split} samples"
            found.append(f"{groups}, {part.duplicate_rows} more than needed ({_groups(part.duplicates)})")
        if part.conflicts:
            groups = f"{_many(part.conflicts, 'group')} of equal {part.split} inputs with different labels"
            found.append(f"{groups}, {part.conflicting_rows} samples ({_groups(part.conflicts)})")
        return found

    def _classes(self, part: SplitReport, count: int) -> list[str]:
        return [name for name, have in zip(self.label_names, part.class_counts, strict=False) if have == count]


def check_data(
    train_rows: "datasets.Dataset",
    test_rows: "datasets.Dataset",
    columns: Columns,
    train_samples: pl.DataFrame,
    test_samples: pl.DataFrame,
    label_names: Sequence[str],
    unlabelled: Mapping[str, int] | None = None,
) -> DataReport:
    """Look for duplicates, conflicts, faults, small classes and rows that train and test share.

    Samples are what `samples_table` or, to save a second pass over the data, `inspect_samples` made of the rows.
    Raises ValueError where samples and rows differ in number.
    """
    train = _inspected(train_rows, columns, train_samples, "train")
    test = _inspected(test_rows, columns, test_samples, "test")
    usable_train, usable_test = (table.filter(pl.col("fault").is_null()) for table in (train, test))
    shared_train = usable_train.join(usable_test, on="input_hash", how="semi").sort("row")
    shared_test = usable_test.join(usable_train, on="input_hash", how="semi").sort("row")
    relabelled = shared_test.join(usable_train, on="content_hash", how="anti").sort("row")
    return DataReport(
        train=_split_report("train", train, len(label_names)),
        test=_split_report("test", test, len(label_names)),
        shared_train_rows=tuple(shared_train["row"]),
        shared_test_rows=tuple(shared_test["row"]),
        relabelled_test_rows=tuple(relabelled["row"]),
        label_names=tuple(label_names),
        unlabelled=unlabelled or {},
    )


def _inspected(rows: "datasets.Dataset", columns: Columns, samples: pl.DataFrame, split: str) -> pl.DataFrame:
    if len(rows) != len(samples):
        raise ValueError(f"{split}: {len(samples)} samples were made of other data, which has {len(rows)} rows")
    return samples if {"input_hash", "fault"} <= set(samples.columns) else inspect_samples(rows, columns)


def _split_report(split: Literal["train", "test"], samples: pl.DataFrame, classes: int) -> SplitReport:
    usable = samples.filter(pl.col("fault").is_null())
    faulty = samples.filter(pl.col("fault").is_not_null()).sort("row")
    return SplitReport(
        split=split,
        samples=len(samples),
        faults=tuple(faulty.select("row", "fault").iter_rows()),
        duplicates=_grouped(usable, "content_hash", pl.len() > 1),
        conflicts=_grouped(usable, "input_hash", pl.col("content_hash").n_unique() > 1),
        class_counts=_class_counts(samples, classes),
    )


def _class_counts(samples: pl.DataFrame, classes: int) -> tuple[int, ...]:
    """Samples per class or label."""
    if "label" in samples.columns:
        labels = samples["label"]
    elif samples.schema.get("target") == pl.List(pl.Int64):
        labels = samples["target"].explode().drop_nulls()
    else:
        return ()
    return tuple(np.bincount(labels.to_numpy(), minlength=classes).tolist())


def _grouped(samples: pl.DataFrame, key: str, of_interest: pl.Expr) -> tuple[tuple[int, ...], ...]:
    """Rows of each group that is of interest, ascending; groups in the order of their first rows."""
    groups = samples.filter(of_interest.over(key)).group_by(key).agg(pl.col("row").sort())["row"].to_list()
    return tuple(sorted(tuple(group) for group in groups))


def _many(things: Sequence[object] | np.ndarray, singular: str, plural: str = "") -> str:
    return f"{len(things)} {singular if len(things) == 1 else plural or singular + 's'}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _groups(groups: Sequence[Sequence[int]]) -> str:
    told = "; ".join(rows_text(np.array(group)) for group in groups[:3])
    return told + ("; …" if len(groups) > 3 else "")
