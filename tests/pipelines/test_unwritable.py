"""Full disks: one sentence from every library that writes, no incomplete files, the same bytes later."""

import ast
import errno
import os
import re
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import sqlalchemy
import torch
from PIL import Image
from tokenizers import Tokenizer, models

from secateur.pipelines.files import partial_names, whole_files
from secateur.pipelines.files.partial_names import resumable_folder
from secateur.pipelines.files.unwritable import REASONS, Unwritable, reason_of, refuse_unwritable, told
from secateur.pipelines.files.whole_files import new_file, new_folder, write_bytes

ROOT = Path(__file__).parents[2]
NUMBERS = np.arange(30_000, dtype=np.float32)
TABLE = pa.table({"a": np.random.default_rng(0).random(30_000)})
"""No library compresses it into the bytes that the tests allow."""
FRAME = pl.DataFrame(pl.from_arrow(TABLE))


def arrow(path: Path) -> None:
    with pa.ipc.new_file(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)


def zipped(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=NUMBERS)


def tar(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        archive.add(__file__)
        archive.add(os.__file__)


def archived(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", NUMBERS.tobytes())


def opened(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, NUMBERS)


def saved(path: Path) -> None:
    with path.open("wb") as file:
        torch.save({"a": torch.from_numpy(NUMBERS)}, file)


def picture(path: Path) -> None:
    with path.open("wb") as file:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)).save(file, "PNG")


def arrow_rows(path: Path) -> None:
    from datasets.arrow_writer import ArrowWriter

    writer = ArrowWriter(features=datasets.Features({"a": datasets.Value("float64")}), path=str(path))
    writer.write_table(TABLE)
    writer.finalize()


def parquet(path: Path) -> None:
    with pq.ParquetWriter(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


class Pretrained(torch.nn.Module):
    """The interface of a model of transformers."""

    def save_pretrained(self, path: Path) -> None:
        safetensors.torch.save_file({"a": torch.from_numpy(NUMBERS)}, path)


def copied(path: Path) -> None:
    import shutil

    shutil.copyfile(os.__file__, path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "open": opened,
    "write_bytes": lambda path: path.write_bytes(NUMBERS.tobytes()),
    "write_text": lambda path: path.write_text("x" * 100_000),
    "np.save": opened,
    "np.savez": zipped,
    "torch.save": saved,
    "save_file": lambda path: safetensors.torch.save_file({"a": torch.from_numpy(NUMBERS)}, path),
    "safetensors.save_file": lambda path: safetensors.numpy.save_file({"a": NUMBERS}, path),
    "write_parquet": FRAME.write_parquet,
    "write_csv": FRAME.write_csv,
    "to_parquet": datasets.Dataset(TABLE).to_parquet,
    "pq.ParquetWriter": parquet,
    "pyarrow.parquet.ParquetWriter": parquet,
    "pa.ipc.new_file": arrow,
    "ArrowWriter": arrow_rows,
    "save_to_disk": arrow_rows,  # writes through it
    "tarfile.open": tar,
    "zipfile.ZipFile": archived,
    "save": picture,
    "save_pretrained": Pretrained().save_pretrained,
    "tokenizer.save": lambda path: Tokenizer(models.WordLevel({f"w{i}": i for i in range(9000)}, "w0")).save(str(path)),
    "shutil.copyfile": copied,
    "shutil.copytree": copied,  # copies file by file
}
"""Every call that writes the content of a file, with the same call on something larger than the tests allow."""
MEMORY = {"figure.savefig", "np.memmap", "pa.ipc.new_stream"}
"""Calls that write into memory, or only read."""
ENDINGS = ("save", "savez", "save_file", "save_to_disk", "save_pretrained", "save_model", "savefig", "write_text")
ENDINGS += ("write_bytes", "write_parquet", "write_csv", "write_ipc", "sink_parquet", "sink_csv", "sink_ipc", "dump")
ENDINGS += ("ParquetWriter", "ArrowWriter", "new_file", "new_stream", "ZipFile", "copyfile", "copytree", "tofile")
ENDINGS += ("to_parquet", "to_csv", "to_json", "write_dataset", "write_index", "memmap", "open_memmap")


WHOLE = re.compile(r"new_file|new_folder|resumable_folder|.*store\.folder")
"""Calls whose `with` block writes to a path that no reader accepts as complete; the last is the store's."""
ROUND: dict[str, tuple[str, ...]] = {
    "a record that the disk loses with the power makes its value again; it is claimed and renamed, and not flushed": (
        "storage/records.py write_record",
    ),
    "`export` opens the file or folder that an exporter fills": (
        "exports/card.py", "exports/numbers.py", "exports/picture_files.py", "exports/pictures.py", "exports/shards.py",
        "exports/tables.py", "exports/source.py write_whole", "exports/fine_tuning.py",
    ),
    "`prepared` opens the folder that a preparation fills, and locks it": (
        "assets/data.py prepared_by", "data/preparation.py write_samples", "data/preparation.py write_inputs",
    ),
    "the caller opens the folder of an asset or a manifest": (
        "assets/teacher.py copy_teacher", "assets/teacher.py write_logits", "audits/memory.py",
        "manifests/epochs.py", "deltas/stream.py", "manifests/document.py", "storage/packed_masks.py",
        "manifests/row_files.py", "pages/page.py", "pages/audit_folder.py fill", "runs/drift.py",
        "runs/training.py save_trained", "assets/sample_target.py write_arrays", "data/known_rows.py save",
        "trainers/experiments/", "trainers/modalities/", "trainers/models/", "trainers/distillation/cached_logits.py",
        "trainers/sparse_rows.py", "trainers/passes/layer_inputs.py", "audits/argilla.py", "audits/fiftyone.py",
        "audits/label_studio.py",
    ),
    "an ExitStack holds the block": ("data/scan.py write_shard",),
    "written into memory": (
        "manifests/readings.py", "pages/extremes.py", "audits/sheets.py picture", "copies/thumbnails.py",
        "audits/of_own_task.py cell_of",
    ),
    "renames by itself, below the floor of the layer": (
        "trainers/loop/snapshots.py", "trainers/loop/own_loop.py", "trainers/loop/shown_epochs.py",
    ),
    "`write_rows` opens the file": ("front_door/written.py converted",),
    "`InPlace.save` opens the file": ("in_place/kept.py written",),
    "in a folder that is gone when the call ends": (
        "front_door/proxies.py", "front_door/read_whole.py", "front_door/as_tables.py",
        "audits/of_own_task.py written", "audits/spoken.py with_texts", "data/known_rows.py digest_of",
    ),
    "in a folder of unfinished work, written again by the run that goes on": ("trainers/loop/checkpoints.py",),
}  # fmt: skip
"""Files, and functions in them, that write to a path outside such a block, by the reason."""


def calls(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Calls in one of our files that write files, in their spelling; the function, and whether the call is in a block
    that makes its file whole.
    """

    def below(node: ast.AST, function: str, whole: bool) -> Iterator[tuple[str, str, bool]]:
        if isinstance(node, ast.FunctionDef):
            function, whole = node.name, False
        if isinstance(node, ast.Call) and (spelled := writing(node)):
            yield spelled, function, whole
        for child in ast.iter_child_nodes(node):
            yield from below(child, function, whole)
            if isinstance(child, ast.withitem):  # the items after it and the body are inside
                whole |= any(WHOLE.fullmatch(ast.unparse(node.func)) for node in calls_in(child.context_expr))

    yield from below(ast.parse(path.read_text()), "", False)


def calls_in(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def writing(node: ast.Call) -> str | None:
    """The spelling of a call that writes a file."""
    spelled = ast.unparse(node.func)
    told = [each.value for arg in node.args for each in ast.walk(arg) if isinstance(each, ast.Constant)]
    mode = [each for each in told if isinstance(each, str)]
    if spelled.rpartition(".")[2] == "open":
        written = any(each[:1] in "wax" and len(each) < 4 for each in mode if each)
        return None if not written else "tarfile.open" if spelled == "tarfile.open" else "open"
    return spelled if spelled.rpartition(".")[2] in ENDINGS else None


def short(spelled: str) -> str:
    """The name in WRITERS of a call, or the call."""
    last = ".".join(spelled.rsplit(".", 2)[-2:])
    return next((name for name in (spelled, last, spelled.rpartition(".")[2]) if name in WRITERS), spelled)


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str, str, bool]]:
    """File and function of each call of the product that writes, its spelling, and whether its file is whole."""
    paths = [
        path for floor in ("pipelines", "trainers", "scorers", "selectors") for path in (ROOT / floor).rglob("*.py")
    ]
    return [
        (path.relative_to(ROOT).as_posix(), function, spelled, whole)
        for path in paths
        for spelled, function, whole in calls(path)
    ]


def test_every_way_in_which_the_product_writes_is_tried_below(found: list[tuple[str, str, str, bool]]) -> None:
    own = {"write_bytes", "new_file"}  # ours, tried below too
    unknown = {call for *_, call, _ in found if short(call) not in WRITERS} - MEMORY - own
    assert unknown == set(), "try this call in WRITERS"


def test_every_writer_makes_its_file_whole_or_has_a_reason_not_to(found: list[tuple[str, str, str, bool]]) -> None:
    ours = ("write_bytes", "new_file", "models.save", "save")
    round_it = {
        f"{path} {function}"
        for path, function, call, whole in found
        if not whole and call not in {*MEMORY, *ours} and not call.endswith("store.save")
    }
    reasons = [place for places in ROUND.values() for place in places]
    assert [place for place in sorted(round_it) if not any(reason in place for reason in reasons)] == []
    assert [reason for reason in reasons if not any(reason in place for place in round_it)] == [], "no longer needed"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond a few bytes: like a full disk, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_every_library_ends_in_the_same_sentence(name: str, tmp_path: Path) -> None:
    target, calm = tmp_path / "target", tmp_path / "calm"
    target.write_text("before")
    larger = "cannot be written: the file would be larger"
    with (
        pytest.raises(Unwritable, match=f"^{target} {larger}"),
        full_disk(),
        new_file(target, overwrite=True) as partial,
    ):
        WRITERS[name](partial)
    with (
        pytest.raises(Unwritable, match=f"^{tmp_path}/folder {larger}"),
        full_disk(),
        new_folder(tmp_path / "folder") as partial,
    ):
        WRITERS[name](partial / "file")
    assert os.listdir(tmp_path) == ["target"]
    assert target.read_text() == "before"
    for path in (target, calm):
        with new_file(path, overwrite=True) as partial:
            WRITERS[name](partial)
    assert target.read_bytes() == calm.read_bytes()


Write = Callable[[Path], Any]


def a_file(path: Path) -> None:
    write_bytes(path / "file", b"new", overwrite=True)


def a_folder(path: Path) -> None:
    with new_folder(path / "folder", overwrite=True) as partial:
        (partial / "file").write_bytes(b"new")


def resumable(path: Path) -> None:
    with resumable_folder(path / "work") as partial:
        (partial / "file").write_bytes(b"new")


@pytest.mark.parametrize("number", REASONS, ids=errno.errorcode.get)
@pytest.mark.parametrize("write", [a_file, a_folder, resumable])
@pytest.mark.parametrize("fault", ["claim", "torn write", "flush", "rename"])
def test_a_failed_write_leaves_the_old_file_whole_and_names_the_reason(
    write: Write, fault: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("file", "folder/file"):
        write_bytes(tmp_path / name, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    def torn(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:1])
        fail()

    with monkeypatch.context() as faulty:
        if fault == "claim":
            faulty.setattr(partial_names, "hidden_sibling", fail)
        elif fault == "torn write":
            faulty.setattr(Path, "write_bytes", torn)
        elif fault == "flush":
            faulty.setattr(os, "fsync", fail)
        else:
            for place, name in ((os, "replace"), (os, "rename"), (whole_files, "swap")):
                faulty.setattr(place, name, fail)
        if write is resumable and fault != "torn write":  # it does nothing else
            write(tmp_path)
        else:
            with pytest.raises(Unwritable, match=rf"^{tmp_path}\S* cannot be (written|opened): {REASONS[number][0]}"):
                write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == (tmp_path / "folder" / "file").read_bytes() == b"old"
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_other_errors_pass_and_a_file_that_may_not_be_read_is_named_itself(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_file(tmp_path / "x"):
        raise KeyError
    with pytest.raises(FileExistsError), new_folder(tmp_path / "x"):
        raise FileExistsError(errno.EEXIST, "there")
    for other in (tmp_path / "x" / "y", Path("/data/train.csv")):
        named = tmp_path / "x" if other.is_relative_to(tmp_path) else other
        sentence = f"^{named} cannot be opened: you have no permission"
        with pytest.raises(Unwritable, match=sentence), new_folder(tmp_path / "x"):
            raise PermissionError(errno.EACCES, "no", str(other))


def engine(path: Path, *, read_only: bool = False) -> sqlalchemy.Engine:
    """A database as Dagster opens its own."""
    place = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
    return sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(place, uri=True))


def run(database: sqlalchemy.Engine, lines: list[str]) -> None:
    with database.connect() as connection:
        for line in lines:
            connection.execute(sqlalchemy.text(line))


def test_errors_of_sqlite_name_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    statements = {
        "no space is left": (engine(path), ["PRAGMA max_page_count = 2", "CREATE TABLE a (b)", "CREATE TABLE c (d)"]),
        "its disk can only be read": (engine(path, read_only=True), ["CREATE TABLE e (f)"]),
        "you have no permission": (engine(tmp_path / "nowhere" / "runs.db"), ["CREATE TABLE e (f)"]),
    }
    for reason, (database, lines) in statements.items():
        with pytest.raises(sqlalchemy.exc.OperationalError) as raised:
            run(database, lines)
        text = told(raised.value, tmp_path)
        assert text
        assert text.startswith(f"{tmp_path} cannot be "), text
        assert reason in text
        database.dispose()


def test_errors_that_say_it_themselves_are_left_alone(tmp_path: Path) -> None:
    def chained(outer: Exception, inner: Exception, *, hidden: bool = False) -> Exception:
        try:
            try:
                raise inner
            except Exception as error:
                raise outer from (None if hidden else error)
        except Exception as error:
            return error

    known = Unwritable("x cannot be written")
    assert told(chained(ValueError("cannot export: x cannot be written"), known), tmp_path) is None
    assert told(chained(RuntimeError("a step failed"), known), tmp_path) == "x cannot be written"
    full = OSError(errno.ENOSPC, "full", "/x")
    assert "/x cannot be written: no space" in str(told(chained(ValueError("no rows"), full), tmp_path))
    assert told(chained(ValueError("no rows"), full, hidden=True), tmp_path) is None
    assert told(chained(ValueError("train.csv: may not be read"), PermissionError(errno.EACCES, "")), tmp_path) is None
    assert reason_of(OSError("no number")) == (None, "")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_target_on_a_disk_that_refuses_is_named_and_not_the_home(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "tmp0"))

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(ValueError, match=r"kept\.csv: nothing can be written in") as caught:
        refuse_unwritable(tmp_path / "kept.csv")
    assert told(caught.value, tmp_path / "home") is None


def test_an_error_that_comes_from_itself_has_an_end(tmp_path: Path) -> None:
    first, second = ValueError("a row has no label"), RuntimeError("a step failed")
    first.__context__, second.__cause__ = second, first
    assert told(second, tmp_path) is None
    first.__cause__ = OSError(errno.ENOSPC, "full", "kept.csv")
    assert "kept.csv cannot be written" in str(told(second, tmp_path))
