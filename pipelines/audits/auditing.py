"""An audit: every check over the rows, and what they come to."""

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
"""Told what is being done."""


@dataclass(frozen=True)
class How:
    """What an audit looks at, and the training that duplicates would cost.

    `own` are predictions of the training rows by a model of the user's, or of a study, that did not learn from their
    labels: see `read_predictions` and `StudyModels`.
    """

    near: bool = True
    labels: bool = True
    by: str | None = None
    """Who judges labels by predictions, as `check_judge` has it."""
    seed: int = 0
    batch_size: int = BATCH
    epochs: int = 1
    own: Float64[np.ndarray, "n width"] | None = field(default=None, compare=False)
    tested: Sequence[Float64[np.ndarray, "m width"]] = field(default=(), compare=False)
    """What models of a study say of the test rows; they learned from all training rows."""
    tested_by: str = ""
    """Which models these are, in words."""


@dataclass(frozen=True)
class Audited:
    """The rows, their copies, and every finding in order."""

    rows: AuditRows
    copies: Joined
    found: tuple[Found, ...]
    how: How = How()
    suspects: Mapping[int, Suspects] = field(default_factory=dict)
    unlooked: str = ""
    """Why labels were not looked at; empty where they were."""
    resting: Resting | None = None
    samples: bool = True
    """Whether tables may show what rows hold."""
    contamination: Mapping[str, Any] = field(default_factory=dict)
    """How much of texts of other parts stands in training, by the part's name."""

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """Findings, the gravest first."""
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
        """Rows of other parts that training has, exactly or nearly."""
        return sum(self.leaks_by_part.values())

    @cached_property
    def leaks_by_part(self) -> dict[str, int]:
        """The same of each part beside training, by its name."""
        leaked = self.copies.leaked(self.rows.part)
        beside = [part for part in self.rows.splits if part != TRAIN]
        return {self.rows.names[part]: int(leaked[self.rows.span(part)].sum()) for part in beside}

    @property
    def duplicates(self) -> int:
        """Training rows more than needed: all but one of each group of copies."""
        return len(self.rows.splits[TRAIN]) - int(self.copies.kept(self.rows.part).sum())

    @property
    def conflicts(self) -> int:
        """Training rows whose input another one labels differently."""
        return sum(len(one.rows) for one in self.found if one.kind == "conflicts")

    @property
    def wrong_labels(self) -> float | None:
        """How many training labels are estimated to be wrong; None where nobody can say."""
        return None if self.uncounted else float(self.suspects[TRAIN].wrong.count)

    @property
    def uncounted(self) -> str:
        """Why nobody can say how many training labels are wrong; empty where a model counts them."""
        return self.suspects[TRAIN].uncounted if TRAIN in self.suspects else self.unlooked or "there are none"

    @property
    def saving(self) -> Saving | None:
        """What training without copies would save; None where there are none."""
        train = len(self.rows.splits[TRAIN])
        how = Saving(self.duplicates, train, self.how.batch_size, self.how.epochs)
        return how if self.duplicates else None

    @property
    def meaning(self) -> list[str]:
        """What the findings mean, in sentences without a full stop."""
        told = [one["sentence"] for one in self.contamination.values()]
        return [*(one.sentence for one in (self.resting, self.saving) if one), *told]

    def content(self) -> dict[str, Any]:
        """JSON-able."""
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
        """What was guessed, and which vectors could not be compared, in words."""
        vectors = (one for one in self.copies.measures if one.measure == EMBEDDINGS and one.threshold > 1)
        return [*self.rows.notes, *(f"near copies by embeddings: {one.reason}" for one in vectors)]

    @property
    def measures(self) -> list[dict[str, Any]]:
        """By which measures rows are copies, from which similarity and why, and the `leaks` and `duplicates` that each
        finds and none before it."""
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
        """Of each two `parts` beside training that share rows, how many `rows` of the later one the other has, by the
        measure that finds them first."""
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
        """Whether `mask` has an answer for the name."""
        return name != "without_suspects" or not self.uncounted

    def mask(self, name: str) -> Bool[np.ndarray, " rows"]:
        """Training rows that stay: `deduplicated`, `without_leaks` or `without_suspects`."""
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
        judge_of(rows, how.by)  # which may refuse
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
    """Every finding, in no order; `oddities` say what checks find where they do not look at all rows."""
    yield from unreadable(rows)
    yield from copied(rows, copies)
    for one in odd(rows) if oddities is None else oddities():
        fresh = rows.fresh[one.rows]
        if fresh.all() or fresh.any():
            yield replace(one, rows=one.rows[fresh])
    if suspects:
        yield from wrongly_labelled(rows, suspects)
