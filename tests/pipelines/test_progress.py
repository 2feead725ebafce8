"""No step of a command is silent: while one is stuck, and reports nothing, the terminal still changes."""

import importlib
import io
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import rich.live
from rich.console import Console
from typer.testing import CliRunner

from secateur.pipelines.commands import shell, trials
from secateur.pipelines.commands.main import app

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
LONGEST = 2.0
"""Longest time between two states of the display, in seconds."""


class Screen(io.StringIO):
    """A terminal that counts changes of its content, and lets a step wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.shown, self.changes, self.changed = "", 0, threading.Condition()
        self.seen: list[str] = []

    def write(self, text: str) -> int:
        plain = CONTROL.sub("", text).strip()
        with self.changed:
            if plain and plain != self.shown:
                self.shown, self.changes = plain, self.changes + 1
                self.seen.append(plain)
                self.changed.notify_all()
        return len(text)

    def stuck(self, step: str) -> str:
        """Act as a silent step until the terminal has changed three times; returns its content then."""
        with self.changed:
            end = self.changes + 3
            assert self.changed.wait_for(lambda: self.changes >= end, timeout=120), f"{step}: nothing is shown"
            return self.shown


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """The terminal of the commands' progress; each display refreshes itself, in time."""
    made, rates = Screen(), list[float]()
    console = Console(file=made, force_terminal=True, width=100)
    for module in (shell, trials):
        monkeypatch.setattr(module, "err", console)
    start = rich.live._RefreshThread.__init__

    def started(self: Any, live: Any, rate: float) -> None:
        rates.append(rate)
        start(self, live, rate)

    monkeypatch.setattr(rich.live._RefreshThread, "__init__", started)
    yield made
    assert rates
    assert min(rates) >= 1 / LONGEST


def slow(screen: Screen, monkeypatch: pytest.MonkeyPatch, *places: str) -> dict[str, str]:
    """Make functions block first; returns the terminal's contents meanwhile, by place, in the order of calls."""
    met: dict[str, str] = {}
    for place in places:
        module, _, name = place.rpartition(".")
        before = getattr(importlib.import_module(module), name)

        def late(*given: Any, place: str = place, before: Callable[..., Any] = before, **named: Any) -> Any:
            if place not in met:
                met[place] = screen.stuck(place)
            return before(*given, **named)

        monkeypatch.setattr(place, late)
    return met


def test_each_step_of_a_study_is_seen(write_study: Any, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        "secateur.pipelines.assets.data.check_data": "reading the data",
        "secateur.pipelines.runs.proxy.train": "training the proxy",
        "secateur.pipelines.assets.subsets.subset_page": "choosing",
        "secateur.pipelines.runs.training.train": "training",
        "secateur.pipelines.assets.training.judged": "testing models",
        "secateur.pipelines.assets.written_report.page_of": "comparing and drawing the report",
    }
    hardest = {"hardest": {"selector": "top", "score": "el2n"}}
    file = write_study(keep=[0.5], seeds=1, selections=hardest, metric="loss")
    met = slow(screen, monkeypatch, *steps)
    done = CliRunner().invoke(app, ["run", str(file.path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "The report recommends no selection; this manifest is of the first one." in done.stdout
    assert list(met) == list(steps)
    for step, words in steps.items():
        assert words in met[step], step


def test_a_forecast_is_seen(write_study: Any, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    met = slow(screen, monkeypatch, "secateur.pipelines.materialise.to_make")
    done = CliRunner().invoke(app, ["run", str(write_study().path), "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "reading stored results" in str(met)


def test_heads_and_prompts_are_seen(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.trainers.experiments.head_pruning import HeadPruning
    from secateur.trainers.experiments.prompt_pruning import PromptPruning

    file, met = tmp_path / "text.txt", list[str]()
    file.write_text("one {text} two")

    def stuck(answer: Any) -> Callable[..., Any]:
        def step(*_: Any, **__: Any) -> Any:
            met.append(screen.stuck(str(answer)))
            return answer

        return step

    score = "secateur.scorers.networks.retrieval_heads.retrieval_heads"
    monkeypatch.setattr(score, lambda *_, **__: np.array([[0.9, 0.0], [0.0, 0.0]]))
    monkeypatch.setattr(HeadPruning, "load", stuck("the model"))
    monkeypatch.setattr(HeadPruning, "runs", stuck(([], np.ones(2))))
    done = CliRunner().invoke(app, ["heads", "model", "--haystack", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    outcome = SimpleNamespace(metrics={"accuracy": 1.0, "length": 3.0}, facts={"prompt": "two"})
    monkeypatch.setattr(PromptPruning, "prepare", stuck(None))
    monkeypatch.setattr(PromptPruning, "run", stuck(SimpleNamespace(outcome=outcome, kept=None)))
    command = ["prompts", "model", str(file), "--examples", str(file), "--label", "a", "--method", "gga"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    words = ["loading the model", "prompts run", "loading the model and the examples"]
    for shown, expected in zip(met, [*words, *(f"passes of {arm}" for arm in ("full", "gga", "random"))], strict=True):
        assert expected in shown
    assert any("loading libraries" in shown for shown in screen.seen)


def test_commands_that_read_files_are_seen(
    screen: Screen, manifest_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For manifests and for files of data: each shows that it reads while it does."""
    file = tmp_path / "rows.csv"
    file.write_text("x,label,score\n" + "".join(f"{n / 2},{n % 2},{n}\n" for n in range(40)))
    table = datasets.Dataset.from_csv(str(file), cache_dir=str(tmp_path / "cache"))
    manifest = str(manifest_of(table, {"features": ["x"], "label": "label"}, [0, 3]).path)
    kept = str(tmp_path / "kept.csv")
    for step, words in {
        "secateur.pipelines.manifests.manifest.check_seals": ["verify", manifest],
        "secateur.pipelines.manifests.diff.compare": ["diff", manifest, manifest],
        "secateur.pipelines.manifests.explain.places_of": ["explain", manifest, "3"],
        "secateur.pipelines.manifests.row_files.write_kept": ["apply", manifest, str(file), "-o", kept],
        "secateur.pipelines.studies.draft_rows.read_rows": ["init", str(file), "-o", str(tmp_path / "rows.yaml")],
        "secateur.pipelines.front_door.select.choose": [
            *("select", str(file), "--score", "score", "--keep", "0.5", "-o", str(tmp_path / "half.csv"))
        ],
    }.items():
        met = slow(screen, monkeypatch, step)
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
        assert "reading the data" in met[step], step


def test_a_log_gets_a_line_for_each_stage_as_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(trials, "err", Console(file=log, width=100))
    monkeypatch.setattr(shell, "err", Console(file=log, width=100))
    with trials.bars() as progress:
        for number, stage in enumerate(("reading the data", "training the [proxy]", "training the [proxy]", "scoring")):
            progress.stage(stage)
            progress.start(None, "epochs")(number, 3)
            assert log.getvalue().splitlines()[-1].endswith(f" {stage}")
    with shell.bar("files read") as progress_of_one:
        progress_of_one(1, 2)
    lines = log.getvalue().splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        *("loading libraries", "reading the data", "training the [proxy]", "scoring")
    ]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d .+", line) for line in lines)
