"""Checks of a study against its data before any training: classes, budgets, floors, windows, memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.runs.room import row_faults
from secateur.pipelines.studies.column_budgets import ROWS
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import Score
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.contract import Selector, resolve_keep, selectors
from secateur.trainers.contract import TrainingConfig


def check_possible(
    study: Study, strata: Int64[np.ndarray, " n"], names: Sequence[str], classes: int | None = None
) -> None:
    """Raise SourceError, with keys and remedies, for a study that is impossible with these training rows.

    `strata` is the stratum of each row, `names` are theirs; `classes` is the number of classes with a row, None where
    targets are no classes. The error lists all faults.
    """
    counts = np.bincount(strata, minlength=len(names))
    faults: list[str] = []
    if classes is not None and classes < 2:
        held = f"all {len(strata)} rows are of class {names[int(counts.argmax())]!r}"
        label = study.columns.labels[0] if study.columns else "label"
        faults.append(f"train split: {held} (column {label!r}): there is nothing to tell apart, a study needs two")
    faults += [*budget_faults(study, counts), *row_faults(len(strata))]
    if study.proxy:
        settings = {name: score.settings for name, score in study.computed.items()}
        learned = learned_from(len(strata), study.proxy.folds)
        faults += window_faults(study.computed, settings, study.proxy, learned)
        faults += checkpoint_faults(study.computed, study.proxy, learned)
    if faults:
        raise SourceError(f"{study.name}: {'; '.join(dict.fromkeys(faults))}")


def learned_from(rows: int, folds: int | None) -> int:
    """Fewest of so many rows that a proxy learns from."""
    return rows - -(-rows // folds) if folds else rows


def budget_faults(study: Study, counts: Int64[np.ndarray, " k"]) -> Iterator[str]:
    """Budgets beyond the rows, and floors of classes that a budget cannot hold."""
    rows, sizes = int(counts.sum()), counts[counts > 0]
    for keep in study.budgets:
        if study.budget_of != ROWS:
            continue  # `column_faults` looks at the column
        if isinstance(keep, int) and keep > rows:
            yield f"keep: {keep} is more than the {rows} training rows there are; name at most {rows}, or a share"
            continue
        try:
            budget = resolve_keep(keep, rows)
        except ValueError as error:
            yield str(error)
            continue
        for name, selection in study.selections.items():
            floor = selection.classes.floor if selection.classes else 0
            least = int(np.minimum(floor, sizes).sum())
            if least > budget:
                yield (
                    f"selections.{name}.classes.floor: {floor} of each of {len(sizes)} classes are {least} rows, and "
                    f"keep: {keep} leaves {budget} of {rows}; lower the floor, or raise keep"
                )
            elif study.by_rows(selection) and (fault := room_fault(selection, sizes, budget)):
                yield f"selections.{name}: {fault}"


def room_fault(selection: Selection, sizes: Int64[np.ndarray, " k"], budget: int) -> str:
    """The reason why a selection cannot keep `budget` rows of classes of these sizes; empty where it can.

    Settings to be tuned pass, for tuning chooses them by the rows that they leave; a budget of all rows keeps all.
    """
    rows = int(sizes.sum())
    if selection.in_training:
        assert not isinstance(selection.declared, Selector)
        kind, held = selection.declared, {"keep": budget} if selection.budget == "study" else {}
        try:
            kind.refuse(kind.settings(**held | selection.settings), rows)
        except ValueError as error:
            return str(error)
        return ""
    if selection.untuned or budget == rows:
        return ""
    plain, alone = selectors()[selection.selector], not selection.classes or selection.classes.policy == "none"
    most = sum(plain.most(int(size), selection.settings) for size in ([rows] if alone else sizes))
    if budget <= most:
        return ""
    settings = ", ".join(f"{name}: {value}" for name, value in plain.room_settings(selection.settings).items())
    return f"keep asks for {budget} of {rows} rows, and {settings} leaves {most}; lower keep, or change the settings"


def checkpoint_faults(scores: Mapping[str, Score], proxy: TrainingConfig, rows: int) -> Iterator[str]:
    """Scores that compare checkpoints at the ends of more epochs than the proxy has."""
    epochs = -(-proxy.total_steps(rows) // -(-rows // proxy.batch_size))
    for name, score in scores.items():
        least = getattr(score.declared, "least", 1)
        if epochs < least > 1:
            yield (
                f"scores.{name}: {score.scorer} compares checkpoints at the ends of {least} epochs at least, and the "
                f"proxy has {epochs}; raise proxy.steps"
            )


def window_faults(
    scores: Mapping[str, Score], settings: Mapping[str, Mapping[str, Any]], proxy: TrainingConfig, rows: int
) -> Iterator[str]:
    """Scores whose windows a proxy on so many rows is too short to fill: they would be 0 for every sample."""
    epochs = proxy.epochs if proxy.epochs is not None else proxy.total_steps(rows) * proxy.batch_size // rows
    for name, score in scores.items():
        if not getattr(score.declared, "fills_windows", False):
            continue
        window = settings[name].get("window", score.declared.settings.model_fields["window"].default)
        seen = min(epochs, settings[name].get("epochs") or epochs)
        if seen < window:
            yield (
                f"scores.{name}.window: {score.scorer} looks at windows of {window} presentations of a sample, and "
                f"{seen} epochs of the proxy count; lower window (2 is the least), or raise proxy.epochs"
            )
