"""A home of another version is rejected before any read or write there."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.storage.home import LAYOUT, MARK, HomeError, home, marked_home


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_home_is_marked_by_whoever_writes_and_by_nobody_else() -> None:
    folder = Path(os.environ["SECATEUR_HOME"])
    assert home() == folder
    assert not folder.exists()
    assert marked_home() == folder
    assert json.loads((folder / MARK).read_text()) == {"layout": LAYOUT}
    (folder / "assets").mkdir()
    before = contents(folder)
    assert home() == marked_home() == folder
    assert contents(folder) == before


def test_a_folder_that_nothing_ran_in_is_taken() -> None:
    folder = Path(os.environ["SECATEUR_HOME"])
    (folder / "dagster").mkdir(parents=True)  # as in docs/deploy.md, for the user's own settings
    assert marked_home() == folder


@pytest.mark.parametrize("mark", [None, "", "{", '{"layout": 1}', f'{{"layout": {LAYOUT + 1}}}'])
@pytest.mark.parametrize("command", [["run", "digits"], ["score", "digits"], ["init", "digits"]])
def test_a_home_of_another_version_is_rejected_and_left_alone(mark: str | None, command: list[str]) -> None:
    folder = Path(os.environ["SECATEUR_HOME"])
    (folder / "assets" / "digits").mkdir(parents=True)
    (folder / "assets" / "digits" / ".made_of.json").write_text("{}")
    if mark is not None:
        (folder / MARK).write_text(mark)
    before = contents(folder)
    with pytest.raises(HomeError, match=r"another version of secateur.*move it away, or name another.*SECATEUR_HOME"):
        home()
    assert isinstance(CliRunner().invoke(app, command).exception, HomeError)
    assert contents(folder) == before


def test_a_home_that_another_process_begins_meanwhile_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, begun = Path(os.environ["SECATEUR_HOME"]), list[bool]()

    def exists(path: Path, there: Callable[[Path], bool] = Path.exists) -> bool:
        answer = there(path)
        if not begun:  # after the first look of this process
            begun.append(True)
            marked_home()
            (folder / "assets").mkdir()
        return answer

    monkeypatch.setattr(Path, "exists", exists)
    assert home() == folder
