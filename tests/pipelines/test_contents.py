"""Digests of files, folders and code: repeated reads, the files that count, and damaged caches of them."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from secateur.pipelines.files import contents as known
from secateur.pipelines.files.contents import content_at, content_of, entries_of, learn, remembered, unknown
from secateur.pipelines.files.own_code import code_content, code_of, refuse_changed
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.trainers.contract import TrainingConfig


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Files opened for reading, in a process with an empty cache, in which every file counts as old."""
    opened: list[Path] = []
    plain = Path.open

    def watched(path: Path, mode: str = "r", **how: object) -> object:
        opened.extend([path] if mode == "rb" else [])
        return plain(path, mode, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(known, "_known", {})
    monkeypatch.setattr(known, "SETTLED", -(10**12))
    monkeypatch.setattr(Path, "open", watched)
    return opened


def test_a_file_is_read_again_when_it_was_written_replaced_or_given_its_old_times(
    tmp_path: Path, reads: list[Path]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert content_of(path) == content_of(path) == xxhash.xxh3_128_hexdigest(b"one")
    assert len(reads) == 1
    times = path.stat().st_mtime_ns
    path.write_bytes(b"two")  # of equal length, and with the old time
    os.utime(path, ns=(times, times))
    assert content_of(path) == xxhash.xxh3_128_hexdigest(b"two")
    (tmp_path / "b").write_bytes(b"six")
    os.utime(tmp_path / "b", ns=(times, times))
    (tmp_path / "b").replace(path)
    assert content_of(path) == xxhash.xxh3_128_hexdigest(b"six")
    assert len(reads) == 3
    with pytest.raises(OSError, match="No such file"):
        content_of(tmp_path / "nothing")


def test_a_file_that_was_just_written_is_always_read(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    monkeypatch.setattr(known, "SETTLED", 10**12)
    path.write_bytes(b"one")
    assert [content_of(path), content_of(path)] == [xxhash.xxh3_128_hexdigest(b"one")] * 2
    assert len(reads) == 2


def test_digests_of_another_process_are_taken_over_and_changed_files_are_read(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("a", "b", "gone")]
    for path in paths[:2]:
        path.write_text(path.name)
    assert unknown([*paths, paths[0]]) == paths[:2]
    entries = entries_of(paths)
    assert [len(entry) for entry in entries] == [32, 32, 0]
    known._known.clear()
    reads.clear()
    learn(paths, entries)
    assert unknown(paths) == []
    paths[1].write_text("another")
    assert unknown(paths) == [paths[1]]
    assert [content_of(path) for path in paths[:2]] == [xxhash.xxh3_128_hexdigest(text) for text in (b"a", b"another")]
    assert reads == [paths[1]]
    monkeypatch.setattr(known, "SETTLED", 10**12)
    known._known.clear()
    assert entries_of(paths[:1]) == [b""], "it may be written again with the same times"


@pytest.mark.parametrize("damage", [b"", b"no such note", None], ids=["empty", "other", "cut"])
def test_what_is_known_outlives_the_process_and_is_made_anew_where_it_is_damaged(
    tmp_path: Path, reads: list[Path], damage: bytes | None
) -> None:
    note, paths = tmp_path / "cache" / "note", [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text(path.name)
    with remembered(note):
        first = [content_of(path) for path in paths]
    whole = note.read_bytes()
    known._known.clear()
    with remembered(note):
        assert [content_of(path) for path in paths] == first
    assert [path for path in reads if path in paths] == paths
    assert note.read_bytes() == whole
    note.write_bytes(whole[:-1] if damage is None else damage)
    known._known.clear()
    with remembered(note):
        assert [content_of(path) for path in paths] == first
    assert [path for path in reads if path in paths] == paths * 2
    assert note.read_bytes() == whole
    # Unused digests are forgotten, also where the block fails.
    with pytest.raises(OSError, match="No such file"), remembered(note):
        assert [content_of(path) for path in (paths[0], tmp_path / "nothing")]
    assert len(note.read_bytes()) == len(whole) - 48


def test_a_folder_counts_by_names_and_contents_less_hidden_files_and_bytecode(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_text("a")
    found = [content_at(folder)]
    (folder / ".cache").mkdir()
    (folder / ".cache" / "b").write_text("b")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "b.pyc").write_text("b")
    found.append(content_at(folder))
    assert found[0] == found[1]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c").write_text("c")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    found.append(content_at(folder))
    (tmp_path / "elsewhere" / "c").write_text("d")
    found.append(content_at(folder))
    (folder / "inner" / "a").rename(folder / "inner" / "b")
    found.append(content_at(folder))
    assert len(set(found)) == 4


CODE = {
    "deep/__init__.py": "raise AssertionError('imported')",
    "deep/inner/models.py": "from . import blocks\nfrom beside import one",
    "deep/inner/blocks.py": "",
    "deep/unused.py": "",
    "beside.py": "def late():\n    import further.part\n    import xxhash, json, secateur\n",
    "further/part.py": "import deep, nowhere",
    "unrelated.py": "",
    "broken.py": "def (:",
}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules in the working folder."""
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    return tmp_path


def test_code_is_the_package_and_what_it_imports_and_nothing_is_imported(code: Path) -> None:
    files, versions = code_of("deep.inner.models")
    assert files == {name: code / name for name in CODE if name not in ("unrelated.py", "broken.py")}
    assert list(versions) == ["xxhash"]
    assert not {"deep", "beside", "further"} & sys.modules.keys()
    assert code_of("nowhere.at.all") == code_of("json") == ({}, {})
    assert code_of("xxhash") == ({}, versions)
    assert list(code_of("broken")[0]) == ["broken.py"]


@pytest.mark.parametrize("name", [name for name in CODE if name not in ("unrelated.py", "broken.py")])
def test_a_change_of_any_of_its_files_changes_the_code(code: Path, name: str) -> None:
    before = contents_of(TrainingConfig(model="deep.inner.models:net", epochs=1))
    assert before == {"model": code_content("deep")}
    (code / "unrelated.py").write_text("changed = True")
    assert contents_of(TrainingConfig(model="deep.inner.models:net", epochs=1)) == before
    (code / name).write_text(CODE[name] + "\n# changed")
    assert contents_of(TrainingConfig(model="deep.inner.models:net", epochs=1)) != before


def test_the_same_code_elsewhere_is_the_same(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_content("beside")
    (tmp_path / "other").mkdir()
    for name in ("beside.py", "further", "deep"):
        (code / name).rename(tmp_path / "other" / name)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "other"), *sys.path])
    importlib.invalidate_caches()
    assert code_content("beside") == before


def test_code_that_changed_since_it_was_loaded_is_refused_until_it_is_loaded_anew(code: Path) -> None:
    path = code / "unrelated.py"
    path.write_text("value = 1")
    refuse_changed([path])
    module = importlib.import_module("unrelated")
    refuse_changed([path])
    path.write_text("value = 22")
    with pytest.raises(ValueError, match=r"unrelated\.py has changed since this process loaded it"):
        refuse_changed([path])
    assert importlib.reload(module).value == 22
    refuse_changed([path])
    del sys.modules["unrelated"]
    path.write_text("value = 3")
    refuse_changed([path])


def test_names_of_the_hub_and_the_working_folder_are_no_content(code: Path) -> None:
    def found(**settings: object) -> dict[str, str]:
        return contents_of(TrainingConfig(model="mlp", model_settings=settings, epochs=1))

    (code / "mlp").mkdir()
    assert found(pretrained="owner/name", here=".", above="..", empty="", long="x" * 9999, null="\0") == {}
    (code / "weights").mkdir()
    (code / "weights" / "a").write_text("a")
    one = found(deep=[{"weights": "weights"}])
    assert one == {"model_settings": content_at(code / "weights")}
    (code / "weights" / "a").write_text("b")
    assert found(deep=[{"weights": "weights"}]) != one
