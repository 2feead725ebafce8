"""A disk that fails at each place that writes, once: full, at the rename, or with a torn file."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_scenes import compared, leftovers, write_studies
from safetensors.numpy import save_file

from secateur.pipelines.commands.main import main
from secateur.pipelines.files import partial_names, whole_files
from secateur.pipelines.storage import records

LONG = ("points", "words", "networks")
FAULTS = ("no room", "rename", "torn")
LAYER = ("files/whole_files.py", "files/partial_names.py", "files/unwritable.py")
LAYER += ("storage/store.py", "storage/records.py")
PRODUCT = Path(whole_files.__file__).parents[1].resolve()


class FaultyDisk:
    """Fails once at each place of the product that writes through the layer; kinds of faults alternate."""

    def __init__(self, patch: pytest.MonkeyPatch, first: int) -> None:
        self.met: set[str] = set()
        self.kinds = dict.fromkeys(FAULTS, 0)
        self.first, self.due = first, ""
        patch.setattr(whole_files, "claimed", self.claimed)
        patch.setattr(records, "claimed", self.claimed_record)
        for name in ("_place", "_replace_folder"):
            patch.setattr(whole_files, name, self.rename(getattr(whole_files, name)))
        for name in ("_flush", "_flush_folder"):
            patch.setattr(whole_files, name, self.flush(getattr(whole_files, name)))

    @contextmanager
    def claimed(self, path: Path, *, folder: bool) -> Iterator[Path]:
        place, self.due = place_here(), ""
        if place not in self.met:
            self.due = FAULTS[(sum(self.kinds.values()) + self.first) % len(FAULTS)]
            self.met.add(place)
            self.kinds[self.due] += 1
        if self.due == "no room":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with partial_names.claimed(path, folder=folder) as partial:
            yield partial

    @contextmanager
    def claimed_record(self, path: Path, *, folder: bool) -> Iterator[Path]:
        """Records follow their values, so they fail once for each file of the product that writes values."""
        place = f"record: {place_here().partition(':')[0]}"
        if place not in self.met:
            self.met.add(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with partial_names.claimed(path, folder=folder) as partial:
            yield partial

    def rename(self, whole: Any) -> Any:
        def fails(*args: Any, **named: Any) -> None:
            if self.due == "rename":
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            whole(*args, **named)

        return fails

    def flush(self, whole: Any) -> Any:
        def fails(path: Path) -> None:
            if self.due == "torn":
                files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
                for each in files:
                    os.truncate(each, each.stat().st_size // 2)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            whole(path)

        return fails


def place_here() -> str:
    """File and line of the product that requested a new file or folder."""
    frame: Any = sys._getframe(1)
    while frame:
        path = Path(frame.f_code.co_filename).resolve()
        if path.is_relative_to(PRODUCT) and not path.as_posix().endswith(LAYER):
            return f"{path.relative_to(PRODUCT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside"


def run(name: str, home: Path, patch: pytest.MonkeyPatch) -> int:
    """Exit code of `secateur run` in this process."""
    return type_in(["run", name], home, patch)


def type_in(words: list[str], home: Path, patch: pytest.MonkeyPatch) -> int:
    """Exit code of a command in this process."""
    patch.setenv("SECATEUR_HOME", str(home))
    patch.setattr(sys, "argv", ["secateur", *words])
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


@pytest.mark.parametrize("study", ["weights", *(pytest.param(each, marks=pytest.mark.nightly) for each in LONG)])
def test_wherever_the_disk_fails_nothing_is_torn_and_the_bytes_come_out_the_same(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_studies(tmp_path)
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path))
    calm, home = tmp_path / "calm", tmp_path / "home"
    assert run(study, calm, monkeypatch) == 0
    once = compared(calm, "assets")
    with monkeypatch.context() as patch:
        disk = FaultyDisk(patch, first=0)
        capfd.readouterr()
        while (code := run(study, home, patch)) == 2:
            (told,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
            assert "cannot be written: " in told
            there = compared(home, "assets")
            # A preparation remains for the run that resumes it.
            others = [name for name, value in there.items() if once.get(name, "") != value]
            assert [name for name in (*others, *leftovers(home)) if "prepare-" not in name] == []
            assert len(disk.met) < 100
    assert code == 0, capfd.readouterr().err
    assert compared(home, "assets") == once
    assert leftovers(home) == []
    assert min(disk.kinds.values()) >= 3, disk.met
    assert any(place.startswith("record: ") for place in disk.met)


def commands(folder: Path, kept: str) -> Iterator[tuple[list[str], str]]:
    """Commands other than `run` that write to a folder, and the name of the file or folder that each writes there."""
    for to, target in (("jsonl", "a.jsonl"), ("parquet", "a.parquet"), ("datasets", "rows"), ("card", "a.md")):
        yield ["export", kept, "--to", to, "--study", "points", "-o", str(folder / target)], target
    yield ["apply", kept, "points.parquet", "-o", str(folder / "kept.parquet")], "kept.parquet"
    yield ["init", "points.parquet", "-o", str(folder / "draft.yaml"), "--name", "draft"], "draft.yaml"
    pair = ["base.safetensors", "tuned.safetensors"]
    yield ["deltas", *pair, "--keep", "0.25", "-o", str(folder / "deltas")], "deltas"
    yield ["apply", str(folder / "deltas"), pair[0], "--tuned", pair[1], "-o", str(folder / "again")], "again"
    yield ["trust", str(folder)], "settings"


def contents(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, whose own path is replaced."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    here = str(folder).encode()
    return {str(path.relative_to(folder)): path.read_bytes().replace(here, b"here") for path in found}


def test_other_commands_leave_nothing_torn_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_studies(tmp_path)
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    home, calm, odd = (tmp_path / name for name in ("home", "calm", "odd"))
    assert type_in(["select", "points"], home, monkeypatch) == 0
    kept = str(home / "assets" / "points" / "manifest" / "hardest@0.5" / "0")
    weights = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(4, np.float32)}
    save_file(weights, tmp_path / "base.safetensors")
    save_file({name: each * 1.5 for name, each in weights.items()}, tmp_path / "tuned.safetensors")
    pairs = [*zip(commands(calm, kept), commands(odd, kept), strict=True)]
    for (undisturbed, _), (words, target) in pairs:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(calm / "settings"))
        calm.mkdir(exist_ok=True)
        odd.mkdir(exist_ok=True)
        assert type_in(undisturbed, home, monkeypatch) == 0
        monkeypatch.setenv("XDG_CONFIG_HOME", str(odd / "settings"))
        before = contents(odd)
        with monkeypatch.context() as patch:
            disk = FaultyDisk(patch, first=len(before))
            capfd.readouterr()
            while (code := type_in(words, home, patch)) == 2:
                errors = capfd.readouterr().err
                assert errors.count("error: ") == 1, words
                assert "cannot be written: " in " ".join(errors.split()), (words, errors)
                assert contents(odd) == before, words
                assert len(disk.met) < 20
        assert code == 0, (words, capfd.readouterr().err)
        assert disk.met, words
        assert any(name.split("/")[0] == target for name in contents(odd)), words
        assert contents(odd) == contents(calm), words
