"""Killed loops of other libraries resume, each equal to an undisturbed run.

The programs are those of docs/own-loop.md.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import killed_loops
import pytest
import resumed_loops
import tiny_language
import torch
from resumed_loops import EVERY, MISUSES, PROGRAMS, Chain, Step, chain, compare

from secateur.selectors.samplers.info_batch import InfoBatch

N, EPOCHS, BATCH = 52, 5, 6
SPLIT = {"accelerate": BATCH, "trainer": BATCH, "trl": BATCH, "lightning": 1}
"""Programs for two processes, and how many places of an epoch each process takes in turn."""
LATE = ("trl", "lightning")
"""Programs whose imports take several times as long as all others': in two processes they run nightly."""
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 6))]


@pytest.fixture(autouse=True, scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The model of the TRL program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_TINY_MODEL", tiny_language.saved(tmp_path_factory.mktemp("model")))
        yield


def in_two_processes(
    folder: Path, seed: int, kills: int, names: Iterable[str]
) -> list[tuple[dict[str, Chain], dict[str, str]]]:
    """Results of `resumed_loops.main` in each of two gloo processes, which these programs share."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone",
               resumed_loops.__file__, str(folder), str(kills), str(seed), *names]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def has_pruned(steps: list[Step]) -> list[set[int]]:
    """The ids of each epoch, after a check that some epochs leave out samples and some samples have weights."""
    assert {epoch for epoch, _, _ in steps} == set(range(EPOCHS))
    epochs = [{i for at, ids, _ in steps if at == epoch for i in ids} for epoch in range(EPOCHS)]
    assert len(epochs[0]) == len(epochs[-1]) == N
    assert min(map(len, epochs)) < N
    assert any(weight != 1 for _, _, weights in steps for weight in weights)
    return epochs


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name",
    ["torch", "stateful", "accelerate", "trainer", "lightning", pytest.param("trl", marks=pytest.mark.nightly)],
)
def test_one_process_goes_on_where_it_was_killed(name: str, seed: int, tmp_path: Path) -> None:
    if name == "trl":
        pytest.importorskip("trl")
    undisturbed, starts = chain(PROGRAMS[name], 3, random.Random(f"{seed} {name}"), tmp_path)
    has_pruned(undisturbed)
    compare(undisturbed, starts)


SHORT = dict(
    re.findall(
        r"^```python notest short=(\w+)\n(.*?)^```$",
        (resumed_loops.PAGE.parent / "use-in-trainers.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["accelerate", "trainer", "lightning", pytest.param("trl", marks=pytest.mark.nightly)])
def test_short_programs_prune_while_they_train(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of docs/use-in-trainers.md, with the tiny model in place of the hub's."""
    monkeypatch.chdir(tmp_path)
    program = re.sub('"(distilbert|HuggingFaceTB)/.*?"', repr(os.environ["SECATEUR_TINY_MODEL"]), SHORT[name])
    known: dict[str, Any] = {"__name__": "page"}
    with resumed_loops.recorded() as steps:
        exec(compile(program, name, "exec"), known)
    n, epochs = len(known["data"]), known["EPOCHS"]
    shown = [{i for at, ids, _ in steps if at == epoch for i in ids} for epoch in range(epochs)]
    assert len(shown[0]) == len(shown[-1]) == n
    assert len(shown[1]) < n
    assert any(weight > 1 for at, _, weights in steps for weight in weights if at == 1)


def test_every_framework_has_a_short_program() -> None:
    assert SHORT.keys() == PROGRAMS.keys() - {"beginning", "torch", "stateful"}


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_processes_that_are_killed_go_on_from_their_last_checkpoint(seed: int, tmp_path: Path) -> None:
    """Killed by SIGKILL, within steps and while writing checkpoints: a recorded step may be in no checkpoint yet."""
    names = ["torch", "stateful", "accelerate", "trainer", "lightning", *(["trl"] if find_spec("trl") else [])]
    command = [sys.executable, killed_loops.__file__, str(tmp_path), str(seed), "6", *names]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
                          capture_output=True, text=True, timeout=500, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    for name, (undisturbed, starts, kills) in json.loads(done.stdout.splitlines()[-1]).items():
        assert kills >= 3, name
        compare(undisturbed, starts, 2 * EVERY + 1)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("argument", "most"),
    [
        ("gradient_accumulation_steps=2", 2 * EVERY),
        ("dataloader_num_workers=2, dataloader_persistent_workers=True", EVERY),
        ("dataloader_drop_last=True", EVERY),
        ("accelerator_config={'split_batches': True}", EVERY),
        ("max_steps=40", EVERY),
    ],
)
def test_the_trainer_goes_on_whatever_it_was_asked_for(argument: str, most: int, tmp_path: Path) -> None:
    program = PROGRAMS["trainer"].replace("use_cpu=True", f"use_cpu=True, {argument}")
    assert program != PROGRAMS["trainer"]
    for seed in range(3):
        compare(*chain(program, 3, random.Random(f"{seed} {argument}"), tmp_path / str(seed)), most)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_processes_go_on_where_they_were_killed(seed: int, tmp_path: Path) -> None:
    """Misuse that would cover half of an epoch, or rows twice, raises an error with the remedy.

    TRL and Lightning run here nightly; their daily tests use one process.
    """
    here = {name: turn for name, turn in SPLIT.items() if name != "trl" or find_spec("trl")}
    names = {name: turn for name, turn in here.items() if seed or name not in LATE}
    ranks = in_two_processes(tmp_path, seed, 3, names)
    for name, turn in names.items():
        for results, _ in ranks:
            compare(*results[name])
        has_pruned([step for results, _ in ranks for step in results[name][0]])
        first = InfoBatch(N, EPOCHS).epoch_ids().tolist()
        whole = N // (2 * turn) * turn  # a process's places without padding
        for rank, (results, _) in enumerate(ranks):
            shown = [i for epoch, ids, _ in results[name][0] if epoch == 0 for i in ids]
            assert shown[:whole] == [i for place, i in enumerate(first) if place // turn % 2 == rank][:whole]
    for name, (program, *_, expected) in MISUSES.items():
        for _, said in ranks if program in names or program == "torch" else ():
            assert re.search(expected, said[name]), f"{name}: {said[name]}"
