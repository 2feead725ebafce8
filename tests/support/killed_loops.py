"""The programs of docs/own-loop.md in processes that SIGKILL ends, in a step or while a checkpoint is written.

Every start is a fork of a process that has imported the program's libraries and started no thread. Each step goes to a
file as soon as the sampler observes it, so that it is on record when the process dies. Run as a script: folder,
seed, kills, names of programs; prints one JSON object of chains by name.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

from resumed_loops import EVERY, PROGRAMS, Step, attempt


def start(name: str, folder: Path, kill_at: int | None, delay: float) -> tuple[list[Step], bool]:
    """Steps of one start in a folder, and whether it was killed: `delay` seconds after so many steps were on record."""
    record = folder / "steps.jsonl"
    record.unlink(missing_ok=True)
    if (child := os.fork()) == 0:
        code = 1
        try:
            with record.open("ab", buffering=0) as file, contextlib.chdir(folder):
                attempt(PROGRAMS[name], observed=lambda step: file.write(json.dumps(step).encode() + b"\n"))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if kill_at is not None and record.exists() and record.read_bytes().count(b"\n") >= kill_at:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.0005)
    killed = os.WIFSIGNALED(ended[1])
    if not killed and os.waitstatus_to_exitcode(ended[1]):
        raise RuntimeError(f"{name} ended with an error in {folder}")
    lines = record.read_bytes().split(b"\n")[:-1] if record.exists() else []
    return [tuple(json.loads(line)) for line in lines], killed


def chain(name: str, kills: int, rng: random.Random, folder: Path) -> tuple[list[Step], list[list[Step]], int]:
    """Steps of an undisturbed run, those of each start of one that is killed up to so often, and its kills."""
    for part in ("undisturbed", "killed"):
        (folder / part).mkdir(parents=True)
    undisturbed, _ = start(name, folder / "undisturbed", None, 0)
    starts, left, dead, ended = [], len(undisturbed), 0, False
    while not ended:
        # A checkpoint follows each third step: half of the kills aim at what comes right behind one.
        at = rng.randrange(0, max(1, left // 2))
        at += rng.choice([0, -at % EVERY])
        steps, killed = start(name, folder / "killed", at if dead < kills else None, rng.choice([0, rng.random() / 50]))
        starts.append(steps)
        left, dead, ended = left - len(steps), dead + killed, not killed
    return undisturbed, starts, dead


def main() -> None:
    """See the module."""
    folder, seed, kills, *names = sys.argv[1:]
    own = {"trl": ["trl", "transformers.trainer", "trl.trainer.sft_trainer"]}
    for library in (
        "accelerate",
        "transformers",
        "lightning",
        "torchdata.stateful_dataloader",
        *own.get(names[-1], []),
    ):
        __import__(library)
    found = {name: chain(name, int(kills), random.Random(f"{seed} {name}"), Path(folder) / name) for name in names}
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
