"""Partial names of a live writer are left alone, leftovers are removed, and folders change in one step."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from secateur.pipelines.files import partial_names
from secateur.pipelines.files.partial_names import hidden_sibling, remove_leftovers, resumable_folder, swap
from secateur.pipelines.files.whole_files import new_file, new_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from secateur.pipelines.files.whole_files import new_file, new_folder
target = Path(sys.argv[1])
with new_folder(target) as folder, new_file(target.with_name("file")) as file:
    (folder / "half").write_bytes(b"half")
    file.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    run = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert run.returncode == -signal.SIGKILL
    (tmp_path / ".target.0123456789ab.partial2").write_text("theirs")
    (tmp_path / ".targets.0123456789ab.partial").write_text("of another target")
    assert len(list(tmp_path.iterdir())) == 4
    removed = remove_leftovers(target) + remove_leftovers(tmp_path / "file")
    assert [path.name.split(".")[1] for path in removed] == ["target", "file"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".target.0123456789ab.partial2", ".targets.0123456789ab.partial"
    ]  # fmt: skip
    assert remove_leftovers(tmp_path / "nowhere" / "target") == []


def test_work_that_is_killed_is_found_again_and_goes_when_it_is_done(tmp_path: Path) -> None:
    script = KILLED.replace("whole_files import new_file, new_folder", "partial_names import resumable_folder")
    script = script.partition("with new_folder")[0] + (
        "with resumable_folder(target) as folder:\n"
        "    (folder / 'half').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "work")], check=False)
    assert run.returncode == -signal.SIGKILL
    seen: list[list[str]] = []

    def work() -> None:
        with resumable_folder(tmp_path / "work") as folder:
            seen.append(os.listdir(folder))

    with resumable_folder(tmp_path / "work") as folder:
        assert (folder / "half").read_bytes() == b"half"
        other = threading.Thread(target=work)
        other.start()
        other.join(0.05)
        assert other.is_alive(), "it waits for its turn"
    other.join()
    assert seen == [[]]
    with pytest.raises(RuntimeError), resumable_folder(tmp_path / "work"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as folder, new_file(tmp_path / "b") as file:
        (folder / "half").write_bytes(b"half")
        file.write_bytes(b"half")
        # Locks belong to open files, so this process serves as another.
        assert remove_leftovers(tmp_path / "a") == remove_leftovers(tmp_path / "b") == []
    assert (tmp_path / "a" / "half").read_bytes() == (tmp_path / "b").read_bytes() == b"half"


def test_links_among_leftovers_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    hidden_sibling(tmp_path / "a").symlink_to(tmp_path / "precious")
    assert remove_leftovers(tmp_path / "a") == []
    assert (tmp_path / "precious").is_dir()


def test_a_folder_moved_aside_is_put_back(tmp_path: Path) -> None:
    aside = hidden_sibling(tmp_path / "a", partial_names.ASIDE)
    aside.mkdir()
    (aside / "old").touch()
    assert remove_leftovers(tmp_path / "a") == []
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges names in one step")
def test_two_folders_are_swapped(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert swap(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError):
        swap(tmp_path / "a", tmp_path / "nowhere")


def test_without_swapping_a_folder_is_replaced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "other")
    for content in ("old", "new"):
        with new_folder(tmp_path / "a", overwrite=True) as partial:
            (partial / content).touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert os.listdir(tmp_path / "a") == ["new"]
