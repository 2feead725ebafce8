"""Texts become token ids by a tokenizer that is the same in every process, or TF-IDF as scikit-learn has it."""

import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from secateur.trainers.modalities.texts import TextEncoding, TfidfEncoder, TokenEncoder, load_tokenizer, train_tokenizer

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
    ids = encoder.encode(rows(TEXTS))
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
    ids = encoder.encode(split)
    assert ids.shape == (4, 5)
    assert encoder.tokenizer.id_to_token(ids[0, -1]) == "[SEP]"
    assert encoder.facts(split) == {"length": 5, "share of texts cut": 0.5}
    short = TokenEncoder.fit(rows(["a b"] * 3), "text", TextEncoding(kind="tokens", vocabulary=64))
    assert short.length == 4  # no wider than the longest training text


@pytest.mark.parametrize(("kind", "encoding"), [(TokenEncoder, TOKENS), (TfidfEncoder, TFIDF)])
def test_missing_texts_are_empty_and_encoders_say_what_they_learned(kind, encoding, tmp_path):
    encoder = kind.fit(rows(TEXTS), "text", encoding)
    split = rows([*TEXTS, None, "", "unheard-of Ωords"])
    found = encoder.encode(split)
    np.testing.assert_array_equal(found[4], found[5])
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "encoding.json").read_text())["column"] == "text"


def test_tfidf_is_that_of_scikit_learn():
    reference = TfidfVectorizer(max_features=9, ngram_range=(1, 2), sublinear_tf=True).fit(TEXTS)
    found = TfidfEncoder.fit(rows(TEXTS), "text", TextEncoding(kind="tfidf", terms=9)).encode(rows(TEXTS[::-1]))
    np.testing.assert_allclose(found, reference.transform(TEXTS[::-1]).toarray(), rtol=1e-6)


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
    encoder = TokenEncoder.fit(rows(TEXTS), "text", TextEncoding(kind="tokens", tokenizer=name))
    reference = AutoTokenizer.from_pretrained(name)(TEXTS, padding=True)["input_ids"]
    np.testing.assert_array_equal(encoder.encode(rows(TEXTS)), reference)


def test_a_tokenizer_without_padding_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no padding token"):
        load_tokenizer(saved_tokenizer(tmp_path, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"no-such-folder.*cannot be loaded as AutoTokenizer.*leave it out"):
        load_tokenizer(str(tmp_path / "no-such-folder"))
