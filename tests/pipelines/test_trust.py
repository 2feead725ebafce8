"""Studies of untrusted folders are not read, and code that a study names runs in its run alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.studies.files import StudyError, load_file, read_studies
from secateur.pipelines.studies.trust import record, recorded, trust

shell = CliRunner()


@pytest.fixture
def strangers(tmp_path_factory: pytest.TempPathFactory, study_content: dict[str, Any]) -> Path:
    """A folder of one study, with an empty record of trust and another working folder."""
    trust(tmp_path_factory.getbasetemp(), remove=True)
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "blobs.yaml").write_text(yaml.safe_dump(study_content))
    return folder


def test_a_study_outside_of_the_working_folder_is_rejected_with_the_command_that_trusts_it(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=f"secateur trust {strangers}$"):
        load_file(strangers / "blobs.yaml")
    monkeypatch.setenv("SECATEUR_STUDIES", str(strangers))
    for name in ("blobs", "the_name_within_another_file"):
        assert f"secateur trust {strangers}" in str(shell.invoke(app, ["run", name]).exception)
    assert f"secateur trust {strangers}\n" in shell.invoke(app, ["studies"]).stdout
    (listed,) = [each for each in studies_in_shell() if each["file"].startswith(str(strangers))]
    assert f"secateur trust {strangers}" in listed["error"]
    # The text in the UI is the asset that stands for an unreadable study.
    from secateur.pipelines.definitions import broken_asset

    (file,) = read_studies([strangers])
    (description,) = broken_asset(file).descriptions_by_key.values()
    assert f"secateur trust {strangers}" in description


def studies_in_shell() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(shell.invoke(app, ["studies", "--json"]).stdout)["studies"]
    return listed


def test_the_working_folder_and_recorded_folders_are_trusted_with_the_folders_in_them(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(strangers.parent)
    assert load_file(strangers / "blobs.yaml").study
    monkeypatch.chdir(tmp_path)
    assert shell.invoke(app, ["trust", str(strangers)]).exit_code == 0
    assert load_file(strangers / "blobs.yaml").study
    (strangers / "below").mkdir()
    (strangers / "below/blobs.yaml").write_bytes((strangers / "blobs.yaml").read_bytes())
    assert load_file(strangers / "below/blobs.yaml").study
    # A folder whose name begins like a trusted one's is another folder, and so is the target of a link.
    beside = strangers.with_name(strangers.name + "_too")
    beside.mkdir()
    (beside / "blobs.yaml").write_bytes((strangers / "blobs.yaml").read_bytes())
    (tmp_path / "linked").symlink_to(beside)
    (tmp_path / "link.yaml").symlink_to(beside / "blobs.yaml")
    (beside / "mine.yaml").symlink_to(strangers / "blobs.yaml")
    others = (tmp_path / "linked/blobs.yaml", tmp_path / "link.yaml", beside / "mine.yaml")
    for file in (*others, beside / "blobs.yaml", strangers / ".." / beside.name / "blobs.yaml"):
        with pytest.raises(StudyError, match="secateur trust"):
            load_file(file)


def test_the_record_is_listed_and_a_folder_can_be_removed(strangers: Path) -> None:
    shell.invoke(app, ["trust", str(strangers)])
    shell.invoke(app, ["trust", str(strangers)])
    listed = json.loads(shell.invoke(app, ["trust", "--json"]).stdout)
    assert listed["recorded"] == [str(strangers)]
    assert str(strangers) in shell.invoke(app, ["trust"]).stdout
    assert shell.invoke(app, ["trust", "--remove", str(strangers)]).exit_code == 0
    assert recorded() == []
    # A folder that was replaced by a link elsewhere can be removed from the record.
    gone = strangers.with_name("gone")
    gone.mkdir()
    shell.invoke(app, ["trust", str(gone)])
    gone.rmdir()
    gone.symlink_to(strangers)
    assert shell.invoke(app, ["trust", "--remove", str(gone)]).exit_code == 0
    assert recorded() == []
    for arguments, fault in (
        (["--remove", str(strangers)], "is not recorded as trusted"),
        (["--remove"], "needs the folder"),
        ([str(strangers / "blobs.yaml")], "is no folder"),
    ):
        assert fault in str(shell.invoke(app, ["trust", *arguments]).exception)
    record().write_text('{"a": 1}')
    with pytest.raises(ValueError, match="no JSON list of folders"):
        recorded()


def test_no_listing_imports_what_a_study_names(
    tmp_path: Path, study_content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code, package or module, writes a file on import."""
    code = "from pathlib import Path; Path(__file__).with_suffix('.imported').touch()\n"
    (tmp_path / "package_of_theirs").mkdir()
    for file in ("package_of_theirs/__init__.py", "package_of_theirs/inner.py", "plain_of_theirs.py"):
        (tmp_path / file).write_text(code)
    studies = tmp_path / "studies"
    studies.mkdir()
    content = {**study_content, "recurring": {"cron": "0 3 * * 1"}}
    written = {
        "model": {
            **content,
            "training": {**content["training"], "model": "package_of_theirs.inner:build", "model_settings": {}},
        },
        "task": {
            key: value for key, value in content.items() if key not in ("source", "columns", "recurring", "validation")
        }
        | {"task": "plain_of_theirs:make"},
        "search": {
            "kind": "search",
            "space": {"callable": {"evaluate": "package_of_theirs.inner:f", "positions": {"a": list(range(20))}}},
        },
    }
    for name, each in written.items():
        (studies / f"{name}.yaml").write_text(yaml.safe_dump(each | {"name": name}))
    script = """
from secateur.pipelines.commands.main import app
app(["studies", "--json"], standalone_mode=False)
from secateur.pipelines.definitions import defs
defs().get_repository_def().load_all_definitions()
"""
    monkeypatch.setenv("SECATEUR_STUDIES", "studies")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = {each["name"]: each["error"] for each in json.loads(done.stdout)["studies"]}
    assert {name: listed[name] for name in written} == dict.fromkeys(written)
    assert not list(tmp_path.rglob("*.imported"))
    # The run does, and first.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    study = load_file(studies / "model.yaml").study
    assert study
    with pytest.raises(ValueError, match=r"package_of_theirs.inner:build"):
        study.revision(tmp_path, tmp_path / "cache")
    assert list(tmp_path.rglob("inner.imported"))


def test_a_draft_outside_of_the_working_folder_says_how_to_trust_it(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers.csv").write_text("length,kind\n" + "1,a\n2,b\n" * 60)
    for out, first in ((str(strangers / "new.yaml"), f"secateur trust {strangers} && "), ("here.yaml", "")):
        drafted = shell.invoke(app, ["init", "flowers.csv", "-o", out, "--json"])
        assert json.loads(drafted.stdout)["next"] == f"{first}secateur run {out}", drafted.output
