"""Embeddings equal their definitions in numpy and passes over single rows, and a resumed run gives the same bytes."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.modalities.texts import train_tokenizer
from secateur.trainers.models.registry import build
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 30)
TEXTS = [" ".join(RANDOM.choice(["card", "pin", "lost", "late", "rate", "cash"], 5)) for _ in range(29)] + [None]
TABLE = Data((RANDOM.normal(size=(30, 6)) * [1, 10, 1e5, 1, 1, 1]).astype(np.float32), LABELS, 2)
PICTURES = Data(RANDOM.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8), LABELS, 2)
TOKENS = Data(np.ones((30, 4), np.int32), LABELS, 2, {"kind": "tokens"})


def proxy(**settings):
    model = build(TrainingConfig(steps=1, model_settings=settings), (6,), 2, seed=0)
    model[0].fit(TABLE)
    return model


def whole(settings, data, **others):
    return np.concatenate(list(embed(settings, data, **others)))


def test_proxy_embeddings_are_what_the_classifier_is_fed_with():
    model = proxy(hidden=[5])
    found = whole(EmbeddingSettings(block=8, batch_size=3), TABLE, model=model)
    with torch.no_grad():
        expected = model[1][:-1](model[0](torch.tensor(TABLE.inputs)))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=1e-3)


def gram(vectors):
    """Inner products, which are invariant under the signs of components."""
    return vectors.astype(np.float64) @ vectors.T.astype(np.float64)


def test_tables_and_images_are_projected_on_their_principal_components():
    for data, scale in ((TABLE, TABLE.inputs.std(axis=0, dtype=np.float64)), (PICTURES, 255)):
        values = data.inputs.reshape(30, -1) / scale
        values -= values.mean(axis=0)
        left, singular, _ = np.linalg.svd(values, full_matrices=False)
        expected = (left * singular)[:, :3]
        found = whole(EmbeddingSettings(kind="sklearn", dimensions=3, block=7), data)
        assert found.shape == (30, 3)
        np.testing.assert_allclose(gram(found), gram(expected), atol=5e-3 * np.abs(gram(expected)).max())


def test_texts_are_projected_on_the_singular_vectors_of_their_tfidf():
    weights = TfidfVectorizer(sublinear_tf=True).fit_transform([text or "" for text in TEXTS]).toarray()
    left, singular, _ = np.linalg.svd(weights, full_matrices=False)
    found = whole(EmbeddingSettings(kind="sklearn", dimensions=2, block=7), TOKENS, texts=TEXTS)
    np.testing.assert_allclose(gram(found), gram((left * singular)[:, :2]), atol=5e-3)
    assert not found[29].any()


def test_texts_of_every_script_have_vectors():
    texts = ["हिन्दी में", "समाचार में", "天气很好", "今天天气", "สวัสดี", "สวัสดีครับ", "plain words", "other words"]
    data = Data(np.ones((8, 4), np.int32), LABELS[:8], 2, {"kind": "tokens"})
    found = whole(EmbeddingSettings(kind="sklearn", dimensions=4), data, texts=texts).astype(np.float64)
    near = found @ found.T
    np.fill_diagonal(near, -1)
    assert near.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_codes_are_spelled_out_before_their_components_are_taken():
    codes = np.stack([RANDOM.normal(size=30), RANDOM.integers(1, 4, 30)], axis=1).astype(np.float32)
    data = Data(codes, LABELS, 2, {"kind": "codes", "categories": [0, 4]})
    renamed = codes.copy()
    renamed[:, 1] = np.array([0, 3, 1, 2])[codes[:, 1].astype(int)]
    other = Data(renamed, LABELS, 2, data.model_settings)
    settings = EmbeddingSettings(kind="sklearn", dimensions=4)
    np.testing.assert_allclose(gram(whole(settings, data)), gram(whole(settings, other)), atol=0.03)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    trained = train_tokenizer([[text or "" for text in TEXTS]], vocabulary=64)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    model = BertModel(
        BertConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    ).eval()
    model.save_pretrained(folder)
    return str(folder), tokenizer, model


def test_an_encoder_averages_over_the_tokens_of_each_text(bert):
    folder, tokenizer, model = bert
    found = whole(EmbeddingSettings(kind="encoder", encoder=folder, block=8, batch_size=3), TOKENS, texts=TEXTS)
    with torch.no_grad():
        for text, vector in zip(TEXTS, found, strict=True):
            batch = tokenizer(text or "", return_tensors="pt")
            expected = model(**batch).last_hidden_state[0].mean(dim=0)
            np.testing.assert_allclose(vector, expected.numpy(), rtol=2e-3, atol=2e-3)


def test_an_encoder_of_images_gives_its_pooled_output(tmp_path):
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    model = ViTModel(
        ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
        )
    ).eval()
    model.save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    processor.save_pretrained(tmp_path)
    found = whole(EmbeddingSettings(kind="encoder", encoder=str(tmp_path), batch_size=7), PICTURES)
    pixels = torch.tensor(PICTURES.inputs).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = model(((pixels - 0.5) / 0.5).repeat(1, 3, 1, 1)).pooler_output
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=2e-3)


def test_a_resumed_run_gives_the_same_bytes(bert):
    model = proxy()
    for settings, data, others in (
        (EmbeddingSettings(block=8), TABLE, {"model": model}),
        (EmbeddingSettings(kind="sklearn", block=8, fit_rows=12), TABLE, {}),
        (EmbeddingSettings(kind="sklearn", block=8, fit_rows=12), TOKENS, {"texts": TEXTS}),
        (EmbeddingSettings(kind="encoder", encoder=bert[0], block=8), TOKENS, {"texts": TEXTS}),
    ):
        rest = np.concatenate(list(embed(settings, data, start=16, **others)))
        assert rest.tobytes() == whole(settings, data, **others)[16:].tobytes()


def test_what_is_missing_or_does_not_fit_is_said():
    with pytest.raises(ValueError, match="need the proxy model"):
        embed(EmbeddingSettings(), TABLE)
    with pytest.raises(ValueError, match="need texts or images"):
        embed(EmbeddingSettings(kind="encoder", encoder="x"), TABLE)
    with pytest.raises(ValueError, match="need the texts"):
        embed(EmbeddingSettings(kind="sklearn"), TOKENS)
    with pytest.raises(ValueError, match="29 texts for 30 samples"):
        embed(EmbeddingSettings(kind="sklearn"), TOKENS, texts=TEXTS[1:])
    with pytest.raises(ValueError, match="start 5 is not at the beginning"):
        embed(EmbeddingSettings(block=8), TABLE, start=5)
    with pytest.raises(ValueError, match="encoder: name one"):
        EmbeddingSettings(kind="encoder")
    model = proxy()
    far = Data(np.where(np.arange(30)[:, None] == 4, 1e12, TABLE.inputs).astype(np.float32), LABELS, 2)
    with pytest.raises(ValueError, match="beyond float16, at row 4"):
        whole(EmbeddingSettings(), far, model=model)
