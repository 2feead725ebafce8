"""State of `benchmarks/gpu.py` in a JSON file, written after each step and each training."""

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

PASSED, FAILED, NOT_RUN, MEASURED = "passed", "**failed**", "not run", ""
"""Results of a row; empty for a mere measurement."""

Row = dict[str, str]


def row(what: str, measured: str, result: str = MEASURED) -> Row:
    """A row of the table."""
    return {"what": what, "measured": measured, "result": result}


def near(what: str, gap: float, tolerance: float, told: str = "") -> Row:
    """A row of a comparison with the CPU: the largest gap as a share of the largest number, checked for tolerance."""
    said = f"largest gap {gap:.1e} of the largest number{told}, at most {tolerance:g}"
    return row(what, said, PASSED if gap <= tolerance else FAILED)


def gap_of(ours: Any, theirs: Any) -> float:
    """The largest difference of two arrays as a share of the largest of theirs; infinite if one is not finite."""
    first, second = (torch.as_tensor(each).detach().double().cpu() for each in (ours, theirs))
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        return float("inf")
    return float((first - second).abs().max() / second.abs().max().clamp_min(1e-12))


def circumstances(*, tiny: bool, data: Path) -> dict[str, Any]:
    """Facts about the numbers for readers, which also identify equal runs."""
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {platform.machine()}",
        "device memory": f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB" if on_gpu else "",
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "faiss": next((metadata.version(name) for name in ("faiss-gpu", "faiss-cpu") if installed(name)), "none"),
        "secateur": metadata.version("secateur"),
        "tiny": tiny,
        "data": data.name,
    }


def installed(package: str) -> bool:
    """Whether a package is installed under this name."""
    try:
        return bool(metadata.version(package)) and find_spec("faiss") is not None
    except metadata.PackageNotFoundError:
        return False


@dataclass
class State:
    """Rows by step with the seconds of each, and the results of the ResNet-18 trainings."""

    file: Path
    about: dict[str, Any]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    trainings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Path, about: dict[str, Any]) -> "State":
        """State in a file; exits if it was made under other circumstances."""
        if not file.exists():
            return cls(file, about)
        held = json.loads(file.read_text())
        if differ := [key for key in about if held["about"].get(key) != about[key]]:
            raise SystemExit(f"{file} is of another {', '.join(differ)}: name another file with --json, or remove it")
        return cls(file, about, held["steps"], held["trainings"])

    def save(self) -> None:
        """Write the file atomically."""
        partial = self.file.with_name(self.file.name + ".partial")
        held = {"about": self.about, "steps": self.steps, "trainings": self.trainings}
        partial.write_text(json.dumps(held, indent=1) + "\n")
        partial.replace(self.file)

    def done(self, name: str) -> bool:
        """Whether a step ended without failed or skipped rows; other steps run again."""
        rows = self.steps.get(name, {}).get("rows", [])
        return bool(rows) and all(each["result"] in (PASSED, MEASURED) for each in rows)

    @property
    def rows(self) -> list[Row]:
        """Rows of all steps."""
        return [each for step in self.steps.values() for each in step["rows"]]


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    cells = [("what", "measured", "result"), ("---", "---", "---")]
    cells += [(each["what"], each["measured"], each["result"]) for each in rows]
    return "\n".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in cells)
