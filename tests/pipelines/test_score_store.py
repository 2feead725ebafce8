"""The row-level score store: computed rows, known rows, and the state after a kill."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.pipelines.storage.score_cache import ScoreKey, ScoreStore, one_by_one

KEY = ScoreKey("grand", "1", {"norm": 2}, "model-a")


class Counting:
    """Scores a row by its content, and records the requested rows."""

    def __init__(self, hashes: pl.Series, fail_after: int | None = None) -> None:
        self.hashes, self.asked, self.fail_after = hashes, [], fail_after  # type: ignore[var-annotated]

    def __call__(self, rows: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked.append((list(rows), list(names)))
        return {name: truth(self.hashes[rows]) for name in names}

    @property
    def rows(self) -> list[int]:
        return [row for rows, _ in self.asked for row in rows]


def truth(hashes: pl.Series) -> np.ndarray:
    return np.array([int(text, 16) % 1000 for text in hashes], np.float32)


def contents(*numbers: int) -> pl.Series:
    return pl.Series([f"{number:032x}" for number in numbers], dtype=pl.String)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def test_appended_rows_alone_are_computed(tmp_path: Path) -> None:
    store, old = ScoreStore(tmp_path, shard=8), contents(*range(20))
    store.scores(one_by_one(Counting(old)), {"a": KEY}, old)
    new = contents(*range(20), 100, 101)
    counting = Counting(new)
    scores, tally = store.scores(one_by_one(counting), {"a": KEY}, new)
    assert counting.rows == [20, 21]
    assert tally.computed == {"a": 2}
    assert tally.found == {"a": 20}
    np.testing.assert_array_equal(scores["a"], truth(new))


def test_rows_that_moved_keep_their_scores(tmp_path: Path) -> None:
    store, old = ScoreStore(tmp_path, shard=8), contents(*range(20))
    store.scores(one_by_one(Counting(old)), {"a": KEY}, old)
    moved = old[::-1]
    counting = Counting(moved)
    scores, _ = store.scores(one_by_one(counting), {"a": KEY}, moved)
    assert not counting.asked
    np.testing.assert_array_equal(scores["a"], truth(moved))


@pytest.mark.parametrize(
    "other",
    [
        ScoreKey("grand", "2", {"norm": 2}, "model-a"),
        ScoreKey("grand", "1", {"norm": 1}, "model-a"),
        ScoreKey("grand", "1", {"norm": 2}, "model-b"),
    ],
)
def test_version_settings_and_model_each_make_scores_of_their_own(other: ScoreKey, tmp_path: Path) -> None:
    store, rows = ScoreStore(tmp_path), contents(*range(5))
    store.scores(one_by_one(Counting(rows)), {"a": KEY, "b": KEY}, rows)
    counting = Counting(rows)
    store.scores(one_by_one(counting), {"kept": KEY, "changed": other}, rows)
    assert counting.asked == [([0, 1, 2, 3, 4], ["changed"])]


def test_scores_that_miss_the_same_rows_share_a_pass(tmp_path: Path) -> None:
    store, rows = ScoreStore(tmp_path, shard=4), contents(*range(6))
    other = ScoreKey("el2n", "1", {}, "model-a")
    counting = Counting(rows)
    store.scores(one_by_one(counting), {"a": KEY, "b": other}, rows)
    assert counting.asked == [([0, 1, 2, 3], ["a", "b"]), ([4, 5], ["a", "b"])]


def test_a_killed_pass_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    rows = contents(*range(30))
    undisturbed = ScoreStore(tmp_path / "whole", shard=8)
    whole, _ = undisturbed.scores(one_by_one(Counting(rows)), {"a": KEY}, rows)
    store = ScoreStore(tmp_path / "killed", shard=8)
    with pytest.raises(KeyboardInterrupt):
        store.scores(one_by_one(Counting(rows, fail_after=2)), {"a": KEY}, rows)
    counting = Counting(rows)
    resumed, _ = store.scores(one_by_one(counting), {"a": KEY}, rows)
    assert counting.rows == list(range(16, 30))
    assert resumed["a"].tobytes() == whole["a"].tobytes()
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.parametrize("cut", [False, True])
def test_rows_of_a_shard_that_somebody_changed_are_scored_again(tmp_path: Path, cut: bool) -> None:
    store, hashes = ScoreStore(tmp_path, shard=8), contents(*range(20))
    store.scores(one_by_one(Counting(hashes)), {"a": KEY}, hashes)
    before = files(tmp_path)
    [path] = tmp_path.rglob("000000000008-*.parquet")
    if cut:
        path.write_bytes(path.read_bytes()[:-40])
    else:  # another tool wrote another number
        pl.read_parquet(path).with_columns(pl.col("score") + 1).write_parquet(path)
    counting = Counting(hashes)
    scores, _ = store.scores(one_by_one(counting), {"a": KEY}, hashes)
    assert counting.rows == list(range(8, 16))
    np.testing.assert_array_equal(scores["a"], truth(hashes))
    assert files(tmp_path) == before


@settings(max_examples=40, deadline=None)
@given(versions=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=20), min_size=1, max_size=4))
def test_whatever_came_before_every_row_has_its_own_score(
    versions: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, seen = ScoreStore(tmp_path_factory.mktemp("store"), shard=5), set[int]()
    for numbers in versions:
        rows = contents(*numbers)
        counting = Counting(rows)
        scores, _ = store.scores(one_by_one(counting), {"a": KEY}, rows)
        np.testing.assert_array_equal(scores["a"], truth(rows))
        assert len(counting.rows) == len(set(numbers) - seen)
        seen |= set(numbers)
