"""Copies of pictures: re-encoded, resized, brightened and cropped ones are found, others are not."""

import io
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from secateur.scorers.copies import pictures
from secateur.scorers.copies.pictures import picture_copies
from secateur.scorers.copies.points import row_keys
from secateur.scorers.copies.thumbnails import SIDE, VIEWS, Thumbnails, crop_map, raw_views, thumbnails

Change = Callable[[Image.Image], Image.Image]


def scenes(count: int, side: int = 32, seed: int = 0) -> list[Image.Image]:
    """Smooth colour fields, each with a few rectangles."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        coarse = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        pixels = np.array(image)
        for _ in range(4):
            x, y, wide, high = random.integers(2, side - 4, 4)
            pixels[y : y + high // 2, x : x + wide // 2] = random.integers(0, 255, 3)
        made.append(Image.fromarray(pixels))
    return made


def encoded(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return Image.open(io.BytesIO(buffer.getvalue()))


def cropped(image: Image.Image) -> Image.Image:
    wide, high = image.size
    return image.crop((2, 0, wide, high - 2)) if wide > 39 else image.crop((1, 1, wide, high))


CHANGES: dict[str, Change] = {
    "encoded": encoded,
    "cropped": cropped,
    "enlarged": lambda image: image.resize((2 * image.width, 2 * image.height)),
    "reduced": lambda image: image.resize((image.width * 3 // 4, image.height * 3 // 4)),
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
}


def test_changed_pictures_are_found_and_others_are_not() -> None:
    base = scenes(500)
    copies = [
        change(image) for place, change in enumerate(CHANGES.values()) for image in base[place * 8 : place * 8 + 8]
    ]
    part = np.array([0] * 500 + [1] * 40, np.int16)
    found = picture_copies([*base, *copies], part)[0]
    for place, name in enumerate(CHANGES):
        rows = np.arange(500 + place * 8, 508 + place * 8)
        assert (found.across[rows] == rows - 500).mean() >= 0.9, name
    assert (found.group[40:500] >= 0).mean() <= 0.01
    assert "flipped" in found.reason


def test_what_jpeg_adds_to_smooth_pictures_does_not_hide_copies() -> None:
    """Four by four colours have 48 numbers; what else varies is rounding, and what JPEG changes."""
    coarse = np.random.default_rng(0).integers(0, 255, (600, 4, 4, 3), dtype=np.uint8)
    base = [Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC) for each in coarse]
    part = np.array([0] * 600 + [1] * 12, np.int16)
    found = picture_copies([*base, *map(encoded, base[:12])], part)[0]
    assert (found.across[600:] == np.arange(12)).all()
    assert (found.group[12:600] >= 0).mean() <= 0.01


def test_a_cluster_of_150_is_found_whole_and_across() -> None:
    base = scenes(300)
    copies = [ImageEnhance.Brightness(base[5]).enhance(0.95 + place / 1500) for place in range(149)]
    found = picture_copies([*base, *copies], np.array([0] * 300 + [1] * 149, np.int16))[0]
    assert (found.group == 5).sum() == 150
    assert (found.group >= 0).sum() == 150
    assert (found.across[300:] == 5).all()


def test_order_of_pictures_changes_nothing() -> None:
    base = scenes(200)
    both = [*base, *map(encoded, base[:20])]
    order = np.random.default_rng(0).permutation(len(both))
    one = picture_copies(both, np.zeros(220, np.int16))[0]
    other = picture_copies([both[row] for row in order], np.zeros(220, np.int16))[0]
    assert one.threshold == pytest.approx(other.threshold, rel=1e-5)
    np.testing.assert_array_equal(one.group[order] >= 0, other.group >= 0)
    np.testing.assert_allclose(one.similarity[order], other.similarity, rtol=1e-5)


def test_equal_pixels_blank_and_few_pictures() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = picture_copies(
        [grey, grey[..., None], Image.fromarray(grey), np.zeros((8, 8, 3), np.uint8)], np.array([0, 1, 0, 0], np.int16)
    )
    assert found[0].group.tolist() == [0, 0, 0, -1]
    assert found[0].stays.tolist() == [False, True, False, True]
    blank = [np.full((9, 9), value, np.uint8) for value in range(60)]
    assert (picture_copies(blank, np.zeros(60, np.int16))[0].group == -1).all()


def test_vectors_are_a_second_measure() -> None:
    base = scenes(60)
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    vectors[7] = vectors[3]
    names = [found.measure for found in picture_copies(base, np.zeros(60, np.int16), vectors=vectors)]
    assert names == ["look of pictures", "embeddings"]


def test_views_are_what_pil_makes_of_crops() -> None:
    pixels = thumbnails(scenes(1)).pixels
    views = raw_views(pixels)
    assert views.shape == (1, VIEWS, 3 * 14 * 14)
    for place, box in (
        (0, (0.0, 0.0, 1.0, 1.0)),
        (1, (0.05, 0.05, 0.95, 0.95)),
        (2 + 5 * 3 + 1, (0.0125, 0.0375, 0.9625, 0.9875)),
    ):
        left, top, right, bottom = (SIDE * at for at in box)
        parts = [
            np.asarray(
                Image.fromarray(pixels[0, :, :, channel].astype(np.float32)).resize(
                    (14, 14), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
                )
            )
            for channel in range(3)
        ]
        flat = np.stack(parts).ravel()
        flat = flat - flat.mean()
        assert float(views[0, place] @ flat) / np.linalg.norm(flat) > 0.9999
    np.testing.assert_allclose(crop_map(0.0, 1.0).sum(axis=1), 1, rtol=1e-5)


def test_wrong_pictures_are_named() -> None:
    with pytest.raises(ValueError, match="picture 1 is float64"):
        thumbnails([np.zeros((2, 2), np.uint8), np.zeros((2, 2))])
    with pytest.raises(ValueError, match="picture 0 is a str"):
        thumbnails(["a.png"])
    with pytest.raises(ValueError, match="1 pictures but 2"):
        picture_copies(scenes(1), np.zeros(2, np.int16))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows(rows: int) -> None:
    part = np.zeros(rows, np.int16)
    for found in picture_copies(scenes(1) * rows, part):
        assert found.group.tolist() == [[], [-1], [0, 0]][rows]
        assert found.partner.tolist() == [[], [-1], [1, 0]][rows]


def test_memory_grows_with_pictures_and_not_with_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of the pictures are one cluster: 3.5 million pairs of 16 bytes each. The only view is a line of the
    picture, for crops take milliseconds a picture."""
    random, rows = np.random.default_rng(0), 4000
    pixels = np.zeros((rows, SIDE, SIDE, 1), np.uint8)
    pixels[:, 0, :, 0] = random.integers(0, 250, (rows, SIDE))
    pixels[: 2 * rows // 3, 0, :, 0] = pixels[0, 0, :, 0] + random.integers(0, 3, (2 * rows // 3, SIDE))

    class Flat:
        def views(self, some: np.ndarray) -> np.ndarray:
            line = some[:, 0, :, 0].astype(np.float32)
            own = line[:, :16] - line[:, 16:]
            return np.asarray((own / np.linalg.norm(own, axis=1, keepdims=True))[:, None])

    monkeypatch.setattr(pictures, "look_of", lambda _: Flat())
    monkeypatch.setattr(pictures, "ASKED", (0,))
    monkeypatch.setattr(pictures, "SAMPLE", 256)
    small = Thumbnails(pixels, row_keys(pixels))
    picture_copies(small.take(np.arange(200)), np.zeros(200, np.int16))  # libraries that load count nothing
    tracemalloc.start()
    [found] = picture_copies(small, (np.arange(rows) % 3).astype(np.int16))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(found.group[: 2 * rows // 3])) == 1
    assert len(found.between) >= 2 * rows // 9
    assert most < 40e6 < 16 * (2 * rows // 3) ** 2 / 2
