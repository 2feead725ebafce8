"""The checks of an audit: one planted fault of each kind, and data of all kinds without oddities."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import secateur as sc
from secateur.pipelines.audits.checks import (
    columns,
    contract,
    label_leaks,
    lengths,
    pictures,
    scripts,
    straddling,
    texts,
)
from secateur.pipelines.audits.seen import Measures, measures_of
from secateur.trainers.modalities.decoding import decode_image

WORDS = [
    "the",
    "red",
    "fox",
    "went",
    "over",
    "a",
    "small",
    "hill",
    "and",
    "slept",
    "under",
    "one",
    "old",
    "tree",
    "river",
]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of 8 … 15 words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(8, 16))) + "." for _ in range(count)]


def png(pixels: np.ndarray) -> dict[str, object]:
    """A cell of a picture."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def noise(count: int, low: int = 0, high: int = 256, side: int = 16) -> np.ndarray:
    """Pictures of noise."""
    return np.random.default_rng(count).integers(low, high, (count, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("check", "odd"),
    [
        (texts.markup_only, ["<br/> <p>&nbsp;</p>", "https://example.org/a?b=1", "… !!! ---", '<img src="a b.png">']),
        (texts.broken, ["caf\ufffd", "cafÃ© au lait", "donâ€™t", "Ã¼ber", "a\x00b", "Â\u00a0 x"]),
    ],
)
def test_texts_that_say_nothing(check, odd: list[str | None]) -> None:
    right = ["", "  \n\t", None, "a < b & c > d", "café don't", "SÃO", "<p>text</p>", "7", "日本語", "a\nb\tc"]
    assert check(pl.Series([*odd, *right])).tolist() == [True] * len(odd) + [False] * len(right)


def test_texts_of_exactly_the_greatest_length_were_cut() -> None:
    lengths_of = np.random.default_rng(0).geometric(0.01, 2000)
    assert not len(texts.cut(lengths_of)[1])
    longest, found = texts.cut(np.minimum(lengths_of, 256))
    assert longest == 256
    assert (found == np.flatnonzero(lengths_of >= 256)).all()
    assert not len(texts.cut(np.full(10, 30))[1])


def test_scripts_are_those_of_most_letters() -> None:
    given = [
        "hello wörld",
        "привет мир",
        "γειά",
        "مرحبا",
        "שלום",
        "你好",
        "こんにちは",
        "안녕",
        "नमस्ते",
        "สวัสดี",
        "123 !",
        "mixed я",
    ]
    named = scripts.scripts_of(pl.Series([*given, "ბარო"])).to_list()
    assert named[:7] == ["Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", *["Chinese or Japanese"] * 2]
    assert named[7:] == ["Hangul", "Devanagari", "Thai", None, "Latin", "another script"]
    assert scripts.scripts_of(pl.Series(["", "7", "hello"])).to_list() == [None, None, "Latin"]
    assert scripts.scripts_of(pl.Series([""])).to_list() == [None]


def test_lengths_far_out_of_the_others() -> None:
    random = np.random.default_rng(0)
    usual = np.exp(random.normal(5, 0.6, 5000)).astype(np.int64)
    shortest, longest, short, long = lengths.extremes(np.concatenate([usual, [0, 1, 2, 40_000, 90_000]]))
    assert short[:2].tolist() == [5001, 5002]
    assert long[:2].tolist() == [5004, 5003]
    assert len(short) + len(long) <= 6
    assert shortest < np.quantile(usual, 0.01) < np.quantile(usual, 0.99) < longest


def test_columns_that_say_little() -> None:
    rows = 400
    features = pl.DataFrame(
        {
            "good": np.random.default_rng(0).normal(size=rows),
            "one": [7] * rows,
            "nearly": ["no"] * 398 + ["yes"] * 2,
            "gaps": [None] * 300 + [1.0, 2.0] * 50,
            "nothing": [None] * rows,
            "nan": [float("nan")] * 350 + list(range(50)),
            "key": [f"k{number}" for number in range(rows)],
            "one or none": ["x"] * 300 + [None] * 100,
        },
        strict=False,
    )
    found = [(odd.kind, odd.says) for odd in columns.of_columns(features)]
    assert found == [
        ("constant", "column 'one' holds 7 in every training row"),
        ("near-constant", "column 'nearly' holds 'no' but in 2 training rows of 400"),
        ("mostly missing", "column 'gaps' has no value in 75% of the 400 training rows"),
        ("mostly missing", "column 'nothing' has no value in all of the 400 training rows"),
        ("mostly missing", "column 'nan' has no value in 88% of the 400 training rows"),
        ("identifier", "column 'key' has another value in every training row, as identifiers have"),
        ("constant", "column 'one or none' holds 'x' in every row that has one (300 of 400)"),
    ]


def test_an_identifier_is_one_where_copies_of_rows_repeat_it() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"key": [f"k{row}" for row in range(60)], "value": rng.random(60)})
    again = pl.concat([table, table[:5]])
    found = [one["text"] for one in sc.audit(again, features=["key", "value"], progress=False).findings]
    assert "column 'key' has another value in every training row but 5 copies, as identifiers have" in found


def test_one_column_gives_the_label() -> None:
    random = np.random.default_rng(0)
    labels = np.sort(random.integers(0, 5, 2000))
    useful = labels + random.normal(0, 0.6, 2000)
    features = pl.DataFrame(
        {
            "useful": useful,
            "code": [f"queue {label * 7 % 5}" for label in labels],
            "row": np.arange(2000),
            "shifted": labels * 3.0 + random.uniform(0, 1, 2000),
            "gap": [None if label == 2 else float(label) for label in labels],
            "key": [f"k{number}" for number in random.permutation(2000)],
            "flag": labels > 2,
        }
    )
    found = {
        odd.says.split("'")[1]: odd.says
        for odd in label_leaks.tell_tales(features, [label_leaks.Target("", labels)], "column")
    }
    assert set(found) == {"code", "row", "shifted", "gap"}
    assert found["row"].endswith(", and counts the rows")
    assert 0.2 < label_leaks.gain_of(features["useful"], labels) < 0.7
    assert label_leaks.gain_of(features["key"], labels) < 0.05
    numbers = useful * 2
    assert label_leaks.gain_of(pl.Series(numbers**3), numbers) > 0.98
    assert label_leaks.gain_of(pl.Series(labels), numbers) < 0.95


def test_texts_that_hold_their_label() -> None:
    labels = np.arange(300) % 3
    names = ("billing", "access", "shipping")
    plain = pl.Series(sentences(300))
    marked = pl.Series([f"[{'ABC'[label]}] {text}" for label, text in zip(labels, plain, strict=True)])
    said = [odd.says for odd in label_leaks.words_of_classes(marked, labels, names)]
    assert said == [
        "a single word of the text gives the label: '[a]' gives 'billing', '[b]' gives 'access', '[c]' gives 'shipping'"
    ]
    assert not list(label_leaks.words_of_classes(plain, labels, names))
    half = pl.Series(
        [
            f"{text} About {names[label]}!" if place % 5 < 3 else text
            for place, (label, text) in enumerate(zip(labels, plain, strict=True))
        ]
    )
    said = [odd.says for odd in label_leaks.names_of_classes(half, labels, names)]
    assert said == ["60% of the texts hold the name of one class alone, and in 100% of them it is their label"]
    assert not list(label_leaks.names_of_classes(half, (labels + 1) % 3, names))
    assert not list(label_leaks.names_of_classes(plain, labels, names))


def measured(cells: list[dict[str, object]]) -> Measures:
    """Measures of cells."""
    return Measures(np.array([measures_of(decode_image(cell)) for cell in cells], float))


def test_pictures_that_show_nothing_or_are_far_out() -> None:
    usual = [png(one) for one in noise(40)]
    torn = noise(1)[0].copy()
    torn[12:] = 128
    odd = {
        "blank": np.full((16, 16, 3), 200, np.uint8),
        "cut": torn,
        "dark": noise(1, 0, 9)[0],
        "bright": noise(1, 250, 256)[0],
        "odd size": noise(1, side=64)[0],
        "odd shape": np.repeat(noise(1)[0], 5, axis=1)[:4],
    }
    measures = measured([*usual, *map(png, odd.values())])
    found: dict[str, set[int]] = {}
    for one in (*pictures.blank_or_cut(measures), *pictures.far_out(measures)):
        found.setdefault(one.kind, set()).update(one.rows.tolist())
    assert found == {kind: {40 + place} for place, kind in enumerate(odd)}
    clean = measured(usual)
    assert not any(len(one.rows) for one in (*pictures.blank_or_cut(clean), *pictures.far_out(clean)))


def test_pictures_on_white_are_not_dark_for_a_grey_stroke() -> None:
    digits = load_digits().images / 16
    strokes = measured([png(one) for one in (255 * digits).astype(np.uint8)[:300]])
    night = measured([png(one) for one in np.append((255 * digits)[:300], [40 * digits[0]], axis=0).astype(np.uint8)])
    for measures, expected in ((strokes, []), (night, [300])):
        found = {one.kind: one.rows.tolist() for one in pictures.far_out(measures)}
        assert found["dark"] == expected
        assert not found["bright"]


def test_deep_pictures_have_no_brightness_but_may_be_blank() -> None:
    deep = np.random.default_rng(0).integers(0, 60_000, (30, 8, 8)).astype(np.uint16)
    deep[3] = 500
    measures = measured([png(one) for one in deep])
    assert [one.rows.tolist() for one in pictures.blank_or_cut(measures)] == [[3], []]
    assert not any(len(one.rows) for one in pictures.far_out(measures))


def test_groups_that_straddle() -> None:
    groups = pl.Series(["a", "b", None, "a", "c", None, "b", "b"])
    found, shared = straddling.straddling(groups, np.array([0, 0, 0, 1, 1, 1, 2, 1], np.int16))
    assert found.tolist() == [3, 6, 7]
    assert shared == 2


def test_a_check_is_one_function_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check declares its kinds of rows; a further function joins them."""
    declared = dict(contract.checks())
    files = {one.__module__.rpartition(".")[2] for _, one in declared.values()}
    folder = Path(contract.__file__).parent
    assert files == {path.stem for path in folder.glob("*.py")} - {"contract"}
    monkeypatch.setattr(contract, "_DECLARED", dict(contract._DECLARED))
    contract.checks.cache_clear()

    @contract.check("text")
    def shouting(rows):
        yield contract.Odd("shouting", "capitals alone", np.flatnonzero(rows.texts.str.contains(r"^[A-Z ]+$")))

    try:
        pl.DataFrame({"body": [*sentences(30), "STOP THIS"], "label": ["x", "y"] * 15 + ["x"]}).write_csv(
            tmp_path / "t.csv"
        )
        answer = sc.audit(tmp_path / "t.csv", label="label")
        assert [one["text"] for one in answer.findings if one["kind"] == "shouting"] == [
            "1 train row of 31: capitals alone"
        ]
    finally:
        contract.checks.cache_clear()


def test_odd_rows_of_files(tmp_path: Path) -> None:
    """From files to findings, with the user's row numbers."""
    train = pl.DataFrame(
        {
            "body": [*sentences(60), "<br>", "caf\ufffd is red", "привет мир как дела"],
            "who": [f"p{n % 20}" for n in range(63)],
            "label": ["x", "y", "z"] * 21,
        }
    )
    test = pl.DataFrame(
        {"body": [*sentences(12, 9), " "], "who": [f"p{n + 15}" for n in range(13)], "label": ["x"] * 13}
    )
    train.write_csv(tmp_path / "train.csv")
    test.write_csv(tmp_path / "test.csv")
    answer = sc.audit(tmp_path / "train.csv", test=tmp_path / "test.csv", text="body", label="label", group="who")
    found = {(one["kind"], one["split"]): [row for _, row in one["rows"]] for one in answer.findings}
    assert found["markup only", "train"] == [60]
    assert found["broken characters", "train"] == [61]
    assert found["other script", "train"] == [62]
    assert found["groups", "test"] == [0, 1, 2, 3, 4]


def test_own_probabilities_judge_the_training_labels(tmp_path: Path) -> None:
    """Texts that no model can tell apart: the findings follow from the user's probabilities."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 300)
    given = np.where(np.arange(300) % 10 == 0, 1 - truth, truth)
    pl.DataFrame({"body": sentences(300), "label": np.array(["no", "yes"])[given]}).write_csv(tmp_path / "t.csv")
    own = np.where(truth[:, None] == [0, 1], 0.9, 0.1)
    np.save(tmp_path / "own.npy", own)
    answer = sc.audit(
        tmp_path / "t.csv", text="body", label="label", probabilities=tmp_path / "own.npy", progress=False
    )
    listed = [row for one in answer.findings if one["kind"] == "wrong labels" for _, row in one["rows"]]
    assert sorted(listed) == list(range(0, 300, 10))
    for bad, words in (
        (own[:299], "299 rows for 300 training rows"),
        (np.hstack([own, own]), r"4 columns for 2 .* \(no, yes\)"),
        (own + 0.1, "values of row 0 are no probabilities"),
        (np.array(["x"]), "give numbers"),
        (tmp_path / "t.csv", r"probabilities: .*t\.csv is no \.npy file of numbers: save it by numpy\.save"),
        (tmp_path / "none.npy", r"probabilities: there is no file .*none\.npy"),
    ):
        with pytest.raises(ValueError, match=words):
            sc.audit(tmp_path / "t.csv", text="body", label="label", probabilities=bad, progress=False)


def test_rows_without_a_label_are_listed_and_the_rest_is_audited() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"x": rng.normal(size=80), "z": rng.normal(size=80)})
    target = table["x"].to_numpy() * 2 + 0.01 * rng.normal(size=80)
    target[[3, 11]] = np.inf, np.nan
    whole = pl.Series(target).set(pl.Series(np.arange(80) == 20), None)
    found = sc.audit(table.with_columns(y=whole), label="y", features=["x", "z"], progress=False)
    [none] = [one for one in found.findings if one["kind"] == "no label"]
    assert [row for _, row in none["rows"]] == [3, 11, 20]
    assert "3 train rows of 80: a number that is missing, NaN or infinite" in none["text"]
    assert found.summary["wrong_labels"]["train"]["labelled"] == 77
    lists = [[1.0, float(value)] if row % 2 else None if row == 8 else [2.0, 1.0] for row, value in enumerate(target)]
    many = sc.audit(
        table.with_columns(y=pl.Series(lists)), label="y", features=["x", "z"], task="regression", progress=False
    )
    assert [[row for _, row in one["rows"]] for one in many.findings if one["kind"] == "no label"] == [[3, 8, 11]]
    named = pl.Series(["a" if value > 0 else "b" for value in table["x"]]).set(pl.Series(np.arange(80) == 5), None)
    classes = sc.audit(table.with_columns(y=named), label="y", features=["x", "z"], progress=False)
    assert [one["text"] for one in classes.findings if one["kind"] == "no label"] == [
        "1 train row of 80: no label; correct or drop such rows before training"
    ]
