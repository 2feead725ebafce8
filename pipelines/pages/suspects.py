"""Samples to inspect: the hardest by their scores, with given and predicted targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from secateur.pipelines.data.stored_targets import shown_targets
from secateur.pipelines.files.data_uris import data_uri
from secateur.pipelines.files.shown_text import one_line, visible
from secateur.pipelines.pages.extremes import encoded, picture_of
from secateur.pipelines.pages.previews import Previews, files_and_rows, previewed, rows_at, shown_places
from secateur.pipelines.studies.own_scores import OwnCard
from secateur.scorers.contract import Card
from secateur.trainers.contract import Data
from secateur.trainers.judging.evaluation import mean_outputs
from secateur.trainers.passes.folds import Folds
from secateur.trainers.tasks.contract import Task

LEAST, MOST, SHARE = 12, 60, 0.05
"""Bounds on the number of samples on the page, and their share of all samples."""
LONGEST = 1500
"""Most characters of an embedded text."""
SHORT = 140
"""Characters of its preview before a click."""
HARD = {"harder": 1.0, "likelier mislabelled": 1.0, "easier": -1.0}
"""Sign of a score by the meaning of its high values, so that suspicious samples have high values; others are unused."""
BLIND = frozenset({"vog", "normalised_vog", "tdds"})
"""Scorers of hardness that find wrong labels no better than chance: see docs/label-noise.md."""

SUSPICIOUS = "suspicious samples"
"""Kind of their finding."""

Scored = Mapping[str, tuple[Card | OwnCard, np.ndarray]]
"""Cards and values by the scores' names in a study."""
Guess = Callable[[Int64[np.ndarray, " m"]], tuple[list[str], list[float | None]]]
"""Readable predictions of models for rows, with certainty from 0 to 1; None if the task defines none."""


class Shown:
    """A sample on a page: as text or as a picture (PNG or WebP)."""

    text: str
    picture: bytes

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.picture)

    @property
    def short(self) -> str:
        """The beginning of the text."""
        return one_line(self.text, SHORT)


@dataclass(frozen=True)
class Suspect(Shown):
    """One sample: its row among the training samples; its place in the files, in readable form and as file and row; its
    given and predicted target; its scores; and its content as text or as picture (PNG or WebP), both empty if the page
    embeds no samples.
    """

    row: int
    place: str
    file: str
    file_row: int
    given: str
    predicted: str
    certainty: float | None
    scores: Mapping[str, float]
    text: str = ""
    picture: bytes = b""

    def content(self) -> dict[str, Any]:
        """JSON-able content, without the sample itself."""
        return {name: value for name, value in vars(self).items() if name not in ("text", "picture")}


@dataclass(frozen=True)
class Suspects:
    """The most suspicious samples, the most suspicious first."""

    ordered_by: Sequence[str]
    """Scores whose mean rank orders them."""
    of: int
    """Number of training samples."""
    listed: Sequence[Suspect]
    held_out: bool = False
    """Whether predictions come from proxies that did not learn from the sample."""

    @property
    def embedded(self) -> int:
        """Number of samples shown with their content."""
        return sum(bool(one.text or one.picture) for one in self.listed)

    def finding(self) -> dict[str, Any]:
        """Their entry in the list of findings, without importance."""
        names = ", ".join(self.ordered_by)
        return {
            "kind": SUSPICIOUS,
            "split": "train",
            "count": len(self.listed),
            "text": f"{len(self.listed)} of {self.of:,} training samples to look at, the hardest by {names}",
            "rows": [(one.file, one.file_row) for one in self.listed],
            "view": "samples",
        }

    def without_samples(self) -> "Suspects":
        """The same list, without texts and pictures."""
        return replace(self, listed=[replace(one, text="", picture=b"") for one in self.listed])


def suspicion(scores: Scored) -> tuple[list[str], Float64[np.ndarray, " n"] | None]:
    """Names of the scores of hardness, and their mean rank, float64, higher for more suspicious samples; None without
    any. Equal values share a rank.
    """
    from scipy.stats import rankdata

    told = {name: each for name, each in scores.items() if each[0].high_means in HARD and each[0].name not in BLIND}
    ranks = [rankdata(HARD[card.high_means] * values.astype(np.float64)) for card, values in told.values()]
    return list(told), np.mean(ranks, axis=0) if ranks else None


def suspects_of(
    scores: Scored,
    inputs: np.ndarray,
    samples: pl.LazyFrame,
    task: Mapping[str, Any],
    files: Sequence[str],
    previews: Previews | None,
    guess: Guess,
) -> Suspects | None:
    """The samples with the highest mean rank over the scores of hardness; None without such a score.

    `task` is the `Task.state` for showing targets; `inputs` are uint8 `[n, height, width, channels]` for pictures.
    """
    names, ranks = suspicion(scores)
    if ranks is None:
        return None
    count = min(MOST, max(LEAST, round(SHARE * len(ranks))))
    rows = np.argsort(-ranks, kind="stable")[:count].astype(np.int64)
    shown = rows_at(samples, rows)
    predicted, certain = guess(rows)
    pictured = inputs.ndim == 4 and inputs.dtype == np.uint8
    texts = [""] * len(rows) if pictured else [visible(text or "") for text in previewed(shown, previews)]
    places, addresses = shown_places(shown, files), files_and_rows(shown, files, "train")
    if "path" in shown.columns:  # non-empty for picture files only
        places = [path or place for path, place in zip(shown["path"], places, strict=True)]
    targets = shown_targets(shown, task)
    listed = [
        Suspect(
            row=int(row),
            place=one_line(places[at]),
            file=visible(addresses[at][0]),
            file_row=addresses[at][1],
            given=one_line(targets[at]),
            predicted=one_line(predicted[at]),
            certainty=certain[at],
            scores={name: float(values[row]) for name, (_, values) in scores.items()},
            text=texts[at],
            picture=encoded(picture_of(inputs[row])) if pictured else b"",
        )
        for at, row in enumerate(rows.tolist())
    ]
    return Suspects(names, len(ranks), listed)


def guess_by(models: Sequence[Any], data: Data, folds: Folds | None = None) -> Guess:
    """A guess of targets by the mean output of these networks, or of those of the rows' folds; empty without
    networks."""

    def guess(rows: Int64[np.ndarray, " m"]) -> tuple[list[str], list[float | None]]:
        if not models or type(data.task).guesses is Task.guesses:  # the task defines no guess
            return [""] * len(rows), [None] * len(rows)
        outputs = mean_outputs(models, data, rows, folds)
        targets = data.task.guesses(outputs)
        assert targets is not None
        return [data.task.shown(target) for target in targets], certainties(data.task, outputs)

    return guess


def certainties(task: Task, outputs: Float64[np.ndarray, "n width"]) -> list[float | None]:
    """Probability of the predicted class; None if classes are not exclusive."""
    from scipy.special import softmax

    if not task.exclusive:
        return [None] * len(outputs)
    return [float(one) for one in softmax(outputs, axis=1).max(axis=1)]
