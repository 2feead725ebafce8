"""Identity of a sample, whatever file it lies in: hashes of the model's input and of the target.

`input_hash` is of the input, `content_hash` of input and target; both are the xxh3-128 of canonical bytes, which follow
from the typed, decoded value before any fitted encoding:

- image: size, mode and pixels as `decode_image` gives them (upright, palettes expanded, composited), so a re-encoded
  picture keeps its hash; bytes that are no picture stand for themselves;
- text: UTF-8 of its NFC form; a missing text differs from an empty one;
- features: name and typed value of each column, in the order of the names. Numbers count by value, so 1 equals 1.0
  whatever its width, and -0.0 equals 0.0; true and 1 are two values; NaN is a missing value like null, and so is a
  blank text. Spaces around a text do not count, as in the encoding; a text that spells a number or a boolean (1, 1.0,
  True) equals it, for a CSV cannot tell them apart, and 01 is another text;
- target: a class by the text of its label (`label_text`), where all spellings of a number or a boolean are equal;
  numbers as float64; a set of labels by their texts; a missing target as missing.

So a hash is the same for Parquet, CSV and JSON lines that hold the same values, in any order of rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import polars_hash as plh
import pyarrow as pa
import xxhash
from jaxtyping import Bool, UInt64

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.types import canonical, is_list, series_of, shown_type
from secateur.pipelines.files.contents import content_of
from secateur.trainers.modalities.spellings import one_spelling, text_of_number

if TYPE_CHECKING:
    from secateur.trainers.modalities.seen_pictures import SeenPicture

MISSING, FALSE, TRUE, NUMBER, INTEGER, TEXT, SET = range(7)
"""Kind of a cell: the first byte of its canonical form, before a word of 8 bytes."""
STEP = 0x9E3779B97F4A7C15
"""An odd number; its odd multiples are the factors for the places of texts in a row."""

BYTES = "secateur:bytes"
"""Column of the digest of each picture's file, see `encoded_digests`."""

Hashes = UInt64[np.ndarray, "n 2"]
"""xxh3-128 of each row: its upper and its lower half."""


@dataclass(frozen=True)
class Cells:
    """Values of a column in canonical form: kinds uint8 `[n]`, or one for all, words uint64 `[n]`, and, for hashed
    values, the upper half of the hash, uint64 `[n]`.
    """

    kinds: np.ndarray | int
    words: np.ndarray
    uppers: np.ndarray | None = None


def input_hashes(table: pa.Table, columns: Columns) -> tuple[Hashes, pl.Series]:
    """Hashes of the inputs of a batch, and faults String `[n]`: the reason why no model can read a row, or null.

    Raises ValueError for a feature column that holds neither numbers, booleans nor texts.
    """
    if columns.image is not None:
        return image_hashes(table[columns.image])
    # Texts count letter by letter, categories as the encoding reads them.
    names, texts = (columns.texts or sorted(columns.inputs)), [series_of(table[name]) for name in columns.texts]
    cells = list(map(text_cells, texts)) or [cells_of(table[name], name) for name in names]
    head = columns.kind.encode() + b"".join(sized(name.encode()) for name in names if columns.features is not None)
    if not texts:
        absent = np.logical_and.reduce([np.broadcast_to(part.kinds == MISSING, table.num_rows) for part in cells])
        wrong = [(absent, "every feature is missing")] if absent.any() else []
        for name in names:
            if pa.types.is_floating(table[name].type):
                infinite = series_of(table[name]).is_infinite()
                wrong += [(infinite, f"feature column {name!r} is infinite")] if infinite.any() else []
        faults = pl.Series([None], dtype=pl.String).new_from_index(0, table.num_rows)
        if wrong:
            said = [pl.when(pl.Series(mask)).then(pl.lit(text)) for mask, text in wrong]
            faults = pl.select(pl.coalesce(said)).to_series()
    else:
        # The last is the text, the completion or the conversation; a prompt may be empty.
        held, word = texts[-1], {"messages": "conversation"}.get(columns.kind, columns.kind)
        # Empty, or white space alone: stripping every text would copy all of them.
        empty = pl.when(~held.cast(pl.String).str.contains(r"\S")).then(pl.lit(f"{word} is empty"))
        faults = pl.select(pl.when(held.is_null()).then(pl.lit(f"{word} is missing")).otherwise(empty)).to_series()
    return hashes_of_cells(head, cells, table.num_rows), faults.cast(pl.String)


def content_hashes_of(inputs: Hashes, table: pa.Table, columns: Columns, names: Mapping[str, Sequence[str]]) -> Hashes:
    """Hashes of input and target; `names` are a file's class names, by column of class numbers."""
    given = [Cells(TEXT, inputs[:, 1], inputs[:, 0])]
    return hashes_of_cells(b"target", [*given, *target_cells(table, columns, names)], len(inputs))


def target_cells(table: pa.Table, columns: Columns, names: Mapping[str, Sequence[str]]) -> list[Cells]:
    """The target of each row as cells."""
    if columns.target == "numbers":
        return [part for name in columns.labels for part in number_cells(table[name], name)]
    if columns.target == "labels":
        return [set_cells(table, columns, names)]
    if not columns.labels:
        return []
    name = columns.labels[0]
    texts, places = coded_labels(table[name], names.get(name))
    if not len(texts):
        return [Cells(MISSING, np.zeros(table.num_rows, np.uint64))]
    words, absent, places = text_cells(one_spelling(texts)), places < 0, np.maximum(places, 0)
    assert isinstance(words.kinds, np.ndarray)
    assert words.uppers is not None
    zero = np.uint64(0)
    parts = (np.where(absent, zero, words.words[places]), np.where(absent, zero, words.uppers[places]))
    return [Cells(np.where(absent, MISSING, words.kinds[places]), *parts)]


def coded_labels(values: pa.ChunkedArray, names: Sequence[str] | None = None) -> tuple[pl.Series, np.ndarray]:
    """The `label_text` of each distinct label, and the place of each row's label there, int32 `[n]`, -1 for none."""
    coded = values.combine_chunks().dictionary_encode()
    indices = coded.indices.fill_null(-1) if coded.indices.null_count else coded.indices
    return label_text(coded.dictionary, names), indices.to_numpy()


def label_text(values: pa.ChunkedArray | pa.Array, names: Sequence[str] | None = None) -> pl.Series:
    """Labels as texts, String `[n]`, equal for labels of one class: the name of a numbered class, 1 for 1.0, true, or
    the NFC form of a text.
    """
    labels = series_of(values)
    if names is not None and labels.dtype.is_integer():
        labels = labels.replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)
    if labels.dtype.is_float():
        labels = labels.fill_nan(None)
        return pl.select(text_of_number(pl.lit(labels))).to_series()
    return labels.cast(pl.String).str.normalize("NFC")


def missing_in(values: pl.Series) -> Bool[np.ndarray, " n"]:
    """Mask of the null and NaN values of a column."""
    if not (values.null_count() or values.dtype.is_float()):
        return np.zeros(len(values), np.bool_)
    empty = values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
    return empty.fill_null(True).to_numpy()


def cells_of(values: pa.ChunkedArray, name: str) -> Cells:
    """Each value of a feature column in canonical form."""
    kind = values.type
    if pa.types.is_null(kind):
        return Cells(MISSING, np.zeros(len(values), np.uint64))
    if pa.types.is_boolean(kind):
        flags = series_of(values)
        kinds = pl.select(pl.when(flags).then(TRUE).when(~flags).then(FALSE).otherwise(MISSING)).to_series()
        return Cells(kinds.to_numpy(), np.zeros(len(values), np.uint64))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return value_cells(values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return category_cells(series_of(values))
    raise ValueError(f"feature column {name!r} holds {kind}, but features are numbers, booleans and strings")


def value_cells(values: pa.ChunkedArray) -> Cells:
    """Numbers by value: as float64 where that is exact, otherwise as int64."""
    kinds: np.ndarray | int = NUMBER
    if pa.types.is_integer(values.type):
        whole = (values.fill_null(0) if values.null_count else values).to_numpy().astype(np.int64, copy=False)
        real = whole.astype(np.float64)
        # 2^63 is a float and no int64: casting it back would be undefined.
        exact = (real < 2.0**63) & (np.where(real < 2.0**63, real, 0).astype(np.int64) == whole)
        words = real.view(np.uint64)
        if not exact.all():
            words, kinds = np.where(exact, words, whole.view(np.uint64)), np.where(exact, NUMBER, INTEGER)
        absent = values.is_null().to_numpy() if values.null_count else None
    else:
        real = (values.fill_null(np.nan) if values.null_count else values).to_numpy() + 0.0
        words = real.astype(np.float64, copy=False).view(np.uint64)
        absent = np.isnan(real)
    if absent is not None and absent.any():
        kinds, words = np.where(absent, MISSING, kinds), np.where(absent, np.uint64(0), words)
    return Cells(kinds, words)


def number_cells(values: pa.ChunkedArray, name: str) -> list[Cells]:
    """Numbers of a target column, or of a column of lists of one length."""
    if not is_list(values.type):
        return [cells_of(values, name)]
    lists = series_of(values)
    width = int(lists.list.len().max() or 0)  # type: ignore[arg-type]
    places = (lists.list.get(place, null_on_oob=True).to_arrow() for place in range(width))
    return [value_cells(pa.chunked_array([place])) for place in places]


def text_cells(texts: pl.Series) -> Cells:
    """Texts by the hash of the UTF-8 of their NFC form."""
    texts = texts.cast(pl.String)  # a column of nothing but nulls
    # ASCII is its own NFC form, and this check costs a hundredth of the normalisation.
    plain = texts.str.len_bytes().sum() == texts.str.len_chars().sum()
    hashes = halves_of(texts if plain else texts.str.normalize("NFC"))
    return Cells(np.where(texts.is_null().to_numpy(), MISSING, TEXT), hashes[:, 1], hashes[:, 0])


def category_cells(texts: pl.Series) -> Cells:
    """Texts of a feature without the spaces around them; a text that spells a number or a boolean counts as one."""
    texts = one_spelling(texts.str.strip_chars().str.normalize("NFC"))
    cells = text_cells(texts)
    kinds, words, uppers = (np.array(part) for part in (cells.kinds, cells.words, cells.uppers))
    for numbers in (texts.cast(pl.Float64, strict=False), texts.cast(pl.Int64, strict=False)):
        own = (label_text(numbers.to_arrow()) == texts).fill_null(False)
        if own.any():
            found = value_cells(pa.chunked_array([numbers.filter(own).to_arrow()]))
            kinds[own], words[own], uppers[own] = found.kinds, found.words, 0
    for text, kind in (("true", TRUE), ("false", FALSE)):
        own = (texts == text).fill_null(False)
        kinds[own], words[own], uppers[own] = kind, 0, 0
    return Cells(kinds, words, uppers)


def set_cells(table: pa.Table, columns: Columns, names: Mapping[str, Sequence[str]]) -> Cells:
    """Sets of labels by the sum of their labels' hashes: the order in a list, or a label twice, changes nothing."""
    if len(columns.labels) > 1:
        flags = {name: flags_of(table[name], name) for name in columns.labels}
        absent = np.logical_or.reduce([flag.is_null().to_numpy() for flag in flags.values()])
        total = np.zeros((table.num_rows, 2), np.uint64)
        for name, flag in flags.items():
            total += flag.fill_null(False).to_numpy()[:, None] * halves_of(pl.Series([name]))
        return Cells(np.where(absent, MISSING, SET), total[:, 1], total[:, 0])
    name = columns.labels[0]
    lists = series_of(table[name])
    if not isinstance(lists.dtype, pl.List | pl.Array):
        return text_cells(one_spelling(label_text(table[name])))
    if lists.dtype.inner == pl.String:
        lists = lists.list.eval(pl.element().str.normalize("NFC"))
    lists = lists.list.unique()
    counts = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = one_spelling(label_text(lists.filter(pl.Series(counts > 0)).explode().to_arrow(), names.get(name)))
    sums = np.concatenate([np.zeros((1, 2), np.uint64), np.cumsum(halves_of(flat), axis=0, dtype=np.uint64)])
    ends = np.cumsum(counts)
    total = sums[ends] - sums[ends - counts]
    return Cells(np.where(lists.is_null().to_numpy(), MISSING, SET), total[:, 1], total[:, 0])


def flags_of(values: pa.ChunkedArray, name: str) -> pl.Series:
    """One of several label columns as booleans; ValueError for a column of neither booleans nor numbers."""
    flags = series_of(values)
    if not (flags.dtype.is_numeric() or flags.dtype in (pl.Boolean, pl.Null)):
        held = shown_type(canonical(values.type))
        raise ValueError(f"label column {name!r} holds {held}; of several label columns each is 0 or 1")
    return flags.cast(pl.Boolean)


def halves_of(values: pl.Series) -> Hashes:
    """xxh3-128 of each text or bytes, zero for null."""
    whole = pl.DataFrame({"value": values}).select(plh.col("value").nchash.xxh3_128().fill_null(0))["value"]
    halves = np.empty((len(whole), 2), np.uint64)
    halves[:, 0] = (whole // (1 << 64)).cast(pl.UInt64).to_numpy()
    halves[:, 1] = whole.cast(pl.UInt64, wrap_numerical=True).to_numpy()
    return halves


def hashes_of_cells(head: bytes, cells: Sequence[Cells], rows: int) -> Hashes:
    """xxh3-128 of a row's canonical bytes: the head's hash, kinds, words, and the weighted sum of the upper halves."""
    count, rest = len(cells), np.zeros(rows, np.uint64)
    template = np.zeros(16 + count, np.uint8)
    template[:16] = np.frombuffer(xxhash.xxh3_128_digest(head), np.uint8)
    template[16:] = [part.kinds if isinstance(part.kinds, int) else 0 for part in cells]
    records = np.empty((rows, len(template) + 8 * (count + 1)), np.uint8)
    records[:, : len(template)] = template
    for place, part in enumerate(cells):
        if not isinstance(part.kinds, int):
            records[:, 16 + place] = part.kinds
        if part.uppers is not None:
            # The place is a factor, so that texts which swap places change the sum.
            rest += part.uppers * np.uint64((STEP * (2 * place + 1)) % 2**64)
    # A view of the words in the records, which begin at no multiple of 8 bytes.
    words = np.ndarray((rows, count + 1), np.uint64, records.data, 16 + count, (records.shape[1], 8))
    for place, values in enumerate((*(part.words for part in cells), rest)):
        words[:, place] = values
    offsets = np.arange(0, (rows + 1) * records.shape[1], records.shape[1], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(records)]
    return halves_of(series_of(pa.Array.from_buffers(pa.large_binary(), rows, buffers)))


DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


def hex_of(hashes: Hashes) -> pa.Array:
    """Hashes as 32 hexadecimal digits, large_string `[n]`."""
    letters = DIGITS[np.ascontiguousarray(hashes, ">u8").view(np.uint8).reshape(-1)]
    offsets = np.arange(0, 32 * (len(hashes) + 1), 32, dtype=np.int64)
    return pa.Array.from_buffers(pa.large_string(), len(hashes), [None, pa.py_buffer(offsets), pa.py_buffer(letters)])


def image_hashes(cells: pa.ChunkedArray) -> tuple[Hashes, pl.Series]:
    """Hashes of decoded pictures, and their faults."""
    return hashes_of_pictures(list(seen_in(cells)))


def seen_in(cells: pa.ChunkedArray) -> "Iterator[SeenPicture]":
    """Decoded pictures, in their order; memory holds only those that are decoded at once."""
    from secateur.trainers.modalities.seen_pictures import seen_pictures

    return seen_pictures(cells)


def seen_anew(cells: pa.ChunkedArray, digests: Hashes) -> "Sequence[SeenPicture]":
    """Decode each picture."""
    return list(seen_in(cells))


def decoder() -> str:
    """Versions of Pillow and its codecs, which decide the pixels of a file."""
    from PIL import features

    codecs = [f"{name} {features.version(name)}" for name in ("jpg", "webp", "avif", "libtiff")]
    return " ".join([f"pillow {metadata.version('pillow')}", *codecs])


def encoded_digests(cells: pa.ChunkedArray) -> Hashes:
    """xxh3-128 of the encoded bytes of each picture, uint64 `[n, 2]`; zeros where there is no file."""
    flat = cells.combine_chunks()
    data, paths = series_of(flat.field("bytes")), flat.field("path").to_pylist()
    digests = halves_of(data)
    for row in np.flatnonzero(data.is_null().to_numpy()):
        path = Path(paths[row] or "")
        if flat[int(row)].is_valid and path.is_file():
            digests[row] = np.frombuffer(bytes.fromhex(content_of(path)), ">u8")
    return digests


def hashes_of_pictures(pictures: "Sequence[SeenPicture]") -> tuple[Hashes, pl.Series]:
    """Hashes and faults of pictures."""
    digests = b"".join(picture.digest for picture in pictures)
    hashes = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    return hashes, pl.Series([picture.fault for picture in pictures], dtype=pl.String)


def sized(data: bytes) -> bytes:
    """Bytes after their length."""
    return len(data).to_bytes(8, "little") + data
