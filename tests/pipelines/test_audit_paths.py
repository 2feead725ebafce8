"""Output paths of an audit: never over data, links, devices, or files that it did not write."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
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
        ("--write", "kept.csv/audit", r"^kept\.csv/audit: .*kept\.csv is no folder"),
        ("--findings", "kept.csv/new/found.csv", r"^kept\.csv/new/found\.csv: .*kept\.csv is no folder"),
        ("--page", "/proc/page.html", "/proc/page.html: nothing can be written in /proc"),
        ("--write", "/proc/audit", "/proc/audit: nothing can be written in /proc"),
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


def test_a_path_whose_folders_are_made_is_written(place: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "train.csv", "--exact", "--no-label", "--page", "new/folder/page.html"])
    assert (done.exit_code, Path("new/folder/page.html").is_file()) == (0, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--label", "y", "--label", "y"], "column 'y' is named twice as a label"),
        (["--features", "x", "--features", "x"], "column 'x' is named twice as a feature"),
        (["--no-label", "--label", "y"], "column 'y' is named as the label, and labels are not to be looked at"),
        (["--test", "pictures"], "test: .*pictures.* holds pictures, and the training rows are tables of 'x'"),
        (["--against", "digits"], "digits holds pictures, and the training rows are tables of 'x'"),
    ],
)
def test_options_that_contradict_each_other_or_the_data_are_refused(place: Path, options: list[str], told: str) -> None:
    for name in ("a", "b"):
        (place / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / "pictures" / name / "one.png")
    with pytest.raises(ValueError, match=told):
        raise CliRunner().invoke(app, ["audit", "train.csv", "--exact", *options]).exception or AssertionError


def test_a_saved_audit_replaces_its_own_files_alone(place: Path) -> None:
    found = sc.audit("train.csv", against="benchmarks", unlabelled=True, near=False, progress=False)
    for name in ("page.html", "found.csv", "found.parquet", "folder"):
        found.save(name)
        found.save(name, overwrite=True)
        told = r"exists already: name another path, or replace it with --overwrite \(in Python overwrite=True\)$"
        with pytest.raises(FileExistsError, match=told):
            found.save(name)
    before = contents(place)
    for name, told in [("mine.html", PAGES[0][1]), *TABLES]:
        with pytest.raises((ValueError, FileExistsError), match=told):
            found.save(name, overwrite=True)
    assert contents(place) == before
