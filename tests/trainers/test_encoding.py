"""An encoding follows the models that read it, and images keep their pixels."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import encode, encoded_rows, encoding_of
from secateur.trainers.modalities.images import ImageEncoding

MLP, TRANSFORMER, TABULAR = (TrainingConfig(model=name, steps=1) for name in ("mlp", "transformer", "tabular_mlp"))


@pytest.mark.parametrize(
    ("modality", "given", "configs", "encoding"),
    [
        ("text", {}, [MLP, MLP], "tfidf"),
        ("text", {}, [TRANSFORMER, TRANSFORMER], "tokens"),
        ("features", {}, [MLP, MLP], "one_hot"),
        ("features", {}, [TABULAR, TABULAR], "codes"),
        ("features", {"kind": "one_hot"}, [MLP, MLP], "one_hot"),
    ],
)
def test_the_encoding_is_the_one_that_the_models_read(modality, given, configs, encoding):
    assert encoding_of(modality, given, configs).kind == encoding


@pytest.mark.parametrize(
    ("modality", "given", "configs", "message"),
    [
        ("text", {}, [MLP, TRANSFORMER], "'mlp' reads numbers and 'transformer' reads tokens"),
        ("text", {"kind": "tfidf"}, [TRANSFORMER], r"'transformer' reads tokens.*encoded as numbers"),
        ("features", {}, [TRANSFORMER], "'transformer' reads tokens, but a table"),
        ("text", {}, [TABULAR], "'tabular_mlp' reads codes, but a text"),
    ],
)
def test_models_that_disagree_with_the_encoding_are_refused(modality, given, configs, message):
    with pytest.raises(ValueError, match=message):
        encoding_of(modality, given, configs)


def test_the_tokenizer_is_that_of_the_pretrained_weights():
    config = TrainingConfig(model="transformer", model_settings={"pretrained": "some/name", "revision": "v2"}, steps=1)
    encoding = encoding_of("text", {}, [config, config])
    assert (encoding.tokenizer, encoding.revision) == ("some/name", "v2")
    assert encoding_of("text", {"tokenizer": "another"}, [config]).tokenizer == "another"
    with pytest.raises(ValueError, match=r"different weights \(other/name, some/name\)"):
        encoding_of(
            "text",
            {},
            [config, TrainingConfig(model="transformer", model_settings={"pretrained": "other/name"}, steps=1)],
        )


def pictures(*arrays):
    cells = []
    for array in arrays:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    return datasets.Dataset.from_dict(
        {"image": [*cells, {"bytes": b"broken", "path": None}]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_images_keep_their_pixels_and_broken_ones_are_zeros(shape):
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    train, test = pictures(first, second), pictures(second)
    encoded = encode(ImageEncoding(), train, test, ["image"])
    np.testing.assert_array_equal(encoded.inputs, np.stack([first, second, 0 * first]).reshape(3, 5, 7, -1))
    np.testing.assert_array_equal(encoded.test_inputs, np.stack([second, 0 * first]).reshape(2, 5, 7, -1))
    np.testing.assert_array_equal(encoded_rows(encoded.encoder, test), encoded.test_inputs)


def test_images_of_sixteen_bits_are_scaled_and_sizes_can_be_set():
    deep = (np.arange(16, dtype=np.uint16) * 4000).reshape(4, 4)
    rows = pictures(deep)
    expected = deep.astype(np.int64) * 256 // 60000
    np.testing.assert_array_equal(
        encode(ImageEncoding(), rows, rows, ["image"]).inputs[0, :, :, 0], np.minimum(expected, 255)
    )
    assert encode(ImageEncoding(size=(2, 3)), rows, rows, ["image"]).inputs.shape == (2, 2, 3, 1)


def test_nothing_but_broken_images_is_refused():
    with pytest.raises(ValueError, match="'image': no training image can be decoded"):
        encode(ImageEncoding(), pictures(), pictures(), ["image"])
