"""Findings about copies: rows of other parts that training has, copies within a part, and copies of other labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.audits.joined import Joined
from secateur.pipelines.audits.listed import Found
from secateur.pipelines.data.check import many


def copied(rows: AuditRows, copies: Joined) -> Iterator[Found]:
    """Every finding about copies."""
    for part in rows.splits:
        if part != TRAIN:
            yield from leaks(rows, copies, part)
        yield from repeats(rows, copies, part)
    yield from conflicts(rows, copies)


def leaks(rows: AuditRows, copies: Joined, part: int) -> Iterator[Found]:
    """Rows of a part that training has: of equal input, and near copies."""
    name, size = rows.names[part], len(rows.splits[part])
    for exact in (True, False):
        told_of = rows.fresh | rows.fresh[copies.across]
        found = np.flatnonzero(copies.leaked(rows.part, exact=exact) & (rows.part == part) & told_of)
        if not len(found):
            continue
        order = np.argsort(-copies.across_similarity[found], kind="stable")
        found = found[order]
        other = copies.across[found]
        relabelled = int(differing(rows, found, other).sum())
        label = f", {relabelled:,} with another label" if relabelled else ""
        several = many(len(found), f"{name} row")
        text = (
            f"{several} of {size:,} also in train{label}: results on {name} are too good"
            if exact
            else f"{several} of {size:,} nearly the same as a row of train{label}: results on {name} may be too good"
            f"{parts_in(rows, found, other)}"
        )
        yield Found(
            "leaked" if exact else "near leaked", name, text, found, other=other,
            groups=len(np.unique(copies.group[found])), more=told(rows, copies, found, other, across=True),
        )  # fmt: skip


def repeats(rows: AuditRows, copies: Joined, part: int) -> Iterator[Found]:
    """Copies within a part: rows of equal input, and further ones that a measure joins."""
    name = rows.names[part]
    mine = rows.part == part
    exact = np.flatnonzero(mine & (copies.exact.group >= 0))
    size = within(copies.exact.group[exact])[1]
    exact = exact[size > 1]
    exact = exact[fresh_groups(rows, copies.exact.group[exact], exact)]
    if len(exact):
        groups = len(np.unique(copies.exact.group[exact]))
        more = len(exact) - groups
        text = f"{many(groups, 'group')} of equal {name} rows, {more:,} more than needed"
        yield group_of(rows, copies.exact.group, exact, "duplicates", name, text, copies)
    near = np.flatnonzero(mine & (copies.group >= 0))
    group = copies.group[near]
    # Groups that hold more than one input.
    inputs = np.where(copies.exact.group[near] >= 0, copies.exact.group[near], near)
    distinct = pl.DataFrame({"group": group, "input": inputs}).select(
        pl.col("input").n_unique().over("group")
    )["input"].to_numpy()  # fmt: skip
    told_of = (distinct > 1) & fresh_groups(rows, group, near)
    near, inputs, group = near[told_of], inputs[told_of], group[told_of]
    if len(near):
        groups, more = len(np.unique(group)), len(np.unique(inputs))
        text = (
            f"{many(groups, 'group')} of near copies among {name} rows, {many(more - groups, 'row')} more than needed"
            f"{'' if len(near) == more else ' besides equal ones'}"
            f"{parts_in(rows, *paired(copies, near))}"
        )
        yield group_of(rows, copies.group, near, "near duplicates", name, text, copies)


def paired(copies: Joined, found: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Those rows whose most similar other row is a near copy, and these others."""
    near = found[copies.partner_by[found] > 0]
    return near, copies.partner[near]


def parts_in(rows: AuditRows, left: Int64[np.ndarray, " m"], right: Int64[np.ndarray, " m"]) -> str:
    """Of texts, in how many pairs one is a part of the other, as the end of a sentence; empty where none is."""
    if rows.kind != "text":
        return ""
    count = int(part_of_other(rows.texts_at(left), rows.texts_at(right)).sum())
    return (
        f"; in {many(count, 'pair')} of {len(left):,} one text is a part of the other, word for word" if count else ""
    )


def part_of_other(left: pl.Series, right: pl.Series) -> Bool[np.ndarray, " m"]:
    """Pairs of texts of which the words of one stand in the other one behind the other; case and punctuation aside."""
    from secateur.scorers.copies.word_sets import spelled

    pairs = pl.DataFrame({"left": spelled(left), "right": spelled(right)}).select(
        pl.col("left").str.contains(pl.col("right"), literal=True)
        | pl.col("right").str.contains(pl.col("left"), literal=True)
    )
    return np.asarray(pairs.to_series().fill_null(False).to_numpy())


def fresh_groups(
    rows: AuditRows, group: Int64[np.ndarray, " m"], found: Int64[np.ndarray, " m"]
) -> Bool[np.ndarray, " m"]:
    """Rows in groups with a row that no earlier audit has seen."""
    return np.isin(group, group[rows.fresh[found]])


def within(group: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Numbers of groups from 0, and how many of these rows are in each row's."""
    _, place, counts = np.unique(group, return_inverse=True, return_counts=True)
    return place.astype(np.int64), counts[place].astype(np.int64) if len(group) else np.zeros(0, np.int64)


def group_of(
    rows: AuditRows, group: Int64[np.ndarray, " n"], found: Int64[np.ndarray, " m"], kind: str, name: str, text: str,
    copies: Joined,
) -> Found:  # fmt: skip
    """A finding of rows in groups, group by group, the row that stays ahead; each is compared with that row."""
    found = found[np.lexsort((found, group[found]))]
    place, size = within(group[found])
    heads = np.diff(place, prepend=-1) != 0
    lead = found[heads][place]
    near = kind == "near duplicates"
    other = np.where(heads, -1, lead)
    if near:  # the partner tells more than the row that stays, which a chain may lead away from
        mine = rows.part[found] == rows.part[copies.partner[found]]
        other = np.where(mine & ~heads, copies.partner[found], other)
    columns = {
        "group": pl.Series(place + 1),
        "group_rows": pl.Series(size),
        "stays": pl.Series(heads),
    }
    more = told(rows, copies, found, other, across=False) if near else {"similarity": pl.Series(np.ones(len(found)))}
    return Found(kind, name, text, found, other=other, groups=int(heads.sum()), more=columns | more)


def told(
    rows: AuditRows, copies: Joined, found: Int64[np.ndarray, " m"], other: Int64[np.ndarray, " m"], *, across: bool
) -> dict[str, pl.Series]:
    """By which measure rows are copies, and how similar they are; nothing where the pair is not the one measured."""
    by, alike = (copies.across_by, copies.across_similarity) if across else (copies.partner_by, copies.similarity)
    measured = other >= 0 if across else (other >= 0) & (copies.partner[found] == other)
    names = pl.Series([each.measure for each in copies.measures], dtype=pl.String)
    measure = names.gather(np.maximum(by[found], 0))
    similarity = pl.Series(np.where(measured, alike[found], np.nan).astype(np.float64)).fill_nan(None)
    return {"measure": pl.select(pl.when(pl.Series(measured)).then(measure)).to_series(), "similarity": similarity}


def differing(rows: AuditRows, left: Int64[np.ndarray, " m"], right: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
    """Pairs of labelled rows whose targets differ."""
    if rows.targets is None:
        return np.zeros(len(left), np.bool_)
    both = rows.labelled[left] & rows.labelled[right]
    unlike = rows.targets[left] != rows.targets[right]
    return np.asarray(both & unlike.any(axis=tuple(range(1, unlike.ndim))))


def conflicts(rows: AuditRows, copies: Joined) -> Iterator[Found]:
    """Labelled training rows of equal input and different targets."""
    if rows.targets is None:
        return
    found = np.flatnonzero((rows.part == TRAIN) & (copies.exact.group >= 0) & rows.labelled)
    group = copies.exact.group[found]
    first = found[np.unique(group, return_index=True)[1]]
    lead = first[within(group)[0]] if len(found) else found
    torn = np.unique(group[differing(rows, found, lead)])
    found = found[np.isin(group, torn) & fresh_groups(rows, group, found)]
    if len(found):
        text = f"{many(len(found), 'train row')} with an input that another row labels differently"
        yield group_of(rows, copies.exact.group, found, "conflicts", rows.names[TRAIN], text, copies)


def unreadable(rows: AuditRows) -> Iterator[Found]:
    """Rows whose input no model could be shown, by part."""
    for part in rows.splits:
        found = np.flatnonzero((rows.part == part) & ~rows.sound & rows.fresh)
        if len(found):
            name, faults = rows.names[part], rows.faults.gather(found)
            said = ", ".join(faults.value_counts(sort=True).to_series().head(3))
            text = f"{many(len(found), f'{name} row')} without an input that a model could be shown ({said})"
            yield Found("unreadable", name, text, found)
