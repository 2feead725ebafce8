"""Start a training in separate processes, by `accelerate launch` through Dagster Pipes, and wait for it."""

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
"""Lines of the processes' standard error that a failure message shows."""
PATIENCE = 60.0
"""Seconds that processes have to exit after the request."""


class LaunchError(RuntimeError):
    """A launched training that failed; the message ends with its last output."""


def launch(context: dg.AssetExecutionContext, job: TrainingJob, folder: Path, processes: int) -> Trained:
    """Train a job in `processes` processes; deletes `folder` after success.

    A killed job resumes from its last snapshot when the same job is launched in the same folder. Raises LaunchError
    with the last lines of standard error if a process fails, and ValueError for more processes than GPUs. No process
    survives this call, however it ends.
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
    """The first process's reported results, for the log."""
    assert isinstance(result, dg.MaterializeResult)
    found = {name: getattr(each, "value", each) for name, each in (result.metadata or {}).items()}
    return ", ".join(f"{name} {value}" for name, value in found.items())


def refuse_too_many(processes: int) -> None:
    """Raise ValueError if there are GPUs, but fewer than processes."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise ValueError(f"compute.processes is {processes}, this machine has {gpus} GPUs: each process takes one")


def command(folder: Path, processes: int) -> list[str]:
    """The command line; the config alone sets precision and compilation."""
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    # On the CPU too, accelerate joins processes only with --multi_gpu; port 0 selects a free one.
    several = ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else []
    script = ["-m", "secateur.pipelines.runs.worker", str(folder), "--leave-with-launcher"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    return [*launcher, "--num_processes", str(processes), *plain, *several, *script]


def run(line: list[str], environment: Mapping[str, str], processes: int) -> None:
    """Run a command to its end; raises LaunchError with the end of its standard error if it fails.

    Its standard input stays open for the duration of this call, and its end is the only signal for the launched
    processes to exit: the kernel closes it even if this process dies.
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
    """Pass lines on to this process's standard error, and keep the last ones in `said`."""
    for line in stream:
        sys.stderr.write(line)
        said.append(line)
