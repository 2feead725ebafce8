"""`score`: train a proxy on data in memory, or in a file, and score every row, without a study."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.front_door.asked import Scores, asked
from secateur.pipelines.front_door.held import names_of
from secateur.pipelines.front_door.progress import Bars, bars
from secateur.pipelines.front_door.proxies import scored
from secateur.pipelines.front_door.read_whole import Whole, in_words_of_a_call, read_whole
from secateur.pipelines.studies.draft import Wish
from secateur.pipelines.studies.files import validated
from secateur.pipelines.studies.own_scores import brings
from secateur.pipelines.studies.rejections import did_you_mean
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import Score, with_read

MORE = ("proxy", "encoding", "checkpoints", "proxy_runs", "embeddings", "neighbours")
"""Keys of a study that affect scores and are not parameters of `score`."""


def score(
    data: Any,
    *,
    label: str | Sequence[str] | None = None,
    text: str | None = None,
    image: str | None = None,
    features: str | Sequence[str] | None = None,
    scores: Scores | None = None,
    model: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    task: str | None = None,
    progress: bool = True,
    **more: Any,
) -> pl.DataFrame:
    """Score every row of `data` by a small model, the proxy, that is trained on all of them.

    `data` is a table of pandas, polars or Arrow, a `datasets.Dataset`, a list of dicts, a map-style torch data set, or
    the path of a CSV, JSON-lines or Parquet file, of a folder of such files, of one that `datasets` saved, or of a
    folder of pictures by class; of a folder with a test split the training rows. Nothing is written but a temporary
    folder, which is deleted when the call ends.

    `label` is the column to predict, or several; `text`, `image` or `features` the input. Columns that you do not name
    are guessed, as in `secateur init`, and so are `task` (classification, regression or multi_label), `model` and
    `epochs`.

    `scores` are names of scorers, or names with settings, `{"el2n": {"epochs": 5}}`; by default those of a first study.
    `more` are keys of a study: `proxy` (further settings of its training, such as `{"batch_size": 128}`), `encoding`,
    `checkpoints` (for scores like `vog`), `proxy_runs` (the number of seeds, from `seed` on, that scores are averaged
    over), `embeddings`, `neighbours`.

    The result has a row for each row of the data, in order: `row`, int64, counted over all files, and a column float32
    for each score; for pictures in folders also `path`. Rows without label or input have null, and a warning counts
    them. The numbers are those of a study of these training rows with the same settings.

    Raises ValueError, before any training, for unreadable data, unknown columns, scores and settings, and scores that
    the task does not have.

    >>> import secateur as sc
    >>> rows = [{"size": i % 10 + 0.5, "label": "large" if i % 10 > 4 else "small"} for i in range(60)]
    >>> sc.score(rows, label="label", scores=["aum", "self_confidence"], epochs=2, progress=False).shape
    (60, 3)
    """
    refuse(more)
    chosen = None if scores is None else asked(scores)
    wish = Wish(
        labels=names_of(label),
        text=text, image=image, features=names_of(features),
        task=task, model=model, epochs=epochs,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="secateur-") as name, bars(progress) as display:
        folder = Path(name).resolve()
        with in_words_of_a_call(folder):
            made = scored_rows(data, wish, chosen, more, seed, display, folder, "score()")
    if made.left_out:
        warnings.warn(made.left_out, stacklevel=2)
    return made.table


@dataclass(frozen=True)
class ScoredRows:
    """A table with a line for each row of the caller's data, its scores, and the reason for rows without any."""

    table: pl.DataFrame
    scores: Mapping[str, Score]
    left_out: str


def scored_rows(
    data: Any,
    wish: Wish,
    chosen: Mapping[str, Score] | None,
    more: Mapping[str, Any],
    seed: int,
    display: Bars,
    folder: Path,
    caller: str,
) -> ScoredRows:
    """Score data as `score` does; files are written below `folder`; `caller` names the function in errors."""
    display.stage("reading the data")
    whole = read_whole(data, wish, folder)
    chosen = chosen or asked(whole.scores)
    study = study_of(whole, with_read(chosen), more, caller)
    found = scored(study, whole.loaded, folder, seed, display)
    return ScoredRows(table_of(whole, {one: found[one] for one in chosen}), chosen, whole.left_out())


def refuse(more: Mapping[str, Any]) -> None:
    """Raise TypeError for an unknown key, and ValueError for a key that only a study has."""
    if unknown := [key for key in more if key not in MORE]:
        near = did_you_mean(unknown[0], MORE)
        raise TypeError(f"score() takes no {unknown[0]!r}; {near}besides those of its signature: {', '.join(MORE)}")
    if brings(more.get("embeddings")):
        raise ValueError("embeddings: vectors of yours are for studies; leave them out, or write a study")
    if "folds" in (more.get("proxy") or {}):
        raise ValueError("proxy: folds are for studies, and score() trains proxies of all rows; leave them out")


def study_of(whole: Whole, scores: Mapping[str, Score], more: Mapping[str, Any], caller: str) -> Study:
    """The study of these scores; raises StudyError, which names the caller, for wrong settings."""
    content = {**whole.content, **{key: value for key, value in more.items() if key != "proxy"}}
    content["proxy"] = proxy_of(whole.content["proxy"], more.get("proxy") or {})
    content["encoding"] = {**whole.content["encoding"], **(more.get("encoding") or {})}
    named = {name: {"scorer": one.scorer, **one.settings} for name, one in scores.items()}
    content |= {"name": "data", "scores": named, "selections": {"uniform_random": None}, "keep": [1.0]}
    content["training"] = {
        key: value for key, value in content["proxy"].items() if key not in ("epochs", "steps", "folds")
    }
    content["training"]["steps"] = 1
    study = validated(content, Path(caller))
    assert isinstance(study, Study)
    return study


def proxy_of(guessed: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The proxy's training: guessed, with the caller's settings; settings guessed for another model are dropped."""
    kept = dict(guessed)
    if "steps" in said:
        kept.pop("epochs", None)
    if said.get("model", kept["model"]) != kept["model"]:
        kept.pop("model_settings", None)
    return {**kept, **said}


def table_of(whole: Whole, scores: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """One line for each row of the caller's data."""
    paths = {} if whole.paths is None else {"path": whole.paths}
    found = pl.DataFrame({"row": whole.rows, **paths, **scores})
    if whole.left_out():
        every = pl.DataFrame({"row": np.arange(int(whole.sizes.sum()), dtype=np.int64)})
        found = every.join(found, on="row", how="left", maintain_order="left")
    return found
