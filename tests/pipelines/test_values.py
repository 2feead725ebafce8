"""Values, labels and hashes are those of the file in any format; reading refuses input that would change a value."""

import bz2
import gzip
import json
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sample_tables import content_hashes

from secateur.pipelines.data.identity import hex_of, input_hashes
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import CONTENT, FILE, INPUT, ROW
from secateur.pipelines.data.source_kinds.parts import with_nulls
from secateur.pipelines.data.sources import Columns, Loaded, Source, SourceError, load
from secateur.pipelines.data.strays import strays
from secateur.trainers.modalities.tables import TableEncoder, TableEncoding

Read = Callable[..., Loaded]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Training rows of files below `tmp_path`, with a table of two rows to test on unless `test` says otherwise."""

    def read(columns: dict[str, Any], **source: Any) -> Loaded:
        where = TypeAdapter(Source).validate_python(source)
        return load(where, Columns(**columns), tmp_path, tmp_path / "cache")

    return read


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_files(folder: Path, kind: str, parts: dict[str, list[pl.DataFrame]]) -> dict[str, Any]:
    """Tables as files of a kind, by split; and the source that names them."""
    source: dict[str, Any] = {"kind": kind}
    for split, frames in parts.items():
        names = [f"{split}-{number}.{kind}" for number in range(len(frames))]
        for name, frame in zip(names, frames, strict=True):
            path = folder / name
            if kind == "disk":
                continue
            {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[kind](path)
        source[split] = names
        if kind == "disk":
            datasets.Dataset(pl.concat(frames).to_arrow()).save_to_disk(folder / f"{split}.disk")
            source[split] = f"{split}.disk"
    return source


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float)
SPELLINGS = [
    "1",
    "01",
    "1.0",
    "+1",
    " 1",
    "-0",
    "0",
    "0.5",
    ".5",
    "true",
    "True",
    "nan",
    "inf",
    "1e3",
    "1000",
    "?",
    "é",
    "e\u0301",
]
CELLS = {
    "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
    "number": st.none() | NUMBERS,
    "flag": st.none() | st.booleans(),
    # A letter in front, so that a CSV column of words is one of words; blank ones are missing values in every format.
    "word": st.none() | WORDS.map("w{}".format),
    "label": st.sampled_from(["a", "b b", "é", "c,\n\"c'"]),
}
TYPES = {"whole": pl.Int64, "number": pl.Float64, "flag": pl.Boolean, "word": pl.String, "label": pl.String}
FEATURES = ["whole", "number", "flag", "word"]
# Rows of both splits that a CSV types as the table does, whatever else is in it.
FIRST = {"whole": -7, "number": 0.5, "flag": True, "word": "x", "label": "a"}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=2, max_size=12), st.data())
def test_every_format_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    table = pl.DataFrame([FIRST, *rows], schema=TYPES)
    cut, held = (data.draw(st.integers(1, len(table) - 1)) for _ in range(2))
    parts = {"train": [part for part in (table[:cut], table[cut:]) if len(part)], "test": [table[: held + 1]]}
    columns = Columns(features=FEATURES, label="label")
    results = {}
    for kind in ("parquet", "csv", "jsonl", "disk"):
        source = TypeAdapter(Source).validate_python(as_files(folder, kind, parts))
        loaded = load(source, columns, folder, folder / "cache", DataPolicy(bad_rows="drop"))
        results[kind] = loaded
        here = ~pl.all_horizontal(pl.col(FEATURES).is_null())
        for split, expected in (("train", table), ("test", table[: held + 1])):
            frame = pl.from_arrow(loaded.rows[split].dataset().data.table)
            assert isinstance(frame, pl.DataFrame)
            assert frame.select(list(TYPES)).equals(expected.filter(here)), (kind, split)
        assert loaded.label_names == tuple(sorted(set(table.filter(here)["label"])))
    hashes = {kind: loaded.rows["train"].column(CONTENT).to_list() for kind, loaded in results.items()}
    assert all(found == hashes["parquet"] for found in hashes.values())
    own = content_hashes(results["csv"].rows["train"].dataset(), columns)
    assert own.to_list() == [word.hex() for word in hashes["csv"]]
    targets = [loaded.targets.tolist() for loaded in results.values()]
    assert all(found == targets[0] for found in targets)
    assert [results["csv"].rows["train"].column(name).to_list() for name in (FILE, ROW)] == [
        results["jsonl"].rows["train"].column(name).to_list() for name in (FILE, ROW)
    ]


CODED = {
    "code": st.none() | st.sampled_from(SPELLINGS) | WORDS,
    "real": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
    "label": st.sampled_from(["a", " a", "\u00e9", "e\u0301", "True", "true", "1", "01", "1.0"]),
}
CODES = {"code": pl.String, "real": pl.Float32, "label": pl.String}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.fixed_dictionaries(CODED), min_size=2, max_size=12), st.data())
def test_every_format_gives_the_same_codes_labels_and_floats_of_32_bits(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("codes")
    # The first row makes texts of the columns in a CSV as well.
    table = pl.DataFrame([{"code": "01", "real": 0.1, "label": "a"}, *rows], schema=CODES)
    cut = data.draw(st.integers(1, len(table) - 1))
    results = []
    for kind in ("parquet", "csv", "jsonl", "disk"):
        parts = {"train": [table[:cut], table[cut:]], "test": [table]}
        source = TypeAdapter(Source).validate_python(as_files(folder, kind, parts))
        columns = Columns(features=["code", "real"], label="label", missing=["?"])
        loaded = load(source, columns, folder, folder / "cache", DataPolicy(bad_rows="drop"))
        real = np.array([np.nan if value is None else float(str(np.float32(value))) for value in loaded.train["real"]])
        np.testing.assert_array_equal(np.array(loaded.train["real"], np.float64), real)
        hashes = [loaded.rows["train"].column(name).to_list() for name in (INPUT, CONTENT)]
        results.append((loaded.label_names, loaded.targets.tolist(), list(loaded.train["code"]), *hashes))
    assert all(found == results[0] for found in results)
    # Labels are one class if Unicode says that they are one text, and otherwise not.
    written = table.filter(
        ~(pl.col("code").str.strip_chars().is_in(["", "?"]).fill_null(True) & pl.col("real").is_null())
    )
    forms = [unicodedata.normalize("NFC", label) for label in written["label"]]
    assert [forms.index(form) for form in forms] == [results[0][1].index(target) for target in results[0][1]]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(WORDS, st.integers(0, 2)), min_size=1, max_size=8))
def test_texts_come_back_as_they_are(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    table = pl.DataFrame([("x", 0), *((f"t{text}", label) for text, label in rows)], ["text", "label"], orient="row")
    hashes = set()
    for kind in ("parquet", "csv", "jsonl", "disk"):
        source = TypeAdapter(Source).validate_python(as_files(folder, kind, {"train": [table], "test": [table]}))
        loaded = load(source, Columns(text="text", label="label"), folder, folder / "cache")
        assert list(loaded.train["text"]) == table["text"].to_list(), kind
        assert loaded.targets.tolist() == (table["label"].rank("dense") - 1).to_list()
        hashes.add(tuple(loaded.rows["train"].column(CONTENT).to_list()))
    assert len(hashes) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.sampled_from(SPELLINGS) | st.floats().map(str) | WORDS, min_size=1, max_size=9))
def test_equal_hashes_are_equal_codes(cells: list[str | None]) -> None:
    """Texts of a feature have one hash exactly where the encoding has one code, and a number's where they are it."""
    columns = Columns(features=["x"], label="label", missing=["?"])
    table = pl.DataFrame({"x": [*cells, "y"], "label": "a"}, schema={"x": pl.String, "label": pl.String})
    rows = with_nulls(table.to_arrow(), columns)
    hashes = hex_of(input_hashes(rows, columns)[0]).to_pylist()
    encoder = TableEncoder.fit(datasets.Dataset(rows), ["x"], TableEncoding())
    codes = encoder.encode_batch(rows)[:, 0].tolist()
    assert [hashes.index(one) for one in hashes] == [codes.index(one) for one in codes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1", 1), ("-2.5", -2.5), (" 7", 7.0), ("true", True), (str(2**53 + 1), 2**53 + 1), ("1e-7", 1e-7)),
        *(("1.0", 1), ("+1", 1), ("True", True), ("FALSE", False), ("1e3", 1000), (".5", 0.5), ("-0", 0)),
    ],
)
def test_a_text_that_spells_a_number_or_a_boolean_has_its_hash(text: str, value: Any) -> None:
    columns = Columns(features=["x"], label="label")
    for make in (lambda x: {"x": [x], "label": ["a"]}, lambda x: {"x": ["a"], "label": [x]}):
        tables = [datasets.Dataset(pl.DataFrame(make(x)).to_arrow()) for x in (text, value)]
        hashes = [content_hashes(table, columns)[0] for table in tables]
        assert hashes[0] == hashes[1] or text.strip() != text  # the spaces around a label count


@pytest.mark.parametrize(("one", "other"), [("01", 1), ("1e400", 1), ("nan", 0.0), ("True ", False), ("x", "y")])
def test_other_texts_have_other_hashes(one: Any, other: Any) -> None:
    columns = Columns(features=["x"], label="label")
    tables = [datasets.Dataset(pl.DataFrame({"x": [x], "label": ["a"]}).to_arrow()) for x in (one, other)]
    assert content_hashes(tables[0], columns)[0] != content_hashes(tables[1], columns)[0]


# One type per column, over all files and both splits.


def test_codes_keep_their_zeros_after_ten_thousand_rows_and_in_a_second_file(tmp_path: Path, read: Read) -> None:
    rows = [("A1" if i % 2 else "01", i % 2) for i in range(10_000)] + [("01", i % 2) for i in range(50)]
    (tmp_path / "a.csv").write_text("code,label\n" + "".join(f"{c},{y}\n" for c, y in rows))
    (tmp_path / "b.csv").write_text("code,label\n01,0\n02,1\n")
    (tmp_path / "c.csv").write_text("code,label\n1,0\n2,1\n")
    loaded = read({"features": ["code"], "label": "label"}, kind="csv", train=["a.csv", "b.csv"], test="c.csv")
    assert Counter(loaded.train["code"]) == {"01": 5051, "A1": 5000, "02": 1}
    assert list(loaded.test["code"]) == ["1", "2"]
    # Among themselves these are codes as well: 01 is not the number 1.
    loaded = read({"features": ["code"], "label": "label"}, kind="csv", train="b.csv", test="c.csv")
    assert list(loaded.train["code"]) == ["01", "02"]


def test_a_flag_is_a_boolean_or_a_word_but_never_both(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_text("flag,label\n" + "True,0\nFalse,1\n" * 20)
    (tmp_path / "b.csv").write_text("flag,label\n" + "true,0\nunknown,1\n" * 20)
    columns = {"features": ["flag"], "label": "label"}
    assert set(read(columns, kind="csv", train="a.csv", test="b.csv").train["flag"]) == {"True", "False"}
    assert next(iter(read(columns, kind="csv", train="a.csv", test_fraction=0.2).train["flag"][:1])) in (True, False)
    (tmp_path / "b.csv").write_text("flag,label\n" + "true,0\nFALSE,1\n" * 20)
    assert list(read(columns, kind="csv", train="a.csv", test="b.csv").test["flag"][:2]) == [True, False]


def test_whole_numbers_followed_by_halves_are_numbers(tmp_path: Path, read: Read) -> None:
    columns = {"features": ["x"], "label": "label"}
    values = [*range(10_000), *(i + 0.5 for i in range(50))]
    (tmp_path / "a.csv").write_text("x,label\n" + "".join(f"{x},{i % 2}\n" for i, x in enumerate(values)))
    (tmp_path / "b.jsonl").write_text(lines([{"x": x, "label": i % 2} for i, x in enumerate(values)]))
    (tmp_path / "c.csv").write_text("x,label\n1,0\n2,1\n")
    (tmp_path / "c.jsonl").write_text(lines([{"x": 1, "label": 0}, {"x": 2, "label": 1}]))
    for train, kind in (("a.csv", "csv"), ("b.jsonl", "jsonl")):
        loaded = read(columns, kind=kind, train=train, test=f"c.{kind}")
        assert loaded.train["x"][:] == values
        assert loaded.test.features["x"].dtype == loaded.train.features["x"].dtype == "float64"


def test_strings_that_look_like_dates_stay_strings(tmp_path: Path, read: Read) -> None:
    days = ["2024-05-05T10:00:00Z", "2024-01-01", "unknown", "10:30", "2024-01-01 00:00:00"]
    for name, own in (("c", days), ("a", days), ("b", days[:2] * 2)):
        rows = [{"day": day, "label": i % 2} for i, day in enumerate(own)]
        (tmp_path / f"{name}.jsonl").write_text(lines(rows))
        pl.DataFrame(rows).write_csv(tmp_path / f"{name}.csv")
        for kind in ("jsonl", "csv"):
            for columns in ({"text": "day", "label": "label"}, {"features": ["day"], "label": "label"}) * (name != "c"):
                loaded = read(columns, kind=kind, train=f"{name}.{kind}", test=f"c.{kind}")
                assert list(loaded.train["day"]) == own
                assert list(loaded.test["day"]) == days


def test_words_for_missing_values_are_those_of_the_study(tmp_path: Path, read: Read) -> None:
    frame = pl.DataFrame(
        {"country": ["NA", "DE", "FR", "?"], "fence": ["None", "wood", "null", " NA "], "label": ["None", "nan"] * 2}
    )
    columns = {"features": ["country", "fence"], "label": "label"}
    for missing, fence in (
        (["?"], ["None", "wood", "null", " NA "]),
        (["NA", "null"], ["None", "wood", None, None]),
        ({"fence": ["NA", "null"]}, ["None", "wood", None, None]),
    ):
        hashes = []
        for kind in ("csv", "parquet", "jsonl"):
            source = as_files(tmp_path, kind, {"train": [frame], "test": [frame]})
            loaded = read(columns | {"missing": missing}, **source, label_names=["nan", "None"])
            assert list(loaded.train["fence"]) == fence, kind
            country = ["NA", "DE", "FR", "?"]
            listed = missing if isinstance(missing, list) else ()
            assert list(loaded.train["country"]) == [None if mark in listed else mark for mark in country]
            assert loaded.targets.tolist() == [1, 0, 1, 0]
            hashes.append(loaded.rows["train"].column(CONTENT).to_list())
        assert hashes[0] == hashes[1] == hashes[2]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1.5"] * 99 + ["abc"], "198 of 200 values are numbers, and not 'abc' of the {} split (row 99 of"),
        (
            ["1", ""] * 49 + ["NA", " NA "],
            "98 of 102 values are numbers, and not 'NA', ' NA ' of the {} split (rows 98, 99 of",
        ),
        (["true"] * 60 + ["0"] * 40, "120 of 200 values are booleans, and not '0' of the {} split (rows 60, 61,"),
        (["False"] * 99 + ["Ture"], "198 of 200 values are booleans, and not 'Ture' of the {} split (row 99 of"),
        (["1"] * 99 + ["007"], ""),
        (["7"] * 50 + [str(2**64)] * 50, ""),
        (["1"] * 94 + ["a"] * 6, ""),
        (["?"] * 99 + ["1"], ""),
    ],
    ids=range(8),
)
def test_values_that_make_categories_of_numbers_are_found(
    cells: list[str], said: str, tmp_path: Path, read: Read
) -> None:
    rows = "".join(f"1,{cell},{'uv'[row % 2]}\n" for row, cell in enumerate(cells))
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("y,x,label\n" + rows)
    notes = list(strays(read({"features": ["y", "x"], "label": "label"}, kind="csv", train="a.csv", test="b.csv")))
    assert [note.split for note in notes] == (["train", "test"] if said else [])
    for note in notes:
        assert note.text.startswith("feature 'x' is read as categories: " + said.format(note.split))


def test_zeros_and_ones_beside_booleans_in_two_files_are_refused(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_text("flag,label\n" + "0,a\n1,b\n" * 20)
    (tmp_path / "b.csv").write_text("flag,label\n" + "True,a\nFalse,b\n" * 20)
    with pytest.raises(
        SourceError, match=r"'flag' holds booleans in .*b\.csv and whole numbers in .*a\.csv: make it one"
    ):
        read({"features": ["flag"], "label": "label"}, kind="csv", train="a.csv", test="b.csv")


# Refused input.


def test_a_header_that_names_a_column_twice(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_text("text,label,label\nx,0,1\ny,1,0\n")
    with pytest.raises(SourceError, match=r"a\.csv: the header names column 'label' twice: rename one of the two"):
        read({"text": "text", "label": "label"}, kind="csv", train="a.csv", test_fraction=0.5)
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": 0, "label": 1}\n')
    with pytest.raises(SourceError, match=r"a\.jsonl row 0: column 'label' was specified twice"):
        read({"text": "text", "label": "label"}, kind="jsonl", train="a.jsonl", test_fraction=0.5)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_of_several_that_lacks_a_column(kind: str, tmp_path: Path, read: Read) -> None:
    whole = pl.DataFrame({"x": [1, 2], "z": [5, 6], "label": [0, 1]})
    source = as_files(tmp_path, kind, {"train": [whole, whole.drop("z")], "test": [whole]})
    with pytest.raises(SourceError, match=rf"train-1\.{kind}: there is no column 'z'"):
        read({"features": ["x", "z"], "label": "label"}, **source)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"x": "a", "label": 0}', r"row 1: column 'x' changed from number to string.*a column is of one type"),
        ('{"x": true, "label": 0}', r"row 1: column 'x' changed from number to boolean"),
        ('{"x": [1, "a"], "label": 0}', r"row 1: column 'x' changed from number to array"),
        ('{"x": 1, "label": 0', r"row 1: Expecting ',' delimiter"),
        ('{"x": 18446744073709551615, "label": 0}', r"row 1: column 'x' is 18446744073709551615, beyond 64 bits"),
        ('{"x": 1, "label": -9223372036854775809}', r"row 1: column 'label' is -9223372036854775809, beyond 64 bits"),
        ('{"x": 1, "label": "\\ud800"}', r"row 1: The surrogate pair in string is invalid"),
    ],
)
def test_json_of_mixed_types_is_refused_by_row(second: str, message: str, tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"x": 1, "label": 0}}\n\n{second}\n')
    with pytest.raises(SourceError, match=r"a\.jsonl " + message):
        read({"features": ["x"], "label": "label"}, kind="jsonl", train="a.jsonl", test_fraction=0.5)


@pytest.mark.parametrize("block", [40, 64, 100, 1 << 20])
@pytest.mark.parametrize(("one", "other"), [(1, "a"), ("a", 1), (True, 0.5), ([1], 1), (1, {"y": 1}), ({"y": 1}, 1)])
def test_json_of_two_types_is_refused_by_the_row_wherever_blocks_end(
    block: int, one: Any, other: Any, tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.jsonl.BLOCK", block)
    (tmp_path / "a.jsonl").write_text(lines([{"x": one if i < 9 else other, "label": i % 2} for i in range(12)]))
    with pytest.raises(SourceError, match=r"a\.jsonl row 9: column 'x' changed from \w+ to \w+; a column is of one"):
        read({"features": ["x"], "label": "label"}, kind="jsonl", train="a.jsonl", test_fraction=0.5)


@pytest.mark.parametrize(
    ("content", "also"), [(b'[{"x": 1}, ' + b'{"x": 1}, ' * 200, ", and this is one array"), (b"1" * 2000, "")]
)
def test_a_line_without_end_is_refused(
    content: bytes, also: str, tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.jsonl.BLOCK", 100)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.jsonl.LONGEST", 1000)
    (tmp_path / "a.jsonl").write_bytes(b'{"x": 0, "label": 1}\n' * 2 + content)
    with pytest.raises(SourceError, match=rf"a\.jsonl line 3 has more than 0 MiB: .* in each{also}$"):
        read({"features": ["x"], "label": "label"}, kind="jsonl", train="a.jsonl", test_fraction=0.5)
    # A line of exactly as many bytes is read.
    line = b'{"x": 1, "label": 1, "rest": "' + b"y" * (1000 - 32) + b'"}'
    for name in ("b.jsonl", "c.jsonl"):
        (tmp_path / name).write_bytes(b'{"x": 0, "label": 1}\n' * 2 + line)
    assert len(read({"features": ["x"], "label": "label"}, kind="jsonl", train="b.jsonl", test="c.jsonl").train) == 3


def test_a_header_without_end_is_refused(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.csv.HEADER", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a," * (1 << 20)))
    with pytest.raises(SourceError, match=r"a\.csv\.gz: the first line, which names the columns, has more than 1 MiB"):
        read({"features": ["x"], "label": "label"}, kind="csv", train="a.csv.gz", test_fraction=0.5)


def test_json_of_two_types_in_two_files(tmp_path: Path, read: Read) -> None:
    (tmp_path / "b.jsonl").write_text(lines([{"x": i, "label": i % 2} for i in range(20)]))
    (tmp_path / "c.jsonl").write_text(lines([{"x": str(i), "label": i % 2} for i in range(20)]))
    with pytest.raises(SourceError, match=r"'x' holds texts in .*c\.jsonl and whole numbers in .*b\.jsonl"):
        read({"features": ["x"], "label": "label"}, kind="jsonl", train="b.jsonl", test="c.jsonl")


def test_whole_numbers_beyond_64_bits_pass_through_no_float(tmp_path: Path, read: Read) -> None:
    codes = [2**64 - 1, 2**64 - 2, 2**53 + 1, 2**53]
    columns = {"features": ["x"], "label": "label"}
    (tmp_path / "a.csv").write_text("x,label\n" + "".join(f"{code},{i % 2}\n" for i, code in enumerate(codes)))
    pl.DataFrame({"x": pl.Series(codes, dtype=pl.UInt64), "label": [0, 1, 0, 1]}).write_parquet(tmp_path / "a.parquet")
    for kind in ("csv", "parquet"):
        (tmp_path / f"b.{kind}").write_bytes((tmp_path / f"a.{kind}").read_bytes())
        loaded = read(columns, kind=kind, train=f"a.{kind}", test=f"b.{kind}")
        assert list(loaded.train["x"]) == [str(code) for code in codes]
    # Whole numbers that fit stay themselves in every format, as features, labels and groups.
    near = pl.DataFrame({"x": [2**53 + i for i in range(4)], "label": [2**53 + i % 2 for i in range(4)]})
    for kind in ("csv", "jsonl", "parquet"):
        source = as_files(tmp_path, kind, {"train": [near], "test": [near]})
        loaded = read(columns, **source)
        assert list(loaded.train["x"]) == near["x"].to_list()
        assert loaded.label_names == (str(2**53), str(2**53 + 1))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_whole_numbers_that_a_float_rounds_beside_halves(kind: str, several: bool, tmp_path: Path, read: Read) -> None:
    long = 2**53 + 1
    whole, halves = pl.DataFrame({"x": [1, 2**53, long], "label": [0, 1, 0]}), pl.DataFrame({"x": [0.5], "label": [1]})
    if several:
        source, where = as_files(tmp_path, kind, {"train": [halves, whole], "test": [halves]}), rf"1\.{kind} row 2"
    elif kind == "parquet":
        return  # a file has one type of these
    else:
        cells = (
            f'{{"x": 0.5, "label": 1}}\n{{"x": {long}, "label": 0}}\n'
            if kind == "jsonl"
            else f"x,label\n0.5,1\n{long},0\n"
        )
        (tmp_path / f"a.{kind}").write_text(cells)
        source, where = {"kind": kind, "train": f"a.{kind}", "test_fraction": 0.5}, rf"a\.{kind} row 1"
    with pytest.raises(SourceError, match=rf"{where}: column 'x' is {long}, which a float rounds"):
        read({"features": ["x"], "label": "label"}, **source)
    # The numbers in range.
    source = as_files(tmp_path, kind, {"train": [halves, whole[:2]], "test": [halves]})
    assert list(read({"features": ["x"], "label": "label"}, **source).train["x"]) == [0.5, 1, 2**53]


def test_lists_in_json_whose_numbers_a_float_rounds(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_text(
        lines([{"x": 1, "y": [0.5]}, {"x": 1, "y": []}, {"x": 2, "y": [1e17, 2**53 + 1]}])
    )
    with pytest.raises(SourceError, match=r"a\.jsonl row 2: column 'y' is 9007199254740993, which a float rounds"):
        read({"features": ["x"], "label": "y", "target": "numbers"}, kind="jsonl", train="a.jsonl", test_fraction=0.5)


# Forms of files.


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftext,label\na,0\nb,1\n",
        b"text,label\r\na,0\r\nb,1\r\n",
        b"\n\ntext,label\n\na,0\n\n\nb,1\n\n",
        b'"text","label"\n"a","0"\n"b","1"',
        b"label,text,\n0,a,\n1,b,\n",
        b"unnamed,text,,,label\n2020,a,,,0\n2021,b,,,1\n",
    ],
    ids=["bom", "crlf", "empty lines", "quoted", "trailing separator", "nameless columns"],
)
def test_forms_of_csv(content: bytes, tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "c.csv.bz2").write_bytes(bz2.compress(content))
    for name in ("b.csv.gz", "c.csv.bz2"):
        loaded = read({"text": "text", "label": "label"}, kind="csv", train="a.csv", test=name)
        for rows, targets in ((loaded.train, loaded.targets), (loaded.test, loaded.test_targets)):
            assert list(rows["text"]) == ["a", "b"]
            assert targets.tolist() == [0, 1]


def test_forms_of_json_lines(tmp_path: Path, read: Read) -> None:
    plain = lines([{"text": "a\u2028b", "label": 0}, {"text": "é\r\n", "label": 1}])
    forms = {
        "bom": b"\xef\xbb\xbf" + plain.encode(),
        "crlf": plain.replace("\n", "\r\n").encode(),
        "blank": ("\n  \n" + plain.replace("\n", "\n \t\n\r\n")).encode(),
        "unended": plain.encode().rstrip(),
    }
    for name, content in forms.items():
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(content))
        (tmp_path / "a.jsonl").write_bytes(content)
        loaded = read({"text": "text", "label": "label"}, kind="jsonl", train="a.jsonl", test=f"{name}.jsonl.gz")
        assert list(loaded.train["text"]) == list(loaded.test["text"]) == ["a\u2028b", "é\r\n"], name
        assert loaded.rows["test"].column(ROW).to_list() == [0, 1]


def test_a_csv_of_another_encoding(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes("téxt,label\nnaïve,Überraschung\nb,ok\n".encode("latin-1"))
    (tmp_path / "b.csv").write_bytes("téxt,label\nœuvre,ok\nb,ok\n".encode("cp1252"))
    columns = {"text": "téxt", "label": "label"}
    with pytest.raises(SourceError, match=r"a\.csv line 1: byte 0xe9 is not utf-8; write .* source\.charset"):
        read(columns, kind="csv", train="a.csv", test="b.csv")
    loaded = read(columns, kind="csv", train="a.csv", test="b.csv", charset="cp1252")
    assert list(loaded.train["téxt"]) == ["naïve", "b"]
    assert list(loaded.test["téxt"]) == ["œuvre", "b"]
    assert loaded.label_names == ("ok", "Überraschung")
    (tmp_path / "u.csv").write_bytes("text,label\na,b\n".encode("utf-16"))
    with pytest.raises(SourceError, match=r"u\.csv line 1: byte 0xff is not utf-8; .* as source\.charset, utf-16$"):
        read({"text": "text", "label": "label"}, kind="csv", train="u.csv", test_fraction=0.5)
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "a", "label": 0}\n{"text": "\xff", "label": 1}\n')
    with pytest.raises(SourceError, match=r"c\.jsonl row 1: 'utf-8' codec can't decode byte 0xff"):
        read({"text": "text", "label": "label"}, kind="jsonl", train="c.jsonl", test_fraction=0.5)


def test_quoted_newlines_across_blocks(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f'line {i}\n"quoted", and\r\nmore' for i in range(300)]
    frame = pl.DataFrame({"text": texts, "label": [i % 3 for i in range(300)]})
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.csv.BLOCK", 1000)
    source = as_files(tmp_path, "csv", {"train": [frame[:100], frame[100:]], "test": [frame[:9]]})
    loaded = read({"text": "text", "label": "label"}, **source)
    assert list(loaded.train["text"]) == texts
    assert loaded.rows["train"].column(FILE).to_list() == [0] * 100 + [1] * 200
    assert loaded.rows["train"].column(ROW).to_list() == [*range(100), *range(200)]
    assert loaded.rows["test"].column(FILE).to_list() == [2] * 9
    assert loaded.files == ("train-0.csv", "train-1.csv", "test-0.csv")


# Labels.


@pytest.mark.parametrize(
    ("labels", "names", "found", "targets"),
    [
        (["01", "1", "01"], None, ("01", "1"), [0, 1, 0]),
        ([True, False, True], None, ("false", "true"), [1, 0, 1]),
        ([True, False, True], ["True", "False"], ("True", "False"), [0, 1, 0]),
        ([2.0, 1.0, 2.0], ["2.0", "1.0"], ("2.0", "1.0"), [0, 1, 0]),
        ([10, 20, 100], None, ("10", "20", "100"), [0, 1, 2]),
        ([3, 1, 5], None, ("1", "3", "5"), [1, 0, 2]),
        ([3, 1, 5], ["5", "3", "1"], ("5", "3", "1"), [1, 2, 0]),
        ([0, 1, 0], ["neg", "pos"], ("neg", "pos"), [0, 1, 0]),
        ([0.0, 1.0, 0.0], ["neg", "pos"], ("neg", "pos"), [0, 1, 0]),
        (["b", "a", "b"], None, ("a", "b"), [1, 0, 1]),
        (["b", "a", "b"], ["b", "a", "c"], ("b", "a", "c"), [0, 1, 0]),
        ([-1, 1, -1], None, ("-1", "1"), [0, 1, 0]),
    ],
)
def test_labels_are_matched_by_their_text(
    labels: list[Any], names: list[str] | None, found: tuple[str, ...], targets: list[int], tmp_path: Path, read: Read
) -> None:
    frame = pl.DataFrame({"x": [1, 2, 3], "label": labels})
    hashes = set()
    for kind in ("csv", "jsonl", "parquet", "disk"):
        source = as_files(tmp_path, kind, {"train": [frame], "test": [frame]})
        loaded = read({"features": ["x"], "label": "label"}, **source, label_names=names)
        assert (loaded.label_names, loaded.targets.tolist()) == (found, targets), kind
        hashes.add(tuple(loaded.rows["train"].column(CONTENT).to_list()))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("written", "values", "names"),
    [
        (["True", "FALSE", "true"], [True, False, True], ("FALSE", "True")),
        (["1.0", "2.0", "1"], [1.0, 2.0, 1.0], ("1.0", "2.0")),
        (["+1", "-1", " +1"], [1, -1, 1], ("-1", "+1")),
    ],
)
def test_labels_of_a_csv_are_called_as_they_stand_there(
    written: list[str], values: list[Any], names: tuple[str, ...], tmp_path: Path, read: Read
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("x,label\n" + "".join(f"{x},{text}\n" for x, text in enumerate(written)))
    columns = {"features": ["x"], "label": "label"}
    loaded = read(columns, kind="csv", train="a.csv", test="b.csv")
    assert loaded.label_names == names
    frame = pl.DataFrame({"x": [0, 1, 2], "label": values})
    other = read(columns, **as_files(tmp_path, "parquet", {"train": [frame], "test": [frame]}))
    assert loaded.targets.tolist() == other.targets.tolist()
    assert loaded.rows["train"].column(CONTENT).to_list() == other.rows["train"].column(CONTENT).to_list()


def test_labels_of_one_normal_form_are_one_class(tmp_path: Path, read: Read) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    frame = pl.DataFrame({"x": [1, 2, 3], "label": [apart, "tea", composed]})
    lists = pl.DataFrame({"x": [1, 2, 3], "label": [[apart], ["tea", composed, apart], [composed]]})
    for kind in ("csv", "jsonl", "parquet"):
        source = as_files(tmp_path, kind, {"train": [frame], "test": [frame]})
        for names in (None, [composed, "tea"]):
            loaded = read({"features": ["x"], "label": "label"}, **source, label_names=names)
            # The first row's spelling, or the study's.
            assert (loaded.label_names, loaded.targets.tolist()) == ((names[0] if names else apart, "tea"), [0, 1, 0])
    with pytest.raises(SourceError, match="two of the names are one label"):
        read({"features": ["x"], "label": "label"}, **source, label_names=[composed, apart, "tea"])
    hashes = []
    for table in (lists, lists.with_columns(label=pl.Series([[composed], [composed, "tea"], [apart]]))):
        loaded = read(
            {"features": ["x"], "label": "label", "target": "labels"},
            **as_files(tmp_path, "parquet", {"train": [table], "test": [table]}),
        )
        assert loaded.targets.tolist() == [[True, False], [True, True], [True, False]]
        hashes.append(loaded.rows["train"].column(CONTENT).to_list())
    assert hashes[0] == hashes[1]


def test_categories_are_labels_and_features(tmp_path: Path, read: Read) -> None:
    categories = pl.Series(["low", "high", "low"], dtype=pl.Categorical)
    frame = pl.DataFrame({"x": categories, "label": categories, "size": pl.Series([1, 2, 1], dtype=pl.Int8)})
    frame.to_pandas().astype({"size": "category"}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    loaded = read({"features": ["x", "size"], "label": "label"}, kind="parquet", train="a.parquet", test="b.parquet")
    assert list(loaded.train["x"]) == ["low", "high", "low"]
    assert list(loaded.train["size"]) == [1, 2, 1]
    assert (loaded.label_names, loaded.targets.tolist()) == (("high", "low"), [1, 0, 1])


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, 2], ["neg", "pos"], r"'label' is '2' at row 2 of .*, which is not in source\.label_names \(neg, pos\)"),
        ([0, 1, 2], ["1", "2", "3"], r"'label' is '0' at row 0"),
        (["1", "01", "1"], ["1", "2"], r"'label' is '01' at row 1"),
        ([True, False, True], ["yes", "no"], r"'label' is '(true|false)' at row"),
        (["a", "b", "a"], ["a", "a", "b"], r"two of the names are one label: a, a, b"),
        ([1.0, 2.0, 1.0], ["1.0", "1", "2"], r"two of the names are one label"),
    ],
)
def test_names_that_contradict_the_labels(
    labels: list[Any], names: list[str], message: str, tmp_path: Path, read: Read
) -> None:
    frame = pl.DataFrame({"x": [1, 2, 3], "label": labels})
    source = as_files(tmp_path, "parquet", {"train": [frame], "test": [frame]})
    with pytest.raises(SourceError, match=message):
        read({"features": ["x"], "label": "label"}, **source, label_names=names)


def test_float_features_equal_numpys(tmp_path: Path, read: Read) -> None:
    """Numbers from other programs, in every notation, are the floats that NumPy reads."""
    written = ["1.5", "+2", "-0.0", ".5", "3.", "1e-5", "1E+300", "NaN", "0.1", "1e22", "5e-324"]
    (tmp_path / "a.csv").write_text("y,x,label\n" + "".join(f"1,{x},{i % 2}\n" for i, x in enumerate(written)))
    loaded = read({"features": ["x", "y"], "label": "label"}, kind="csv", train="a.csv", test_fraction=0.4)
    values = np.concatenate([loaded.rows[split].column("x").to_numpy() for split in ("train", "test")])
    rows = np.concatenate([loaded.rows[split].column(ROW).to_numpy() for split in ("train", "test")])
    np.testing.assert_array_equal(values, np.array([float(word) for word in written])[rows])
