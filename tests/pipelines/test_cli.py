"""The command line: what people type, what they see, and one line for each mistake."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from secateur.pipelines import cli
from secateur.pipelines.study_file import StudyFile

WriteStudy = Callable[..., StudyFile]


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `secateur WORDS` as the entry point does; gives exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["secateur", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        seen = capsys.readouterr()
        return int(left.value.code or 0), seen.out, seen.err

    return run


TypeIn = Callable[..., tuple[int, str, str]]


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(cli.app, ["--help"]).output
    for command in ("run", "verify", "export", "studies"):
        assert command in text


def test_run_verify_export(
    type_in: TypeIn, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = write_study(seeds=2, keep=0.25).path
    # In a process of its own: Dagster's capture of a step's output and pytest's do not get along.
    command = [sys.executable, "-c", "from secateur.pipelines.cli import main; main()", "run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    seen = done.stdout
    for word in ("selection", "against random", "the baseline", "hardest", "full set"):
        assert word in seen
    manifest = Path(next(line for line in seen.splitlines() if line.startswith("manifest")).split()[1])
    report = Path(next(line for line in seen.splitlines() if line.startswith("report")).split()[1])
    assert report.is_file()
    assert "uniform_random" not in manifest.parts
    code, seen, _ = type_in("verify", str(manifest))
    assert code == 0
    assert "30 of 120 samples of blobs kept" in seen
    target = tmp_path / "kept.npy"
    assert type_in("export", str(manifest), "--to", "indices", "--out", str(target))[0] == 0
    assert len(np.load(target)) == 30
    code, _, errors = type_in("export", str(manifest), "--to", "indices", "--out", str(target))
    assert code == 1
    assert "exists" in errors
    table = tmp_path / "kept.parquet"
    assert type_in("export", str(manifest), "--to", "parquet", "--study", str(path), "--out", str(table))[0] == 0
    import polars as pl

    assert pl.read_parquet(table).columns == ["x", "y", "label"]
    content = (manifest / "kept.parquet").read_bytes()
    (manifest / "kept.parquet").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    code, _, errors = type_in("verify", str(manifest))
    assert code == 1
    assert "kept.parquet was changed" in " ".join(errors.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "digit"], "there is no study 'digit'; did you mean 'digits'?"),
        (["run", "no/such.yaml"], "no/such.yaml: not readable"),
        (["verify", "nowhere"], "nowhere"),
        (["export", "nowhere", "--to", "indices"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(words: list[str], said: str, type_in: TypeIn) -> None:
    code, _, errors = type_in(*words)
    assert code == 1
    assert said in " ".join(errors.split())
    assert "Traceback" not in errors


def test_unknown_format_names_the_ones_there_are(type_in: TypeIn, tmp_path: Path) -> None:
    code, _, errors = type_in("export", str(tmp_path), "--to", "excel")
    assert code == 1
    assert "error:" in errors


def test_studies_are_listed_broken_ones_with_their_reason(type_in: TypeIn, tmp_path: Path) -> None:
    import os

    folder = Path(os.environ["SECATEUR_STUDIES"])
    folder.mkdir()
    (folder / "mine.yaml").write_text("name: [")
    code, seen, _ = type_in("studies")
    assert code == 0
    assert "digits" in seen
    assert "mine" in seen
    assert "broken" in seen
