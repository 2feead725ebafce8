"""Findings about copies: rows of other parts in training, copies within a part and between parts beside training,
and copies with different labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from secateur.pipelines.audits.contract import TARGET, TRAIN, AuditRows
from secateur.pipelines.audits.joined import Joined
from secateur.pipelines.audits.listed import BY_EMBEDDINGS, Found
from secateur.pipelines.audits.nearly import EMBEDDINGS
from secateur.pipelines.data.check import many


def copied(rows: AuditRows, copies: Joined) -> Iterator[Found]:
    """Every finding about copies."""
    for part in rows.splits:
        if part != TRAIN:
            yield from leaks(rows, copies, part)
        yield from repeats(rows, copies, part)
    yield from shared(rows, copies)
    yield from conflicts(rows, copies)


def kind_of(name: str, near: str, copies: Joined, place: int) -> str:
    """The kind of a finding of the measure at a place; vectors have kinds of their own."""
    if place == 0:
        return name
    return near if copies.measures[place].measure != EMBEDDINGS else f"{near}{BY_EMBEDDINGS}"


def leaks(rows: AuditRows, copies: Joined, part: int) -> Iterator[Found]:
    """Rows of a part that training has, too: of equal input, and near copies by the first measure that finds them."""
    name, size = rows.names[part], len(rows.splits[part])
    for place in range(len(copies.measures)):
        told_of = rows.fresh | rows.fresh[copies.across]
        found = np.flatnonzero(copies.leaked(rows.part, by=place) & (rows.part == part) & told_of)
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
            if place == 0
            else f"{several} of {size:,} nearly the same as a row of train{in_words(copies, place)}{label}: results on "
            f"{name} may be too good{parts_in(rows, found, other)}"
        )
        yield Found(
            kind_of("leaked", "near leaked", copies, place), name, text, found, other=other,
            groups=len(np.unique(copies.group[found])),
            more=told(copies, place, copies.across_similarity[found].astype(np.float64)),
        )  # fmt: skip


def in_words(copies: Joined, place: int) -> str:
    """The end of "near copies" for vectors, whose copies no other measure finds."""
    return " by embeddings alone" if copies.measures[place].measure == EMBEDDINGS else ""


def shared(rows: AuditRows, copies: Joined) -> Iterator[Found]:
    """Rows that two parts beside training share, equal or near copies: those of the later part, with the other's."""
    pairs, measures = copies.between, range(len(copies.measures))
    beside = [part for part in rows.splits if part != TRAIN]
    told_of = rows.fresh[pairs.rows] | rows.fresh[pairs.other]
    for place, (first, later) in product(measures, combinations(beside, 2)):
        chosen = (rows.part[pairs.rows] == later) & (rows.part[pairs.other] == first) & (pairs.by == place) & told_of
        chosen = np.flatnonzero(chosen)
        if not len(chosen):
            continue
        chosen = chosen[np.argsort(-pairs.similarity[chosen], kind="stable")]
        found, other = pairs.rows[chosen], pairs.other[chosen]
        name, its = rows.names[later], rows.names[first]
        several = f"{many(len(found), f'{name} row')} of {len(rows.splits[later]):,}"
        text = (
            f"{several} also in {its}: {meaning(first, later)}"
            if place == 0
            else f"{several} nearly the same as a row of {its}{in_words(copies, place)}{parts_in(rows, found, other)}"
        )
        more = told(copies, place, pairs.similarity[chosen].astype(np.float64))
        yield Found(kind_of("shared", "near shared", copies, place), name, text, found, other=other, more=more)


def meaning(first: int, later: int) -> str:
    """The harm of rows shared by two parts beside training; `later` has the larger number."""
    if later == TARGET:
        return "these test rows cannot judge rows chosen by their likeness to the target"
    if first == TARGET:
        return "this benchmark cannot judge rows chosen by their likeness to the target"
    return "results on both rest on the same rows"


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
        yield group_of(rows, copies, 0, exact, "duplicates", name, text)
    for place in range(1, len(copies.measures)):
        before, after = copies.levels[place - 1], copies.levels[place]
        near = np.flatnonzero(mine & (after >= 0))
        # Groups of more than one input, or of more than one group of the measures before.
        inputs = np.where(before[near] >= 0, before[near], near)
        distinct = pl.DataFrame({"group": after[near], "input": inputs}).select(
            pl.col("input").n_unique().over("group")
        )["input"].to_numpy()  # fmt: skip
        told_of = (distinct > 1) & fresh_groups(rows, after[near], near)
        near, inputs = near[told_of], inputs[told_of]
        if not len(near):
            continue
        groups, more = len(np.unique(after[near])), len(np.unique(inputs))
        besides = " besides equal ones" if place == 1 else " besides those of other measures"
        text = (
            f"{many(groups, 'group')} of near copies among {name} rows{in_words(copies, place)}, "
            f"{many(more - groups, 'row')} more than needed{'' if len(near) == more else besides}"
            f"{parts_in(rows, *paired(copies, place, near))}"
        )
        yield group_of(rows, copies, place, near, kind_of("", "near duplicates", copies, place), name, text)


def paired(
    copies: Joined, place: int, found: Int64[np.ndarray, " m"]
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Rows whose first near copy comes from this measure, and these copies."""
    near = found[copies.partner_by[found] == place]
    return near, copies.partner[near]


def parts_in(rows: AuditRows, left: Int64[np.ndarray, " m"], right: Int64[np.ndarray, " m"]) -> str:
    """The number of pairs of texts where one contains the other, as the end of a sentence; empty where none does."""
    if rows.kind != "text":
        return ""
    count = int(part_of_other(rows.texts_at(left), rows.texts_at(right)).sum())
    return (
        f"; in {many(count, 'pair')} of {len(left):,} one text is a part of the other, word for word" if count else ""
    )


def part_of_other(left: pl.Series, right: pl.Series) -> Bool[np.ndarray, " m"]:
    """Pairs where the words of one text appear in the other as one run; ignores case and punctuation."""
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
    """Groups renumbered from 0, and the size of each row's group among these rows."""
    _, place, counts = np.unique(group, return_inverse=True, return_counts=True)
    return place.astype(np.int64), counts[place].astype(np.int64) if len(group) else np.zeros(0, np.int64)


def group_of(
    rows: AuditRows, copies: Joined, place: int, found: Int64[np.ndarray, " m"], kind: str, name: str, text: str
) -> Found:
    """A finding of rows in groups of a level, group by group, with the kept row first. Each row is compared with that
    row or, for near copies, with its most similar row, which may be another one in a chain of copies.
    """
    group, measure = copies.levels[place], copies.measures[place]
    found = found[np.lexsort((found, group[found]))]
    places, size = within(group[found])
    heads = np.diff(places, prepend=-1) != 0
    lead = found[heads][places]
    other, similarity = np.where(heads, -1, lead), np.ones(len(found))
    if place:
        partner = measure.partner[found]
        mine = (partner >= 0) & (rows.part[found] == rows.part[partner])
        other = np.where(mine & ~heads, partner, other)
        similarity = np.where((other >= 0) & (partner == other), measure.similarity[found], np.nan)
    columns = {
        "group": pl.Series(places + 1),
        "group_rows": pl.Series(size),
        "stays": pl.Series(heads),
    }
    more = told(copies, place, similarity.astype(np.float64)) if place else {"similarity": pl.Series(similarity)}
    return Found(kind, name, text, found, other=other, groups=int(heads.sum()), more=columns | more)


def told(copies: Joined, place: int, similarity: Float64[np.ndarray, " m"]) -> dict[str, pl.Series]:
    """Columns for the measure of the copies and their similarity, null for pairs that it did not compare (NaN)."""
    known = pl.Series(similarity).fill_nan(None)
    name = copies.measures[place].measure
    return {"measure": known.is_not_null().replace_strict({True: name, False: None}, return_dtype=pl.String),
            "similarity": known}  # fmt: skip


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
        yield group_of(rows, copies, 0, found, "conflicts", rows.names[TRAIN], text)


def unreadable(rows: AuditRows) -> Iterator[Found]:
    """Rows whose input no model could be shown, by part."""
    for part in rows.splits:
        found = np.flatnonzero((rows.part == part) & ~rows.sound & rows.fresh)
        if len(found):
            name, faults = rows.names[part], rows.faults.gather(found)
            said = ", ".join(faults.value_counts(sort=True).to_series().head(3))
            text = f"{many(len(found), f'{name} row')} without an input that a model could be shown ({said})"
            yield Found("unreadable", name, text, found)
