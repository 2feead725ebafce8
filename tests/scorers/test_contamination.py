"""Both measures of contamination against a plain count, on planted overlaps."""

import numpy as np
import polars as pl

from secateur.scorers.copies.contamination import contamination


def plain(train: list[str], item: str) -> tuple[bool, float, int]:
    """The definitions, word by word."""
    words = item.lower().split()
    half = max(3, len(words) // 2)

    def covered(n: int) -> list[bool]:
        marks = [False] * len(words)
        for place in range(len(words) - n + 1):
            gram = words[place : place + n]
            texts = sum(
                any(other[at : at + n] == gram for at in range(len(other) - n + 1))
                for other in (text.lower().split() for text in train)
            )
            if 0 < texts <= 10:
                marks[place : place + n] = [True] * n
        return marks

    def longest(marks: list[bool]) -> int:
        return max((len(run) for run in "".join("x" if mark else " " for mark in marks).split()), default=0)

    overlap, share = covered(min(13, half)), covered(min(8, half))
    return any(overlap), sum(share) / max(len(words), 1), max(longest(overlap), longest(share))


def test_measures_are_those_of_a_plain_count() -> None:
    random = np.random.default_rng(0)
    train = [" ".join(f"w{word}" for word in random.integers(0, 400, size)) for size in random.integers(2, 60, 60)]
    items = []
    for _ in range(40):
        own = [f"x{word}" for word in random.integers(0, 400, random.integers(2, 40))]
        text = train[int(random.integers(60))].split()
        size = int(random.integers(1, len(text) + 1))
        items.append(" ".join([*own[: len(own) // 2], *text[:size], *own[len(own) // 2 :]]))
    table = contamination(pl.Series(train), pl.Series(items))
    expected = [plain(train, item) for item in items]
    assert table["overlap_13"].to_list() == [each[0] for each in expected]
    np.testing.assert_allclose(table["covered"], [each[1] for each in expected])
    assert table["longest"].to_list() == [each[2] for each in expected]
    assert 5 < table["overlap_13"].sum() < 40


def test_short_items_are_asked_with_shorter_runs() -> None:
    train = pl.Series(["Please block my card, somebody stole it!"])
    table = contamination(train, pl.Series(["please block my card now thanks", "card", None, "a b c d e f"]))
    assert table["overlap_n"].to_list() == [3, 0, 0, 3]
    assert table["overlap_13"].to_list() == [True, False, False, False]
    assert table["covered"].to_list() == [4 / 6, 0, 0, 0]
    assert table["longest"].to_list() == [4, 0, 0, 0]


def test_boilerplate_counts_for_nothing() -> None:
    licence = "permission is hereby granted free of charge to any person obtaining a copy"
    item = pl.Series([f"{licence} of this quiz"])
    assert contamination(pl.Series([licence] * 10), item)["overlap_13"].item()
    assert not contamination(pl.Series([licence] * 11), item)["overlap_13"].item()


def test_runs_do_not_reach_from_one_text_into_the_next() -> None:
    table = contamination(pl.Series(["one two", "three four", "five six"]), pl.Series(["one two three four five six"]))
    assert not table["overlap_13"].item()
    assert contamination(pl.Series([], dtype=pl.String), pl.Series(["a b c"]))["covered"].item() == 0
