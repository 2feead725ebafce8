"""Tables become codes and numbers that scikit-learn's encoders agree with, whatever types a split stores."""

import json

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from secateur.trainers.modalities.tables import MISSING, UNKNOWN, Category, Number, TableEncoder, TableEncoding

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
        return  # nothing but missing values
    assert isinstance(column, Category)
    assert set(column.values) == known
    for value, code in zip(test, encoder.encode(split[1])[:, 0].astype(int), strict=True):
        text = (value or "").strip()
        expected = MISSING if text in ("", "?") else column.values.index(text) + 2 if text in known else UNKNOWN
        assert code == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=20).filter(any))
def test_numbers_are_imputed_and_marked_as_by_scikit_learn(values):
    split = datasets.Dataset.from_dict({"x": values}, features=datasets.Features({"x": datasets.Value("float64")}))
    literal = np.array([[np.nan if value is None else value] for value in values])
    expected = SimpleImputer(add_indicator=True).fit_transform(literal)
    found = TableEncoder.fit(split, ["x"], TableEncoding()).encode(split)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_one_hot_equals_scikit_learn():
    train = rows(colour=["red", "green", "red", "blue"], size=[1.0, 2.0, 3.0, 4.0])
    test = rows(colour=["green", "mauve"], size=[5.0, 6.0])
    encoder = TableEncoder.fit(train, ["colour", "size"], TableEncoding(kind="one_hot"))
    reference = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([[c] for c in train["colour"]])
    found = encoder.encode(test)
    np.testing.assert_array_equal(found[:, 1:4], reference.transform([[c] for c in test["colour"]]))
    assert not found[:, 0].any()  # nothing is missing
    np.testing.assert_array_equal(found[:, 4], [5.0, 6.0])
    assert encoder.model_settings == {"kind": "numbers"}


def test_strings_that_are_numbers_but_for_missing_ones_are_numbers():
    split = rows(age=["31", "?", " 40"], zip=["02139", "10001", "94110"])
    age, code = TableEncoder.fit(split, ["age", "zip"], TableEncoding()).columns
    assert age == Number("age", 35.5, True)
    assert isinstance(code, Category)
    named = TableEncoder.fit(split, ["age"], TableEncoding(categorical=["age"]))
    assert named.columns == (Category("age", ("31", "40")),)


def test_categories_of_numbers_and_booleans_do_not_depend_on_their_type():
    train = rows(kind=[1, 2, 2, 3], flag=[True, False, True, True])
    test = rows(kind=[2.0, 2.5, float("nan"), 1.0], flag=[False, True, True, None])
    encoder = TableEncoder.fit(train, ["kind", "flag"], TableEncoding(categorical=["kind"]))
    np.testing.assert_array_equal(encoder.encode(test), [[3, 2], [0, 3], [1, 3], [2, 1]])
    assert encoder.model_settings == {"kind": "codes", "categories": [5, 4]}
    assert encoder.facts(test)["share of unknown categories"] == 1 / 8


def test_rare_categories_beyond_the_limit_are_unknown():
    split = rows(word=["a", "b", "b", "c", "c", "c"])
    encoder = TableEncoder.fit(split, ["word"], TableEncoding(max_categories=2))
    np.testing.assert_array_equal(encoder.encode(split)[:, 0], [0, 2, 2, 3, 3, 3])


def test_infinite_numbers_are_named():
    split = rows(x=[1.0, float("inf"), 1e300])
    with pytest.raises(ValueError, match=r"'x' is infinite or beyond float32 at rows 1, 2"):
        TableEncoder.fit(split, ["x"], TableEncoding())


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
