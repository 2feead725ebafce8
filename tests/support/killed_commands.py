"""Commands in processes forked from one that has imported everything and started no thread; some are killed.

As a script it is that one: it reads an order a line and answers in a line.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SNAPSHOTS_EVERY = 0.02
"""Seconds between the snapshots of a training, so that killed ones go on from one."""


HEAVY = ("secateur.pipelines.materialise", "secateur.pipelines.commands.main", "sklearn.feature_extraction.text")
HEAVY += ("tensorboard.compat.proto.event_pb2", "torch.utils.tensorboard", "matplotlib.figure", "lightgbm", "datasets")
"""Modules that would take longest to load in each process; others are loaded once the first has."""


class Commands:
    """Commands of `secateur` in homes of the caller's choice."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(
        self, home: Path, commands: Sequence[Sequence[str]], kills: Sequence[float | None] = ()
    ) -> list[tuple[int, float]]:
        """Run commands at once; how each ended, an exit code or a signal's negative number, and after how many seconds.

        `kills` holds for each the seconds after which SIGKILL meets it. What they print goes to `<home>.log`.
        """
        assert self.process.stdin
        assert self.process.stdout
        kills = kills or [None] * len(commands)
        order = {"home": str(home), "commands": commands, "kills": kills, "log": f"{home}.log"}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return [(ended, seconds) for ended, seconds in json.loads(self.process.stdout.readline())]


@contextmanager
def forked_commands() -> Iterator[Commands]:
    """Commands, as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
    ) as process:
        assert process.stdin
        yield Commands(process)
        process.stdin.close()


def child(order: dict[str, Any], argv: list[str], learnt: str) -> int:
    """Process id of a command that has begun; it leaves the names of the modules that it loaded in a file."""
    pid = os.fork()
    if pid:
        return pid
    code: object = 3
    try:
        from secateur.pipelines.commands.main import main

        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ["SECATEUR_HOME"], sys.argv = order["home"], ["secateur", *argv]
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        Path(learnt).write_text("\n".join(sys.modules))
    finally:
        os._exit(code if isinstance(code, int) else 3)


def obey(order: dict[str, Any]) -> list[tuple[int, float]]:
    """How each command of an order ended, and after how many seconds."""
    learnt = f"{order['home']}.modules"
    gc.freeze()  # so that no command looks for garbage in what was loaded here, and copies the pages of memory
    begun = time.monotonic()
    running = {child(order, argv, learnt): at for at, argv in enumerate(order["commands"])}
    ends: dict[int, tuple[int, float]] = {}
    while running:
        now = time.monotonic() - begun
        for pid, at in list(running.items()):
            due = order["kills"][at]
            if due is not None and now >= due:
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                ends[running.pop(pid)] = os.waitstatus_to_exitcode(status), now
        time.sleep(0.002)
    if Path(learnt).exists():
        for name in Path(learnt).read_text().split():
            with suppress(Exception):
                importlib.import_module(name)
    return [ends[at] for at in range(len(ends))]


def serve() -> None:
    import pytest
    from quick_disk import quicken

    from secateur.pipelines.runs import resumption

    quicken(pytest.MonkeyPatch())
    for name in HEAVY:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    resumption.EVERY_SECONDS = SNAPSHOTS_EVERY  # type: ignore[assignment]
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
