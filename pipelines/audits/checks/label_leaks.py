"""Features that give the label away, each alone: a column, a word, the size of a picture, the name of the class.

Each is judged by rows that it did not learn from. `gain` is the share of a constant guess's mistakes that it avoids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import TRAIN, AuditRows

GAIN = 0.98
"""From which on a feature alone gives the label."""
MOST, FEWEST = 10_000, 50
"""Training rows that are read, drawn at random, and least of them."""
LEAVES, PER_CLASS = 64, 4
"""Of a decision tree at least, and of each class."""
WORDS = 20_000
"""Words that are read, the commonest."""
NAMED, RIGHT, SHORTEST = 0.5, 0.95, 3
"""Share of the texts that hold the name of exactly one class, and of these the share where it is the class given;
letters of a name."""


@check("features")
def columns_that_tell(rows: AuditRows) -> Iterator[Odd]:
    """Columns that give the target by themselves, those that were guessed to be no features among them."""
    if (read := sampled(rows)) is not None:
        places, targets = read
        yield from tell_tales(rows.features[places.tolist()], targets, "column")
        if rows.besides is not None:
            own = rows.besides[(places - rows.starts[TRAIN]).tolist()]
            for one in tell_tales(own, targets, "column"):
                yield Odd(one.kind, f"{one.says}; it was guessed to be no feature, so leave it out of training, too")


@check("text")
def words_that_tell(rows: AuditRows) -> Iterator[Odd]:
    """Words that all texts of a class have and no other, the length of texts, and names of classes in texts."""
    if (read := sampled(rows)) is None or rows.task is None:
        return
    places, targets = read
    texts = rows.texts.gather(places)
    yield from tell_tales(pl.DataFrame({"length": texts.str.len_chars()}), targets, "the texts'")
    if rows.task.target == "class":
        yield from words_of_classes(texts, targets, rows.label_names)
        yield from names_of_classes(texts, targets, rows.label_names)


def sampled(rows: AuditRows) -> tuple[Int64[np.ndarray, " m"], Any] | None:
    """Training rows that have a target, and their targets; None where there are too few, or no two targets."""
    span = rows.span(TRAIN)
    places = span.start + np.flatnonzero(rows.labelled[span])
    if rows.task is None or rows.targets is None or rows.task.target == "labels" or len(places) < FEWEST:
        return None
    random = np.random.default_rng(0)
    places = np.sort(random.permutation(places)[:MOST])
    targets = rows.targets[places]
    targets = targets[:, 0] if targets.ndim == 2 else targets
    return (places, targets) if len(np.unique(targets)) > 1 else None


def tell_tales(features: pl.DataFrame, targets: Any, word: str) -> Iterator[Odd]:
    """A sentence for each column that gives the target."""
    for column in features.get_columns():
        gain = gain_of(column, targets)
        if gain >= GAIN:
            counts = ", and counts the rows" if rising(column) else ""
            what = "label" if targets.dtype.kind == "i" else "target"
            share = (
                f"{gain:.1%} of the mistakes of a constant guess" if what == "label" else f"{gain:.1%} of the variance"
            )
            verb = "avoids" if what == "label" else "explains"
            yield Odd("label leak", f"{word} {column.name!r} alone gives the {what}: it {verb} {share}{counts}")


def rising(column: pl.Series) -> bool:
    """Whether whole numbers rise from row to row."""
    return column.dtype.is_integer() and column.n_unique() == len(column) and column.is_sorted()


def gain_of(column: pl.Series, targets: Any) -> float:
    """How much of the targets one column gives, at most 1: of classes the share of mistakes of the most frequent class
    that it avoids, of numbers the share of their variance; by halves that learn from each other."""
    half = np.random.default_rng(1).permutation(len(targets)) % 2
    told = np.empty(len(targets), targets.dtype if targets.dtype.kind == "i" else np.float64)
    for number in (0, 1):
        learned, held = half != number, half == number
        if column.dtype.is_numeric() or column.dtype == pl.Boolean:
            values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None]
            values = np.clip(values, -3e38, 3e38)
            told[held] = tree_of(targets).fit(values[learned], targets[learned]).predict(values[held])
        else:
            codes = column.cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64)
            told[held] = by_value(codes[learned], targets[learned], codes[held])
    if targets.dtype.kind == "i":
        guess = np.bincount(targets).max() / len(targets)
        return float(((told == targets).mean() - guess) / (1 - guess))
    return float(1 - ((told - targets) ** 2).mean() / targets.var())


def tree_of(targets: Any) -> Any:
    """A decision tree with leaves enough for a few stretches of each class."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if targets.dtype.kind == "i":
        leaves = max(LEAVES, PER_CLASS * len(np.unique(targets)))
        return DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0)
    return DecisionTreeRegressor(min_samples_leaf=5, random_state=0)


def by_value(learned: Int64[np.ndarray, " m"], targets: Any, held: Int64[np.ndarray, " h"]) -> Any:
    """The commonest class, or the mean number, of the rows with the same value, of all rows where none has it."""
    frame = pl.DataFrame({"code": learned, "target": targets})
    best = pl.col("target").mean() if targets.dtype.kind == "f" else pl.col("target").mode().min()
    told = pl.DataFrame({"code": held}).join(
        frame.group_by("code").agg(best), on="code", how="left", maintain_order="left"
    )
    return told["target"].fill_null(frame.select(best)["target"][0]).to_numpy()


def words_of_classes(texts: pl.Series, labels: Int64[np.ndarray, " m"], names: tuple[str, ...]) -> Iterator[Odd]:
    """One finding where nearly all rows are of a class that one word gives away."""
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        reader = CountVectorizer(binary=True, token_pattern=r"\S+", max_features=WORDS, dtype=np.int32)
        there = reader.fit_transform(texts.to_list())
    except ValueError:  # texts of white space alone
        return
    classes, codes = np.unique(labels, return_inverse=True)
    half = np.random.default_rng(1).permutation(len(labels)) % 2
    agreement = [agreements(there[half == number], codes[half == number], len(classes)) for number in (0, 1)]
    # The word is chosen on one half and judged on the other.
    best = agreement[0].argmax(axis=1)
    judged = agreement[1][np.arange(len(classes)), best]
    sizes = np.bincount(codes, minlength=len(classes))
    # A class that is known by the absence of another's word needs none of its own.
    given = judged >= GAIN
    if sizes[given].sum() < NAMED * len(labels) or given.sum() < len(classes) - 1:
        return
    words = reader.get_feature_names_out()
    shown = [f"{words[best[one]]!r} gives {name_of(classes[one], names)}" for one in np.flatnonzero(given)[:3]]
    more = f" and {given.sum() - 3} more" if given.sum() > 3 else ""
    yield Odd("label leak", f"a single word of the text gives the label: {', '.join(shown)}{more}")


def agreements(there: Any, codes: Int64[np.ndarray, " m"], classes: int) -> Float64[np.ndarray, "classes words"]:
    """F1 of each word for each class: 1 where all texts of the class have it, and no other."""
    indicators = (codes[None] == np.arange(classes)[:, None]).astype(np.float64)
    both = (there.T @ indicators.T).T
    return np.asarray(2 * both / np.maximum(indicators.sum(axis=1)[:, None] + np.asarray(there.sum(axis=0)), 1))


def names_of_classes(texts: pl.Series, labels: Int64[np.ndarray, " m"], names: tuple[str, ...]) -> Iterator[Odd]:
    """One finding where most texts hold the name of their class."""
    usable = [place for place, name in enumerate(names) if len(name) >= SHORTEST and not name.isdecimal()]
    if len(usable) < 2:
        return
    lowered = [names[place].lower() for place in usable]
    found = texts.str.to_lowercase().str.extract_many(lowered, overlapping=True, leftmost=False)
    only = found.list.unique()
    one = (only.list.len() == 1).to_numpy()
    if one.mean() < NAMED:
        return
    told = only.filter(pl.Series(one)).list.first().replace_strict(lowered, usable, return_dtype=pl.Int64).to_numpy()
    right = float((told == labels[one]).mean())
    if right >= RIGHT:
        share = f"{one.mean():.0%} of the texts hold the name of one class alone"
        yield Odd("label leak", f"{share}, and in {right:.0%} of them it is their label")


def name_of(label: int, names: tuple[str, ...]) -> str:
    """A class as people know it."""
    return repr(names[label]) if label < len(names) else str(label)
