"""Kept decoded pictures have the same encoding as pictures decoded again, in order, for any number of threads."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from secateur.trainers.modalities import seen_pictures as seen
from secateur.trainers.modalities.encoding import encoded_rows, fit_encoder
from secateur.trainers.modalities.images import ImageEncoding

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class Held:
    """A table in batches of three rows, with or without the columns of decoded pictures."""

    def __init__(self, table):
        self.table, self.schema = table, table.schema

    def __len__(self):
        return self.table.num_rows

    def batches(self, names):
        for start in range(0, len(self), 3):
            yield self.table.slice(start, 3).select(list(names))


def saved(picture, kind="PNG"):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def drawn(*sizes, mode="L", kind="PNG"):
    random = np.random.default_rng(0)
    shapes = [(*size, 3) if mode == "RGB" else size for size in sizes]
    if mode == "I":
        return [saved(Image.fromarray(random.integers(0, 60_000, shape).astype(np.uint16))) for shape in shapes]
    return [saved(Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)), kind) for shape in shapes]


def table_of(files):
    cells = pa.array([None if file is None else {"bytes": file, "path": None} for file in files], CELL)
    return pa.table({"image": pa.chunked_array([cells])})


def with_seen(table):
    for name, values in seen.columns_of(list(seen.seen_pictures(table["image"]))).items():
        table = table.append_column(name, values)
    return table


def test_no_pictures_have_columns_too():
    columns = seen.columns_of([])
    assert {name: len(values) for name, values in columns.items()} == dict.fromkeys(seen.KEPT, 0)
    assert [kind.type for kind in columns.values()] == [pa.string(), pa.int32(), pa.int32(), pa.large_binary()]


MIXED = [*drawn((5, 7)), b"broken", None, *drawn((5, 7), (9, 4), mode="RGB"), saved(Image.new("P", (7, 5), 3))]
CASES = {
    "grey of one size": drawn(*[(5, 7)] * 8),
    "colour of one size": drawn(*[(5, 7)] * 8, mode="RGB"),
    "of several kinds": MIXED,
    "deep": drawn(*[(5, 7)] * 4, (3, 3), mode="I"),
    "large ones beside small ones": [*drawn((5, 7)), *drawn((80, 90), (5, 7), mode="RGB", kind="JPEG")],
}


@pytest.mark.parametrize("files", CASES.values(), ids=CASES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [None, (6, 6)])
def test_pixels_that_were_kept_are_those_of_the_files(files, threads, size, monkeypatch):
    monkeypatch.setattr(seen, "LARGE", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(threads), raising=False)
    plain = Held(table_of(files))
    known = Held(with_seen(plain.table))
    encoder = fit_encoder(ImageEncoding(size=size), plain, ["image"])
    assert fit_encoder(ImageEncoding(size=size), known, ["image"]) == encoder
    np.testing.assert_array_equal(encoded_rows(encoder, known), encoded_rows(encoder, plain))


def test_nothing_is_decoded_again(monkeypatch):
    known = Held(with_seen(table_of(CASES["of several kinds"][:1] * 5)))
    monkeypatch.setattr(seen, "decoded", lambda cell: pytest.fail("decoded again"))
    monkeypatch.setattr("secateur.trainers.modalities.decoding.decoded", lambda cell: pytest.fail("decoded again"))
    assert encoded_rows(fit_encoder(ImageEncoding(), known, ["image"]), known).shape == (5, 5, 7, 1)


def test_pixels_that_take_much_more_room_than_their_file_are_not_kept():
    flat, noisy = saved(Image.new("L", (120, 120))), drawn((120, 120))[0]
    kept = with_seen(table_of([flat, noisy, *drawn((400, 400)), None]))
    assert [pixels is not None for pixels in kept[seen.PIXELS].to_pylist()] == [False, True, False, False]
    assert kept[seen.MODE].to_pylist() == ["L", "L", "L", None]


@pytest.mark.parametrize("threads", [1, 4])
def test_results_are_in_the_order_of_the_pictures(threads, monkeypatch):
    monkeypatch.setattr(seen, "LARGE", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(threads), raising=False)
    cells = [{"bytes": bytes([number]), "path": None} for number in range(200)]
    assert list(seen.in_order(lambda cell: cell["bytes"][0], cells)) == list(range(200))
    assert list(seen.in_order(lambda own, cell: own - cell["bytes"][0], cells, range(200))) == [0] * 200
