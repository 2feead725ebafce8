"""Faults of a data set, found before training on it: findings in the order of their importance.

Two samples with equal inputs (`input_hash`) are duplicates if their targets are equal too; otherwise they conflict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
import polars as pl

from secateur.pipelines.data.dropped import Dropped
from secateur.pipelines.data.equal_groups import Groups, table_of
from secateur.pipelines.data.repeats import Found, repeated_rows
from secateur.pipelines.data.scan import CONTENT, INPUT
from secateur.pipelines.data.source_kinds.contract import Noted
from secateur.pipelines.data.sources import Loaded, Places
from secateur.pipelines.data.strays import strays
from secateur.pipelines.data.targets import class_counts
from secateur.pipelines.files.shown_text import quoted
from secateur.trainers.modalities.texts import AT_MOST, CUT, UNSEEN, WITHOUT_TERM
from secateur.trainers.tasks.class_metrics import rarest

LISTED = 100
"""Most rows that a finding lists; it counts all of them."""

Kind = Literal[
    "leaked",
    "duplicates",
    "conflicts",
    "groups",
    "stray values",
    "contradicting labels",
    "dropped",
    "skipped files",
    "texts without a term",
    "system turns left out",
    "texts cut",
    "rare class",
    "absent classes",
    "single classes",
]


@dataclass(frozen=True)
class Finding:
    """A fault or peculiarity of the data.

    `importance` counts from 0, the gravest; `count` is the number of rows, of files or of classes; `rows` are the first
    of them, by file and row in it, `paths` the first of the files, and `text` is the finding in one sentence.
    `group_count` is the number of groups of equal rows, 0 where the finding is not about equal rows.
    """

    kind: str
    """A `Kind`, or the kind of a further check of an audit."""
    split: str
    importance: int
    count: int
    text: str
    rows: tuple[tuple[str, int], ...] = ()
    paths: tuple[str, ...] = ()
    group_count: int = 0


def view_of(finding: Mapping[str, Any]) -> str:
    """The view of a finding beside its sentence: `groups` of equal rows, `rows` or files, or the `sentence` alone."""
    if finding.get("group_count"):
        return "groups"
    return "rows" if finding.get("rows") or finding.get("paths") else "sentence"


def found() -> Found:
    """No rows yet."""
    return Found(LISTED)


@dataclass
class SplitReport:
    """Duplicates and conflicts within one split, as rows and as groups (`equal` and `torn`).

    `duplicates` share input and target with another row of the split, `conflicts` share the input and differ in the
    target. `class_counts` are samples per class or label, none where targets are numbers. `shared` are rows whose input
    is in the other split, `across_groups` rows whose input a row of another group has, in either split.
    """

    split: str
    samples: int
    class_counts: tuple[int, ...]
    duplicates: Found = field(default_factory=found)
    equal: Groups = field(default_factory=Groups)
    conflicts: Found = field(default_factory=found)
    torn: Groups = field(default_factory=Groups)
    shared: Found = field(default_factory=found)
    across_groups: Found = field(default_factory=found)

    @property
    def duplicate_groups(self) -> int:
        """Number of groups of duplicates."""
        return self.equal.count

    @property
    def duplicate_rows(self) -> int:
        """Rows that could go without losing a distinct sample: all but one of each group."""
        return self.duplicates.count - self.duplicate_groups


@dataclass(frozen=True)
class DataReport:
    """Both splits, and rows that a policy left out."""

    train: SplitReport
    test: SplitReport
    relabelled_test_rows: int
    """Test rows whose input is in training, with other targets alone."""
    label_names: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    places: Places
    """Places of the rows that stayed."""
    scanned: Places
    """Places of all scanned rows, by the scan's row numbers; rows that were left out have no others."""
    noted: tuple[Noted, ...] = ()
    """Notes of the source about its files, and stray values that turn a column of numbers into categories."""
    texts: tuple[Finding, ...] = ()
    """Findings about texts that the encoding cuts or leaves out."""
    rare: tuple[Finding, ...] = ()
    """The rare class of the training rows, where targets are classes and there is one."""
    leaks: Groups = field(default_factory=Groups)
    """Rows of equal inputs in both splits, by the first such test row."""

    def findings(self) -> list[Finding]:
        """Test rows that training has too, duplicates, conflicting labels, rows left out, absent classes."""
        parts = (self.train, self.test)
        listed = [*self._leaks(), *(f for part in parts for f in self._groups(part)), *self.texts, *self.rare]
        for note in self.noted:
            count, paths = note.count or len(note.paths), note.paths[:LISTED]
            listed.append(Finding(note.kind, note.split, 0, count, note.text, note.rows, paths))
        for left in self.dropped:
            reason = {"bad_rows": left.reasons[0] if left.reasons else "", "unlabelled": "no label"}.get(
                left.policy, ""
            )
            what = f"{many(left.found.count, f'{left.split} row')} left out by data.{left.policy}"
            listed.append(self._finding("dropped", left.split, left.found, f"{what}{f' ({reason})' if reason else ''}"))
        for part in parts:
            for kind, count, text in (
                ("absent classes", 0, "absent from {}"),
                ("single classes", 1, "with one {} sample"),
            ):
                names = [n for n, have in zip(self.label_names, part.class_counts, strict=False) if have == count]
                if names:
                    some = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
                    sentence = f"{many(len(names), 'class', 'classes')} {text.format(part.split)}: {some}"
                    listed.append(Finding(kind, part.split, 0, len(names), sentence))
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
                f"{part.split}_duplicate_groups": part.duplicate_groups,
                f"{part.split}_duplicate_rows": part.duplicate_rows,
                f"{part.split}_conflicting_rows": part.conflicts.count,
                f"{part.split}_classes_below_two": sum(count < 2 for count in part.class_counts),
                f"{part.split}_dropped": sum(left.found.count for left in self.dropped if left.split == part.split),
                f"shared_{part.split}_rows": part.shared.count,
            }
        return numbers | {"relabelled_test_rows": self.relabelled_test_rows}

    def _leaks(self) -> list[Finding]:
        shared, relabelled = self.test.shared, self.relabelled_test_rows
        if not shared.count:
            return []
        text = (
            f"{many(shared.count, 'test row')} of {self.test.samples} also in train"
            f"{f', {relabelled} with another label' if relabelled else ''}: results on test are too good"
        )
        remedy = "; data: {leaked: drop_from_training} leaves them out of training"
        return [self._finding("leaked", "test", shared, text, remedy, self.leaks.count)]

    def _groups(self, part: SplitReport) -> list[Finding]:
        several = f"{many(part.duplicate_groups, 'group')} of equal {part.split} rows"
        rows: tuple[tuple[Kind, Found, str, int], ...] = (
            ("duplicates", part.duplicates, f"{several}, {part.duplicate_rows} more than needed", part.equal.count),
            ("conflicts", part.conflicts, "with an input that another row labels differently", part.torn.count),
            ("groups", part.across_groups, "with an input that a row of another group has", 0),
        )
        return [
            self._finding(
                kind,
                part.split,
                of,
                text if of is part.duplicates else f"{many(of.count, f'{part.split} row')} {text}",
                groups=groups,
            )
            for kind, of, text, groups in rows
            if of.count
        ]

    def groups(self) -> pl.DataFrame:
        """The first rows of the groups of leaks, duplicates and conflicts, in the table of `table_of`."""
        kinds: dict[tuple[str, int], Groups] = {("leaked", 1): self.leaks}
        for side, part in enumerate((self.train, self.test)):
            kinds |= {("duplicates", side): part.equal, ("conflicts", side): part.torn}
        return table_of(kinds, (self.train.split, self.test.split))

    def _finding(self, kind: Kind, split: str, rows: Found, text: str, remedy: str = "", groups: int = 0) -> Finding:
        places = self.scanned if kind == "dropped" else self.places
        listed = tuple(places.pairs(split, rows.rows[:LISTED]))
        where = places.text(split, rows.rows, rows.count)
        paths = tuple(places.paths(split, rows.rows[:LISTED]))
        return Finding(kind, split, 0, rows.count, f"{text} ({where}){remedy}", listed, paths, groups)


def check_data(loaded: Loaded) -> DataReport:
    """Look for duplicates, conflicts, small classes and rows that train and test share; memory holds a fixed buffer."""
    targets = {"train": loaded.targets, "test": loaded.test_targets}
    reports = {
        split: SplitReport(split, len(of), class_counts(of, len(loaded.label_names))) for split, of in targets.items()
    }
    splits, elsewhere = {split: loaded.rows[split] for split in reports}, pl.col("total") > pl.col("count")
    several, leaks = False, Groups()
    for block in repeated_rows(splits, INPUT, group=loaded.group):
        several = True
        leaks.add(block.filter(elsewhere), 1, "lead", "total")
        for place, report in enumerate(reports.values()):
            own = block.filter(pl.col("split") == place)
            report.shared.add(rows_in(own, elsewhere))
            report.conflicts.add(rows_in(own, pl.col("varied")))
            report.torn.add(own.filter("varied"), place, "first", "count")
            report.across_groups.add(rows_in(own, pl.col("across")))
    relabelled = reports["test"].shared.count
    # Rows of equal content have equal inputs.
    for block in repeated_rows(splits, CONTENT) if several else ():
        for place, report in enumerate(reports.values()):
            own = block.filter(pl.col("split") == place)
            report.duplicates.add(rows_in(own, pl.col("count") > 1))
            report.equal.add(own.filter(pl.col("count") > 1), place, "first", "count")
        relabelled -= len(rows_in(own, elsewhere))
    return DataReport(
        train=reports["train"],
        test=reports["test"],
        relabelled_test_rows=relabelled,
        label_names=loaded.label_names,
        dropped=loaded.dropped,
        places=Places(loaded.rows, loaded.files, loaded.pictures),
        scanned=Places(loaded.scanned, loaded.files, loaded.pictures),
        noted=(*loaded.noted, *strays(loaded)),
        rare=rare_class(reports["train"].class_counts, loaded.label_names) if loaded.targets.dtype == np.int64 else (),
        leaks=leaks,
    )


def rare_class(counts: Sequence[int], names: Sequence[str]) -> tuple[Finding, ...]:
    """The finding about a class with so few training samples that accuracy hides its errors, if there is one."""
    rare = rarest(counts)
    if rare is None:
        return ()
    total, common = sum(counts), int(np.argmax(counts))
    share = f"{100 * counts[rare] / total:.2g}%"
    text = (
        f"class {quoted(names[rare])} has {many(counts[rare], 'training row')} of {total:,} ({share}), less than "
        f"half of an even share, so accuracy hides its errors: always to answer {quoted(names[common])} is "
        f"right for {percent(counts[common] / total)}"
    )
    return (Finding("rare class", "train", 0, counts[rare], text),)


def text_findings(facts: Mapping[str, Any], sizes: Mapping[str, int]) -> tuple[Finding, ...]:
    """Findings about cut texts, texts without a term and system turns that a chat template leaves out.

    `facts` are the encoder's, those of the test split under names that begin with "test "; `sizes` are rows per split.
    """
    found = []
    for split, prefix in (("train", ""), ("test", "test ")):
        lost, cut = (facts.get(f"{prefix}{name}", 0.0) for name in (WITHOUT_TERM, CUT))
        if lost:
            text = f"{percent(lost)} of the {split} texts hold none of the {facts['terms']} terms: raise encoding.terms"
            found.append(Finding("texts without a term", split, 0, round(lost * sizes[split]), text))
        if cut:
            more = (
                "raise encoding.max_length"
                if f"{prefix}{AT_MOST}" not in facts
                else "the model reads no more, take one that does"
            )
            text = f"{percent(cut)} of the {split} texts cut at {facts['length']} tokens: {more}"
            found.append(Finding("texts cut", split, 0, round(cut * sizes[split]), text))
        if silent := facts.get(f"{prefix}{UNSEEN}", 0):
            text = (
                f"{silent:,} of {sizes[split]:,} {split} rows have a system turn that the chat template leaves out, so "
                "that no model reads it: name a tokenizer whose template writes system turns (encoding.tokenizer), or "
                "write their text into the first question"
            )
            found.append(Finding("system turns left out", split, 0, silent, text))
    return tuple(found)


def shares_text(facts: Mapping[str, Any]) -> str:
    """Sentences with the shares of cut texts and of texts without a term, also of 0%; empty for other columns."""
    said = {CUT: f"cut at {facts.get('length')} tokens", WITHOUT_TERM: "without a term"}
    shares = {name: [percent(facts[f"{split}{name}"]) for split in ("", "test ")] for name in said if name in facts}
    return " ".join(
        f"{train} of the training texts and {test} of the test texts are {said[name]}."
        for name, (train, test) in shares.items()
    )


def percent(share: float) -> str:
    """A share to a tenth of a percent; "less than 0.1%" for a positive share that would round to zero."""
    return "less than 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def rows_in(block: pl.DataFrame, chosen: pl.Expr) -> np.ndarray:
    """Numbers of the rows of a block that an expression chooses."""
    return block.filter(chosen)["row"].to_numpy()


def many(count: int, singular: str, plural: str = "") -> str:
    """A count with its noun."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def report_of(report: DataReport | None) -> dict[str, Any]:
    """The report as JSON: findings, the numbers for the UI, and rows left out by file, row in it and reason.

    Pictures that are files are listed by their paths.
    """
    if report is None:
        return {"findings": [], "counts": {}, "dropped": []}
    dropped = [
        {
            "split": left.split,
            "policy": left.policy,
            "count": left.found.count,
            "rows": [
                [path or file, row, reason]
                for (file, row), path, reason in zip_longest(
                    report.scanned.pairs(left.split, left.found.rows),
                    report.scanned.paths(left.split, left.found.rows),
                    left.reasons,
                )
            ],
        }
        for left in report.dropped
    ]
    findings = [asdict(finding) for finding in report.findings()]
    return {"findings": findings, "counts": report.counts(), "dropped": dropped}
