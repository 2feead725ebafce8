"""`secateur init owner/name`: drafts for data sets of a hub on this machine, and errors."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from local_hub import COMMIT, local_hub, settings_of

from secateur.pipelines.data.hub_place import hub_name, splits_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.studies.files import load_study
from secateur.pipelines.studies.samples import Study

CALLS = """
import json, sys
from typer.testing import CliRunner
from secateur.pipelines.commands.main import app

for words in sys.argv[1:]:
    done = CliRunner().invoke(app, ["init", *json.loads(words)])
    print(json.dumps([done.exit_code, done.stdout, str(done.exception)]))
"""
TWO = """---
configs:
- config_name: english
  data_files: [{split: train, path: train.parquet}, {split: validation, path: test.parquet}]
- config_name: french
  data_files: [{split: parallel, path: train.parquet}, {split: exam, path: test.parquet}]
---
"""
REFUSED = {
    "some/other": "the hub has no public data set of this name: check the spelling, or `hf auth login`",
    "some/gated": "it is gated: ask for access on its page of the hub, then log in with `hf auth login`",
    "some/set.v2 --revision 2.0": "revision '2.0': the data set has no such branch, tag or commit",
    "some/two": "has several configurations, name one with --config: english, french",
    "some/two --config german": "no configuration 'german' (--config), there are: english, french",
    "some/two --config english --test exam": "no split 'exam' (--test), there are: train, validation",
    "some/two --config french": "name the split to train on with --split, there are: parallel, exam",
    "some/set.v2 --separator ;": "--separator and --charset are of CSV files",
    "train.parquet --config french": "--config, --split and --revision are of data sets on the hub",
    "mine/set": "there is no file or folder 'mine/set'; digits and diabetes need no file, and `init` takes owner/",
}
"""Calls, and their messages."""
Answer = tuple[int, str, str]
Init = Callable[..., list[Answer]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder of the calls, with a folder `mine` in it."""
    path = tmp_path_factory.mktemp("hub")
    rows = [{"text": f"a {word} word and number {row}", "label": row % 2} for row in range(60) for word in ("x", "y")]
    pl.DataFrame(rows).write_parquet(path / "train.parquet")
    pl.DataFrame(rows[:40]).with_columns(pl.col("text") + " again").write_parquet(path / "test.parquet")
    (path / "mine").mkdir()
    return path


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    with local_hub("some/set.v2", folder, gated=["some/gated"], cards={"some/two": TWO}) as served:
        yield served


@pytest.fixture(scope="module")
def init(hub: tuple[str, list[str]], folder: Path) -> Init:
    """Runs calls of `secateur init`, each with its arguments, in one process; gives their answers."""

    def run(*calls: str, offline: bool = False) -> list[Answer]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
        environment |= settings_of(hub[0], folder / "hf", offline=offline)
        command = [sys.executable, "-c", CALLS, *(json.dumps(call.split()) for call in calls)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    return run


def source_in(path: Path) -> dict[str, Any]:
    study = load_study(path)
    assert isinstance(study, Study)
    return study.source.model_dump(exclude_defaults=True)


def test_a_study_of_the_hub_is_pinned_each_failure_has_its_remedy_and_a_commit_is_read_offline(
    init: Init, hub: tuple[str, list[str]], folder: Path
) -> None:
    whole, french, *refused = init(
        "some/set.v2 -o a.yaml --json",
        "hf://datasets/some/two --config french --split parallel -o b.yaml --json",
        *(f"{words} -o never.yaml" for words in REFUSED),
    )
    for (words, expected), (code, _, said) in zip(REFUSED.items(), refused, strict=True):
        assert code == 1, words
        assert expected in said, words
        assert "\n" not in said
    assert not (folder / "never.yaml").exists()
    assert whole[0] == french[0] == 0, (whole, french)
    source = {"kind": "hub", "name": "some/set.v2", "revision": COMMIT, "test": "test"}
    assert source_in(folder / "a.yaml") == source
    answer = json.loads(whole[1])
    guesses = {guess["what"]: guess["value"] for guess in answer["guesses"]}
    assert guesses | {"revision": COMMIT[:7], "label": "label", "text": "text", "test": "test"} == guesses
    assert answer["study"] == "a"
    assert source_in(folder / "b.yaml") == {
        "kind": "hub",
        "name": "some/two",
        "config": "french",
        "revision": COMMIT,
        "train": "parallel",
        "test_fraction": 0.2,
    }
    assert json.loads(french[1])["left_aside"] == ["exam"]
    hub[1].clear()
    again, unpinned = init(f"some/set.v2 --revision {COMMIT} -o c.yaml --json", "some/set.v2 -o d.yaml", offline=True)
    assert again[0] == 0, again
    assert source_in(folder / "c.yaml") == source
    assert unpinned[2].startswith("hub data set 'some/set.v2', revision 'main': the hub cannot be reached (Offline")
    assert "--revision of init) to the 40 digits" in unpinned[2]
    assert not hub[1]
    assert not (folder / "d.yaml").exists()


def test_a_path_is_no_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for text in ("data/reviews", "user/reviews.csv", "reviews", "./user/name", "/user/name", "a/b/c", "user/name/"):
        assert hub_name(text) == ""
    for text in ("user/name", "user/name-1.5", "hf://datasets/user/name"):
        assert hub_name(text).startswith("user/name")


def test_splits_are_taken_by_their_names() -> None:
    assert splits_of(["train", "test", "validation"], None, None, "x") == ("train", "test")
    assert splits_of(["validation", "train"], None, None, "x") == ("train", "validation")
    assert splits_of(["all"], None, None, "x") == ("all", None)
    assert splits_of(["a", "b"], "b", "a", "x") == ("b", "a")
    with pytest.raises(SourceError, match="--test train is the split to train on"):
        splits_of(["train", "test"], None, "train", "x")
