"""`secateur run` in this process, with notes of its stages: see `watched.py`."""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from overhead import DAGSTER, IMPORTS, TRAININGS, Clock, run_counted

NOTES = "SECATEUR_SCALE_NOTES"
"""Environment variable with the file for the notes."""
PARTS = {
    "secateur.trainers.loop.train": {"train": TRAININGS},
    "secateur.pipelines.assets.shell_runs": {"run_here": DAGSTER},
}
STEPS = {
    "prepare": "data",
    "proxy": "scores",
    "score": "scores",
    "subset": "selection",
    "manifest": "manifests",
    "trained_model": "records of trainings",
    "evaluation": "evaluation",
    "report": "report",
}
"""The stage of each step of the study, by the step's name."""
TRAINED = {"scores": "proxy training", "records of trainings": "training"}
"""The stage of a training within another stage."""


class Stages(Clock):
    """Notes each change of the stage."""

    def __init__(self) -> None:
        self.events: list[tuple[float, float, str]] = []
        super().__init__()
        self.note()

    @staticmethod
    def now() -> tuple[float, float]:
        """Processor seconds of this process and of finished children, and the clock that all processes share."""
        below = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + below.ru_utime + below.ru_stime, time.monotonic()

    @property
    def stage(self) -> str:
        """The current stage."""
        steps = [name.removeprefix("step ") for name in self.open if name.startswith("step ")]
        if not steps:
            return self.open[-1] if self.open[-1] in (IMPORTS, DAGSTER) else "the command"
        stage = STEPS.get(steps[0], steps[0])
        return TRAINED.get(stage, stage) if TRAININGS in self.open else stage

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """See `Clock.part`."""
        with super().part(name):
            self.note()
            yield
        self.note()

    def note(self) -> None:
        """Note the current stage if it differs from the last one."""
        processor, moment = self.last
        if not self.events or self.events[-1][2] != self.stage:
            self.events.append((moment, processor, self.stage))


def main(arguments: list[str]) -> None:
    """Run the command, then write the notes."""
    clock = Stages()
    try:
        run_counted(clock, PARTS, arguments)
    finally:
        processor, moment = clock.last
        Path(os.environ[NOTES]).write_text(json.dumps([*clock.events, (moment, processor, "")]))


def sizes_in(home: Path) -> dict[str, int]:
    """Bytes of the files below a study's home by stage; two names may link to one file."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    assets = home / "assets" / "scale"
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.stat().st_ino in seen:
            continue
        seen.add(path.stat().st_ino)
        name = path.relative_to(assets).parts[0].partition(".")[0] if path.is_relative_to(assets) else ""
        kind = "data" if path.is_relative_to(assets.with_name(".cache")) else DISK.get(name, "records")
        found[kind] = found.get(kind, 0) + path.stat().st_size
    return found


DISK: dict[str, Any] = (
    dict.fromkeys(("samples", "test_samples", "inputs", "test_inputs", "rows", "encoder", "data_groups"), "data")
    | dict.fromkeys(("scores", "proxy"), "scores")
    | {"subset": "selection", "manifest": "manifests", "trained_model": "training", "report": "report"}
)
"""The stage that wrote an asset of the study."""

if __name__ == "__main__":
    main(sys.argv[1:])
