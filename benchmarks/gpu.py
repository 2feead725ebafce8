"""All checks that need a GPU, in ten minutes: one command, one table.

    python benchmarks/gpu.py [--minutes 10] [--data FOLDER] [--json build/gpu.json] [--tiny]

In this order: the tests that need CUDA; every observer under `torch.cuda.set_sync_debug_mode("error")`, with its scores
against the CPU's; the scoring pass, GraNd and VoG, each against the CPU's numbers and a bare loop; FAISS's neighbours
on the GPU against the CPU's; training throughput against a bare loop; then ResNet-18 on CIFAR-10 (FOLDER holds
`train.parquet` and `test.parquet`, by default $SECATEUR_DATA/cifar10) trained on everything, and on a tenth by random,
CCS, RS2 and RS2 with knowledge distillation from the model of everything, one seed, bfloat16, all for as many epochs as
fit into the rest of --minutes.

The JSON file receives the results of each step when it ends, and of each training; the same command again runs missing
and failed steps, and resumes a killed training. The table is beside it, as .md, for docs/gpu.md. The exit code is 1 if
a step failed. --tiny is the whole script on a CPU in seconds; its numbers mean nothing.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from cifar10 import DATA
from on_gpu import checks, scores, trainings
from on_gpu.state import FAILED, Row, State, circumstances, row, table

STEPS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "CUDA tests": checks.cuda_tests,
    "observers": checks.observers,
    "scoring pass": checks.scoring,
    "gradient scores": scores.gradients,
    "neighbours": scores.graph,
    "training loop": trainings.throughput,
}
TRAININGS = "ResNet-18"


def arguments_of(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="what all of it may take")
    parser.add_argument("--data", type=Path, default=DATA / "cifar10")
    parser.add_argument("--json", type=Path, default=Path("build/gpu.json"))
    parser.add_argument("--tiny", action="store_true", help="on a CPU, in seconds")
    return parser.parse_args(given)


def ran(name: str, step: Callable[[], list[Row]], state: State) -> None:
    """Run a step unless it is done, and store its results; an error becomes a row, and the next step runs."""
    if state.done(name):
        return
    started = time.perf_counter()
    try:
        rows = step()
    except Exception as error:
        rows = [row(name, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", FAILED)]
    state.steps[name] = {"rows": rows, "seconds": round(time.perf_counter() - started, 1)}
    state.save()
    for each in rows:
        print(f"{each['what']}: {each['measured']} {each['result']}", flush=True)


def text_of(state: State) -> str:
    """A sentence on the setup, and the table."""
    about = state.about
    memory = f" ({about['device memory']})" if about["device memory"] else ""
    taken = sum(step["seconds"] for step in state.steps.values())
    said = (
        f"{about['device']}{memory}, torch {about['torch']}, CUDA {about['cuda']}, faiss {about['faiss']}, secateur "
        f"{about['secateur']}; ResNet-18 in {trainings.precision()}; {taken:.0f} s in all."
    )
    return f"{said}\n\n{table(state.rows)}"


def main(given: list[str] | None = None) -> int:
    started, asked = time.perf_counter(), arguments_of(given)
    if not torch.cuda.is_available() and not asked.tiny:
        print("no GPU: --tiny runs the script on a CPU, in seconds")
        return 0
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    state = State.of(asked.json, circumstances(tiny=asked.tiny, data=asked.data))
    for name, step in STEPS.items():
        ran(name, partial(step, asked), state)
    left = 60 * asked.minutes - (time.perf_counter() - started)
    ran(TRAININGS, partial(trainings.resnet, asked, state, left), state)
    text = text_of(state)
    asked.json.with_suffix(".md").write_text(text + "\n")
    print(f"\n{text}\n\n{asked.json.with_suffix('.md')} holds this table: paste it into docs/gpu.md")
    return int(any(each["result"] == FAILED for each in state.rows))


if __name__ == "__main__":
    sys.exit(main())
