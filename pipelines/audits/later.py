"""An audit of rows most of which an earlier audit knows: compare new rows with all, and reuse the rest.

Thresholds are those of the earlier audit. Texts and pictures of known rows are not read again, but for a sample of
them: the checks judge new rows beside this sample, and a small model for new labels learns from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from secateur.pipelines.audits.auditing import Audited, How, Say, checked
from secateur.pipelines.audits.cheap import Cheap
from secateur.pipelines.audits.contract import TEST, TRAIN, AuditRows
from secateur.pipelines.audits.joined import exact_copies, joined
from secateur.pipelines.audits.listed import Found, in_order
from secateur.pipelines.audits.marking import with_draws
from secateur.pipelines.audits.meaning import Resting
from secateur.pipelines.audits.memory import Memory
from secateur.pipelines.audits.near_again import near_again
from secateur.pipelines.audits.oddities import findings_of
from secateur.pipelines.audits.suspects import JUDGES, Suspects, held_out
from secateur.pipelines.data.sources import part_of

SAMPLE = 5000
"""Known training rows to read again."""
NOTE = "{new} rows are new since the last audit; accuracy that rests on leaks and contamination are of the rows before"


def audited_later(
    rows: AuditRows, memory: Memory, places: Int64[np.ndarray, " known"], how: How, folder: Path, *,
    samples: bool = True, say: Say = lambda _: None,
) -> tuple[Audited, dict[str, np.ndarray]]:  # fmt: skip
    """The audit, and the arrays of `looks_of`, from a memory whose rows are at these `places`; shards of reread rows
    are written below `folder`.
    """
    known = np.zeros(len(rows), np.bool_)
    known[places] = True
    told = NOTE.format(new=f"{int((~known).sum()):,}")
    rows = replace(rows, known=known if known.any() and not known.all() else None, notes=(*rows.notes, told))
    say(f"comparing {int((~known).sum()):,} new rows with all")
    near, looks = near_again(rows, memory, places, ~known, seed=how.seed) if how.near else ((), {})
    copies = joined([exact_copies(rows), *near], rows.part)
    few, own = beside_some(rows, known, folder, seed=how.seed)
    unlooked = memory.told["unlooked"]
    suspects: dict[int, Suspects] = {}
    if memory.predicted is not None:
        say("judging labels of new rows")
        suspects = judged(rows, memory.predicted, places, few, own, how)
        unlooked = suspects[TRAIN].cannot_say
        suspects = {part: some for part, some in suspects.items() if not unlooked and not some.cannot_say}
    every = checked(rows, copies, suspects, lambda: odd_among(rows, few, own))
    found = tuple(with_draws(in_order([*every]), how.seed))
    resting = Resting(**memory.told["resting"]) if memory.told["resting"] else None
    contamination = memory.told["contamination"]
    return Audited(rows, copies, found, how, suspects, unlooked, resting, samples, contamination), looks


def beside_some(
    rows: AuditRows, known: Bool[np.ndarray, " n"], folder: Path, *, seed: int
) -> tuple[AuditRows, Int64[np.ndarray, " few"]]:
    """New rows and a sample of the known training rows, as `AuditRows` of their own, and the numbers of these rows."""
    able = np.flatnonzero(known & (rows.part == TRAIN))
    drawn = np.random.default_rng(seed).permutation(able)[:SAMPLE]
    mask = ~known
    mask[drawn] = True
    parts = {part: mask[rows.span(part)] for part in rows.splits}
    parts = {part: own for part, own in parts.items() if own.any()}
    splits = {part: part_of(rows.splits[part], own, folder / f"part-{part}") for part, own in parts.items()}
    few = replace(
        rows,
        names={part: rows.names[part] for part in splits},
        splits=splits,
        columns={part: rows.columns[part] for part in splits},
        labelled=rows.labelled[mask],
        targets=None if rows.targets is None else rows.targets[mask],
        known=None,
        vectors=None,
        besides=None,
    )
    return few, np.flatnonzero(mask)


def odd_among(rows: AuditRows, few: AuditRows, own: Int64[np.ndarray, " few"]) -> Iterator[Found]:
    """Findings of the checks among new rows, beside a sample of the others."""
    from secateur.pipelines.audits.checks.contract import checks

    for kinds, one in checks().values():
        for found in one(few) if rows.kind in kinds else ():
            if found.rows is None:
                continue  # a sentence about all rows is for a full audit
            places = own[found.rows]
            yield from findings_of(rows, replace(found, rows=places[rows.fresh[places]]))


def judged(
    rows: AuditRows, before: Float32[np.ndarray, "known width"], places: Int64[np.ndarray, " known"], few: AuditRows,
    own: Int64[np.ndarray, " few"], how: How,
) -> dict[int, Suspects]:  # fmt: skip
    """Suspects of all rows: known ones by the stored predictions, new ones by a model that learned from a sample."""
    assert rows.task is not None
    assert rows.targets is not None
    predicted = np.full((len(rows), rows.task.width), np.nan, np.float32)
    predicted[places] = before
    new = np.flatnonzero(few.labelled & np.isnan(predicted[own, 0]) & np.isin(few.part, (TRAIN, TEST)))
    learned = np.flatnonzero(few.labelled & (few.part == TRAIN) & ~np.isnan(predicted[own, 0]))
    if len(new):
        predicted[own[new]] = held_out(few, Cheap(few), learned, new, seed=how.seed)
    if how.own is not None:
        predicted[rows.span(TRAIN)] = how.own
    judge, found = JUDGES[rows.task.target], {}
    for part in (TRAIN, TEST):
        mine = np.flatnonzero(rows.labelled & (rows.part == part))
        if len(mine):
            wrong = judge(predicted[mine], rows.targets[mine], seed=how.seed)
            found[part] = Suspects(mine, wrong, predicted[mine])
    return found
