"""Where an audit writes: never over data, links, devices, or files that it did not write."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.commands.main import app

TABLE = pl.DataFrame({"x": np.arange(30) // 2, "y": np.arange(30) // 2 * 3})
PAGES = [("mine.html", "is no page that secateur audit wrote"), ("page.txt", "a page is written as .html")]
TABLES = [
    ("train.csv", "is an input of this audit"),
    ("link.csv", "is an input of this audit"),
    ("other.csv", "is a link"),
    ("kept.csv", "holds no findings that secateur audit wrote"),
    ("benchmarks/found.csv", "lies in .*benchmarks, an input"),
    ("found.txt", "findings are written as .csv or .parquet"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, a folder of benchmarks, files of the user's own, and links; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    for name in ("train.csv", "kept.csv", "benchmarks/one.csv"):
        TABLE.write_csv(name)
    Path("mine.html").write_text("<p>mine</p>")
    Path("link.csv").symlink_to("train.csv")
    Path("other.csv").symlink_to("kept.csv")
    return tmp_path


def contents(place: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("option", "path", "told"),
    [
        *(("--page", *one) for one in PAGES),
        *(("--findings", *one) for one in TABLES),
        ("--page", "train.csv", "is an input of this audit"),
        ("--findings", "/dev/null", "findings are written as"),
        ("--write", "benchmarks/audit", "lies in .*benchmarks, an input"),
        ("--write", "benchmarks", "is an input"),
        ("--write", ".", "an input of this audit, lies in"),
    ],
)
def test_nothing_is_written_over_what_secateur_did_not_write(
    place: Path, option: str, path: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object, **__: object) -> None:
        raise AssertionError("data were read before the path was refused")

    monkeypatch.setattr("secateur.pipelines.commands.audit.look", looked)
    before = contents(place)
    done = CliRunner().invoke(app, ["audit", "train.csv", "--against", "benchmarks", option, path, "--overwrite"])
    assert isinstance(done.exception, ValueError | FileExistsError), done.output
    with pytest.raises(type(done.exception), match=told):
        raise done.exception
    assert contents(place) == before


def test_a_saved_audit_replaces_its_own_files_alone(place: Path) -> None:
    found = sc.audit("train.csv", against="benchmarks", unlabelled=True, near=False, progress=False)
    for name in ("page.html", "found.csv", "found.parquet", "folder"):
        found.save(name)
        found.save(name, overwrite=True)
        with pytest.raises(FileExistsError, match="exists already"):
            found.save(name)
    before = contents(place)
    for name, told in [("mine.html", PAGES[0][1]), *TABLES]:
        with pytest.raises((ValueError, FileExistsError), match=told):
            found.save(name, overwrite=True)
    assert contents(place) == before
