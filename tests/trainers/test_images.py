"""Pictures become arrays with the same content, in any mode and depth."""

import io
import json
import struct
import zlib

import datasets
import numpy as np
import pytest
from PIL import Image

from secateur.trainers.modalities.decoding import decode_image, image_or_fault, mode_in_header
from secateur.trainers.modalities.encoding import blocks_of, encode, encoded_rows, fit_encoder
from secateur.trainers.modalities.images import ImageEncoding
from secateur.trainers.modalities.rows import RowFault

RANDOM = np.random.default_rng(0)


def saved(picture, kind="PNG", **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def rows(*cells):
    cells = [{"bytes": cell, "path": None} if isinstance(cell, bytes) else cell for cell in cells]
    return datasets.Dataset.from_dict(
        {"image": cells}, features=datasets.Features({"image": datasets.Image(decode=False)})
    )


def pixels(train, test=None):
    return encode(ImageEncoding(), train, test or train, ["image"])


def flat(*colour):
    return np.full((8, 8, len(colour)), colour, np.uint8)


def test_one_grey_picture_among_colours_does_not_take_the_colours():
    found = pixels(rows(*map(saved, [flat(120)[..., 0], *[flat(255, 0, 0)] * 5, *[flat(0, 130, 0)] * 6]))).inputs
    assert found.shape == (12, 8, 8, 3)
    np.testing.assert_array_equal(found[:, 0, 0], [[120] * 3, *[[255, 0, 0]] * 5, *[[0, 130, 0]] * 6])


@pytest.mark.parametrize("number", [0, 3])
def test_one_colour_among_greys_gives_three_channels_whichever_row_it_is(number):
    shown = [flat(90)[..., 0]] * 4
    shown[number] = flat(1, 2, 3)
    found = pixels(rows(*map(saved, shown))).inputs
    assert found[:, 0, 0].tolist() == [[1, 2, 3] if place == number else [90] * 3 for place in range(4)]


def pgm(values):
    return b"P5\n%d %d\n65535\n" % values.shape[::-1] + values.astype(">u2").tobytes()


def tiff(values):
    return saved(values, "TIFF")


@pytest.mark.parametrize("written", [saved, pgm, tiff, lambda values: tiff(values.astype(np.int32))])
@pytest.mark.parametrize(
    ("high", "expected"),
    [(256, lambda v: v), (4096, lambda v: v * 256 // 4095), (65536, lambda v: v >> 8)],
    ids=["8 bits in 16", "12 bits in 16", "16 bits"],
)
def test_whole_numbers_are_scaled_by_their_real_range(written, high, expected):
    values = RANDOM.integers(0, high, (6, 8, 8)).astype(np.uint16)
    values[0, 0, :2] = 0, high - 1
    found = pixels(rows(*map(written, values))).inputs[..., 0]
    np.testing.assert_array_equal(found, np.minimum(expected(values.astype(np.int64)), 255))


def test_floats_and_signed_numbers_are_scaled_by_their_real_range():
    values = RANDOM.normal(0, 1e-3, (6, 8, 8)).astype(np.float32)
    found = pixels(rows(*map(tiff, values))).inputs[..., 0]
    low, high = values.min().astype(float), values.max().astype(float)
    np.testing.assert_array_equal(found, np.minimum((values.astype(float) - low) / (high - low) * 256, 255).astype(int))
    signed = RANDOM.integers(-5000, 5000, (4, 8, 8)).astype(np.int32)
    found = pixels(rows(*map(tiff, signed))).inputs[..., 0].reshape(-1).astype(int)
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found[np.argsort(signed.reshape(-1))]) >= 0).all()


def test_the_range_is_that_of_the_training_rows_and_is_said(tmp_path):
    train, test = np.array([[[0, 100]], [[50, 1000]]], np.uint16), np.array([[[500, 60000]]], np.uint16)
    encoder = fit_encoder(ImageEncoding(), rows(*map(saved, train)), ["image"])
    assert encoder.facts(rows()) == {"range of whole numbers of 16 or 32 bits": [0.0, 1000.0]}
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "encoding.json").read_text())["ranges"] == {"I": [0.0, 1000.0]}
    assert encoded_rows(encoder, rows(*map(saved, test))).tolist() == [[[[128], [255]]]]


def test_a_depth_that_training_never_had_is_refused_by_name():
    test = rows({"bytes": saved(np.zeros((4, 4), np.uint16)), "path": "deep.png"})
    with pytest.raises(ValueError, match=r"'image' holds whole numbers.* in 'deep.png' at row 0: .*values of 8 bits"):
        pixels(rows(saved(np.zeros((4, 4), np.uint8))), test)


@pytest.mark.parametrize("order", [[0, 0, 1], [1, 1, 0], [1, 1, 2], [2, 2, 0]])
def test_the_same_scene_at_two_depths_is_refused_by_row(order):
    """Scaled by their full range in 8 bits and by their actual range otherwise, equal scenes would differ."""
    scene = np.array([[40, 90]])
    depths = [saved(scene.astype(np.uint8)), saved((scene * 257).astype(np.uint16)), tiff(scene.astype(np.float32))]
    with pytest.raises(RowFault, match=r"column 'image' holds .* at row 2: training images hold .* do not compare"):
        pixels(rows(*(depths[kind] for kind in order)))
    with pytest.raises(RowFault, match=r"at row 1: training images hold"):
        pixels(rows(depths[order[0]]), rows(depths[order[0]], depths[order[2]]))


@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tif")])
def test_several_frames_are_a_fault_and_one_is_none(kind, suffix):
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (0, 120, 250)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    fault = image_or_fault({"bytes": file.getvalue(), "path": f"a.{suffix}"})
    assert fault == f"image 'a.{suffix}' holds 3 frames, of which one would be read: save the one that counts"
    assert not isinstance(image_or_fault({"bytes": saved(frames[0], kind), "path": None}), str)


def test_the_preview_in_a_phones_picture_is_no_frame():
    file = io.BytesIO()
    picture = Image.fromarray(np.full((16, 16, 3), 100, np.uint8))
    picture.save(file, "MPO", save_all=True, append_images=[picture.resize((8, 8))])
    assert image_or_fault({"bytes": file.getvalue(), "path": None}).size == (16, 16)


def png_of_16_bits(colours, kind):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in colours)
    head = struct.pack(">IIBBBBB", *colours.shape[1::-1], 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    "data",
    [
        png_of_16_bits(np.zeros((4, 4, 3)), 2),
        png_of_16_bits(np.zeros((4, 4, 4)), 6),
        png_of_16_bits(np.zeros((4, 4, 2)), 4),
        b"P6\n2 2\n4095\n" + bytes(24),
    ],
)
def test_colours_of_16_bits_are_refused_for_pillow_would_halve_them(data):
    assert "has colours of 16 bits" in image_or_fault({"bytes": data, "path": None})


def test_numbers_that_pillow_reads_as_others_are_refused():
    infinite = tiff(np.array([[0, np.inf]], np.float32))
    assert "infinite or no numbers" in image_or_fault({"bytes": infinite, "path": None})
    large = tiff(np.array([[-1, 5]], np.int32))
    assert image_or_fault({"bytes": large, "path": None}).getextrema() == (-1, 5)
    # The same file with tag 339 for unsigned numbers: -1 is 4294967295.
    unsigned = large.replace(struct.pack("<HHII", 339, 3, 1, 2), struct.pack("<HHII", 339, 3, 1, 1))
    assert unsigned != large
    assert "whole numbers from 2^31 on" in image_or_fault({"bytes": unsigned, "path": None})


def test_bombs_are_faults_of_their_row(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (11, 15):  # Beyond the limit, and beyond twice the limit.
        fault = image_or_fault({"bytes": saved(np.zeros((side, side), np.uint8)), "path": "bomb.png"})
        assert fault == "image 'bomb.png' unpacks to more than 100 pixels: scale it down"
    found = pixels(rows(saved(np.full((9, 9), 3, np.uint8)), saved(np.ones((15, 15), np.uint8)))).inputs
    assert [np.unique(image).tolist() for image in found] == [[3], [0]]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image({"bytes": saved(np.ones((15, 15), np.uint8)), "path": None}).size == (15, 15)


@pytest.mark.parametrize("cut", [8, 20, 150])
def test_a_file_that_begins_as_a_png_and_ends_early_is_a_fault_of_its_row(cut):
    whole = saved(np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8))
    assert image_or_fault({"bytes": whole[:cut], "path": None}) == "image cannot be decoded"
    assert mode_in_header({"bytes": whole[: min(cut, 20)], "path": None}) is None


def test_remarks_of_pillow_are_not_printed_for_each_picture(recwarn):
    broken = tiff(np.zeros((2, 2), np.uint16)).replace(
        struct.pack("<HHI", 258, 3, 1), struct.pack("<HHI", 258, 3, 9999)
    )
    with pytest.warns(UserWarning, match="Skipping tag"):
        Image.open(io.BytesIO(broken))
    before = len(recwarn)
    image_or_fault({"bytes": broken, "path": None})
    mode_in_header({"bytes": broken, "path": None})
    assert len(recwarn) == before


def bars(upright, colour, ground=(9, 9, 9)):
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[..., :3] = ground
    picture[(slice(None), slice(3, 5)) if upright else (slice(3, 5), slice(None))] = [*colour, 255]
    return picture


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (250, 240, 245), (255, 255, 0), (128, 128, 128)])
def test_bars_on_transparent_ground_are_two_pictures(colour):
    upright, across = (decode_image({"bytes": saved(bars(way, colour)), "path": None}) for way in (True, False))
    assert upright.mode == across.mode == "RGB"
    first, second = np.asarray(upright).astype(int), np.asarray(across).astype(int)
    np.testing.assert_array_equal(first[:, 3:5], np.broadcast_to(colour, (8, 2, 3)))
    ground = first[0, 0]
    np.testing.assert_array_equal(second[3:5], np.broadcast_to(colour, (2, 8, 3)))
    assert np.abs(ground - colour).max() >= 100
    assert (first != second).any()
    if min(colour) < 200:
        assert ground.tolist() == [255] * 3


def test_white_with_black_on_transparent_ground_shows_both():
    picture = bars(True, (255, 255, 255))
    picture[:, 3, :3] = 0
    shown = np.asarray(decode_image({"bytes": saved(picture), "path": None}))
    assert shown[0, :6, 0].tolist() == [128, 128, 128, 0, 255, 128]


def test_what_is_invisible_changes_nothing_and_opaque_pictures_stay_as_they_are():
    shown = [
        decode_image({"bytes": saved(bars(True, (0, 0, 0), hidden)), "path": None})
        for hidden in (flat(1, 2, 3)[0, 0], flat(255, 255, 255)[0, 0])
    ]
    assert shown[0].tobytes() == shown[1].tobytes()
    colours = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    opaque = np.dstack([colours, np.full((5, 7), 255, np.uint8)])
    np.testing.assert_array_equal(np.asarray(decode_image({"bytes": saved(opaque), "path": None})), colours)


def test_half_transparent_pictures_are_composited_as_pillow_does():
    colours = RANDOM.integers(0, 200, (16, 16, 4), dtype=np.uint8)
    colours[..., 3] = RANDOM.integers(0, 256, (16, 16))
    ground = Image.new("RGBA", (16, 16), (255, 255, 255, 255))
    expected = np.asarray(Image.alpha_composite(ground, Image.fromarray(colours)).convert("RGB")).astype(int)
    found = np.asarray(decode_image({"bytes": saved(colours), "path": None})).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_grey_and_palette_transparency_count():
    grey = np.zeros((4, 4, 2), np.uint8)
    grey[1, 1] = 40, 255
    shown = decode_image({"bytes": saved(Image.fromarray(grey)), "path": None})
    assert (shown.mode, shown.getpixel((1, 1)), shown.getpixel((0, 0))) == ("L", 40, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.putpixel((2, 2), 1)
    shown = decode_image({"bytes": saved(palette, transparency=0), "path": None})
    assert (shown.mode, shown.getpixel((2, 2)), shown.getpixel((0, 0))) == ("RGB", (0, 0, 200), (255, 255, 255))
    keyed = saved(Image.new("L", (2, 2), 5), transparency=5)
    assert decode_image({"bytes": keyed, "path": None}).getextrema() == (255, 255)


def test_every_other_mode_is_grey_or_colour():
    colours = Image.fromarray(RANDOM.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    for picture, mode in ((colours.convert("CMYK"), "RGB"), (colours.convert("1"), "L"), (colours.convert("P"), "RGB")):
        shown = decode_image({"bytes": saved(picture, "TIFF"), "path": None})
        assert (shown.mode, shown.tobytes()) == (mode, picture.convert(mode).tobytes())


def test_blocks_are_bounded_and_together_all_rows(monkeypatch):
    shown = [np.full((4, 4), number, np.uint8) for number in range(10)]
    split = rows(*map(saved, shown))
    encoder = fit_encoder(ImageEncoding(), split, ["image"])
    monkeypatch.setattr("secateur.trainers.modalities.encoding.BLOCK", 3 * 16)
    blocks = list(blocks_of(encoder, split))
    assert [(start, len(block)) for start, block in blocks] == [(0, 3), (3, 3), (6, 3), (9, 1)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks])[..., 0], shown)
