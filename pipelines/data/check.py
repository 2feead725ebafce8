"""What is wrong with a data set, before anything is trained on it: findings in the order of their importance.

Two samples are duplicates where a model is shown the same (equal `input_hash`), whatever their targets; where the
targets differ they conflict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt64

from secateur.pipelines.data.identity import label_text
from secateur.pipelines.data.policy import Dropped
from secateur.pipelines.data.scan import CONTENT, INPUT, SplitRows
from secateur.pipelines.data.source_kinds.contract import Noted
from secateur.pipelines.data.sources import Loaded, Places
from secateur.trainers.modalities.texts import CUT, WITHOUT_TERM

SEEN = 0.01
"""Share of texts above which the encoding's losses are a finding."""
LISTED = 100
"""Rows that a finding lists; it counts all of them."""

Kind = Literal[
    "leaked",
    "duplicates",
    "conflicts",
    "groups",
    "contradicting labels",
    "dropped",
    "skipped files",
    "texts without a term",
    "texts cut",
    "absent classes",
    "single classes",
]
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Finding:
    """Something a reader should know of the data.

    `importance` counts from 0, the gravest; `count` is the number of rows, of files or of classes; `rows` are the first
    of them, by file and row in it, `paths` the first of the files, and `text` says it in one sentence.
    """

    kind: Kind
    split: str
    importance: int
    count: int
    text: str
    rows: tuple[tuple[str, int], ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitReport:
    """Within one split: groups of rows with the same input and target, and with the same input and different targets.

    `class_counts` are samples per class or label, none where targets are numbers.
    """

    split: str
    samples: int
    duplicates: Groups
    conflicts: Groups
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
    """Both splits, rows of either whose input is in the other, and rows that a policy left out."""

    train: SplitReport
    test: SplitReport
    shared_train_rows: tuple[int, ...]
    shared_test_rows: tuple[int, ...]
    relabelled_test_rows: tuple[int, ...]
    """Shared rows whose target no equal training row has."""
    label_names: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    places: Places
    """Where rows are that stayed."""
    scanned: Places
    """Where rows are by the numbers of the scan, which those that were left out have."""
    noted: tuple[Noted, ...] = ()
    """What the source says of its files."""
    texts: tuple[Finding, ...] = ()
    """What the encoding does to texts."""
    across_groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Rows of each split whose input a row of another group has, in either split."""

    def findings(self) -> list[Finding]:
        """Test rows that training has too, duplicates, conflicting labels, rows left out, absent classes."""
        parts = (self.train, self.test)
        listed = [*self._leaks(), *(f for part in parts for f in self._groups(part)), *self.texts]
        for note in self.noted:
            listed.append(Finding(note.kind, note.split, 0, len(note.paths), note.text, paths=note.paths[:LISTED]))
        for left in self.dropped:
            reason = {"bad_rows": left.reasons[0] if left.reasons else "", "unlabelled": "no label"}.get(
                left.policy, ""
            )
            what = f"{many(len(left.rows), f'{left.split} row')} left out by data.{left.policy}"
            listed.append(self._finding("dropped", left.split, left.rows, f"{what}{f' ({reason})' if reason else ''}"))
        for part in parts:
            for kind, count, text in (
                ("absent classes", 0, "absent from {}"),
                ("single classes", 1, "with one {} sample"),
            ):
                names = [n for n, have in zip(self.label_names, part.class_counts, strict=False) if have == count]
                if names:
                    some = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
                    sentence = f"{many(len(names), 'class', 'classes')} {text.format(part.split)}: {some}"
                    listed.append(Finding(kind, part.split, 0, len(names), sentence))  # type: ignore[arg-type]
        order = list(Kind.__args__)  # type: ignore[attr-defined]
        listed.sort(key=lambda finding: order.index(finding.kind))
        return [Finding(**asdict(finding) | {"importance": place}) for place, finding in enumerate(listed)]

    def problems(self) -> list[str]:
        """The sentences of the findings."""
        return [finding.text for finding in self.findings()]

    def counts(self) -> dict[str, int]:
        """Numbers for the UI, by name."""
        numbers: dict[str, int] = {}
        for part in (self.train, self.test):
            numbers |= {
                f"{part.split}_samples": part.samples,
                f"{part.split}_duplicate_groups": len(part.duplicates),
                f"{part.split}_duplicate_rows": part.duplicate_rows,
                f"{part.split}_conflicting_groups": len(part.conflicts),
                f"{part.split}_conflicting_rows": part.conflicting_rows,
                f"{part.split}_classes_below_two": sum(count < 2 for count in part.class_counts),
                f"{part.split}_dropped": sum(len(left.rows) for left in self.dropped if left.split == part.split),
            }
        return numbers | {
            "shared_train_rows": len(self.shared_train_rows),
            "shared_test_rows": len(self.shared_test_rows),
            "relabelled_test_rows": len(self.relabelled_test_rows),
        }

    def _leaks(self) -> list[Finding]:
        if not self.shared_test_rows:
            return []
        relabelled = len(self.relabelled_test_rows)
        return [
            self._finding(
                "leaked",
                "test",
                self.shared_test_rows,
                f"{many(len(self.shared_test_rows), 'test row')} of {self.test.samples} also in train"
                f"{f', {relabelled} with another label' if relabelled else ''}: results on test are too good",
                "; data: {leaked: drop_from_training} leaves them out of training",
            )
        ]

    def _groups(self, part: SplitReport) -> list[Finding]:
        groups = []
        if part.duplicates:
            several = f"{many(len(part.duplicates), 'group')} of equal {part.split} rows"
            text = f"{several}, {part.duplicate_rows} more than needed"
            groups.append(
                self._finding("duplicates", part.split, [r for group in part.duplicates for r in group], text)
            )
        if part.conflicts:
            text = (
                f"{many(part.conflicting_rows, f'{part.split} row')} with an input that another row labels differently"
            )
            groups.append(self._finding("conflicts", part.split, [r for group in part.conflicts for r in group], text))
        if rows := self.across_groups.get(part.split):
            text = f"{many(len(rows), f'{part.split} row')} with an input that a row of another group has"
            groups.append(self._finding("groups", part.split, rows, text))
        return groups

    def _finding(
        self, kind: Kind, split: str, rows: Sequence[int] | np.ndarray, text: str, remedy: str = ""
    ) -> Finding:
        numbers, places = np.asarray(rows, np.int64), self.scanned if kind == "dropped" else self.places
        listed = tuple(places.pairs(split, numbers[:LISTED]))
        return Finding(kind, split, 0, len(numbers), f"{text} ({places.text(split, numbers)}){remedy}", listed)


def check_data(loaded: Loaded) -> DataReport:
    """Look for duplicates, conflicts, small classes and rows that train and test share.

    Holds eight bytes per row: a hash is looked at whole only where half of it occurs twice.
    """
    halves = {split: lower_halves(rows, INPUT) for split, rows in loaded.rows.items()}
    both = {"train": among(halves["train"], np.sort(halves["test"]))}
    both["test"] = among(halves["test"], np.unique(halves["train"][both["train"]]))
    shared = {split: hashed_rows(loaded.rows[split], mask) for split, mask in both.items()}
    shared_train = shared["train"].join(shared["test"], on="input", how="semi").sort("row")
    shared_test = shared["test"].join(shared["train"], on="input", how="semi").sort("row")
    relabelled = shared_test.join(shared["train"], on="content", how="anti").sort("row")
    reports = {
        split: SplitReport(
            split,
            len(targets),
            *groups_of(loaded.rows[split], halves[split]),
            class_counts(targets, len(loaded.label_names)),
        )
        for split, targets in (("train", loaded.targets), ("test", loaded.test_targets))
    }
    return DataReport(
        train=reports["train"],
        test=reports["test"],
        shared_train_rows=tuple(shared_train["row"]),
        shared_test_rows=tuple(shared_test["row"]),
        relabelled_test_rows=tuple(relabelled["row"]),
        label_names=loaded.label_names,
        dropped=loaded.dropped,
        places=Places(loaded.rows, loaded.files),
        scanned=Places(loaded.scanned, loaded.files),
        noted=loaded.noted,
        across_groups=across_groups(loaded, halves) if loaded.group else {},
    )


def text_findings(facts: Mapping[str, Any], sizes: Mapping[str, int]) -> tuple[Finding, ...]:
    """Texts that are cut and texts without a term, where they are more than `SEEN` of a split of so many rows.

    `facts` are those of the encoder, of the test split behind the word test.
    """
    found = []
    for split, prefix in (("train", ""), ("test", "test ")):
        lost, cut = (facts.get(f"{prefix}{name}", 0.0) for name in (WITHOUT_TERM, CUT))
        if lost > SEEN:
            text = f"{lost:.1%} of the {split} texts hold none of the {facts['terms']} terms: raise encoding.terms"
            found.append(Finding("texts without a term", split, 0, round(lost * sizes[split]), text))
        if cut > SEEN:
            text = f"{cut:.1%} of the {split} texts cut at {facts['length']} tokens: raise encoding.max_length"
            found.append(Finding("texts cut", split, 0, round(cut * sizes[split]), text))
    return tuple(found)


def lower_halves(rows: SplitRows, name: str) -> UInt64[np.ndarray, " n"]:
    """Half of each hash."""
    halves, start = np.empty(len(rows), np.uint64), 0
    for table in rows.batches([name]):
        for chunk in table[name].chunks:
            stop = start + len(chunk)
            halves[start:stop] = np.frombuffer(chunk.buffers()[1], ">u8", 2 * len(chunk), 16 * chunk.offset)[1::2]
            start = stop
    return halves


def among(values: UInt64[np.ndarray, " n"], ordered: UInt64[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    """Which values are one of some that are in ascending order; in blocks, for places take as much as values."""
    mask = np.zeros(len(values), np.bool_)
    for start in range(0, len(values) if len(ordered) else 0, 1 << 20):
        block = values[start : start + (1 << 20)]
        places = np.minimum(np.searchsorted(ordered, block), len(ordered) - 1)
        mask[start : start + len(block)] = ordered[places] == block
    return mask


def repeated(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " m"]:
    """Each value that occurs more than once, ascending."""
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def across_groups(loaded: Loaded, halves: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Rows of each split whose input is in several groups; a row without a group is one of its own."""
    several = repeated(np.concatenate(list(halves.values())))
    parts = []
    for split, half in halves.items():
        rows = hashed_rows(loaded.rows[split], among(half, several), loaded.group)
        alone = pl.concat_str(pl.lit(f"\0{split} "), "row")
        parts.append(
            rows.select("row", "input", pl.lit(split).alias("split"), pl.coalesce("group", alone).alias("group"))
        )
    found = pl.concat(parts).filter(pl.col("group").n_unique().over("input") > 1)
    return {split: tuple(found.filter(pl.col("split") == split)["row"].sort()) for split in halves}


def hashed_rows(rows: SplitRows, wanted: np.ndarray, group: str | None = None) -> pl.DataFrame:
    """`row`, whole hashes `input` and `content`, as bytes, and the text of a column `group`, of some rows."""
    parts, start = [], 0
    named = [group] if group else []
    for table in rows.batches([INPUT, CONTENT, *named]) if wanted.any() else ():
        mask = wanted[start : start + table.num_rows]
        if mask.any():
            some = pl.DataFrame(
                {"row": start + np.flatnonzero(mask)}
                | {
                    to: pl.from_arrow(table[name].cast("large_binary")).filter(pl.Series(mask))
                    for to, name in (("input", INPUT), ("content", CONTENT))
                }
                | ({"group": label_text(table[group]).filter(pl.Series(mask))} if group else {})
            )
            parts.append(some)
        start += table.num_rows
    schema = {"row": pl.Int64, "input": pl.Binary, "content": pl.Binary} | ({"group": pl.String} if group else {})
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def groups_of(rows: SplitRows, halves: UInt64[np.ndarray, " n"]) -> tuple[Groups, Groups]:
    """Groups of duplicates and of conflicts, ascending, in the order of their first rows."""
    table = hashed_rows(rows, among(halves, repeated(halves)))
    return _grouped(table, "content", pl.len() > 1), _grouped(table, "input", pl.col("content").n_unique() > 1)


def _grouped(table: pl.DataFrame, key: str, of_interest: pl.Expr) -> Groups:
    groups = table.filter(of_interest.over(key)).group_by(key).agg(pl.col("row").sort())["row"].to_list()
    return tuple(sorted(tuple(group) for group in groups))


def class_counts(targets: np.ndarray, classes: int) -> tuple[int, ...]:
    """Samples per class or label; none where targets are numbers."""
    if targets.dtype == np.bool_:
        return tuple(targets.sum(axis=0).tolist())
    return tuple(np.bincount(targets, minlength=classes).tolist()) if targets.dtype == np.int64 else ()


def many(count: int, singular: str, plural: str = "") -> str:
    """How many of something, in words."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def report_of(report: DataReport | None) -> dict[str, Any]:
    """The report as JSON: findings, the numbers for the UI, and rows left out by file, row in it and reason."""
    if report is None:
        return {"findings": [], "counts": {}, "dropped": []}
    dropped = [
        {
            "split": left.split,
            "policy": left.policy,
            "count": len(left.rows),
            "rows": [
                [file, row, reason]
                for (file, row), reason in zip(
                    report.scanned.pairs(left.split, left.rows[: len(left.reasons)]), left.reasons, strict=True
                )
            ],
        }
        for left in report.dropped
    ]
    findings = [asdict(finding) for finding in report.findings()]
    return {"findings": findings, "counts": report.counts(), "dropped": dropped}
