"""Texts become token ids by a tokenizer that is the same in every process, or TF-IDF as in scikit-learn."""

import json
import os
import subprocess
import sys
import unicodedata
from itertools import pairwise

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from secateur.trainers.modalities import tfidf
from secateur.trainers.modalities.encoding import encoded_rows
from secateur.trainers.modalities.texts import TextEncoding, TokenEncoder, load_tokenizer, train_tokenizer
from secateur.trainers.modalities.tfidf import TfidfEncoder
from secateur.trainers.modalities.word_blocks import split, words_in
from secateur.trainers.modalities.words import pieces_of, terms_of

TEXTS = ["My card has not arrived yet", "Where is my card?", "top-up failed, again", "Exchange rate of a card payment"]
TOKENS, TFIDF = TextEncoding(kind="tokens", vocabulary=120), TextEncoding(kind="tfidf")


def rows(texts):
    return datasets.Dataset.from_dict({"text": texts}, features=datasets.Features({"text": datasets.Value("string")}))


def test_another_process_trains_the_same_tokenizer():
    code = (
        "from secateur.trainers.modalities.texts import train_tokenizer\n"
        f"print(train_tokenizer([{TEXTS * 3!r}], vocabulary=120).to_str())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert printed.stdout.strip() == train_tokenizer([TEXTS * 3], vocabulary=120).to_str()


def test_ids_spell_the_text_and_are_padded_on_the_right():
    encoder = TokenEncoder.fit(rows(TEXTS * 3), "text", TOKENS)
    ids = encoded_rows(encoder, rows(TEXTS))
    assert ids.dtype == np.int32
    for text, row in zip(TEXTS, ids, strict=True):
        real = row[row != encoder.padding_id]
        np.testing.assert_array_equal(row[: len(real)], real)
        spelled = "".join(encoder.tokenizer.id_to_token(token) for token in real[1:-1])
        assert spelled.replace("▁", "") == text.lower().replace(" ", "")
    assert encoder.model_settings == {
        "kind": "tokens",
        "vocabulary": encoder.tokenizer.get_vocab_size(),
        "padding_id": 0,
    }
    assert ids.max() < encoder.model_settings["vocabulary"] <= 120


def test_long_texts_are_cut_and_counted():
    split = rows(["a b c d e f g h", "a b", "c d e f g h a b", "h"])
    encoder = TokenEncoder.fit(split, "text", TextEncoding(kind="tokens", max_length=5, vocabulary=64))
    ids = encoded_rows(encoder, split)
    assert ids.shape == (4, 5)
    assert encoder.tokenizer.id_to_token(ids[0, -1]) == "[SEP]"
    assert encoder.facts(split) == {"length": 5, "share of texts cut": 0.5}
    short = TokenEncoder.fit(rows(["a b"] * 3), "text", TextEncoding(kind="tokens", vocabulary=64, max_length=64))
    assert short.length == 4  # Not wider than the longest training text.


@pytest.mark.parametrize("longest", [3, 20, 90, 700])
def test_the_length_follows_the_training_texts(longest):
    words = np.random.default_rng(0).integers(1, longest + 1, 200)
    split = rows([" ".join("ab"[number % 2] for number in range(count)) for count in words])
    encoder = TokenEncoder.fit(split, "text", TextEncoding(kind="tokens", vocabulary=64))
    encoder.tokenizer.no_truncation()
    lengths = [len(encoder.tokenizer.encode(text).ids) for text in split["text"]]
    usual = np.percentile(lengths, 95, method="inverted_cdf")
    assert encoder.length == min(max(int(np.ceil(usual / 8)) * 8, 16), 512)
    assert encoder.facts(split) == {
        "length": encoder.length,
        "share of texts cut": np.mean([length > encoder.length for length in lengths]),
    }
    assert max(lengths) <= 512 or encoder.facts(split)["share of texts cut"] > 0.2


@pytest.mark.parametrize(("told", "positions", "expected"), [(24, None, 24), (24, 20, 20), (None, 40, 40)])
def test_the_length_is_at_most_what_the_model_reads(told, positions, expected, tmp_path):
    special = {"pad_token": "[PAD]"} | ({"model_max_length": told} if told else {})
    name = saved_tokenizer(tmp_path, **special)
    if positions:
        from transformers import BertConfig

        BertConfig(max_position_embeddings=positions).save_pretrained(name)
    split = rows(["a b c d " * 20] * 5)
    assert TokenEncoder.fit(split, "text", TextEncoding(kind="tokens", tokenizer=name)).length == expected


@pytest.mark.parametrize(("kind", "encoding"), [(TokenEncoder, TOKENS), (TfidfEncoder, TFIDF)])
def test_missing_texts_are_empty_and_encoders_say_what_they_learned(kind, encoding, tmp_path):
    encoder = kind.fit(rows(TEXTS), "text", encoding)
    split = rows([*TEXTS, None, "", "unheard-of Ωords"])
    found = encoded_rows(encoder, split)
    np.testing.assert_array_equal(found[4], found[5])
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "encoding.json").read_text())["column"] == "text"


def test_tfidf_is_that_of_scikit_learn():
    reference = TfidfVectorizer(max_features=9, ngram_range=(1, 2), sublinear_tf=True).fit(TEXTS)
    found = encoded_rows(TfidfEncoder.fit(rows(TEXTS), "text", TextEncoding(kind="tfidf", terms=9)), rows(TEXTS[::-1]))
    np.testing.assert_allclose(found, reference.transform(TEXTS[::-1]).toarray(), rtol=1e-6)


def test_frequent_terms_are_found_among_more_than_the_buffer_holds(monkeypatch):
    monkeypatch.setattr("secateur.trainers.modalities.tfidf.DISTINCT", 16)
    monkeypatch.setattr("secateur.trainers.modalities.word_blocks.BYTES", 80)
    monkeypatch.setattr("secateur.trainers.modalities.frequencies.BLOCK", 8)
    texts = [f"once{row} often{row % 3}" for row in range(60)]
    encoder = TfidfEncoder.fit(rows(texts), "text", TextEncoding(kind="tfidf", terms=3))
    assert list(encoder.terms) == ["often0", "often1", "often2"]
    # In 20 of 60 texts.
    np.testing.assert_allclose(encoder.idf, np.log(61 / 21) + 1, rtol=1e-6)


def drawn_texts(seed, count, words=40, letters="abcdefgh"):
    """Texts with some frequent words and pairs of words; distinct counts are likely."""
    random = np.random.default_rng(seed)
    every = np.array([f"{letters[place % len(letters)]}{place}" for place in range(300)])
    share = 1 / np.arange(1, 301) ** 1.1
    drawn = random.choice(300, (count, words), p=share / share.sum())
    lengths = random.integers(0, words + 1, count)
    return [" ".join(every[row[:length]]) for row, length in zip(drawn, lengths, strict=True)]


@pytest.mark.parametrize(("terms", "letters"), [(60, "abcdefgh"), (200, "äbçd\u0435f\u03b3h"), (10**6, "abcdefgh")])
@pytest.mark.parametrize("block", [1000, 1 << 22])
def test_terms_and_weights_are_those_of_scikit_learn_however_texts_come(terms, letters, block, monkeypatch):
    monkeypatch.setattr("secateur.trainers.modalities.word_blocks.BYTES", block)
    train, test = drawn_texts(0, 700, letters=letters), drawn_texts(1, 300, letters=letters)
    count = CountVectorizer(ngram_range=(1, 2))
    sums = np.asarray(count.fit_transform(train).sum(axis=0)).ravel()
    # scikit-learn does not define which equally frequent terms it keeps, so the limit is where counts differ.
    ordered = np.sort(sums)[::-1]
    limit = next((n for n in range(min(terms, len(sums) - 1), 0, -1) if ordered[n - 1] > ordered[n]), len(sums))
    limit = len(sums) if terms >= len(sums) else limit
    encoder = TfidfEncoder.fit(rows(train), "text", TextEncoding(kind="tfidf", terms=limit))
    reference = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=limit).fit(train)
    assert list(encoder.terms) == reference.get_feature_names_out().tolist()
    for texts in (train, test):
        np.testing.assert_allclose(
            encoded_rows(encoder, rows(texts)), reference.transform(texts).toarray(), rtol=2e-6, atol=1e-7
        )


def test_frequent_pairs_are_found_among_more_than_the_buffer_holds(monkeypatch):
    monkeypatch.setattr(tfidf, "PAIRS", 16)
    monkeypatch.setattr("secateur.trainers.modalities.word_blocks.BYTES", 200)
    random = np.random.default_rng(0)
    noise = [" ".join(f"w{number}" for number in random.permutation(30)[:8]) for _ in range(300)]
    texts = [f"one two {text} three four" for text in noise]
    encoder = TfidfEncoder.fit(rows(texts), "text", TextEncoding(kind="tfidf", terms=6))
    assert {"one two", "three four"} < set(encoder.terms)
    np.testing.assert_allclose(encoder.idf[encoder.terms.index("one two")], 1, rtol=1e-6)


ANY = st.lists(
    st.sampled_from([*"abC éΑΣβ Д_0'\u2019-.天气ーกา\n", "‌", "‍", "́", "️", "हि", "न्", "ﬁ", "한", "\U0001d4b3"])
    | st.characters(codec="utf-8"),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=6), st.integers(1, 60))
def test_words_of_many_texts_are_those_of_each(texts, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secateur.trainers.modalities.word_blocks.BYTES", size)
        blocks = list(split(pa.array(texts, pa.large_string())))
    assert [text for block in blocks for text in block.to_pylist()] == texts
    first, found, pairs = 0, [[] for _ in texts], [[] for _ in texts]
    for block in blocks:
        part = words_in(block)
        words = part.words.to_pylist()
        for place, (word, row, linked) in enumerate(zip(words, part.rows.tolist(), part.linked.tolist(), strict=True)):
            found[first + row].append(word)
            pairs[first + row] += [(words[place - 1], word)] if linked else []
        first += len(block)
    for text, own, both in zip(texts, found, pairs, strict=True):
        spaced, sequences = pieces_of(text)
        assert sorted(own) == sorted([*(word for words in spaced for word in words), *sequences])
        assert sorted(both) == sorted(pair for words in spaced for pair in pairwise(words))


PLAIN = st.text(st.sampled_from("aBcéßøŁž ABC\u0391β\u03b3Джи0123456789_'\u2019-.,!?—…\n\t "), max_size=60)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_words_of_scripts_with_spaces_are_those_of_scikit_learn(text):
    analyser = CountVectorizer(ngram_range=(1, 2)).build_analyzer()
    plain = unicodedata.normalize("NFKC", text)
    assert sorted(terms_of(text)) == sorted(analyser(plain))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("हिन्दी में समाचार", ["हिन्दी", "में", "समाचार", "हिन्दी में", "में समाचार"]),
        ("தமிழ் செய்தி", ["தமிழ்", "செய்தி", "தமிழ் செய்தி"]),
        ("العَرَبِيَّة", ["العَرَبِيَّة"]),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"]),
        ("한국어 뉴스", ["한국어", "뉴스", "한국어 뉴스"]),
        ("中文新闻", [*"中文新闻", "中文", "文新", "新闻", "中文新", "文新闻"]),
        ("カード", ["カ", "ー", "ド", "カー", "ード", "カード"]),
        ("ที่นี่", ["ที่", "นี่", "ที่นี่"]),
        ("ພາສາ", ["ພ", "າ", "ສ", "າ", "ພາ", "າສ", "ສາ", "ພາສ", "າສາ"]),
        ("ខ្មែរ", ["ខ្", "មែ", "រ", "ខ្មែ", "មែរ", "ខ្មែរ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ", "မြန်", "န်မာ", "မြန်မာ"]),
        ("买iPhone 15", ["买", "iphone", "15", "iphone 15"]),
        ("❤\ufe0flove❤\ufe0f", ["love"]),
        ("\uff26\uff55\uff4c\uff4c \ufb01ne", ["full", "fine", "full fine"]),
        ("cafe\u0301", ["café"]),
    ],
)
def test_words_keep_their_marks_and_scripts_without_spaces_give_sequences(text, terms):
    assert sorted(terms_of(text)) == sorted(terms)


def test_equal_texts_have_equal_terms_however_they_are_encoded():
    for text in ("ｶｰﾄﾞ", "\ufb01le", "①②③"):
        assert terms_of(text) == terms_of(unicodedata.normalize("NFKC", text))


@pytest.mark.parametrize("language", [["天气很好", "今天下雨", "明天天气"], ["हिन्दी में", "समाचार में", "हिन्दी समाचार"]])
def test_texts_of_other_scripts_have_terms_and_those_without_are_counted(language):
    encoder = TfidfEncoder.fit(rows(language), "text", TFIDF)
    found = encoded_rows(encoder, rows([*language, "nothing known", None]))
    assert (np.linalg.norm(found, axis=1) > 0).tolist() == [True] * 3 + [False] * 2
    np.testing.assert_allclose(np.linalg.norm(found[:3], axis=1), 1, rtol=1e-6)
    assert encoder.facts(rows(language))["share of texts without a term"] == 0
    assert encoder.facts(rows([*language, "nothing known", None]))["share of texts without a term"] == 2 / 5


def test_texts_without_a_word_are_refused():
    with pytest.raises(ValueError, match="'text': no word in the training texts"):
        TfidfEncoder.fit(rows(["?", None]), "text", TFIDF)


def saved_tokenizer(folder, **special):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer([TEXTS], vocabulary=100), **special)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_tokenizer_by_name_gives_the_ids_of_transformers(tmp_path):
    from transformers import AutoTokenizer

    name = saved_tokenizer(tmp_path, pad_token="[PAD]", unk_token="[UNK]")
    encoder = TokenEncoder.fit(rows(TEXTS), "text", TextEncoding(kind="tokens", tokenizer=name, max_length=512))
    reference = AutoTokenizer.from_pretrained(name)(TEXTS, padding=True)["input_ids"]
    np.testing.assert_array_equal(encoded_rows(encoder, rows(TEXTS)), reference)


def test_a_tokenizer_without_padding_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no padding token"):
        load_tokenizer(saved_tokenizer(tmp_path, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"no-such-folder.*cannot be loaded as AutoTokenizer.*leave it out"):
        load_tokenizer(str(tmp_path / "no-such-folder"))
