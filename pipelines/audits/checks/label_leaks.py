"""Single features that predict the label almost alone: a column, a word, the size of a picture, the name of the class.

Each is scored on rows that it was not fitted to. `gain` is the share of a constant guess's mistakes that it avoids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.files.shown_text import quoted

GAIN = 0.98
"""Least gain at which a feature alone gives the label away."""
MOST, FEWEST = 10_000, 50
"""Largest sample of training rows, drawn at random, and the least number of rows for a check."""
FEWEST_OF_LABEL, SHOWN = 10, 3
"""Least number of rows with a label, and of rows without it, for a check of the label; words and labels to name."""
LEAVES, PER_CLASS = 64, 4
"""Least number of leaves of a decision tree, in all and per class."""
WORDS = 20_000
"""Words in the vocabulary, the commonest."""
NAMED, RIGHT, SHORTEST = 0.5, 0.95, 3
"""Least share of texts with the name of exactly one class, and of these, of texts of that class; shortest name in
letters."""


@dataclass(frozen=True)
class Target:
    """One label or number of some rows: `values` are int64 classes, 0 and 1 for one of several labels, or float64
    `[m]`; `name` is empty where rows have one target.
    """

    name: str
    values: Any


@check("features")
def columns_that_tell(rows: AuditRows) -> Iterator[Odd]:
    """Columns that give a target away by themselves, including those that the reader excluded from the features."""
    places, targets = sampled(rows)
    if not targets:
        return
    yield from tell_tales(rows.features[places.tolist()], targets, "column")
    if rows.besides is not None:
        own = rows.besides[(places - rows.starts[TRAIN]).tolist()]
        for one in tell_tales(own, targets, "column"):
            yield Odd(one.kind, f"{one.says}; it was guessed to be no feature, so leave it out of training, too")


@check("text")
def words_that_tell(rows: AuditRows) -> Iterator[Odd]:
    """Words in all texts of a class, or with a label, and in no others; length of texts; names of classes in texts."""
    places, targets = sampled(rows)
    if not targets or rows.task is None:
        return
    texts = rows.texts.gather(places)
    yield from tell_tales(pl.DataFrame({"length": texts.str.len_chars()}), targets, "the texts'")
    if rows.task.target == "class":
        yield from words_of_classes(texts, targets[0].values, rows.label_names)
        yield from names_of_classes(texts, targets[0].values, rows.label_names)
    elif rows.task.target == "labels":
        yield from words_of_labels(texts, targets)


def sampled(rows: AuditRows) -> tuple[Int64[np.ndarray, " m"], list[Target]]:
    """A sample of training rows with a target, and their targets, one per label or number; no targets for too few rows,
    and none that is one value in nearly all of them."""
    span = rows.span(TRAIN)
    places = span.start + np.flatnonzero(rows.labelled[span])
    if rows.task is None or rows.targets is None or len(places) < FEWEST:
        return places, []
    places = np.sort(np.random.default_rng(0).permutation(places)[:MOST])
    targets = rows.targets[places]
    if targets.ndim == 1:
        return places, [Target("", targets)] if len(np.unique(targets)) > 1 else []
    width = targets.shape[1]
    names = rows.label_names if len(rows.label_names) == width else [str(each) for each in range(width)]
    if rows.task.target == "labels":
        targets = targets.astype(np.int64)
        rarer = np.minimum(targets.sum(axis=0), len(targets) - targets.sum(axis=0))
        able = np.flatnonzero(rarer >= FEWEST_OF_LABEL)
    else:
        able = np.flatnonzero((targets != targets[:1]).any(axis=0))
    only = width == 1
    return places, [Target("" if only else names[each], targets[:, each]) for each in able.tolist()]


def tell_tales(features: pl.DataFrame, targets: Sequence[Target], word: str) -> Iterator[Odd]:
    """A sentence for each column that gives away one target, or several."""
    for column in features.get_columns():
        gains = [(gain, target) for target in targets if (gain := gain_of(column, target.values)) >= GAIN]
        if gains:
            least, target = min(gains, key=lambda one: one[0])
            counts = ", and counts the rows" if rising(column) else ""
            label = target.values.dtype.kind == "i"
            verb, of = ("avoids", "the mistakes of a constant guess") if label else ("explains", "the variance")
            what = named([target.name for _, target in gains], "label" if label else "target")
            least_of = " at least" if len(gains) > 1 else ""
            yield Odd(
                "label leak",
                f"{word} {column.name!r} alone gives {what}: it {verb}{least_of} {least:.1%} of {of}{counts}",
            )


def named(names: Sequence[str], word: str) -> str:
    """The targets that a feature gives away."""
    if names == [""]:
        return f"the {word}"
    shown = ", ".join(map(quoted, names[:SHOWN]))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the {word}{'' if len(names) == 1 else 's'} {shown}{more}"


def rising(column: pl.Series) -> bool:
    """Whether whole numbers rise from row to row."""
    return column.dtype.is_integer() and column.n_unique() == len(column) and column.is_sorted()


def gain_of(column: pl.Series, targets: Any) -> float:
    """Gain of one column, at most 1: for classes the share of mistakes of the most frequent class that it avoids, for
    numbers the share of explained variance; by two-fold cross-validation."""
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
    """A decision tree with enough leaves for a few intervals of each class."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if targets.dtype.kind == "i":
        leaves = max(LEAVES, PER_CLASS * len(np.unique(targets)))
        return DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0)
    return DecisionTreeRegressor(min_samples_leaf=5, random_state=0)


def by_value(learned: Int64[np.ndarray, " m"], targets: Any, held: Int64[np.ndarray, " h"]) -> Any:
    """The commonest class, or the mean number, of the rows with the same value; of all rows for an unknown value."""
    frame = pl.DataFrame({"code": learned, "target": targets})
    best = pl.col("target").mean() if targets.dtype.kind == "f" else pl.col("target").mode().min()
    told = pl.DataFrame({"code": held}).join(
        frame.group_by("code").agg(best), on="code", how="left", maintain_order="left"
    )
    return told["target"].fill_null(frame.select(best)["target"][0]).to_numpy()


def words_of_classes(texts: pl.Series, labels: Int64[np.ndarray, " m"], names: tuple[str, ...]) -> Iterator[Odd]:
    """One finding where a single word identifies the class of nearly all rows."""
    classes, codes = np.unique(labels, return_inverse=True)
    words, judged = words_for(texts, np.asarray(codes[None] == np.arange(len(classes))[:, None]))
    sizes = np.bincount(codes, minlength=len(classes))
    # The absence of the other classes' words identifies one class without a word.
    given = judged >= GAIN
    if sizes[given].sum() < NAMED * len(labels) or given.sum() < len(classes) - 1:
        return
    shown = [f"{words[one]!r} gives {name_of(classes[one], names)}" for one in np.flatnonzero(given)[:SHOWN]]
    more = f" and {given.sum() - SHOWN} more" if given.sum() > SHOWN else ""
    yield Odd("label leak", f"a single word of the text gives the label: {', '.join(shown)}{more}")


def words_of_labels(texts: pl.Series, targets: Sequence[Target]) -> Iterator[Odd]:
    """One finding where a word stands in all texts with a label, and in no other."""
    words, judged = words_for(texts, np.stack([target.values == 1 for target in targets]))
    given = np.flatnonzero(judged >= GAIN)
    if len(given):
        shown = [f"{words[one]!r} gives {quoted(targets[one].name)}" for one in given[:SHOWN]]
        more = f" and {len(given) - SHOWN} more" if len(given) > SHOWN else ""
        yield Odd("label leak", f"a single word of the text gives a label: {', '.join(shown)}{more}")


def words_for(texts: pl.Series, there: Bool[np.ndarray, "k m"]) -> tuple[list[str], Float64[np.ndarray, " k"]]:
    """For each of `k` classes or labels, whose texts `there` marks, the word that agrees best with it in one half of
    the texts, and its agreement in the other half (F1).
    """
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        reader = CountVectorizer(binary=True, token_pattern=r"\S+", max_features=WORDS, dtype=np.int32)
        counts = reader.fit_transform(texts.to_list())
    except ValueError:  # texts of white space alone
        return [""] * len(there), np.zeros(len(there))
    half = np.random.default_rng(1).permutation(len(texts)) % 2
    agreement = [agreements(counts[half == number], there[:, half == number]) for number in (0, 1)]
    # The word is chosen on one half and judged on the other.
    best = agreement[0].argmax(axis=1)
    return reader.get_feature_names_out()[best].tolist(), agreement[1][np.arange(len(there)), best]


def agreements(words: Any, there: Bool[np.ndarray, "k m"]) -> Float64[np.ndarray, "k words"]:
    """F1 of each word for each class: 1 where all texts of the class have it, and no other."""
    indicators = there.astype(np.float64)
    both = (words.T @ indicators.T).T
    return np.asarray(2 * both / np.maximum(indicators.sum(axis=1)[:, None] + np.asarray(words.sum(axis=0)), 1))


def names_of_classes(texts: pl.Series, labels: Int64[np.ndarray, " m"], names: tuple[str, ...]) -> Iterator[Odd]:
    """One finding where most texts contain the name of their class."""
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
    """The name of a class."""
    return repr(names[label]) if label < len(names) else str(label)
