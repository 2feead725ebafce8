"""Folder names of classes are safe, distinct, and if possible the classes' own, else in order of the labels."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.pipelines.storage.folder_names import folder_names, is_safe

NAMES = st.text(max_size=30) | st.sampled_from(
    ["..", ".", "CON", "nul.png", "COM1", "../x", "/", "a\0", "x" * 300, "test", "é", "e\u0301", "É", "a", "A",
     "ﬁ", "fi", "train_1", "\ud800", "a.", "a ", "~", "__x__", ".hidden"]
)  # fmt: skip


@given(st.dictionaries(st.integers(0, 2000), NAMES | st.none(), min_size=1, max_size=12))
def test_names_are_safe_distinct_and_in_order(classes: dict[int, str | None]) -> None:
    names = folder_names(classes)
    assert names.keys() == classes.keys()
    if names != {label: unicodedata.normalize("NFC", name or "") for label, name in classes.items()}:
        assert [names[label] for label in sorted(names)] == sorted(names.values())
    spellings = {unicodedata.normalize("NFKC", name).casefold() for name in names.values()}
    assert len(spellings) == len(classes)
    for name in names.values():
        assert is_safe(name)
        assert name == unicodedata.normalize("NFC", name)
        assert not set(name) & set('/\\\0:*?"<>|')
        assert name not in (".", "..")
        assert len(name.encode()) <= 255
        assert name.isprintable()


def test_own_names_are_kept_where_they_can_be() -> None:
    assert folder_names({0: "ant", 1: "bee", 2: "hot dog"}) == {0: "ant", 1: "bee", 2: "hot dog"}
    assert folder_names({0: "n01440764", 1: "n01443537"}) == {0: "n01440764", 1: "n01443537"}
    assert folder_names({label: str(label) for label in range(11)}) == {label: str(label) for label in range(11)}
    assert folder_names({0: "dog", 1: "cat"}) == {0: "dog", 1: "cat"}


def test_numbers_come_first_where_a_name_cannot_be() -> None:
    names = folder_names({label: str(label) for label in range(10)} | {10: "a/b"})
    assert names[2] == "02_2"
    assert sorted(names.values()) == [names[label] for label in range(11)]
    assert folder_names({0: None, 12: "café au lait"}) == {0: "00", 12: "12_cafe-au-lait"}
    assert folder_names({0: None, 1: "Straße"}) == {0: "0", 1: "1_Strasse"}


@pytest.mark.parametrize("name", ["test", "my_train", "Validation", "test 3", "dev-set"])
def test_no_class_is_taken_for_a_split(name: str) -> None:
    assert folder_names({0: "a", 1: name})[1] == "1"
    assert folder_names({0: "a", 1: "contest"})[1] == "contest"
