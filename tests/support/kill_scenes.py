"""Scenes in which two commands run at once in one home and are killed again and again, and what must be there after.

Each scene ends with the same commands, which nobody kills, and is compared with homes in which nobody was killed.
"""

import json
import random
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import yaml
from dagster._core.op_concurrency_limits_counter import GlobalOpConcurrencyLimitsCounter
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, RunOpConcurrency
from killed_commands import Commands

from secateur.pipelines.assets.resources import ACCELERATOR
from secateur.pipelines.assets.running import folder_of
from secateur.pipelines.files.partial_names import LEFTOVER, SNAPSHOT
from secateur.pipelines.materialise import instance_at, set_pools
from secateur.pipelines.pages.tables import SAVING, TIME

SMALL = {"model": "mlp", "model_settings": {"hidden": [4]}, "batch_size": 16}
PARTS: dict[str, Any] = {
    "proxy": SMALL | {"epochs": 2},
    "scores": {"aum": None},
    "selections": {"hardest": {"selector": "top", "score": "aum"}},
    "keep": [0.5],
    "training": SMALL | {"steps": 4},
    "seeds": 1,
}
POINTS: dict[str, Any] = {
    "source": {"kind": "parquet", "train": "points.parquet", "test": "points_test.parquet"},
    "columns": {"features": ["x", "y"], "label": "label"},
}
TEXTS: dict[str, Any] = {
    "source": {"kind": "parquet", "train": "words.parquet", "test": "words_test.parquet"},
    "columns": {"text": "text", "label": "label"},
}
PRUNING = {
    "kind": "pruning", "experiment": "differentiable_pruning", "settings": {"width": 4, "epochs": 2},
    "keep": [0.5], "seeds": 1,
}  # fmt: skip
SEARCHABLE = "secateur.trainers.models.searchable:searchable_mlp"
SPACE = POINTS | {
    "training": {"model": SEARCHABLE, "steps": 4, "batch_size": 16},
    "positions": {"layer1": ["skip", 4, 8], "layer2": ["skip", 4, 8], "layer3": ["skip", 4]},
}
PREDICTOR = {"trees": 3, "leaves": 2, "least_in_leaf": 1}
SEARCH = {
    "kind": "search", "space": {"models": SPACE}, "evolution": {"population": 3, "sample": 2}, "seeds": 1,
    "search": {"initial": 4, "per_round": 2, "budget": 8, "predictor": PREDICTOR, "pruning": {"per_round": 1}},
}  # fmt: skip
STUDIES: dict[str, Mapping[str, Any]] = {
    "points": POINTS | PARTS, "words": TEXTS | PARTS, "weights": PRUNING, "networks": SEARCH
}  # fmt: skip
"""The smallest studies of each kind."""
PAIRS = {
    "a study of samples and one of texts": ("points", "words"),
    "a pruning and a search": ("weights", "networks"),
    "one study twice, one waits for the other": ("words --wait", "words --wait"),
    "an export beside a run": ("export", "points"),
}
TIMED = {
    "report/report.html": "shows how long each step took",
    "report/report.md": "shows how long each step took",
    "report/accuracy_by_seconds.svg": "draws how long each step took",
    "/.ledger/files/": "records when each file was written, and the digests of files that hold such times",
}
TIMES = {"seconds", "compute", "content", "made_of", "saving", "time_to_accuracy", SAVING.lower(), TIME.lower()}
"""Keys of JSON that are not compared: how long steps took, and in the ledger the digests of files that hold such times.
"""
APART = {
    "assets/.locks": "files of locks stay, since another process might hold them",
    "assets/.cache/contents": "what is known of files goes by when they were looked at",
    "assets/.cache/exports": "Arrow files of the datasets library, which names its locks by their place",
}


def write_studies(folder: Path) -> None:
    """The studies and their data."""
    draw = np.random.default_rng(0)
    for ending, rows in (("", 60), ("_test", 30)):
        labels = np.arange(rows) % 3
        points = draw.normal(labels[:, None] * [1.0, -1.0], 1.0)
        pl.DataFrame({"x": points[:, 0], "y": points[:, 1], "label": labels}).write_parquet(
            folder / f"points{ending}.parquet"
        )
        telling = np.array(["refund", "password", "weather"])[labels]
        texts = [f"word{row % 7} {word} number{row}" for row, word in enumerate(telling)]
        pl.DataFrame({"text": texts, "label": labels}).write_parquet(folder / f"words{ending}.parquet")
    for name, study in STUDIES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **study}))


def compared(home: Path, of: str) -> dict[str, Any]:
    """What stands in a home below a folder: bytes, of JSON the value without times, None of what shows times."""
    found: dict[str, Any] = {}
    for path in sorted((home / of).rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_dir() or any(name.startswith(apart) for apart in APART):
            continue
        if any(timed in name for timed in TIMED):
            found[name] = None
        elif path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


def timeless(value: Any) -> Any:
    """JSON without times."""
    if isinstance(value, dict):
        return {name: timeless(each) for name, each in value.items() if name not in TIMES}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def leftovers(home: Path) -> list[str]:
    """What killed writers left in a home."""
    return [
        path.name
        for path in home.rglob("*")
        if LEFTOVER.fullmatch(path.name) or path.name == SNAPSHOT or path.name.startswith("prepare-")
    ]


def check_records(home: Path) -> None:
    """Dagster's records know of no run that is alive, and the queue would start a run that needs the accelerator."""
    told: list[str] = []
    with instance_at(home, told.append) as instance:
        assert told == [], "the last command marked every dead run"
        statuses = {run.status for run in instance.get_runs()}
        assert statuses <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
        assert {path.name for path in folder_of(instance).iterdir()} == {"gate"}
        set_pools(instance)
        needs = RunOpConcurrency(
            root_key_counts={ACCELERATOR: 1}, has_unconstrained_root_nodes=False, all_pools={ACCELERATOR}
        )
        waiting = dg.DagsterRun(job_name="waiting", run_op_concurrency=needs)
        storage = instance.event_log_storage
        queue = GlobalOpConcurrencyLimitsCounter(
            instance,
            [waiting],
            instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES)),
            storage.get_concurrency_keys(),
            storage.get_pool_limits(),
            pool_granularity=instance.get_concurrency_config().pool_config.pool_granularity,
        )
        assert not queue.is_blocked(waiting)
        assert storage.get_concurrency_info(ACCELERATOR).active_slot_count == 0


@dataclass(frozen=True)
class Stage:
    """Commands, a home in which nobody was killed, and in how many seconds of a command it is killed at the latest."""

    commands: Commands
    folder: Path
    calm: Path
    latest: float

    @classmethod
    def made(cls, commands: Commands, folder: Path) -> "Stage":
        """A stage with its calm home; two studies are made at once there, too."""
        stage = cls(commands, folder, folder / "calm", 0)
        lengths = [stage.finish(stage.calm, *pair) for pair in (("points", "words"), ("weights", "networks"))]
        stage.finish(stage.calm, "export")
        return replace(stage, latest=max(lengths) / 2)  # the first runs load modules, too

    def argv(self, home: Path, spoken: str) -> list[str]:
        """Arguments of a command of PAIRS."""
        if spoken != "export":
            return ["run", *spoken.split()]
        manifest = self.calm / "assets" / "points" / "manifest" / "hardest@0.5" / "0"
        target = str(home / "kept.jsonl")
        return ["export", str(manifest), "--to", "jsonl", "--study", "points", "-o", target, "--overwrite"]

    def finish(self, home: Path, *spoken: str) -> float:
        """Run commands at once that nobody kills; the longest took so many seconds."""
        ends = self.commands.run(home, [self.argv(home, each) for each in spoken])
        assert {code for code, _ in ends} == {0}, Path(f"{home}.log").read_text()[-3000:]
        return max(seconds for _, seconds in ends)

    def play(self, pair: tuple[str, str], seed: int, kills: int) -> Iterator[dict[str, Any]]:
        """Kill two commands at random moments, so many times in all, and check what comes after.

        In the last round one of them lives. Gives what happened in each round.
        """
        chance, home, done = random.Random(seed), self.folder / f"scene-{seed}", 0
        while done < kills:
            moments: list[float | None] = [chance.uniform(0, self.latest) for _ in pair]
            if done == kills - 1:
                moments[chance.randrange(2)] = None
            ends = self.commands.run(home, [self.argv(home, each) for each in pair], moments)
            codes = [code for code, _ in ends]
            assert set(codes) <= {0, -signal.SIGKILL}, Path(f"{home}.log").read_text()[-3000:]
            done += codes.count(-signal.SIGKILL)
            there = sum(path.is_file() for path in home.glob("assets/[!.]*/**/[!.]*"))
            yield {"codes": codes, "seconds": [round(seconds, 2) for _, seconds in ends], "files": there}
            if codes == [0, 0]:
                self.check(home, pair)
                shutil.rmtree(home)
        self.finish(home, *pair)
        self.check(home, pair)
        shutil.rmtree(home)

    def check(self, home: Path, pair: tuple[str, str]) -> None:
        """Bytes, leftovers and records of a home in which a pair of commands has come to its end."""
        for study in {spoken.split()[0] for spoken in pair} - {"export"}:
            again, once = (compared(place, f"assets/{study}") for place in (home, self.calm))
            others = [name for name in again.keys() | once.keys() if again.get(name, "") != once.get(name, "")]
            assert not others, f"other than where nobody was killed: {sorted(others)}"
        if "export" in pair:
            assert (home / "kept.jsonl").read_bytes() == (self.calm / "kept.jsonl").read_bytes()
        cached = compared(self.calm, "assets/.cache")
        others = [name for name, value in compared(home, "assets/.cache").items() if cached.get(name, "") != value]
        assert not others, f"other than where nobody was killed: {others}"
        assert not leftovers(home), leftovers(home)
        check_records(home)
