"""Inputs of selectors from a target: a few hundred examples of the job that a model is trained for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.front_door.held import Held, held, vectors_of
from secateur.scorers.target.cosines import Cosines, VectorCosines
from secateur.scorers.target.ngram_ratios import NgramRatios, ngram_ratios
from secateur.scorers.target.target_places import target_places
from secateur.scorers.target.text_cosines import TextCosines


@dataclass(frozen=True)
class Target:
    """A pool and its target; `depth` is the number of places to compute, None for all."""

    rows: Held
    examples: Held | np.ndarray
    text: str | None
    embeddings: str | Path | np.ndarray | None
    task: str | None = None
    depth: int | None = None

    def signal(self, name: str) -> np.ndarray:
        """A signal by its name, `[n]`; raises ValueError that names a missing argument."""
        if name == "target_places":
            tasks = self.held.codes(self.task, "target_task")[0] if self.task is not None else None
            return target_places(self.cosines, tasks, depth=self.depth)
        return self.ratios.sums if name == "target_log_ratios" else self.ratios.counts

    @property
    def held(self) -> Held:
        """The target as rows; ValueError for vectors alone."""
        if isinstance(self.examples, np.ndarray):
            raise ValueError("target: vectors have no columns; give a table, or the path of a file")
        return self.examples

    @property
    def cosines(self) -> Cosines:
        """Cosines of the pool's rows to the target's: of embeddings if given, else of TF-IDF of the texts."""
        if isinstance(self.examples, np.ndarray):
            own = vectors_of(self.rows, self.embeddings, "a target of vectors")
            if self.examples.ndim != 2 or self.examples.shape[1] != own.shape[1]:
                raise ValueError(f"target: vectors {self.examples.shape} do not go with embeddings {own.shape}")
            return VectorCosines(own, self.examples)
        if isinstance(self.embeddings, str) and not self.embeddings.endswith(".npy"):
            return VectorCosines(*(vectors_of(data, self.embeddings, "the target") for data in (self.rows, self.held)))
        if self.embeddings is not None:
            raise ValueError(
                "target: give its vectors as an array, or embeddings as a column that pool and target have"
            )
        return TextCosines(*self.texts)

    @property
    def texts(self) -> tuple[pl.Series, pl.Series]:
        """Texts of the pool and of the target; ValueError without a column, and for an empty text."""
        if self.text is None:
            raise ValueError("text: name the column of texts that pool and target are compared by, or give embeddings")
        found = []
        for data, what in ((self.rows, "text"), (self.held, "text of the target")):
            column = data.column(self.text, what)
            if column.dtype != pl.String:
                raise SourceError(f"{what}: column {self.text!r} of {data.name} holds {column.dtype}, not texts")
            data.refuse(column.is_null(), f"{what}: column {self.text!r}", "empty")
            found.append(column)
        return found[0], found[1]

    @cached_property
    def ratios(self) -> NgramRatios:
        """Ratios of n-grams, from the texts."""
        return ngram_ratios(*self.texts)


def target_of(given: Any) -> Held | np.ndarray:
    """A target in an argument: data as for the pool, or vectors `[queries, d]`; ValueError for an empty one."""
    found = given if isinstance(given, np.ndarray) else held(given)
    if not len(found if isinstance(found, np.ndarray) else range(found.count)):
        raise ValueError("target: it has no rows; name some hundred examples of the job")
    return found
