"""Copies of texts: planted ones are found, rows that cannot be copies are not, whatever the order of rows."""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
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


def by_templates(
    count: int, kinds: int, sizes: Sequence[int], seed: int, random: np.random.Generator
) -> list[list[str]]:
    """Texts by templates that share no word; every third word of each is one of 500, drawn anew."""
    texts = []
    for row in range(count):
        kind = row % kinds
        words = [f"t{seed}x{kind}x{place}" for place in range(sizes[kind % len(sizes)])]
        for place in range(2, len(words), 3):
            words[place] = f"w{random.integers(500)}"
        texts.append(words)
    return texts


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


def test_texts_that_differ_in_the_words_of_slots_are_no_copies() -> None:
    """40 texts by each of 30 templates of 8 to 100 words, and 50 edits. In 8 words, of which two are of slots, a word
    changed looks like another slot: of such edits half may be missed, of longer ones none."""
    random, sizes = np.random.default_rng(5), [8, 12, 20, 50, 100]
    base = by_templates(1200, 30, sizes, 0, random)
    source = np.concatenate([random.choice(np.arange(kind, 1200, 5), 10, replace=False) for kind in range(5)])
    copies = [edited(base[row], max(1, len(base[row]) // 20), random) for row in source]
    found = find([" ".join(words) for words in base + copies])
    others = np.setdiff1d(np.arange(1200), source)
    assert (found.group[others] >= 0).mean() <= 0.01
    met = found.group[1200:] == found.group[source]
    met &= found.group[source] >= 0
    assert met[10:].mean() >= 0.95
    assert met[:10].mean() >= 0.3
    assert found.bands[:, 0].tolist()[:3] == [8, 12, 20]
    assert (found.limits(np.array([3, 8, 9, 12, 10_000])) == found.bands[[0, 0, 1, 1, -1], 1]).all()
    assert "of 4 to 8 words, where most texts follow templates, similarity of" in found.reason


def test_texts_that_share_no_template_are_no_copies() -> None:
    """1,000 templates, one text by each."""
    random = np.random.default_rng(6)
    base = by_templates(1000, 1000, [8, 12, 20, 50], 1, random)
    source = random.choice(1000, 30, replace=False)
    copies = [edited(base[row], max(1, len(base[row]) // 20), random) for row in source]
    found = find([" ".join(words) for words in base + copies])
    assert (found.group[1000:] == found.group[source]).mean() >= 0.95
    assert (found.group >= 0).sum() == 60
    assert "templates" not in found.reason


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


def test_a_cluster_over_three_parts_beside_training_has_pairs_of_each_two() -> None:
    """150 copies of one text, more than are all paired, and the same by comparing every two of them."""
    random = np.random.default_rng(3)
    base = sentences(400, [12], seed=4)
    texts = [" ".join(words) for words in base + [edited(base[7], 1, random) for _ in range(149)]]
    part = random.integers(0, 4, len(texts)).astype(np.int16)
    found = find(texts, part)
    sets, rows = word_sets(words_of(pl.Series(texts))), [7, *range(400, 549)]
    left, right = (side.ravel() for side in np.meshgrid(rows, rows, indexing="ij"))
    alike = sets.similarity(left, right)
    near = (alike >= found.threshold) & (part[left] > 0) & (part[right] > 0) & (part[left] != part[right])
    expected = {(int(row), int(of)) for row, of in zip(left[near], part[right[near]], strict=True)}
    pairs = {(int(row), int(of)) for row, of in zip(found.between[:, 0], part[found.between[:, 1]], strict=True)}
    assert pairs == expected
    assert len(pairs) > 200
    np.testing.assert_allclose(found.between_similarity, sets.similarity(*found.between.T), rtol=1e-6)


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


@pytest.mark.nightly
def test_memory_grows_with_texts_and_not_with_pairs() -> None:
    """10,000 of 20,000 texts are one text with one word changed: 50 million pairs, 16 bytes each."""
    base = sentences(10_000, [12], seed=4)
    copies = [[f"x{row}" if place == row % 12 else word for place, word in enumerate(base[7])] for row in range(10_000)]
    part = (np.arange(20_000) % 3).astype(np.int16)
    tracemalloc.start()
    found = find([" ".join(words) for words in base + copies], part)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(found.group[10_000:])) == 1
    assert len(found.between) >= 20_000 // 3
    assert most < 400e6 < 16 * 10_000**2 / 2


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[place : place + size]) for place in range(len(words) - size + 1)}


def met_by_bands(left: str, right: str) -> float:
    """The probability that MinHash of 5-grams in 14 bands of 8, as datatrove has them, makes a candidate of a pair."""
    one, other = shingles(left, 5), shingles(right, 5)
    alike = len(one & other) / max(len(one | other), 1)
    return 1 - (1 - alike**8) ** 14


def one_word_edits(texts: list[str], count: int) -> tuple[list[str], np.ndarray]:
    """Copies of texts of about twelve words in which one word, drawn at random, is a word of another text."""
    random = np.random.default_rng(8)
    able = [row for row, text in enumerate(texts) if 10 <= len(text.split()) <= 14]
    source = random.choice(able, count, replace=False)
    others = [word for text in texts for word in text.split()]
    made = []
    for row in source.tolist():
        words = texts[row].split()
        place = int(random.integers(len(words)))
        words[place] = next(word for word in random.choice(others, 50).tolist() if word != words[place])
        made.append(" ".join(words))
    return made, source


def of_templates() -> list[str]:
    return [" ".join(words) for words in sentences(2000, [10, 12, 14], seed=9)]


def of_banking77(folder: Path) -> list[str]:
    """2,000 distinct texts of words alone, so that 5-grams and our words are cut alike."""
    texts = (
        pl.read_parquet(folder / "banking77" / "train.parquet")["text"]
        .str.to_lowercase()
        .str.replace_all(r"[^a-z0-9 ]", "")
    )
    return (
        texts.str.split(" ")
        .list.filter(pl.element() != "")
        .list.join(" ")
        .unique(maintain_order=True)
        .head(2000)
        .to_list()
    )


@pytest.mark.parametrize("source", ["generated", "banking77"])
def test_one_word_of_twelve_is_found_which_5_grams_miss(source: str, request: pytest.FixtureRequest) -> None:
    texts = of_templates() if source == "generated" else of_banking77(request.getfixturevalue("real_data"))
    edits, of = one_word_edits(texts, 200)
    found = find([*texts, *edits], [0] * len(texts) + [1] * 200)
    rows = np.arange(len(texts), len(texts) + 200)
    ours = (found.group[rows] >= 0) & (found.group[rows] == found.group[of])
    theirs = [met_by_bands(texts[row], edit) for row, edit in zip(of, edits, strict=True)]
    print(source, ours.mean(), np.mean(theirs), found.threshold)
    assert np.mean(theirs) < 0.5
    assert ours.mean() > 0.9
