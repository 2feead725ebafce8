"""A written file appears whole or not at all, and no name leaves its folder."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.pipelines.files.whole_files import inside, new_file, new_folder, sha256_of, write_bytes


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_file_appears_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "scores.bin"
    with new_file(target) as partial:
        partial.write_bytes(b"1234")
        assert not target.exists()
        assert partial.name.endswith(".partial")
    assert names(tmp_path) == ["deep", "deep/scores.bin"]
    assert target.read_bytes() == b"1234"


def test_failed_writes_leave_nothing(tmp_path: Path) -> None:
    def fail_in_a_file() -> None:
        with new_file(tmp_path / "file") as partial:
            partial.write_bytes(b"half")
            raise RuntimeError("stopped")

    def fail_in_a_folder() -> None:
        with new_folder(tmp_path / "folder") as partial:
            (partial / "half").write_bytes(b"half")
            raise RuntimeError("stopped")

    for fail in (fail_in_a_file, fail_in_a_folder):
        with pytest.raises(RuntimeError, match="stopped"):
            fail()
    assert names(tmp_path) == []


def test_failed_overwrite_keeps_the_old(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_bytes(b"old")

    def fail() -> None:
        with new_folder(tmp_path / "folder", overwrite=True):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert names(tmp_path) == ["folder", "folder/old"]


def test_existing_targets_are_refused_without_overwrite(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(FileExistsError, match=r"exists already: name another path$"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    write_bytes(tmp_path / "file", b"new", overwrite=True)
    assert (tmp_path / "file").read_bytes() == b"new"

    with pytest.raises(FileExistsError, match="exists already"), new_folder(tmp_path):
        pass
    with pytest.raises(FileExistsError, match="is not a folder"), new_folder(tmp_path / "file", overwrite=True):
        pass
    with pytest.raises(FileExistsError, match="is a folder"):
        write_bytes(tmp_path, b"new", overwrite=True)


def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def race() -> None:
        with new_file(tmp_path / "file") as partial:
            partial.write_bytes(b"mine")
            (tmp_path / "file").write_bytes(b"theirs")

    with pytest.raises(FileExistsError, match="exists already"):
        race()
    assert (tmp_path / "file").read_bytes() == b"theirs"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with new_folder(tmp_path / "folder", overwrite=True) as partial:
            (partial / content).mkdir()
            (partial / content / "inner").write_text(content)
    assert names(tmp_path) == ["folder", "folder/new", "folder/new/inner"]


def test_a_link_is_no_way_out_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="is not a folder"), new_folder(tmp_path / "link", overwrite=True):
        pass
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="exists already"):
        write_bytes(tmp_path / "dangling", b"new")
    write_bytes(tmp_path / "dangling", b"new", overwrite=True)
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "elsewhere" / "precious").read_text() == "kept"


def test_a_killed_writer_leaves_no_target(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from secateur.pipelines.files.whole_files import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'half').write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "target")], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "target").exists()
    with new_folder(tmp_path / "target") as partial:
        (partial / "whole").write_bytes(b"whole")
    assert names(tmp_path / "target") == ["whole"]


def test_new_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    write_bytes(tmp_path / "ours", b"1")
    (tmp_path / "plain").write_bytes(b"1")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a\\b", "C:x", "a\0b", "link/x"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"plain name|leads out"):
        inside(tmp_path / "folder", name)


def test_plain_names_are_joined(tmp_path: Path) -> None:
    assert inside(tmp_path, "images/0001.png") == tmp_path / "images" / "0001.png"


@given(st.text(alphabet="a./\\:\0~-", max_size=12))
def test_no_name_is_joined_to_a_path_outside(name: str) -> None:
    folder = Path(os.sep, "nonexistent", "folder")
    try:
        joined = inside(folder, name)
    except ValueError:
        return
    assert os.path.commonpath([os.path.normpath(joined), folder]) == str(folder)
    assert os.path.normpath(joined) != str(folder)


@given(content=st.binary(max_size=300))
def test_sha256_is_that_of_the_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("sha") / "file"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
