"""The programs of docs/own-loop.md, killed at random steps and started again in the same folder, each step on record.

A step is one call of the sampler's `observe`: (epoch, ids, weights). The kill is an exception that no loop expects,
raised in every process at the same step; the program then begins again from its first line, with the folder's files.
"""

import contextlib
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import distributed

from secateur.selectors.samplers.contract import EpochSampler

PAGE = Path(__file__).parents[2] / "docs" / "own-loop.md"
PROGRAMS = dict(re.findall(r"^```python notest loop=(\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What the page trains with TRL; tests say the folder of a smaller one by SECATEUR_TINY_MODEL."""
EVERY = 3
"""Steps between checkpoints, as the page has it."""
Step = tuple[int, list[int], list[float]]
Chain = tuple[list[Step], list[list[Step]]]
"""Steps of an undisturbed run, and those of each start of one that is killed."""


class KilledError(BaseException):
    """Not an Exception: no library takes it for an error of the user's."""


@contextlib.contextmanager
def recorded(kill_at: int | None = None, observed: Callable[[Step], object] | None = None) -> Iterator[list[Step]]:
    """Steps that samplers observe; the step `kill_at` is not observed. `observed` gets each step at once."""
    steps: list[Step] = []
    observe = EpochSampler.observe

    def noted(self: EpochSampler, ids: torch.Tensor, losses: torch.Tensor) -> None:
        if len(steps) == kill_at:
            raise KilledError
        steps.append((self.epoch, ids.tolist(), self.weights(ids).tolist()))
        if observed:
            observed(steps[-1])
        observe(self, ids, losses)

    with mock.patch.object(EpochSampler, "observe", noted):
        yield steps


def attempt(program: str, kill_at: int | None = None, observed: Callable[[Step], object] | None = None) -> list[Step]:
    """What one start of a program shows, in the working folder, until it ends or is killed."""
    code = (PROGRAMS["beginning"] + program).replace(MODEL, os.environ.get("SECATEUR_TINY_MODEL", MODEL))
    if distributed.is_initialized():
        distributed.barrier()  # all are dead before the first of them begins again
    with recorded(kill_at, observed) as steps, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning|torch|accelerate|trl|transformers.training_args")
        with contextlib.suppress(KilledError):
            exec(compile(code, "own-loop.md", "exec"), {"__name__": "page"})
    return steps


def chain(program: str, kills: int, rng: random.Random, folder: Path) -> Chain:
    """A program undisturbed, and in another folder killed so often."""
    for name in ("undisturbed", "killed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder / "undisturbed"):
        undisturbed = attempt(program)
    starts, left = [], len(undisturbed)
    with contextlib.chdir(folder / "killed"):
        first = sum(epoch == 0 for epoch, *_ in undisturbed)
        for kill in range(kills):
            # Right behind the first epoch, somewhere, and soon after a checkpoint of a start that resumed in an epoch.
            at = (first + 1, rng.randrange(1, max(2, left * 2 // 3)), EVERY + rng.randrange(1, EVERY))[kill % 3]
            starts.append(attempt(program, at))
            left -= len(starts[-1])
        starts.append(attempt(program))
    return undisturbed, starts


def compare(undisturbed: list[Step], starts: list[list[Step]], most: int = EVERY) -> None:
    """Each start shows the steps of the undisturbed run, and goes on fewer than `most` before the place of the kill.

    No step is left out, and the last start goes to the end.
    """
    reached = 0
    for steps in filter(None, starts):
        before = undisturbed.index(steps[0])
        assert reached - most < before <= reached, f"goes on with step {before} after {reached} steps"
        reached = before + len(steps)
        assert steps == undisturbed[before:reached]
    assert reached == len(undisturbed)


WITH_SHARD = ("InfoBatch(len(data), epochs)", "InfoBatch(len(data), epochs, shard=Shard(int(os.environ['RANK']), 2))")
BY_PLACE = [("consumed=0", ""), ("accelerator.skip_first_batches(loader, done) if done else loader", "loader")]
IN_LIGHTNING = ("use_distributed_sampler=False", "use_distributed_sampler=True")
MISUSES: dict[str, tuple[str, list[tuple[str, str]], int | None, str]] = {
    "a share of a share in accelerate": (
        "accelerate", [WITH_SHARD], None, "split twice: Shard.* and BatchSamplerShard takes 1 of 2 .*without a shard"),
    "a share of a share in Lightning": (
        "lightning", [IN_LIGHTNING], None, "split twice: .* and DistributedSampler .*use_distributed_sampler=False"),
    "a place in what accelerate splits": (
        "accelerate", BY_PLACE, 5, "resumed at sample .* BatchSamplerShard splits and pads .*skip_first_batches"),
    "a place in what Lightning splits": (
        "lightning", [IN_LIGHTNING, ("epochs, shard=shard)", "epochs)")], 4,
        "resumed at sample .* DistributedSampler splits and pads .*Shard"),
    "an epoch that accelerate begins again": (
        "accelerate", [("    loader.set_epoch(epoch)", "    pass")], 14,
        r"set_epoch\(0\) would send the sampler back from epoch 2.*loader.set_epoch\(2\)"),
    "an epoch that nobody splits": (
        "torch", [('"run.', 'os.environ["RANK"] + "run.')], None,
        "each of 2 processes goes through the whole epoch"),
}  # fmt: skip
"""Programs of the page with a change: (which, change, step of a kill before the start that fails, the message)."""


def misused(name: str, folder: Path) -> str:
    """The message of the error that a changed program ends with, or of its first warning."""
    program, changes, kill_at, _ = MISUSES[name]
    code = PROGRAMS[program]
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder), warnings.catch_warnings(record=True) as said:
        if kill_at is not None:
            attempt(code, kill_at)
        warnings.simplefilter("always")
        try:
            attempt(code)
        except (RuntimeError, ValueError) as error:
            return str(error)
    return "\n".join(str(one.message) for one in said)


def main() -> None:
    """In a process that torchrun started: run named programs, save what each showed and what misuses of them say."""
    target, kills, seed, *names = sys.argv[1:]
    distributed.init_process_group("gloo")
    results = {}
    for name in names:
        rng = random.Random(f"{seed} {name}")
        results[name] = chain(PROGRAMS[name], int(kills), rng, Path(target) / name)
    wanted = [name for name, (program, *_) in MISUSES.items() if program in ("torch", *names)]
    said = {name: misused(name, Path(target) / name) for name in wanted}
    torch.save((results, said), Path(target) / f"{os.environ['RANK']}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
