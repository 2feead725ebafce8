"""An audit: run every check over the rows, and collect and summarise the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from secateur.pipelines.audits.cheap import Cheap
from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.audits.copied import copied, unreadable
from secateur.pipelines.audits.joined import Joined, exact_copies, joined
from secateur.pipelines.audits.listed import Found, as_findings, in_order, table_of
from secateur.pipelines.audits.marking import with_draws
from secateur.pipelines.audits.meaning import BATCH, Resting, Saving
from secateur.pipelines.audits.nearly import EMBEDDINGS, near_copies
from secateur.pipelines.audits.oddities import odd
from secateur.pipelines.audits.overlap import contaminated, overlaps_in, summed
from secateur.pipelines.audits.own_predictions import fit_to
from secateur.pipelines.audits.suspects import (
    Suspects,
    judge_of,
    suspects_in,
    suspicious,
    why_not,
    worth_of_leaks,
    worth_to,
)
from secateur.pipelines.audits.wrongly_labelled import wrongly_labelled

Say = Callable[[str], None]
"""Receives a message about the current step."""


@dataclass(frozen=True)
class How:
    """Settings of an audit, and of the training whose cost duplicates increase.

    `own` are predictions of the training rows by a model of the user's, or of a study, that did not learn from their
    labels: see `read_predictions` and `StudyModels`.
    """

    near: bool = True
    labels: bool = True
    by: str | None = None
    """Judge of labels by predictions, an argument of `check_judge`."""
    seed: int = 0
    batch_size: int = BATCH
    epochs: int = 1
    own: Float64[np.ndarray, "n width"] | None = field(default=None, compare=False)
    tested: Sequence[Float64[np.ndarray, "m width"]] = field(default=(), compare=False)
    """Outputs of a study's models for the test rows; the models learned from all training rows."""
    tested_by: str = ""
    """The names of these models, in words."""


@dataclass(frozen=True)
class Audited:
    """The rows, their copies, and every finding in order."""

    rows: AuditRows
    copies: Joined
    found: tuple[Found, ...]
    how: How = How()
    suspects: Mapping[int, Suspects] = field(default_factory=dict)
    unlooked: str = ""
    """Reason why labels were not checked; empty if they were."""
    resting: Resting | None = None
    samples: bool = True
    """Whether tables may show the rows' contents."""
    contamination: Mapping[str, Any] = field(default_factory=dict)
    """Contamination of other parts: the share of their texts that is in training, by the part's name."""

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """Findings, the most severe first."""
        return as_findings(self.found, self.rows)

    @cached_property
    def lines(self) -> pl.DataFrame:
        """A line for each row of each finding."""
        return table_of(self.found, self.rows, samples=self.samples)

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of each part by its name."""
        return {self.rows.names[part]: len(rows) for part, rows in self.rows.splits.items()}

    @property
    def leaks(self) -> int:
        """Number of rows of other parts that are also in training, exactly or nearly."""
        return sum(self.leaks_by_part.values())

    @cached_property
    def leaks_by_part(self) -> dict[str, int]:
        """`leaks` of each part beside training, by its name."""
        leaked = self.copies.leaked(self.rows.part)
        beside = [part for part in self.rows.splits if part != TRAIN]
        return {self.rows.names[part]: int(leaked[self.rows.span(part)].sum()) for part in beside}

    @property
    def duplicates(self) -> int:
        """Surplus training rows: all but one of each group of copies."""
        return len(self.rows.splits[TRAIN]) - int(self.copies.kept(self.rows.part).sum())

    @property
    def conflicts(self) -> int:
        """Number of training rows with the input of another one and a different label."""
        return sum(len(one.rows) for one in self.found if one.kind == "conflicts")

    @property
    def wrong_labels(self) -> float | None:
        """Estimated number of wrong training labels; None where no model can estimate it."""
        return None if self.uncounted else float(self.suspects[TRAIN].wrong.count)

    @property
    def uncounted(self) -> str:
        """Reason why the number of wrong training labels is unknown; empty where a model estimates it."""
        return self.suspects[TRAIN].uncounted if TRAIN in self.suspects else self.unlooked or "there are none"

    @property
    def saving(self) -> Saving | None:
        """The saving of a training without copies; None without copies."""
        train = len(self.rows.splits[TRAIN])
        how = Saving(self.duplicates, train, self.how.batch_size, self.how.epochs)
        return how if self.duplicates else None

    @property
    def meaning(self) -> list[str]:
        """Consequences of the findings, in sentences without a full stop."""
        told = [one["sentence"] for one in self.contamination.values()]
        return [*(one.sentence for one in (self.resting, self.saving) if one), *told]

    def content(self) -> dict[str, Any]:
        """The audit as JSON-able data."""
        return {
            "data": self.rows.name,
            "rows": self.sizes,
            "leaks": self.leaks,
            "leaks_by_part": self.leaks_by_part,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "wrong_labels": {self.rows.names[part]: some.content() for part, some in self.suspects.items()},
            "labels_not_looked_at": self.unlooked or None,
            "resting_on_leaks": self.resting.content() if self.resting else None,
            "saving": self.saving.content() if self.saving else None,
            "contamination": dict(self.contamination),
            "findings": self.findings,
            "measures": self.measures,
            "shared": self.shared,
            "notes": self.notes,
        }

    @property
    def notes(self) -> list[str]:
        """Guesses of the reader, and vectors that could not be compared, in words."""
        vectors = (one for one in self.copies.measures if one.measure == EMBEDDINGS and one.threshold > 1)
        return [*self.rows.notes, *(f"near copies by embeddings: {one.reason}" for one in vectors)]

    @property
    def measures(self) -> list[dict[str, Any]]:
        """Measures of copies with their thresholds, the reasons for these, and the `leaks` and `duplicates` that each
        finds beyond the measures before it."""
        part = self.rows.part
        kept = [int(self.copies.kept(part, level=place).sum()) for place in range(len(self.copies.levels))]
        before = [len(self.rows.splits[TRAIN]), *kept]
        return [
            {
                "measure": each.measure,
                "threshold": float(each.threshold),
                "reason": each.reason,
                "leaks": int(self.copies.leaked(part, by=place).sum()),
                "duplicates": before[place] - kept[place],
            }
            for place, each in enumerate(self.copies.measures)
        ]

    @property
    def shared(self) -> list[dict[str, Any]]:
        """For each two `parts` beside training that share rows, the number of `rows` of the later one in the other, by
        the first measure that finds them."""
        pairs, part, names = self.copies.between, self.rows.part, self.rows.names
        beside = [number for number in self.rows.splits if number != TRAIN]
        found = []
        for first, later in combinations(beside, 2):
            by = pairs.by[(part[pairs.rows] == later) & (part[pairs.other] == first)]
            counts = {one.measure: int((by == place).sum()) for place, one in enumerate(self.copies.measures)}
            if len(by):
                found.append({"parts": [names[first], names[later]], "rows": counts})
        return found

    def knows(self, name: str) -> bool:
        """Whether `mask` accepts the name."""
        return name != "without_suspects" or not self.uncounted

    def mask(self, name: str) -> Bool[np.ndarray, " rows"]:
        """Training rows to keep: `deduplicated`, `without_leaks` or `without_suspects`."""
        train = self.rows.part == TRAIN
        masks: dict[str, Callable[[], np.ndarray]] = {
            "deduplicated": lambda: self.copies.kept(self.rows.part),
            "without_leaks": lambda: train & (self.copies.across < 0),
            "without_suspects": lambda: train & ~suspicious(self.rows, self.suspects),
        }
        there = [one for one in masks if self.knows(one)]
        if name not in there:
            why = f" ({self.uncounted})" if name in masks else ""
            raise ValueError(f"there is no {name!r} of this audit{why}; there are: {', '.join(there)}")
        return np.asarray(masks[name]()[self.rows.span(TRAIN)])


def audited(rows: AuditRows, how: How | None = None, *, samples: bool = True, say: Say = lambda _: None) -> Audited:
    """Audit the rows."""
    how = how or How()
    if how.own is not None:
        fit_to(how.own, rows)
    if rows.task is not None:
        judge_of(rows, how.by)  # raises for an unusable judge before the work starts
    if rows.vectors and how.near and not rows.vectors.held:
        say(f"asking {rows.vectors.name} for vectors")
        rows.vectors.of_sound(rows)
    say("comparing rows")
    copies = joined([exact_copies(rows), *(near_copies(rows, seed=how.seed) if how.near else [])], rows.part)
    unlooked = why_not(rows) if how.labels else "nobody asked for it"
    suspects: dict[int, Suspects] = {}
    worth = None
    if not unlooked:
        say("looking at labels")
        cheap = Cheap(rows)
        suspects = suspects_in(rows, copies, cheap, how.own, how.by, seed=how.seed)
        of_study = worth_to(rows, copies, how.tested, how.tested_by)
        worth = of_study or worth_of_leaks(rows, copies, cheap, seed=how.seed)
        unlooked = suspects[TRAIN].cannot_say
        suspects = {part: some for part, some in suspects.items() if not unlooked and not some.cannot_say}
    overlaps = overlaps_in(rows) if how.near else {}
    every = [*checked(rows, copies, suspects), *contaminated(rows, overlaps)]
    found = tuple(with_draws(in_order(every), how.seed))
    return Audited(rows, copies, found, how, suspects, unlooked, worth, samples, summed(rows, overlaps))


def checked(
    rows: AuditRows,
    copies: Joined,
    suspects: Mapping[int, Suspects],
    oddities: Callable[[], Iterator[Found]] | None = None,
) -> Iterator[Found]:
    """Every finding, in no order; `oddities` replaces the checks where they read only some rows."""
    yield from unreadable(rows)
    yield from copied(rows, copies)
    for one in odd(rows) if oddities is None else oddities():
        fresh = rows.fresh[one.rows]
        if fresh.all() or fresh.any():
            yield replace(one, rows=one.rows[fresh])
    if suspects:
        yield from wrongly_labelled(rows, suspects)
