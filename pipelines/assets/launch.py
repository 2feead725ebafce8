"""Start a training as processes of its own, by `accelerate launch` through Dagster Pipes, and wait for it."""

import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import dagster as dg
import torch

from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.runs.worker import JOB, TrainingJob, load_outcome
from secateur.trainers.loop.train import Trained

TAIL = 60
"""Lines of the processes' standard error that a failure shows."""
PATIENCE = 60.0
"""Seconds that processes have to leave once they are told to."""


class LaunchError(RuntimeError):
    """A launched training that failed; the text ends with what it said last."""


def launch(context: dg.AssetExecutionContext, job: TrainingJob, folder: Path, processes: int) -> Trained:
    """Train a job in so many processes; what is in `folder` goes when that has succeeded.

    A job that was killed goes on from its last snapshot when the same one is launched in the same folder again. Raises
    LaunchError with the end of what the processes said where one of them fails, and ValueError for more processes than
    there are GPUs. However this call ends, no process is left.
    """
    refuse_too_many(processes)
    write_bytes(folder / JOB, job.model_dump_json(indent=2).encode(), overwrite=True)
    with dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()) as session:
        run(command(folder, processes), {**os.environ, **session.get_bootstrap_env_vars()}, processes)
    for result in session.get_reported_results():
        context.log.info(f"trained in {processes} processes: {numbers_of(result)}")
    trained = load_outcome(folder)
    shutil.rmtree(folder)
    return trained


def numbers_of(result: object) -> str:
    """What the first process reported, for the log."""
    assert isinstance(result, dg.MaterializeResult)
    found = {name: getattr(each, "value", each) for name, each in (result.metadata or {}).items()}
    return ", ".join(f"{name} {value}" for name, value in found.items())


def refuse_too_many(processes: int) -> None:
    """Raise ValueError where there are GPUs, and fewer than processes."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise ValueError(f"compute.processes is {processes}, this machine has {gpus} GPUs: each process takes one")


def command(folder: Path, processes: int) -> list[str]:
    """The command line; the config alone decides on precision and compilation."""
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    # accelerate joins processes by this switch on the CPU as well; port 0 is one that is free.
    several = ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else []
    script = ["-m", "secateur.pipelines.runs.worker", str(folder), "--leave-with-launcher"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    return [*launcher, "--num_processes", str(processes), *plain, *several, *script]


def run(line: list[str], environment: Mapping[str, str], processes: int) -> None:
    """Run a command to its end; raises LaunchError with the end of its standard error where it fails.

    Its standard input stays open for as long as this call lasts and this process lives, and is all that tells the
    launched ones to leave: the kernel closes it whatever happens here.
    """
    said: deque[str] = deque(maxlen=TAIL)
    with subprocess.Popen(
        line, env=dict(environment), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stderr is not None
        listener = threading.Thread(target=listen, args=(launcher.stderr, said), daemon=True)
        listener.start()
        try:
            code = launcher.wait()
        finally:
            launcher.stdin.close()
            try:
                launcher.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                launcher.kill()
            listener.join(PATIENCE)
    if code:
        raise LaunchError(f"training in {processes} processes ended with code {code}; it said last:\n{''.join(said)}")


def listen(stream: IO[str], said: deque[str]) -> None:
    """Pass lines on to this process's standard error, and keep the last ones."""
    for line in stream:
        sys.stderr.write(line)
        said.append(line)
