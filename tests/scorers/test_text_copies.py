"""Copies of texts: planted ones are found, rows that cannot be copies are not, whatever the order of rows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.texts import text_copies
from secateur.scorers.copies.word_sets import word_sets, words_of


def sentences(count: int, lengths: list[int], seed: int, *, words: int = 5000) -> list[list[str]]:
    """Texts whose words come by Zipf's law."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, words + 1)
    share /= share.sum()
    drawn = random.choice(words, (count, max(lengths)), p=share)
    sizes = random.choice(lengths, count)
    return [[f"w{word}" for word in row[:size]] for row, size in zip(drawn, sizes, strict=True)]


def edited(words: list[str], edits: int, random: np.random.Generator) -> list[str]:
    """Two neighbours change places, a word comes in, one goes, or one is another."""
    words = list(words)
    for _ in range(edits):
        place, other = int(random.integers(len(words) - 1)), f"w{random.integers(5000)}"
        kind = random.integers(4)
        if kind == 0:
            words[place : place + 2] = words[place : place + 2][::-1]
        elif kind == 1:
            words.insert(place, other)
        elif kind == 2:
            del words[place]
        else:
            words[place] = other
    return words


def find(texts: Sequence[str | None], part: Any = None) -> Copies:
    part = np.zeros(len(texts), np.int16) if part is None else np.array(part, np.int16)
    return text_copies(pl.Series(texts, dtype=pl.String), part)[0]


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], np.ndarray, list[int]]:
    """4,060 texts of 8 to 200 words, 40 of them edited in the test part."""
    random = np.random.default_rng(1)
    base = sentences(4000, [8, 12, 30], seed=0) + sentences(60, [200], seed=1)
    source = random.choice(4060, 40, replace=False)
    copies = [edited(base[row], max(1, len(base[row]) // 12), random) for row in source]
    texts = [" ".join(words) for words in base + copies]
    return texts, source, [0] * 4060 + [1] * 40


def test_planted_edits_are_found_and_others_are_not(planted: Any) -> None:
    texts, source, part = planted
    found = find(texts, part)
    assert (found.across[4060:] == source).mean() >= 0.9
    clean = np.setdiff1d(np.arange(4060), source)
    assert (found.group[clean] >= 0).mean() <= 0.01
    assert found.stays[4060:].all()
    hit = found.across[4060:] >= 0
    assert not found.stays[source[hit]].any()
    assert (found.across[source[hit]] == np.arange(4060, 4100)[hit]).all()


def test_order_of_rows_changes_nothing(planted: Any) -> None:
    texts, _, part = planted
    order = np.random.default_rng(2).permutation(len(texts))
    one, other = find(texts, part), find([texts[row] for row in order], np.array(part)[order])
    assert one.threshold == other.threshold
    assert one.reason == other.reason
    for name in ("similarity", "across_similarity", "spread"):
        np.testing.assert_array_equal(getattr(one, name)[order], getattr(other, name))

    def gathered(found: Copies, rows: np.ndarray) -> set[frozenset[int]]:
        return {frozenset(rows[found.group == name].tolist()) for name in np.unique(found.group[found.group >= 0])}

    assert gathered(one, np.arange(len(texts))) == gathered(other, order)


def test_a_cluster_of_150_is_found_whole() -> None:
    random = np.random.default_rng(3)
    base = sentences(1000, [12], seed=4)
    texts = [" ".join(words) for words in base + [edited(base[7], 1, random) for _ in range(149)]]
    found = find(texts)
    assert (found.group == 7).sum() == 150
    assert (found.group >= 0).sum() == 150
    assert found.stays[7]
    assert (~found.stays).sum() == 149
    assert 0 < found.spread[7] < found.threshold + 0.3


def test_equal_and_missing_and_wordless_texts() -> None:
    texts = ["Hello, World!", "hello world", None, None, "?!", "?!", "...", "", "other words here"]
    found = find(texts, [0, 1, 0, 1, 0, 0, 1, 0, 0])
    assert found.group.tolist() == [0, 0, -1, -1, 4, 4, -1, -1, -1]
    assert found.across.tolist() == [1, 0, -1, -1, -1, -1, -1, -1, -1]
    assert found.stays.tolist() == [False, True, True, True, True, False, True, True, True]
    assert found.similarity[:2].tolist() == [1, 1]


def test_every_equal_test_row_is_found_in_training() -> None:
    texts = ["a text that everybody has"] * 50_000 + [f"number {row} of many" for row in range(300)]
    part = np.arange(len(texts)) % 2
    found = find(texts + texts[-40:], [*part, *([1] * 40)])
    assert (found.across[:50_000] >= 0).all()
    assert (found.across[-40:] >= 0).sum() == 20


def test_similarity_is_the_jaccard_of_words_and_pairs() -> None:
    texts = ["the cat sat on the mat", "the cat sat on a mat", "dogs bark", ""]
    sets = word_sets(words_of(pl.Series(texts)))

    def brute(left: str, right: str) -> float:
        first, second = (set(words) | set(pairwise(words)) for words in (left.split(), right.split()))
        return len(first & second) / max(len(first | second), 1)

    left, right = np.divmod(np.arange(16), 4)
    expected = [brute(texts[i], texts[j]) for i, j in zip(left, right, strict=True)]
    np.testing.assert_allclose(sets.similarity(left, right), np.array(expected, np.float32))


def test_scripts_without_spaces() -> None:
    texts = ["今天天气很好我们去公园散步吧", "今天天气真好我们去公园散步吧", "このデータは完全に別のものです"]
    words = words_of(pl.Series(texts))
    assert words.lengths.tolist() == [14, 14, 15]


def test_parts_must_fit() -> None:
    with pytest.raises(ValueError, match="2 texts but 1"):
        text_copies(pl.Series(["a", "b"]), np.zeros(1, np.int16))
    with pytest.raises(ValueError, match="below 0 at row 1"):
        find(["a", "b"], [0, -1])


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows(rows: int) -> None:
    part = np.zeros(rows, np.int16)
    for found in text_copies(
        pl.Series(["a b c d e"] * rows, dtype=pl.String), part, vectors=np.ones((rows, 2), np.float32)
    ):
        assert found.group.tolist() == [[], [-1], [0, 0]][rows]
        assert found.partner.tolist() == [[], [-1], [1, 0]][rows]
