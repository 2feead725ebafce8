"""Tables become codes and numbers that agree with scikit-learn's encoders, for any dtypes in a split."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from secateur.trainers.modalities.encoding import encoded_rows
from secateur.trainers.modalities.tables import MISSING, UNKNOWN, Category, TableEncoder, TableEncoding

WORDS = st.sampled_from(["red", "green", " blue ", "?", "", "navy"]) | st.none()


def rows(**columns):
    return datasets.Dataset.from_dict(columns)


@settings(max_examples=30, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=20), st.lists(WORDS | st.just("new"), min_size=1, max_size=20))
def test_codes_name_the_value_of_every_cell(train, test):
    features = datasets.Features({"colour": datasets.Value("string")})
    split = [datasets.Dataset.from_dict({"colour": values}, features=features) for values in (train, test)]
    encoder = TableEncoder.fit(split[0], ["colour"], TableEncoding())
    (column,) = encoder.columns
    known = {value.strip() for value in train if value and value.strip() not in ("", "?")}
    if not known:
        return  # Only missing values.
    assert isinstance(column, Category)
    assert set(column.values) == known
    for value, code in zip(test, encoded_rows(encoder, split[1])[:, 0].astype(int), strict=True):
        text = (value or "").strip()
        expected = MISSING if text in ("", "?") else column.values.index(text) + 2 if text in known else UNKNOWN
        assert code == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.none(), min_size=1, max_size=20).filter(any))
def test_numbers_are_standardised_imputed_and_marked_as_by_scikit_learn(values):
    split = datasets.Dataset.from_dict({"x": values}, features=datasets.Features({"x": datasets.Value("float64")}))
    literal = np.array([[np.nan if value is None else value] for value in values])
    expected = SimpleImputer(add_indicator=True).fit_transform(literal)
    if len(set(values) - {None}) > 1:  # For a constant column scikit-learn keeps the rounding error.
        expected[:, 0] = SimpleImputer().fit_transform(StandardScaler().fit_transform(literal))[:, 0]
    else:
        expected[:, 0] = 0
    found = encoded_rows(TableEncoder.fit(split, ["x"], TableEncoding()), split)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_hot_equals_scikit_learn():
    train = rows(colour=["red", "green", "red", "blue"], size=[1.0, 2.0, 3.0, 4.0])
    test = rows(colour=["green", "mauve"], size=[5.0, 6.0])
    encoder = TableEncoder.fit(train, ["colour", "size"], TableEncoding(kind="one_hot"))
    reference = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([[c] for c in train["colour"]])
    found = encoded_rows(encoder, test)
    np.testing.assert_array_equal(found[:, 1:4], reference.transform([[c] for c in test["colour"]]))
    assert not found[:, 0].any()  # No value is missing.
    scaler = StandardScaler().fit(np.reshape(train["size"], (-1, 1)))
    np.testing.assert_allclose(found[:, 4:], scaler.transform([[5.0], [6.0]]), rtol=1e-6)
    assert encoder.model_settings == {"kind": "numbers"}


def test_strings_are_categories_whatever_they_look_like():
    split = rows(age=["31", "?", " 40"], zip=["02139", "10001", "94110"])
    columns = TableEncoder.fit(split, ["age", "zip"], TableEncoding()).columns
    assert columns == (Category("age", ("31", "40")), Category("zip", ("02139", "10001", "94110")))


def test_categories_of_numbers_and_booleans_do_not_depend_on_their_type():
    train = rows(kind=[1, 2, 2, 3], flag=[True, False, True, True])
    test = rows(kind=[2.0, 2.5, float("nan"), 1.0], flag=[False, True, True, None])
    encoder = TableEncoder.fit(train, ["kind", "flag"], TableEncoding(categorical=["kind"]))
    np.testing.assert_array_equal(encoded_rows(encoder, test), [[3, 2], [0, 3], [1, 3], [2, 1]])
    assert encoder.model_settings == {"kind": "codes", "categories": [5, 4]}
    assert encoder.facts(test)["share of unknown categories"] == 1 / 8


def test_rare_categories_beyond_the_limit_are_unknown():
    split = rows(word=["a", "b", "b", "c", "c", "c"])
    encoder = TableEncoder.fit(split, ["word"], TableEncoding(max_categories=2))
    np.testing.assert_array_equal(encoded_rows(encoder, split)[:, 0], [0, 2, 2, 3, 3, 3])


def test_frequent_categories_are_found_among_more_than_the_buffer_holds(monkeypatch):
    monkeypatch.setattr("secateur.trainers.modalities.tables.DISTINCT", 16)
    monkeypatch.setattr("secateur.trainers.modalities.frequencies.BLOCK", 8)
    monkeypatch.setattr("secateur.trainers.modalities.rows.BATCH", 10)
    words = [word for row in range(100) for word in (f"once {row}", f"often {row % 4}")]
    encoder = TableEncoder.fit(rows(word=words), ["word"], TableEncoding(max_categories=4))
    assert encoder.columns == (Category("word", tuple(f"often {number}" for number in range(4))),)


def test_infinite_numbers_are_named():
    split = rows(x=[1.0, float("inf"), 2.0, float("-inf")])
    with pytest.raises(ValueError, match=r"'x' is infinite at rows 1, 3"):
        TableEncoder.fit(split, ["x"], TableEncoding())
    encoder = TableEncoder.fit(rows(x=[1.0, 2.0]), ["x"], TableEncoding())
    with pytest.raises(ValueError, match=r"'x' is infinite at rows 1, 3"):
        encoded_rows(encoder, split)
    with pytest.raises(ValueError, match=r"'x' is more deviations from the mean than float32 holds at row 2:"):
        encoded_rows(encoder, rows(x=[1.0, None, 1e200]))


def test_numbers_too_far_apart_for_a_deviation_are_refused():
    with pytest.raises(ValueError, match=r"'x': deviations from the mean are beyond 1e154: scale the column"):
        TableEncoder.fit(rows(x=[1e300, -1e300]), ["x"], TableEncoding())
    with pytest.raises(ValueError, match=r"'x': deviations from the mean are below 1e-162: scale the column"):
        TableEncoder.fit(rows(x=[1e-300, 2e-300]), ["x"], TableEncoding())
    encoder = TableEncoder.fit(rows(x=[1e-150, 2e-150]), ["x"], TableEncoding())
    np.testing.assert_allclose(encoded_rows(encoder, rows(x=[1e-150, 2e-150]))[:, 0], [-1, 1])


LARGE = {
    "Unix seconds within a minute": (1_700_000_000, 60),
    "days of January as numbers": (20240101, 31),
    "Unix nanoseconds": (1_700_000_000_000_000_000, 60),
    "around 2^53": (2**53 - 30, 60),
    "the last of int64": (2**63 - 60, 60),
    "the first of int64": (-(2**63), 60),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_whole_numbers_are_those_from_zero(name):
    start, count = LARGE[name]
    steps = np.random.default_rng(0).integers(0, count, 500)
    small, large = rows(t=steps.tolist()), rows(t=[start + step for step in steps.tolist()])
    found = encoded_rows(TableEncoder.fit(large, ["t"], TableEncoding()), large)
    assert len(np.unique(found)) == len(np.unique(steps))
    expected = encoded_rows(TableEncoder.fit(small, ["t"], TableEncoding()), small)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_unsigned_numbers_beyond_int64_keep_their_values():
    values = [2**64 - 1 - step for step in (0, 1, 2, 5)]
    split = datasets.Dataset(pa.table({"t": pa.array(values, pa.uint64())}))
    expected = StandardScaler().fit_transform([[0.0], [-1.0], [-2.0], [-5.0]])
    np.testing.assert_allclose(
        encoded_rows(TableEncoder.fit(split, ["t"], TableEncoding()), split), expected, rtol=1e-6
    )
    (column,) = TableEncoder.fit(split, ["t"], TableEncoding(categorical=["t"])).columns
    assert column.values == tuple(sorted(map(str, values)))


def test_large_numbers_behind_a_batch_of_missing_ones_keep_their_values(monkeypatch):
    monkeypatch.setattr("secateur.trainers.modalities.rows.BATCH", 2)
    split = rows(t=[None, None, 2**60, 2**60 + 1, 2**60 + 2, None])
    encoder = TableEncoder.fit(split, ["t"], TableEncoding())
    root = 1.5**0.5
    np.testing.assert_allclose(
        encoded_rows(encoder, split), [[0, 1], [0, 1], [-root, 0], [0, 0], [root, 0], [0, 1]], rtol=1e-6
    )


def test_moments_do_not_depend_on_batches(monkeypatch):
    values = (1.7e9 + np.random.default_rng(0).normal(0, 3, 1000)).tolist()
    whole = TableEncoder.fit(rows(x=values), ["x"], TableEncoding()).columns[0]
    monkeypatch.setattr("secateur.trainers.modalities.rows.BATCH", 7)
    parts = TableEncoder.fit(rows(x=values), ["x"], TableEncoding()).columns[0]
    np.testing.assert_allclose([parts.mean, parts.deviation], [np.mean(values), np.std(values)], rtol=1e-8)
    np.testing.assert_allclose([whole.mean, whole.deviation], [np.mean(values), np.std(values)], rtol=1e-8)


def test_categories_of_whole_numbers_are_exact():
    split = rows(user=[2**53 + number % 2 for number in range(20)])
    encoder = TableEncoder.fit(split, ["user"], TableEncoding(categorical=["user"]))
    assert encoder.columns[0].values == (str(2**53), str(2**53 + 1))
    np.testing.assert_array_equal(encoded_rows(encoder, split)[:, 0], [2, 3] * 10)


def test_minus_zero_is_zero():
    split = rows(x=[0.0, -0.0, 1.0, -1.0])
    encoder = TableEncoder.fit(split, ["x"], TableEncoding(categorical=["x"]))
    assert encoder.columns == (Category("x", ("-1", "0", "1")),)
    numbers = encoded_rows(TableEncoder.fit(split, ["x"], TableEncoding()), split)
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("kind", ["float64", "int64", "string", "bool"])
def test_columns_without_a_value_say_that_all_is_missing(kind):
    features = datasets.Features({"x": datasets.Value(kind)})
    split = datasets.Dataset.from_dict({"x": [None, None]}, features=features)
    found = encoded_rows(TableEncoder.fit(split, ["x"], TableEncoding()), split)
    assert found.tolist() == ([[MISSING]] * 2 if kind in ("string", "bool") else [[0, 1]] * 2)


@pytest.mark.parametrize("value", [0.1, 1.7e9, -3e-300, 7, 2**60 + 1])
def test_a_column_of_one_value_is_zero(value, monkeypatch):
    monkeypatch.setattr("secateur.trainers.modalities.rows.BATCH", 3)
    split = rows(x=[value] * 100)
    encoder = TableEncoder.fit(split, ["x"], TableEncoding())
    assert encoder.columns[0].deviation == 0
    assert not encoded_rows(encoder, split).any()


def test_categorical_columns_must_be_features():
    with pytest.raises(ValueError, match="'y' is not among the features x"):
        TableEncoder.fit(rows(x=[1.0]), ["x"], TableEncoding(categorical=["y"]))


def test_an_encoder_says_what_it_learned(tmp_path):
    split = rows(colour=["red", None, "blue"], size=[0.1, None, 1 / 3])
    encoder = TableEncoder.fit(split, ["size", "colour"], TableEncoding())
    encoder.save(tmp_path)
    size, colour = json.loads((tmp_path / "encoding.json").read_text())["columns"]
    assert (size["is"], size["name"]) == ("Number", "size")
    assert (colour["is"], colour["values"]) == ("Category", ["blue", "red"])
