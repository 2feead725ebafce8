"""An audit of new rows beside what an earlier one remembers: what a whole audit says, with far fewer rows looked at."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from secateur.pipelines.audits.auditing import Audited, How, audited
from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.later import audited_later
from secateur.pipelines.audits.memory import Memory, looks_of, memory_of
from secateur.pipelines.front_door.audit_data import Given, audit_rows
from secateur.pipelines.studies.draft import Wish
from secateur.scorers.copies import word_sets
from secateur.trainers.modalities import decoding
from tests.support.planted import topics

ROWS, NEW = 300, 12
"""Known training rows; new ones, the first four of which are copies of known ones, two of them nearly."""
Maker = Callable[[Path], tuple[pl.DataFrame, pl.DataFrame, Wish]]


def texts(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, Wish]:
    topics(folder, copies=20, leaks=5, wrong=20)
    train = pl.read_csv(folder / "train.csv")[: ROWS + NEW]
    old, new = train[:ROWS], train[ROWS:]
    bodies = [old["body"][1], old["body"][3], f"{old['body'][5]} indeed", f"so {old['body'][7]}", *new["body"][4:]]
    return old, new.with_columns(body=pl.Series(bodies)), Wish(labels=("queue",), text="body")


def tables(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, Wish]:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({f"x{place}": rng.normal(size=ROWS + NEW) for place in range(6)})
    table = table.with_columns(queue=(pl.col("x0") > 0).cast(pl.String))
    old, new = table[:ROWS], table[ROWS:]
    near = old[5:9:2].with_columns(pl.col(pl.Float64) + 1e-3)
    return old, pl.concat([old[1:5:2], near, new[4:]]), Wish(labels=("queue",))


def pictures(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, Wish]:
    rng = np.random.default_rng(0)
    made = [Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).resize((40, 40)) for _ in range(ROWS + NEW)]
    made[ROWS], made[ROWS + 1] = made[1], made[3]
    made[ROWS + 2], made[ROWS + 3] = (made[row].point(lambda value: int(0.9 * value)) for row in (5, 7))
    paths = [str(folder / f"{row:03}.png") for row in range(len(made))]
    for path, one in zip(paths, made, strict=True):
        one.save(path)
    table = pl.DataFrame({"image": paths, "queue": ["a", "b"] * ((ROWS + NEW) // 2)})
    return table[:ROWS], table[ROWS:], Wish(labels=("queue",), image="image")


def read(folder: Path, name: str, table: pl.DataFrame, wish: Wish, test: pl.DataFrame | None = None) -> AuditRows:
    (folder / name).mkdir()
    return audit_rows(Given(table, test=test, wish=wish), (folder / name).resolve())


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many texts are taken apart into words, how many are read at once at most, and pictures that are decoded."""
    counted: Counter[str] = Counter()
    apart, held, decode = word_sets.words_of, AuditRows._column, decoding.decode_image

    def words_of(some: pl.Series) -> Any:
        counted["words"] += len(some)
        return apart(some)

    def whole(rows: AuditRows, names: Any) -> pl.Series:
        if not names[0].startswith("secateur:"):
            counted["texts"] = max(counted["texts"], len(rows))
        return held(rows, names)

    def decode_image(cell: Any) -> Any:
        counted["pictures"] += 1
        return decode(cell)

    monkeypatch.setattr(word_sets, "words_of", words_of)
    monkeypatch.setattr(AuditRows, "_column", whole)
    monkeypatch.setattr(decoding, "decode_image", decode_image)
    monkeypatch.setattr("secateur.pipelines.audits.later.SAMPLE", 100)
    return counted


def twice(folder: Path, make: Maker, looked: Counter[str]) -> tuple[Audited, Audited, Counter[str]]:
    """An audit of new rows by what an earlier one remembers, one of all, and what the first of these looked at."""
    old, new, wish = make(folder)
    how = How()
    before = audited(read(folder, "before", old, wish), how)
    (folder / "memory").mkdir()
    memory_of(before, looks_of(before)).write(folder / "memory")
    memory = Memory.read(folder / "memory")
    assert memory is not None
    both = pl.concat([new[:6], old, new[6:]])  # some of the new rows ahead of those that are known
    rows = read(folder, "both", both, wish)
    places = memory.places(rows)
    assert places is not None
    assert len(np.unique(places)) == ROWS
    looked.clear()
    later, looks = audited_later(rows, memory, places, how, folder / "aside")
    seen = Counter(looked)
    whole = audited(read(folder, "whole", both, wish), how)
    for name, values in (looks_of(whole) if looks else {}).items():
        np.testing.assert_array_equal(looks[name], values)
    return later, whole, seen


@pytest.mark.parametrize("make", [texts, tables, pictures])
def test_new_rows_are_compared_with_all_and_known_rows_are_left_alone(
    tmp_path: Path, make: Maker, looked: Counter[str]
) -> None:
    later, whole, seen = twice(tmp_path, make, looked)
    new = np.flatnonzero(later.rows.fresh)
    assert len(new) == NEW
    grouped = set(np.flatnonzero(later.copies.group >= 0))
    assert grouped >= {0, 1, 2, 3, 7, 9, 11, 13}  # the four copies, and what they are copies of
    np.testing.assert_array_equal(later.copies.group >= 0, whole.copies.group >= 0)
    np.testing.assert_array_equal(later.copies.group, whole.copies.group)
    np.testing.assert_array_equal(later.copies.kept(later.rows.part), whole.copies.kept(whole.rows.part))
    told = {row for one in later.found if "duplicates" in one.kind for row in one.rows.tolist()}
    assert told == {0, 1, 2, 3, 7, 9, 11, 13}
    assert seen["words"] <= NEW
    assert seen["texts"] <= NEW + 100  # a sample of the known ones
    assert seen["pictures"] <= 4 * (NEW + 100)  # to compare new ones, to judge them, and by each check
    assert sum(seen.values()) or make is tables


def test_new_labels_are_judged_and_known_ones_stay_as_they_were(tmp_path: Path, looked: Counter[str]) -> None:
    later, whole, _ = twice(tmp_path, texts, looked)
    known = ~later.rows.fresh
    assert 0 in later.suspects
    assert np.isfinite(later.suspects[0].predicted).all()
    assert later.suspects[0].wrong.accuracy == pytest.approx(whole.suspects[0].wrong.accuracy, abs=0.05)
    listed = {row for one in later.found if one.kind == "wrong labels" for row in one.rows.tolist()}
    assert not listed & set(np.flatnonzero(known).tolist())


@pytest.mark.parametrize("why", ["gone", "many", "labels"])
def test_a_memory_that_does_not_do_is_not_used(tmp_path: Path, why: str) -> None:
    old, new, wish = tables(tmp_path)
    before = audited(read(tmp_path, "before", old, wish), How())
    memory = memory_of(before, looks_of(before))
    changed = {
        "gone": pl.concat([old[1:], new]),
        "many": pl.concat([old, *[new.with_columns(pl.col("x1") + place) for place in range(20)]]),
        "labels": pl.concat([old, new.with_columns(queue=pl.lit("other"))]),
    }[why]
    assert memory.places(read(tmp_path, "after", changed, wish)) is None
