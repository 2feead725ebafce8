"""Runs, searches and exports that are killed at any moment, two at once, end as if they had not been killed."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from kill_scenes import PAIRS, Stage, write_studies
from killed_commands import forked_commands

from secateur.pipelines.studies.trust import trust

KILLS = dict(zip(PAIRS, (0, 3, 2, 2), strict=True))
"""Kills in daily tests; others kill both studies of the first pair, and the nightly test kills them together."""
NIGHTLY, MINUTES = 500, 60.0
"""Total kills, and the minutes of one night, which SECATEUR_KILL_MINUTES may change."""
ROOT = Path(__file__).parents[2]


def played() -> Path:
    """A file with a line for each completed scene with the current code."""
    digest = xxhash.xxh3_64()
    for floor in ("scorers", "selectors", "trainers", "pipelines"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            digest.update(path.read_bytes())
    return ROOT / "build" / f"kills-{digest.hexdigest()}.jsonl"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_STUDIES", str(folder))
        patch.setenv("SECATEUR_CACHE", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
        patch.delenv("DAGSTER_HOME", raising=False)
        write_studies(folder)
        trust(folder)
        with forked_commands() as commands:
            yield Stage.made(commands, folder)


def test_what_is_killed_ends_as_if_nobody_had_killed_it(stage: Stage) -> None:
    """All pairs in one test, because two pytest processes would set the stage twice."""
    for seed, (pair, kills) in enumerate(KILLS.items()):
        if not kills:
            continue
        rounds = list(stage.play(PAIRS[pair], seed, kills))
        assert sum(each["codes"].count(-9) for each in rounds) >= kills, pair


@pytest.mark.nightly
def test_a_night_of_kills(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    minutes = float(os.environ.get("SECATEUR_KILL_MINUTES", MINUTES))
    done = played()
    done.parent.mkdir(exist_ok=True)
    scenes = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    kills, until = sum(each["kills"] for each in scenes), time.monotonic() + 60 * minutes
    with capsys.disabled():
        print(f"{kills} of {NIGHTLY} kills are done ({done}); this night ends after {minutes:g} minutes")
    for seed in range(len(scenes) + len(PAIRS), 10**6):
        if kills >= NIGHTLY or time.monotonic() > until:
            break
        pair = list(PAIRS)[seed % len(PAIRS)]
        rounds = list(stage.play(PAIRS[pair], seed, kills=4))
        own = sum(each["codes"].count(-9) for each in rounds)
        kills += own
        with done.open("a") as file:
            file.write(json.dumps({"seed": seed, "pair": pair, "kills": own, "rounds": rounds}) + "\n")
    with capsys.disabled():
        print(f"{kills} of {NIGHTLY} kills are done")
