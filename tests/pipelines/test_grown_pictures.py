"""Picture folders and data sets that have grown: pictures are decoded once, rows that were read before are not hashed
again, and the shards have the bytes of a fresh scan."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
import tiny_encoder
from local_hub import COMMIT, local_hub, settings_of
from pydantic import TypeAdapter
from small_studies import inputs_made
from spread_studies import picture, small_shards

from secateur.pipelines.data import scan
from secateur.pipelines.data.sources import Columns, Source, load
from secateur.pipelines.studies.files import StudyFile
from secateur.trainers.modalities import decoding, images, seen_pictures
from secateur.trainers.modalities.texts import TokenEncoder

PICTURES, TEXTS = Columns(image="image", label="label"), Columns(text="text", label="label")
FOLDER = {"kind": "imagefolder", "train": "pictures", "test_fraction": 0.3}
DISK = {"kind": "disk", "train": "saved", "test_fraction": 0.3}


class Counted:
    """Cells of pictures that were decoded, and rows that were hashed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cells: list[Any] = []
        self.rows = 0
        decoded, divided = decoding.decoded, scan.divided

        def decoding_one(cell: Any) -> Any:
            self.cells.append(cell)
            return decoded(cell)

        def dividing(table: Any, *arguments: Any) -> Any:
            self.rows += table.num_rows
            return divided(table, *arguments)

        patch.setattr(seen_pictures, "decoded", decoding_one)
        patch.setattr(decoding, "decoded", decoding_one)
        patch.setattr(scan, "divided", dividing)

    def take(self) -> tuple[int, int]:
        """Pictures decoded and rows hashed since it was called last."""
        found = len(self.cells), self.rows
        self.cells.clear()
        self.rows = 0
        return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.parts.PICTURES", 10)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.picture_files.PICTURES", 10)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.parts.TEXTS", 20)
    monkeypatch.setattr(scan, "PICTURE_ROWS", 10)
    with small_shards(50):
        yield Counted(monkeypatch)


class Others:
    """Units in the order from the last, everything pickled as on its way to other processes."""

    room = 3

    def __call__(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        cloudpickle = pytest.importorskip("ray.cloudpickle", reason="Ray pickles closures: install the extra `ray`")
        sent = cloudpickle.dumps(work)
        for number in reversed(range(len(units))):
            yield number, pickle.loads(sent)(pickle.loads(pickle.dumps(units[number])))


def read(folder: Path, keys: dict[str, Any], columns: Columns, cache: str, spread: Any = None) -> dict[str, bytes]:
    """The shards of both splits by their names, and what is read of them."""
    source: Any = TypeAdapter(Source).validate_python(keys)
    loaded = load(source, columns, folder, folder / cache, spread=spread)
    shards = {f"{split} {path.name}": path.read_bytes() for split, rows in loaded.rows.items() for path in rows.shards}
    return shards | {"revision": loaded.revision.encode(), "names": repr(loaded.label_names).encode()}


def write_pictures(folder: Path, names: Sequence[str], seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for number, name in enumerate(names):
        path = folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(random, number))


def test_pictures_that_a_folder_had_are_not_decoded_again_wherever_new_ones_stand(
    tmp_path: Path, counted: Counted
) -> None:
    write_pictures(tmp_path, [f"{'uv'[row % 4 // 2]}/{row:03}.png" for row in range(0, 240, 2)])
    read(tmp_path, FOLDER, PICTURES, "cache")
    assert counted.take() == (120, 120)
    write_pictures(tmp_path, [f"{'uv'[row % 4 // 3]}/{row:03}.png" for row in range(1, 60, 2)], seed=1)
    for cache, spread in (("cache", None), ("other", Others())):
        if spread:
            shutil.copytree(tmp_path / "before", tmp_path / cache)
        else:
            shutil.copytree(tmp_path / cache, tmp_path / "before")
        grown = read(tmp_path, FOLDER, PICTURES, cache, spread)
        assert counted.take()[0] == 30
        assert grown == read(tmp_path, FOLDER, PICTURES, f"fresh of {cache}", spread)
        assert counted.take()[0] == 150
    assert {path.name for path in tmp_path.rglob("*.partial")} == set()


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("another picture under the name", 1),
        ("another name", 0),
        ("another class", 0),
        ("a broken file", 1),
        ("gone", 0),
        ("the division", 20),
        ("Pillow", 21),
    ],
)
def test_pictures_are_known_by_their_bytes(
    change: str, again: int, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, [f"{'uv'[row % 2]}/{row:02}.png" for row in range(20)])
    first, keys = tmp_path / "pictures" / "u" / "00.png", FOLDER
    read(tmp_path, FOLDER, PICTURES, "cache")
    counted.take()
    if change == "another picture under the name":
        write_pictures(tmp_path, ["u/00.png"], seed=5)
    elif change == "another name":
        first.rename(first.with_name("zz.png"))
    elif change == "another class":
        first.rename(tmp_path / "pictures" / "v" / "00.png")
    elif change == "a broken file":
        first.with_name("broken.png").write_bytes(b"no picture")
    elif change == "gone":
        first.unlink()
    elif change == "the division":
        keys = {**FOLDER, "test_fraction": 0.4}
    else:
        write_pictures(tmp_path, ["u/new.png"], seed=5)
        monkeypatch.setattr("secateur.pipelines.data.sources.decoder", lambda: "another version")
    if change == "a broken file":
        for cache in ("cache", "fresh"):
            with pytest.raises(ValueError, match=r"image '.*u/broken\.png' cannot be decoded"):
                read(tmp_path, keys, PICTURES, cache)
            assert counted.take()[0] == (again if cache == "cache" else 21)
        return
    now = read(tmp_path, keys, PICTURES, "cache")
    assert counted.take()[0] == again
    assert now == read(tmp_path, keys, PICTURES, "fresh")


def test_pictures_of_metadata_and_of_a_saved_data_set_are_decoded_once(tmp_path: Path, counted: Counted) -> None:
    write_pictures(tmp_path, [f"{row:02}.png" for row in range(40)])
    names = [f"{row:02}.png" for row in range(40)]

    def described(some: Sequence[str]) -> None:
        frame = pl.DataFrame({"file_name": some, "label": ["u" if int(name[:2]) % 2 else "v" for name in some]})
        frame.write_csv(tmp_path / "pictures" / "metadata.csv")

    def saved(some: Sequence[str]) -> None:
        cells = [{"bytes": (tmp_path / "pictures" / name).read_bytes(), "path": None} for name in some]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
        labels = ["u" if int(name[:2]) % 2 else "v" for name in some]
        rows = datasets.Dataset.from_dict({"image": cells, "label": labels}, features)
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        rows.save_to_disk(str(tmp_path / "saved"))

    for write, keys in ((described, FOLDER), (saved, DISK)):
        write(names[:30])
        read(tmp_path, keys, PICTURES, "cache")
        assert counted.take()[0] == 30
        write([*names[35:], *names[:35]])
        grown = read(tmp_path, keys, PICTURES, "cache")
        assert counted.take()[0] == 10
        assert grown == read(tmp_path, keys, PICTURES, "fresh")
        counted.take()


@pytest.mark.parametrize("spread", [None, Others()], ids=["here", "by others"])
def test_rows_that_a_saved_data_set_begins_with_are_not_hashed_again(
    spread: Any, tmp_path: Path, counted: Counted
) -> None:
    def save(texts: Sequence[str], shards: int = 1, names: Sequence[str] = ("u", "v")) -> None:
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=[*names])})
        rows = datasets.Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(len(texts))]}, features)
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        rows.save_to_disk(str(tmp_path / "saved"), num_shards=shards)

    def now(fresh: str) -> int:
        grown = read(tmp_path, DISK, TEXTS, "cache", spread)
        hashed = counted.take()[1]
        assert grown == read(tmp_path, DISK, TEXTS, fresh)
        counted.take()
        return hashed

    texts = [f"text {row} é" for row in range(250)]
    save(texts[:230])
    assert now("a") == 230
    save(texts, shards=3)
    assert 20 <= now("b") <= 20 + 60, "the last shard ended with the rows, which are read once more"
    save([*texts[:100], "another", *texts[101:]])
    assert 150 <= now("c") <= 150 + 60
    save([*texts[:100], "another", *texts[101:]], names=("v", "u"))
    assert now("d") == 250, "the numbers are other classes"


FROM_HUB = """
import json, sys
from pathlib import Path
from pydantic import TypeAdapter
from secateur.pipelines.data import scan
from secateur.pipelines.data.source_kinds import parts
from secateur.pipelines.data.sources import Columns, Source, load

divided, hashed = scan.divided, 0
def counting(table, *arguments):
    global hashed
    hashed += table.num_rows
    return divided(table, *arguments)
scan.divided, scan.SHARD_ROWS, parts.TEXTS = counting, 50, 20
for commit, cache in zip(sys.argv[1::2], sys.argv[2::2]):
    keys = {"kind": "hub", "name": "some/set", "test": "test", "revision": commit}
    source = TypeAdapter(Source).validate_python(keys)
    loaded = load(source, Columns(text="text", label="label"), Path("."), Path(cache))
    shards = [[path.name, path.read_bytes().hex()] for rows in loaded.rows.values() for path in rows.shards]
    print(json.dumps([loaded.revision, hashed, shards]))
    hashed = 0
"""


def test_a_later_commit_of_a_hub_data_set_is_read_from_where_it_has_grown(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": [f"text {row}" for row in range(260)], "label": ["u", "v"] * 130})
    frame.tail(30).write_parquet(tmp_path / "test.parquet")
    later, found = COMMIT.replace("5ec", "6ec"), []
    for commit, rows, caches in ((COMMIT, 220, ["cache"]), (later, 230, ["cache", "fresh"])):
        frame.head(rows).write_parquet(tmp_path / "train.parquet")
        with local_hub("some/set", tmp_path, commit=commit) as (address, _):
            environment = os.environ | settings_of(address, tmp_path / "hf")
            places = [part for cache in caches for part in (commit, str(tmp_path / cache))]
            command = [sys.executable, "-c", FROM_HUB, *places]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found += [json.loads(line) for line in done.stdout.splitlines()]
    assert [(revision, hashed) for revision, hashed, _ in found] == [(COMMIT, 250), (later, 80), (later, 260)]
    assert found[1][2] == found[2][2]


@pytest.mark.parametrize("others", [False, True], ids=["here", "by others"])
@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_rows_that_were_encoded_before_are_not_encoded_again_wherever_new_ones_stand(
    kind: str,
    others: bool,
    write_study: Callable[..., StudyFile],
    tmp_path: Path,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, encoded = images.ImageEncoder if kind == "pictures" else TokenEncoder, 0
    encode = encoder.encode_batch

    def counting(self: Any, table: Any, first: int = 0) -> Any:
        nonlocal encoded
        encoded += table.num_rows
        return encode(self, table, first)

    monkeypatch.setattr(encoder, "encode_batch", counting)
    if others:
        monkeypatch.setattr("secateur.pipelines.assets.data.spread_over", lambda *_: nullcontext(Others()))

    def write(name: str, count: int) -> None:
        if kind == "pictures":
            write_pictures(tmp_path, [f"{'uv'[row % 2]}/{name}{row:03}.png" for row in range(count)], ord(name))
            return
        (tmp_path / "texts").mkdir(exist_ok=True)
        texts = [f"e\u0301 word{row % 7} of {name}{row // 2 * 2}" for row in range(count)]
        pl.DataFrame({"text": texts, "label": ["u", "v"] * (count // 2)}).write_csv(tmp_path / "texts" / f"{name}.csv")

    write("b", 100)
    write("d", 100)
    if kind == "pictures":
        file = write_study(source=FOLDER, columns={"image": "image", "label": "label"}, encoding={"size": [9, 7]})
    else:
        tiny_encoder.saved(tmp_path / "encoder", ["word1 word2 of", "a b c"])
        file = write_study(
            source={"kind": "csv", "train": "texts/*.csv", "test_fraction": 0.3},
            columns={"text": "text", "label": "label"},
            encoding={"kind": "tokens", "tokenizer": str(tmp_path / "encoder"), "max_length": 12},
            training={"model": "transformer", "epochs": 1},
            proxy={"model": "transformer", "epochs": 1},
        )
    inputs_made(file, tmp_path / "grown")
    assert encoded == 200
    write("c", 20)
    counted.take()
    now = inputs_made(file, tmp_path / "grown")
    assert encoded == 220
    if kind == "pictures":
        assert counted.take()[0] <= 20 + 20, "each new picture once for its digest, and once for its pixels"
    assert now == inputs_made(file, tmp_path / "fresh")
    assert encoded == 220 + 220
    if kind == "texts":
        # Composed and decomposed letters have one content hash, and other tokens.
        path = tmp_path / "texts" / "b.csv"
        path.write_text(path.read_text().replace("e\u0301", "\u00e9"))
        encoded = 0
        now = inputs_made(file, tmp_path / "grown")
        assert encoded == 100
        assert now == inputs_made(file, tmp_path / "fresh of letters")
