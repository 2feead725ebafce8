"""Scores from the outputs of a user's own model, matched to the rows of a study and their labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secateur.pipelines.data.model_outputs import Epoch, epochs_of
from secateur.pipelines.data.own_values import DataRows, Join, NumbersFile, places_for
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.runs.following import Outputs, refuse_others
from secateur.pipelines.runs.of_outputs import TASKS, look_through, observed, with_signals
from secateur.pipelines.studies.output_scores import OutputScore
from secateur.pipelines.studies.scores import Score, with_read


def placed(
    score: OutputScore, given: Path | np.ndarray, rows: DataRows, join: Join, what: str
) -> tuple[list[Epoch], np.ndarray]:
    """The passes of a model, and the row of its outputs for each row of the data, int64 `[n]`. A file is joined like
    other scores; an array must hold all rows of the data's files in their order.

    Raises SourceError for outputs that do not match the rows.
    """
    try:
        epochs = epochs_of(given, score.column if isinstance(given, Path) else None)
    except ValueError as error:
        raise SourceError(f"{what}: {error}") from error
    if isinstance(given, np.ndarray):
        return epochs, rows.places
    if len(epochs) == rows.count != epochs[0].rows:
        raise SourceError(
            f"{what}: {given.name} holds {len(epochs):,} epochs of {epochs[0].rows:,} rows, and {rows.name} has "
            f"{rows.count:,} rows: epochs come first, [epochs, n, classes]"
        )
    return epochs, places_for(NumbersFile(given, what), rows, join, epochs[0].rows, lambda one, other: one != other)


def scores_of_outputs(
    score: OutputScore,
    given: Path | np.ndarray,
    rows: DataRows,
    join: Join,
    targets: np.ndarray,
    names: Sequence[str],
    what: str,
) -> np.ndarray:
    """The score of each row of the data, float32 `[n]`, from its outputs and its target: int64 `[n]` of classes, or
    bool `[n, labels]` of labels, with these `names`.

    Outputs are read in blocks. Raises SourceError for outputs of other rows or classes, that are NaN or no
    probabilities, and for a score that does not follow from them.
    """
    epochs, places = placed(score, given, rows, join, what)
    if targets.dtype not in (np.int64, np.bool_):
        raise SourceError(f"{what}: outputs are scored beside classes or labels, and the targets are numbers")
    own = in_places(targets, order_of(score, names, epochs[0].width, what), epochs[0].width)
    every = np.zeros((epochs[0].rows, *own.shape[1:]), own.dtype)
    every[places] = own
    kind = TASKS["classification" if own.ndim == 1 else "multi_label"]
    task, chosen = (
        kind(epochs[0].width).fitted(own),
        with_read({score.scorer: Score(scorer=score.scorer, settings=score.settings)}),
    )
    asked = {score.scorer: chosen[score.scorer]}
    try:
        refuse_others(asked, Outputs(task, len(epochs)))  # before all outputs are read
        rounded = look_through(epochs, every, score.outputs, "outputs")
        refuse_others(asked, Outputs(task, len(epochs), rounded))
        found = observed(chosen, epochs, every, task, score.outputs)
    except ValueError as error:
        raise SourceError(f"{what}: {error}") from error
    return with_signals(chosen, {name: values[places] for name, values in found.items()}, own, task)[score.scorer]


def order_of(score: OutputScore, names: Sequence[str], width: int, what: str) -> np.ndarray:
    """The place of each class or label among the outputs, int64; SourceError where the outputs have none for one."""
    classes = score.classes or [str(place) for place in range(width)]
    if len(classes) != width:
        raise SourceError(f"{what}.classes: {len(classes)} are named, and there are {width} outputs of each row")
    if unknown := [name for name in names if name not in classes]:
        told = f"name all {width}, in the order of the outputs, as classes: [{', '.join(names)}]"
        raise SourceError(f"{what}.classes: which output is that of {unknown[0]!r} is not known: {told}")
    return np.array([classes.index(name) for name in names], np.int64)


def in_places(targets: np.ndarray, order: np.ndarray, width: int) -> np.ndarray:
    """Targets in the order of the outputs."""
    if targets.ndim == 1:
        return np.asarray(order[targets])
    own = np.zeros((len(targets), width), np.bool_)
    own[:, order] = targets
    return own
