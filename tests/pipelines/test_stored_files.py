"""Changed files are found and made again; results that no study names any more are listed, and removed on request."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from documents import ROOT, printed_on
from typer.testing import CliRunner, Result

from secateur.pipelines.assets.named import row_folders
from secateur.pipelines.commands import home as commands
from secateur.pipelines.commands.main import app
from secateur.pipelines.data.sources import load
from secateur.pipelines.definitions import build
from secateur.pipelines.materialise import Made, run_study
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.storage.records import StoredError, records_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.storage.study_lock import study_lock
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.files import StudyFile, load_study

CONTENT: dict[str, Any] = {
    "name": "blobs",
    "source": {"kind": "parquet", "train": "../train.parquet", "test": "../test.parquet"},
    "columns": {"features": ["x", "y"], "label": "label"},
    "proxy": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 2},
    "scores": {"el2n": None, "aum": None, "checkpoint_loss": None},
    "selections": {"hardest": {"selector": "top", "score": "el2n"}, "least": {"selector": "top", "score": "aum"}},
    "keep": [0.5],
    "training": {"model": "mlp", "model_settings": {"hidden": [8]}, "steps": 4},
    "seeds": 2,
}
LESS = CONTENT | {
    "scores": {"el2n": None},
    "selections": {"hardest": {"selector": "top", "score": "el2n"}},
    "seeds": 1,
}
"""Without a selection, two scores and a seed."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `studies/blobs.yaml` and the home that it was run in whole."""
    folder = tmp_path_factory.mktemp("made")
    for name, count, seed in (("train", 30, 0), ("test", 15, 1)):
        labels = np.arange(count) % 3
        points = np.random.default_rng(seed).normal(np.stack([labels, -labels], axis=1), 1.0)
        pq.write_table(pa.table({"x": points[:, 0], "y": points[:, 1], "label": labels}), folder / f"{name}.parquet")
    file = study_of(folder, CONTENT)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("SECATEUR_HOME", str(folder / "home"))
        run_study(file, marked_home() / "assets", instance)
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that home, all files of another time, and the study that was run."""
    copy = tmp_path / "home"
    shutil.copytree(made / "home", copy, copy_function=shutil.copyfile)
    monkeypatch.setenv("SECATEUR_HOME", str(copy))
    monkeypatch.setenv("SECATEUR_STUDIES", str(made / "studies"))
    yield copy
    study_of(made, CONTENT)


def study_of(folder: Path, content: dict[str, Any]) -> StudyFile:
    path = folder / "studies" / "blobs.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return StudyFile(path, load_study(path))


def run(made: Path, home: Path, content: dict[str, Any] = CONTENT) -> tuple[Made, list[str]]:
    """Run the study; the number of made results, and the messages."""
    told: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(study_of(made, content), home / "assets", instance, told=told.append), told


def secateur(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def files_below(folder: Path) -> dict[str, bytes]:
    """Content by path, without locks."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if ".locks" not in path.parts}


def flip(path: Path) -> None:
    """Change the last byte of a file, but not its size."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_copy_of_a_home_is_fresh(made: Path, home: Path) -> None:
    result, told = run(made, home)
    assert (result.made, told) == (0, [])
    assert secateur("verify", "--home").exit_code == 0


def test_whatever_file_is_changed_it_is_named_never_read_and_made_again(made: Path, home: Path) -> None:
    root = home / "assets"
    before, store = files_below(root / "blobs"), Store(root)
    changed = [(record, [root / "blobs" / name for name in record.files]) for record in records_of(root, "blobs")]
    for record, paths in changed:
        for path in paths:
            flip(path)
        if paths:
            with pytest.raises(StoredError, match=r"was changed since secateur wrote it: materialise blobs/"):
                store.load(record.names, record.trial)
    every = [str(path) for _, paths in changed for path in paths]
    assert len(every) > 60

    done = secateur("verify", "--home", "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["sound"]) == (1, False)
    assert {str(root / "blobs" / fault["file"]) for fault in answer["faults"]} == set(every)

    result, told = run(made, home)
    named = [text.partition(" was changed since")[0] for text in told]
    # The cost of a whole scoring pass belongs to no single asset.
    assert sorted(named) == sorted(set(every) - {str(root / "blobs" / "scoring_pass_cost.json")})
    assert all("is made again" in text for text in told)
    assert result.fresh == 0
    after = files_below(root / "blobs")
    # Measured times differ, and so do reports of them.
    same = [name for name in before if name.endswith((".npy", ".parquet", ".arrow", ".safetensors"))]
    assert len(same) > 30
    assert [name for name in same if before[name] != after[name]] == []
    assert run(made, home) == (Made(0, result.made), [])


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (Path.unlink, "missing"),
        (flip, "changed"),
        (lambda path: path.write_bytes(path.read_bytes() + b"0"), "changed"),
        (lambda path: flip(path), "changed"),
        (lambda path: (path.parent / "more.safetensors").write_bytes(b"0"), "added"),
    ],
)
def test_the_shell_says_what_is_not_as_it_was_written(home: Path, harm: Callable[[Path], object], fault: str) -> None:
    weights = home / "assets" / "blobs" / "proxy" / "seed-0" / "model.safetensors"
    times = weights.stat()
    Store(home / "assets").load(("blobs", "proxy"))  # records the times of a copy's files
    harm(weights)
    unseen = weights.exists() and weights.stat().st_size == times.st_size and fault == "changed"
    if fault == "changed":  # without a change of the time
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    (home / "assets" / "blobs" / "proxy" / "seed-0" / ".DS_Store").write_bytes(b"of a file browser")
    done = secateur("verify", "--home", "--study", "blobs")
    assert done.exit_code == 1
    assert f"1 {fault}" in done.stdout
    told = " ".join(done.stdout.split())
    assert "secateur run blobs" in told
    assert ("delete blobs/proxy/seed-0/model.safetensors, whose size and time are as they were" in told) == unseen
    assert max(map(len, done.stdout.splitlines()[:2])) <= 80
    assert isinstance(secateur("verify", "--home", "--study", "blob").exception, ValueError)
    assert isinstance(secateur("verify").exception, ValueError)


def unnamed(path: str) -> bool:
    """Whether a file belongs to something that `LESS` does not name, by its path alone."""
    parts = Path(path).parts
    place = [part for part in parts if part == "full" or "@" in part]
    seed = place and Path(parts[parts.index(place[0]) + 1]).stem if len(parts) > 1 and place else ""
    curves = parts[0] == "tensorboard"
    return (
        any(part.startswith("least@") for part in parts)
        or (not curves and seed == "1")
        or (curves and parts[2].endswith("-1"))
        or Path(path).stem in ("aum", "checkpoint_loss")
        or ".score_store" in parts
    )


def in_words(printed: str) -> list[str]:
    """What was printed, line by line, without sizes of files: these depend on versions of libraries."""
    sizes = re.sub(r"[\d,]+(?= bytes| *$)", "#", printed, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in sizes.strip().splitlines()]


def test_commands_print_what_the_page_shows(made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = dict(printed_on(ROOT / "docs" / "cli.md"))
    file = home / "assets" / "blobs" / "proxy" / "seed-0" / "model.safetensors"
    whole = file.read_bytes()
    flip(file)
    assert in_words(secateur("verify", "--home").stdout) == in_words(shown["verify --home"])
    file.write_bytes(whole)

    scores = dict.fromkeys(("el2n", "checkpoint_loss"))
    study_of(made, CONTENT | {"scores": scores, "selections": LESS["selections"]})
    monkeypatch.setattr(commands, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    answered = CliRunner().invoke(app, ["clean"], input="n\n")
    assert in_words(answered.output.removesuffix("n\n")) == in_words(shown["clean"])


def test_what_no_study_names_goes_when_asked_and_nothing_else(
    made: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(secateur("clean", "--dry-run", "--json").stdout)["leftovers"] == []
    own = home / "assets" / "blobs" / "manifest" / "least@0.5" / "0" / "notes.txt"
    own.write_text("mine")
    prepared = home / "assets" / ".cache" / "prepare-deleted" / "inputs.npy"
    prepared.parent.mkdir()
    prepared.write_bytes(bytes(100))
    before = files_below(home)
    file = study_of(made, LESS)

    shown = build([file], home / "assets").resolve_asset_graph().get(dg.AssetKey(["blobs", "report"])).metadata
    assert "selection least@0.5" in shown["no longer named"].value
    assert "secateur clean" in shown["no longer named"].value

    listed = secateur("clean", "--dry-run")
    assert listed.exit_code == 0
    for what in ("selection least@0.5", "seed 1", "scores/aum", "TensorBoard curves of least@0.5-0", "unfinished prep"):
        assert what in listed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80
    answer = json.loads(secateur("clean", "--dry-run", "--json").stdout)
    assert answer["without_record"] == [str(own)]
    assert "no terminal to ask in" in str(secateur("clean").exception)
    with study_lock(home / "assets", "blobs"):
        held = secateur("clean", "--yes")
    assert "study blobs is at work" in held.stderr
    gone = str(prepared.relative_to(home))
    assert files_below(home) == {name: content for name, content in before.items() if name != gone}

    # The user may refuse.
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(commands, "asked", lambda going: False)
    assert json.loads(secateur("clean", "--json").stdout)["removed"] == []
    done = json.loads(secateur("clean", "--yes", "--json").stdout)
    after = files_below(home)
    kept = {name: content for name, content in before.items() if not unnamed(name) and name != gone}
    assert after == kept | {str(own.relative_to(home)): b"mine"}
    left = {path for path in answer["leftovers"] for path in path["paths"] if "prepare" not in path}
    assert set(done["removed"]) == left
    assert done["bytes"] > 1000
    assert json.loads(secateur("clean", "--dry-run", "--json").stdout)["leftovers"] == []
    assert secateur("verify", "--home").exit_code == 0


def test_results_of_studies_that_are_not_there_stay_until_they_are_named(
    made: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = home / "assets" / "mine" / "data.npy"
    other.parent.mkdir()
    other.write_bytes(b"not of secateur")
    before = files_below(home)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path / "elsewhere"))
    told = secateur("clean", "--yes")
    assert "SECATEUR_STUDIES may point elsewhere" in told.stderr
    assert {name for name in before if "/.cache/" not in name} <= files_below(home).keys()
    (tmp_path / "elsewhere" / "broken.yaml").write_text("name: [")
    assert "broken cannot be read" in str(secateur("clean", "--yes", "--gone-studies").exception)
    (tmp_path / "elsewhere" / "broken.yaml").unlink()
    assert secateur("clean", "--yes", "--gone-studies").exit_code == 0
    assert {name for name in files_below(home) if not name.endswith("layout.json")} == {"assets/mine/data.npy"}


def test_scores_of_a_network_that_a_study_names_are_no_leftovers(
    made: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"model": "secateur.trainers.models.searchable:searchable_mlp", "epochs": 2}
    selections = {"hardest": {"selector": "top", "score": "checkpoint_loss"}}
    own = CONTENT | {"proxy": network, "scores": {"checkpoint_loss": None}, "selections": selections}
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "other"))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(study_of(made, own), marked_home() / "assets", instance, part="scores")
    assert (tmp_path / "other" / "assets" / "blobs" / ".score_store").is_dir()
    assert json.loads(secateur("clean", "--dry-run", "--json").stdout)["leftovers"] == []


def test_rows_of_a_search_are_known_and_where_one_study_cannot_tell_no_rows_are_listed(made: Path, home: Path) -> None:
    base, store = made / "studies", Store(home / "assets")
    space = {
        "positions": {"learning_rate": [0.01 * rate for rate in range(1, 11)], "batch_size": [8, 16]},
        **{name: CONTENT[name] for name in ("source", "columns")},
        "training": {"model": "mlp", "epochs": 1},
    }
    search = Search.model_validate({"kind": "search", "name": "networks", "space": {"models": space}})
    assert search.space.models
    load(search.space.models.source, search.space.models.columns, base, home / "assets" / ".cache")
    folders = row_folders(search, store, base)
    assert folders
    assert all(folder.is_dir() for folder in folders)
    assert folders[0] not in (row_folders(load_study(base / "blobs.yaml"), store, base) or [])
    unread = home / "assets" / ".cache" / "rows" / ("0" * 32)
    unread.mkdir(parents=True)
    (unread / "train-00000.arrow").write_bytes(b"1")

    def rows() -> list[str]:
        answer = json.loads(secateur("clean", "--dry-run", "--json").stdout)
        return [path for each in answer["leftovers"] for path in each["paths"] if "/rows/" in path]

    assert any(unread.name in path for path in rows())
    flip(home / "assets" / "blobs" / "source.json")
    assert rows() == []
