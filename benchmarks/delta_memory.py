"""Memory and time of pruning a delta on disk, compared with loading both checkpoints for peft's `dare_linear`.

    python benchmarks/delta_memory.py [--tensors 24] [--megabytes 16] [--keep 0.1] [--dtype bfloat16]

Each way runs in a process of its own on the same two checkpoints of random numbers; peak memory is that above the
imports, in units of the checkpoint's largest tensor. The ratio is peft's over ours.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from secateur.scorers.memory import peak_memory


def stream(folder: Path, keep: float, select: str) -> None:
    """Prune by our streaming code."""
    from secateur.pipelines.deltas.files import Checkpoint
    from secateur.pipelines.deltas.sources import TunedDelta
    from secateur.pipelines.deltas.stream import DeltaChoice, prune_deltas

    source = TunedDelta.of(Checkpoint.read(folder / "base"), Checkpoint.read(folder / "tuned"))
    prune_deltas(source, folder / f"out-{select}", DeltaChoice(keep, select=select))


def in_memory(folder: Path, keep: float) -> None:
    """Load both checkpoints, prune each tensor by peft, save."""
    from peft.utils.merge_utils import dare_linear

    base, tuned = (load_file(folder / part / "model.safetensors") for part in ("base", "tuned"))
    pruned = {
        name: (each.float() + dare_linear([tuned[name].float() - each.float()], torch.ones(1), keep)).to(each.dtype)
        for name, each in base.items()
    }
    save_file(pruned, folder / "out-peft.safetensors")


def measured(way: str, folder: Path, keep: float) -> dict[str, float]:
    """Peak bytes above the imports, and processor seconds, of one way in a separate process."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--folder", str(folder), "--keep", str(keep)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def run_way(way: str, folder: Path, keep: float) -> None:
    """Warm up on a checkpoint of one small tensor, then measure."""
    with tempfile.TemporaryDirectory() as small:
        make(Path(small), 1, 1 << 16, torch.float32)
        one_way(way, Path(small), keep)
    before, started = peak_memory(), time.process_time()
    one_way(way, folder, keep)
    print(json.dumps({"bytes": peak_memory() - before, "seconds": time.process_time() - started}))


def one_way(way: str, folder: Path, keep: float) -> None:
    in_memory(folder, keep) if way == "peft" else stream(folder, keep, way)


def make(folder: Path, tensors: int, size: int, dtype: torch.dtype) -> None:
    """Write two checkpoints of `tensors` tensors of `size` bytes."""
    generator = torch.Generator().manual_seed(0)
    entries = size // dtype.itemsize
    for part in ("base", "tuned"):
        (folder / part).mkdir()
        state = {
            f"layers.{place}.weight": torch.randn((64, entries // 64), generator=generator).to(dtype)
            for place in range(tensors)
        }
        save_file(state, folder / part / "model.safetensors")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, default=24)
    parser.add_argument("--megabytes", type=int, default=16)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.way:
        run_way(given.way, given.folder, given.keep)
        return
    size = given.megabytes << 20
    with tempfile.TemporaryDirectory() as place:
        make(Path(place), given.tensors, size, getattr(torch, given.dtype))
        ways = {way: measured(way, Path(place), given.keep) for way in ("peft", "random", "magnitude")}
    print(f"{given.tensors} tensors of {given.megabytes} MB, {given.dtype}, keep {given.keep}")
    print("| way | peak MB | in tensors | of peft's memory | processor s | of peft's time |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for way, each in ways.items():
        memory, seconds = each["bytes"] / ways["peft"]["bytes"], each["seconds"] / ways["peft"]["seconds"]
        numbers = f"{each['bytes'] / 2**20:.0f} | {each['bytes'] / size:.1f} | {memory:.2f}"
        print(f"| {way} | {numbers} | {each['seconds']:.1f} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
