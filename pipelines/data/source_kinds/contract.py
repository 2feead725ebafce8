"""Contract of a kind of source: the keys that a study writes under `source`, and the reader of these data.

A kind is a file of this folder with a class named like it. Every kind takes `label_names`, `limit` and
`split_seed`; most take either `test` or `test_fraction` as well.
"""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.drawn_rows import drawn_rows
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.scorers.settings import Settings
from secateur.trainers.modalities.rows import Batches

if TYPE_CHECKING:
    import datasets

Splits = dict[str, "datasets.Dataset | Sequence[SourceFile]"]
"""Data sets, or files to read in batches, by the name of their split."""


NotedKind = Literal["skipped files", "contradicting labels", "stray values"]


@dataclass(frozen=True)
class Noted:
    """A peculiarity of the files of a split, in one sentence, and the files or rows that have it.

    `rows` are the first of `count`, by the user's file and the row in it.
    """

    kind: NotedKind
    split: str
    text: str
    paths: tuple[str, ...] = ()
    rows: tuple[tuple[str, int], ...] = ()
    count: int = 0


class SourceKind(Settings):
    """Keys of a source and its reader; a subclass adds `kind: Literal["<name of its file>"]` and keys of its own."""

    model_config = ConfigDict(frozen=True)

    kind: str
    label_names: list[str] | None = Field(
        None, description="names of the labels 0, 1, …; strings in the label column become numbers by them"
    )
    limit: int | None = Field(None, ge=1, description="rows per split, a stratified draw by split_seed")
    split_seed: int = Field(0, ge=0, le=2**63 - 1, description="of the draws of limit and test_fraction")

    @property
    def held_out(self) -> float | None:
        """Share of the training rows that becomes the test split; None where the source has one."""
        return None

    @property
    def divided_by(self) -> str:
        """The key that sets test rows apart; empty where all rows are one split."""
        return "kind"

    def refuse_undivided(self) -> None:
        """Raise ValueError where no key sets test rows apart, which training needs."""
        if not self.divided_by:
            raise ValueError(f"source: {ONE_TEST}")

    @property
    def read_besides(self) -> tuple[str, ...]:
        """Columns that the source itself reads, such as that of a split by time."""
        return ()

    @abstractmethod
    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """Splits "train", and "test" unless a share of the rows is held out, and their revision.

        The revision changes exactly when the data do: the hub's commit, or a digest of the content. Relative paths
        start from `base`; `cache` is a folder for prepared tables. Raises SourceError.
        """

    def name_of(self, split: str, base: Path) -> str:
        """Name, in messages, manifests and exports, of a split that is no file: the study's, or its folder."""
        return split

    def noted(self, columns: Columns, base: Path, rows: Mapping[str, Batches]) -> list[Noted]:
        """Peculiarities of the files, once the rows of the splits are read."""
        return []

    def files(self, base: Path) -> dict[str, list[Path]]:
        """Files of each split, or of each key that names some; SourceError for a key without files."""
        raise NotImplementedError(f"source {self.kind} names no files")

    def picture_folder(self, base: Path, split: str) -> Path:
        """The folder to which shown paths of pictures are relative."""
        return Path(os.path.abspath(base))

    def stamp(self, base: Path) -> str:
        """Text that changes exactly when the data do, if it is cheaper to make than by `read`; otherwise empty.

        Raises SourceError where the hub does not answer.
        """
        return ""


HELD_OUT = "held_out"


class BundledSource(SourceKind):
    """Data in the wheel of a library, which never change; a fifth is held out, since there is no test split."""

    @property
    def held_out(self) -> float:
        """A fifth."""
        return 0.2

    @property
    def read_besides(self) -> tuple[str, ...]:
        """The column that marks the rows held out."""
        return (HELD_OUT,)

    def divided(self, rows: "datasets.Dataset", targets: np.ndarray) -> "datasets.Dataset":
        """The rows with a column `held_out`: 1 for a fifth drawn by stratum, 0 for the others."""
        test = drawn_rows(targets, int(np.floor(len(rows) * self.held_out + 0.5)), self.split_seed, leave=1)
        return rows.add_column(HELD_OUT, np.isin(np.arange(len(rows)), test).astype(np.int64))

    def stamp(self, base: Path) -> str:
        """Always the same."""
        return self.kind


class TimeSplit(Settings):
    """Test rows are those with a column's values from `after` on."""

    model_config = ConfigDict(frozen=True)

    column: str = Field(description="column of times, of numbers, or of texts of ISO 8601 like 2026-01-31")
    after: int | float | date | datetime | str = Field(description="the least value of a test row")


ONE_TEST = "give one of test, test_fraction (with split_seed) and split"


class SplitSource(SourceKind):
    """A source whose keys `train` and `test` name its splits; `test_fraction` may stand in for `test`."""

    test_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the training samples held out for testing, drawn by a hash of the input or its group",
    )
    split: TimeSplit | None = Field(None, description="test rows by the values of a column")

    @property
    def held_out(self) -> float | None:
        """The key `test_fraction`; anything where `split` divides the rows."""
        return 0.5 if self.split else self.test_fraction

    @property
    def read_besides(self) -> tuple[str, ...]:
        """The column of `split`."""
        return (self.split.column,) if self.split else ()

    @property
    def splits(self) -> dict[str, Any]:
        """Values of the keys `train` and `test`, without `test` where the source lacks a test split."""
        return {key: value for key in ("train", "test") if (value := getattr(self, key)) is not None}

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if ("test" in self.splits) + (self.test_fraction is not None) + (self.split is not None) > 1:
            raise ValueError(ONE_TEST)
        return self

    @property
    def divided_by(self) -> str:
        """See `SourceKind.divided_by`."""
        return next((key for key in ("test", "test_fraction", "split") if getattr(self, key) is not None), "")


class NamedSplits(SplitSource):
    """A source whose splits are names or folders."""

    train: str = Field("train", description="split, or folder, of the training samples")
    test: str | None = Field(None, description="split, or folder, of the test samples")

    def name_of(self, split: str, base: Path) -> str:
        """See `SourceKind.name_of`."""
        return str(self.splits[split])


def check_names(there: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise SourceError for a missing column, with the nearest name and the list of columns."""
    for name in names:
        if name not in there:
            near = get_close_matches(name, there, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise SourceError(f"{where}: there is no column {name!r}{hint} Columns: {', '.join(map(repr, there))}")
