"""An audit of new rows with an earlier one's memory: the result of a whole audit, with far fewer rows read."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from secateur.pipelines.assets.audit import remembered_in
from secateur.pipelines.audits.auditing import Audited, How, audited
from secateur.pipelines.audits.contract import AuditRows, Vectors
from secateur.pipelines.audits.later import audited_later
from secateur.pipelines.audits.memory import Memory, looks_of, memory_of
from secateur.pipelines.audits.vectors import brought
from secateur.pipelines.front_door.audit_data import Given, audit_rows
from secateur.pipelines.studies.draft import Wish
from secateur.scorers.copies import word_sets
from secateur.trainers.modalities import decoding
from tests.support.planted import sentence, topics

ROWS, NEW = 300, 12
"""Known training rows; new ones, the first four of which are copies of known ones, two of them near copies."""
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
    """Numbers of texts split into words, in all and at most per call, and of decoded pictures."""
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
    """An audit of new rows by a memory, one of all rows, and the counts of the first."""
    old, new, wish = make(folder)
    how = How()
    before = audited(read(folder, "before", old, wish), how)
    (folder / "memory").mkdir()
    memory_of(before, looks_of(before)).write(folder / "memory")
    memory = Memory.read(folder / "memory")
    assert memory is not None
    both = pl.concat([new[:6], old, new[6:]])  # some of the new rows ahead of the known ones
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
    assert grouped >= {0, 1, 2, 3, 7, 9, 11, 13}  # the four copies, and their originals
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


WIDTH = 12
PARTS = {"train": ROWS, "test": 60, "bench": 50}


@dataclass
class Network:
    """Makes vectors from the contents of texts, and counts the texts."""

    known: Mapping[str, np.ndarray]
    version: str = "1"
    asked: int = 0

    def vectors(self) -> Vectors:
        def make(rows: AuditRows, asked: np.ndarray) -> Any:
            self.asked += len(asked)
            made = [self.known[text] for text in rows.texts_at(asked).to_list()]
            return np.array(made, np.float32), np.ones(len(asked), np.bool_)

        return Vectors(f"network {self.version}", self.version, make)


@dataclass(frozen=True)
class Spoken:
    """Texts of parts, old and new, and a network. New rows of each part are near, by their vectors alone, row 1 of
    training, row 2 of the test, and row 3 of the benchmark; and known rows of the benchmark rows 5 of the others."""

    old: Mapping[str, list[str]]
    new: Mapping[str, list[str]]
    network: Network

    def read(self, folder: Path, *, new: bool) -> AuditRows:
        folder.mkdir()
        texts = {part: [*(self.new[part] if new else ()), *some] for part, some in self.old.items()}
        train, test, bench = (pl.DataFrame({"body": some}) for some in texts.values())
        rows = audit_rows(Given(train, test=test, against=[bench], wish=Wish(text="body")), folder.resolve())
        return replace(rows, vectors=self.network.vectors())


@pytest.fixture
def spoken() -> Spoken:
    rng, normal = random.Random(0), np.random.default_rng(0).normal
    old = {part: [sentence(rng) for _ in range(count)] for part, count in PARTS.items()}
    new = {part: [sentence(rng) for _ in range(3)] for part in PARTS}
    known = {text: normal(size=WIDTH) for some in (*old.values(), *new.values()) for text in some}
    for row, part in enumerate(PARTS):
        for some in new.values():
            known[some[row]] = known[old[part][row + 1]] + 0.01 * normal(size=WIDTH)
    known[old["bench"][7]] = known[old["train"][5]] + 0.01 * normal(size=WIDTH)
    known[old["bench"][8]] = known[old["test"][5]] + 0.01 * normal(size=WIDTH)
    return Spoken(old, new, Network(known))


def kept_of(spoken: Spoken, folder: Path) -> Memory:
    before = audited(spoken.read(folder / "before", new=False), How())
    (folder / "memory").mkdir()
    memory_of(before, looks_of(before)).write(folder / "memory")
    memory = Memory.read(folder / "memory")
    assert memory is not None
    return memory


def test_a_network_is_asked_for_new_rows_alone_and_pairs_are_those_of_a_whole_audit(
    tmp_path: Path, spoken: Spoken
) -> None:
    memory = kept_of(spoken, tmp_path)
    assert [one.measure for one in memory.near] == ["word n-grams", "embeddings"]
    assert spoken.network.asked == sum(PARTS.values())
    rows = spoken.read(tmp_path / "both", new=True)
    places = memory.places(rows)
    assert places is not None
    assert memory.other_vectors(rows, places) == ""
    spoken.network.asked = 0
    later, looks = audited_later(rows, memory, places, How(), tmp_path / "aside")
    assert spoken.network.asked == 9
    whole = audited(spoken.read(tmp_path / "whole", new=True), How())
    for name in ("group", "partner", "across", "partner_by", "across_by"):
        np.testing.assert_array_equal(getattr(later.copies, name), getattr(whole.copies, name), err_msg=name)
    one, other = later.copies.between, whole.copies.between
    assert len(one.rows) == 10
    for name in ("rows", "other", "by"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert later.measures[2]["duplicates"] == whole.measures[2]["duplicates"] > 0
    for name, values in looks_of(whole).items():
        np.testing.assert_array_equal(looks[name], values)
    kinds = {one.kind for one in later.found}
    assert kinds >= {f"near {kind} by embeddings" for kind in ("leaked", "duplicates", "shared")}
    again = memory_of(later, looks)
    assert again.other_vectors(later.rows, np.arange(len(later.rows))) == ""


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("version", "embeddings are of network 2, before of network 1"),
        ("width", "embeddings have 13 numbers a vector, before 12"),
        ("none", "there are no embeddings now"),
        ("values", "embeddings of 2 known rows are others than before"),
    ],
)
def test_remembered_vectors_of_another_kind_are_not_used(tmp_path: Path, spoken: Spoken, why: str, told: str) -> None:
    memory = kept_of(spoken, tmp_path)
    rows = spoken.read(tmp_path / "both", new=True)
    places = memory.places(rows)
    assert places is not None
    if why == "version":
        rows = replace(rows, vectors=Network({}, "2").vectors())
    elif why == "width":
        wide = {text: np.append(values, 1.0) for text, values in spoken.network.known.items()}
        rows = replace(rows, vectors=Network(wide).vectors())
    elif why == "none":
        rows = replace(rows, vectors=None)
    else:
        values, _ = spoken.network.vectors().of(rows, np.arange(len(rows)))
        values[[places[4], places[9]]] += 1
        own = {part: values[rows.span(part)] for part in rows.splits}
        held = brought(own, dict.fromkeys(own, "the array"), "network 1")
        rows = replace(rows, vectors=replace(held, made_of="1"))
    why_not = memory.other_vectors(rows, places)
    assert why_not.startswith(told)
    noted, remembered = remembered_in(rows, memory)
    assert remembered is None
    assert f"near copies: all rows are compared again: {why_not}" in noted.notes
