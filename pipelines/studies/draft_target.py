"""The target of a first study: the label columns of a data set and the task, guessed with reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from secateur.pipelines.data.profile import Column, Profile
from secateur.pipelines.data.sources import SourceError

LABELS = (
    *("label", "labels", "target", "targets", "class", "category", "intent", "intents", "y", "outcome", "sentiment"),
    *("topic", "topics", "tags", "species"),
)
SFT = "sft"
TASKS = ("classification", "regression", "multi_label", SFT)
MOST_CLASSES = 1000
FEW = 20
"""Most distinct whole numbers, with gaps between them, that still count as classes."""
SIGNS = (-1, 0, 1)
"""Labels in which -1 is a class instead of the mark of an unlabelled sample."""


@dataclass(frozen=True)
class Goal:
    """Label columns, task, reasons for both, the study's label names, and the classes or labels."""

    columns: tuple[str, ...]
    task: str
    column_why: str
    task_why: str
    label_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def label(self) -> str | list[str]:
        """The value of `columns.label`."""
        return self.columns[0] if len(self.columns) == 1 else list(self.columns)


def goal_of(profile: Profile, labels: Sequence[str], task: str | None, taken: Sequence[str | None]) -> Goal:
    """The named label columns, or a guess among those that are not `taken`; raises SourceError if none fits."""
    columns = {name: column for name, column in profile.columns.items() if name not in taken}
    if task not in (None, *TASKS):
        raise SourceError(f"--task: there is no {task!r} to begin with; there are {', '.join(TASKS)}")
    if labels:
        names, why = tuple(labels), "you said so"
    else:
        names, why = guess_columns(columns, task)
    known = [profile.columns[name] for name in names]
    kind, reason = (task, "you said so") if task else guess_task(profile, known)
    if kind == "classification":
        if len(known) > 1:
            raise SourceError(
                f"{len(known)} label columns ({', '.join(names)}) are no classes: name one with --label, or say "
                "--task multi_label or --task regression"
            )
        classes = known[0].names or tuple(str(value) for value in known[0].values)
        return Goal(names, kind, why, reason, class_names(known[0]), classes)
    if kind == "regression":
        for column in known:
            if column.holds not in ("integer", "number", "numbers"):
                raise SourceError(f"label column {column.name!r} holds {column.holds}, and regression needs numbers")
        return Goal(names, kind, why, reason)
    lists = len(known) == 1 and known[0].holds == "list"
    if not lists and (len(known) == 1 or not all(map(is_flag, known))):
        raise SourceError(
            f"--task {kind} needs one column of lists, or several --label columns of 0 and 1; "
            f"got {', '.join(f'{column.name!r} ({column.holds})' for column in known)}"
        )
    found = tuple(str(value) for value in known[0].values) if lists else names
    return Goal(names, kind, why, reason, (), found)


def guess_columns(columns: Mapping[str, Column], task: str | None) -> tuple[tuple[str, ...], str]:
    """A ClassLabel, a column of a usual name, one of lists, several of 0 and 1, or the last that fits."""
    wanted = {"classification": is_class_like, "regression": is_number, "multi_label": is_label_list}
    fitting = [wanted[task]] if task else list(wanted.values())
    fits = [name for name, column in columns.items() if any(fit(column) for fit in fitting)]
    declared = [name for name in fits if columns[name].names]
    usual = [name for word in LABELS for name in fits if name.lower() == word]
    if declared:
        return (next((name for name in usual if name in declared), declared[0]),), "the file declares it a ClassLabel"
    if usual:
        return (usual[0],), "its name"
    if lists := [name for name, column in columns.items() if is_label_list(column) and task in (None, "multi_label")]:
        return (lists[-1],), "the column of lists"
    flags = tuple(name for name, column in columns.items() if is_flag(column))
    told = any(column.holds in ("image", "path") or column.words >= 4 for column in columns.values())
    if len(flags) > 1 and (task == "multi_label" or (told and task is None)):
        return flags, "the columns of 0 and 1"
    if fits:
        return (fits[-1],), f"the last column that fits {task or 'a task'}; for another say --label COLUMN"
    raise SourceError(
        f"no column looks like classes (2 to {MOST_CLASSES} distinct whole numbers or words), numbers or lists of "
        f"labels; name one with --label, there are: {', '.join(columns)}"
    )


def guess_task(profile: Profile, known: Sequence[Column]) -> tuple[str, str]:
    """Regression for real or many-valued numbers, multi_label for lists or flags, else classification; with reason."""
    if len(known) > 1:
        if all(map(is_flag, known)):
            return "multi_label", flags_why(profile, known)
        return "regression", f"{len(known)} columns of numbers"
    [column] = known
    if column.holds == "list":
        return "multi_label", f"lists of {column.distinct} distinct labels"
    if column.holds == "numbers":
        return "regression", "lists of numbers"
    if column.holds == "number" and not column.whole:
        return "regression", f"real numbers from {column.low:g} to {column.high:g}"
    if column.whole and not (column.names or is_counted(column)) and column.distinct > FEW:
        return "regression", f"{column.distinct} distinct whole numbers, with gaps between them or none at 0"
    held = {"text": "words", "boolean": "booleans"}.get(column.holds, "whole numbers")
    return "classification", f"{column.distinct} distinct {held}"


def flags_why(profile: Profile, known: Sequence[Column]) -> str:
    """The reason why columns of 0 and 1 are sets of labels; raises SourceError if each row has exactly one."""
    sums = profile.head.select(column.name for column in known).drop_nulls().cast(pl.Int64).sum_horizontal().to_numpy()
    if np.all(sums == 1):
        raise SourceError(
            f"each row has a 1 in exactly one of {', '.join(column.name for column in known)}: that is one class per "
            "row; write it as one column of names, or say --task multi_label"
        )
    return f"columns of 0 and 1, of which a row has {sums.min()} to {sums.max()}"


def is_class_like(column: Column) -> bool:
    """Few distinct booleans, words or whole numbers, each several times."""
    if column.names:
        return True
    few = 2 <= column.distinct <= min(MOST_CLASSES, max(2, column.rows // 2))
    if column.holds in ("text", "boolean"):
        return few and column.words < 4
    return few and column.whole and (is_counted(column) or column.distinct <= FEW)


def is_counted(column: Column) -> bool:
    """Whole numbers from 0 or 1 on without a gap."""
    low, high = column.low or 0.0, column.high or 0.0
    return column.whole and low in (0.0, 1.0) and column.distinct == high - low + 1


def is_number(column: Column) -> bool:
    """Numbers that no ClassLabel names and that do not count rows."""
    return column.holds in ("integer", "number", "numbers") and not column.names and not column.counts_up


def is_label_list(column: Column) -> bool:
    """Lists of names or whole numbers, at most a thousand distinct ones."""
    return column.holds == "list" and bool(column.values)


def is_flag(column: Column) -> bool:
    """A column of 0 and 1, or of yes and no."""
    return column.holds == "boolean" or (column.holds == "integer" and column.values in ((0, 1), (0,), (1,)))


def class_names(column: Column) -> tuple[str, ...]:
    """Class names for the study: empty unless the column shows neither their order nor that they are names.

    Raises SourceError, with the remedy, for a column that cannot hold classes.
    """
    where = f"label column {column.name!r}"
    if column.holds not in ("text", "boolean", "path", "nothing") and not column.whole:
        raise SourceError(
            f"{where} holds {column.holds}s, and a class is a word, a whole number or a boolean; name another column "
            "(--label), or say --task regression"
        )
    if column.distinct > MOST_CLASSES and not column.names:
        held = "texts" if column.holds in ("text", "path") else "numbers"
        raise SourceError(f"{where} has {column.distinct} distinct {held}: that is no set of classes (--label)")
    if column.distinct < 2:
        held = f"is {column.values[0]!r} in every row" if column.values else "is empty"
        raise SourceError(f"{where} {held}: a study needs two classes; name another column (--label)")
    return tuple(map(str, SIGNS)) if not column.names and tuple(column.values) == SIGNS else ()
