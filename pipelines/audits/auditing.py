"""An audit: every check over the rows, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.audits.copied import copied, unreadable
from secateur.pipelines.audits.joined import Joined, exact_copies, joined
from secateur.pipelines.audits.listed import Found, as_findings, in_order, table_of
from secateur.pipelines.audits.oddities import odd

Say = Callable[[str], None]
"""Told what is being done."""


@dataclass(frozen=True)
class Audited:
    """The rows, their copies, and every finding in order."""

    rows: AuditRows
    copies: Joined
    found: tuple[Found, ...]
    samples: bool = True
    """Whether tables may show what rows hold."""
    more: dict[str, Any] = field(default_factory=dict)

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
        return int(self.copies.leaked(self.rows.part).sum())

    @property
    def duplicates(self) -> int:
        """Training rows more than needed: all but one of each group of copies."""
        return len(self.rows.splits[TRAIN]) - int(self.copies.kept(self.rows.part).sum())

    @property
    def conflicts(self) -> int:
        """Training rows whose input another one labels differently."""
        return sum(len(one.rows) for one in self.found if one.kind == "conflicts")

    def knows(self, name: str) -> bool:
        """Whether `mask` has an answer for the name."""
        return name != "without_suspects"

    def mask(self, name: str) -> Bool[np.ndarray, " rows"]:
        """Training rows that stay: `deduplicated`, `without_leaks` or `without_suspects`."""
        train = self.rows.part == TRAIN
        masks = {
            "deduplicated": lambda: self.copies.kept(self.rows.part),
            "without_leaks": lambda: train & (self.copies.across < 0),
        }
        if name not in masks:
            raise ValueError(f"there is no {name!r} of this audit; there are: {', '.join(masks)}")
        return np.asarray(masks[name]()[self.rows.span(TRAIN)])


def audited(rows: AuditRows, *, samples: bool = True, say: Say = lambda _: None) -> Audited:
    """Audit the rows."""
    say("comparing rows")
    copies = joined([exact_copies(rows)])
    return Audited(rows, copies, tuple(in_order(list(checked(rows, copies)))), samples)


def checked(rows: AuditRows, copies: Joined) -> Iterator[Found]:
    """Every finding, in no order."""
    yield from unreadable(rows)
    yield from copied(rows, copies)
    yield from odd(rows)
