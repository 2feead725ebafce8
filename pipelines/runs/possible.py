"""What a study asks of its data, looked at before anything is trained: classes, budgets, floors, windows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.studies.samples import Score, Study
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import TrainingConfig


def check_possible(
    study: Study, strata: Int64[np.ndarray, " n"], names: Sequence[str], classes: int | None = None
) -> None:
    """Raise SourceError for what cannot be made of these training rows, with the key and what to change.

    `strata` is the stratum of each row, which `names` name; `classes` how many classes have a row, None where targets
    are no classes. All that is impossible is said at once.
    """
    counts = np.bincount(strata, minlength=len(names))
    faults: list[str] = []
    if classes is not None and classes < 2:
        held = f"all {len(strata)} rows are of class {names[int(counts.argmax())]!r}"
        label = study.columns.labels[0] if study.columns else "label"
        faults.append(f"train split: {held} (column {label!r}): there is nothing to tell apart, a study needs two")
    settings = {name: score.settings for name, score in study.scores.items()}
    faults += [*budget_faults(study, counts), *window_faults(study.scores, settings, study.proxy, len(strata))]
    if faults:
        raise SourceError(f"{study.name}: {'; '.join(faults)}")


def budget_faults(study: Study, counts: Int64[np.ndarray, " k"]) -> Iterator[str]:
    """Budgets beyond the rows, and floors of classes that a budget cannot hold."""
    rows, sizes = int(counts.sum()), counts[counts > 0]
    for keep in study.keep:
        if isinstance(keep, int) and keep > rows:
            yield f"keep: {keep} is more than the {rows} training rows there are; name at most {rows}, or a share"
            continue
        budget = resolve_keep(keep, rows)
        for name, selection in study.selections.items():
            floor = selection.classes.floor if selection.classes else 0
            least = int(np.minimum(floor, sizes).sum())
            if least > budget:
                yield (
                    f"selections.{name}.classes.floor: {floor} of each of {len(sizes)} classes are {least} rows, and "
                    f"keep: {keep} leaves {budget} of {rows}; lower the floor, or raise keep"
                )


def window_faults(
    scores: Mapping[str, Score], settings: Mapping[str, Mapping[str, Any]], proxy: TrainingConfig, rows: int
) -> Iterator[str]:
    """Scores of windows that a proxy of so many rows is too short to fill: they would be 0 for every sample."""
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
