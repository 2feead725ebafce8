"""Tuning of τ on held-out training digits, and ten more seeds of the study `digits_pdp`.

    python benchmarks/pdp.py [temperature] [seeds] [--runs build/pdp.jsonl] [--write docs/prune-pdp.md]

`temperature` holds out a fifth of the training digits, drawn by a seed, and never reads the test split: means over
seeds 10 to 12. `seeds` runs seeds 20 to 29 on the study's own split. Settings are those of the shipped study. A
run that FILE holds is not repeated, so you may stop it at any time.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from label_noise import write
from run_file import resumed

from secateur.pipelines.pages.words import brief, mean_of
from secateur.pipelines.studies.files import find_study
from secateur.pipelines.studies.units import PruningStudy
from secateur.trainers.contract import Data
from secateur.trainers.experiments.contract import ACCURACY
from secateur.trainers.experiments.differentiable_pruning import DifferentiablePruning
from secateur.trainers.experiments.pruning_data import split_of, write_splits
from secateur.trainers.judging.comparison import compare_pairs, summarise

TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
HELD_OUT, HELD_SEEDS, MORE_SEEDS = 0.2, range(10, 13), range(20, 30)
ARMS = ("one_shot", "gradual", "pdp", "pdp_tuned")


def shipped() -> PruningStudy:
    """The shipped study."""
    study = find_study("digits_pdp").study
    assert isinstance(study, PruningStudy)
    return study


@dataclass
class Runs:
    """Runs of one table. Each adds a line to a file and is not repeated; the dense network that a run begins with is
    trained where a run of its seed is missing, and deleted with the folder."""

    table: str
    file: Path
    folder: Path
    data: str = "digits"
    found: dict[str, dict[str, float]] = field(default_factory=dict)
    networks: dict[int, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the file; exits if it holds runs of other settings."""
        about = {"settings": dict(shipped().settings), "torch": torch.__version__.partition("+")[0]}
        self.found = dict(resumed(self.file, about))

    def one(self, arm: str, keep: float, seed: int, settings: Mapping[str, object]) -> dict[str, float]:
        """Metrics of a run, accuracies in percent."""
        key = json.dumps([self.table, arm, keep, seed, settings])
        if key not in self.found:
            given = {**shipped().settings, "data": self.data}
            if seed not in self.networks:
                self.networks[seed] = self.folder / str(seed)
                self.networks[seed].mkdir()
                DifferentiablePruning(**given).prepare(seed, self.networks[seed], lambda *_: None)
            pruning = DifferentiablePruning(**{**given, **settings})
            run = pruning.run(arm, keep, seed, self.networks[seed], lambda *_: None)
            self.found[key] = {name: 100 * value for name, value in run.outcome.metrics.items()}
            with self.file.open("a") as file:
                file.write(json.dumps([key, self.found[key]]) + "\n")
            print(*json.loads(key), f"{self.found[key]['accuracy']:.1f}", file=sys.stderr, flush=True)
        return self.found[key]

    def of(self, arm: str, keep: float, seeds: Sequence[int], **settings: object) -> list[dict[str, float]]:
        """Metrics of an arm at a budget by seed."""
        return [self.one(arm, keep, seed, settings) for seed in seeds]


def means(outcomes: Sequence[Sequence[dict[str, float]]], metric: str) -> str:
    """Means of a metric at each budget, for one cell."""
    return ", ".join(f"{np.mean([each[metric] for each in some]):.1f}" for some in outcomes)


def temperatures(file: Path, folder: Path) -> str:
    """The table of τ."""
    train, _ = split_of("digits")
    order = np.random.default_rng(0).permutation(len(train))
    held, rest = np.split(order, [int(HELD_OUT * len(train))])
    data = str(folder / "digits.npz")
    write_splits(Path(data), *(Data(train.inputs[rows], train.targets[rows], 10) for rows in (rest, held)))
    runs, keeps = Runs("temperature", file, folder, data), shipped().keep
    cells: dict[str, list[str]] = {"`pdp`": [], "`pdp`, soft": [], "`pdp_tuned`": []}
    for heat in TEMPERATURES:
        for arm in ("pdp", "pdp_tuned"):
            found = [runs.of(arm, float(keep), HELD_SEEDS, temperature=heat) for keep in keeps]
            cells[f"`{arm}`"].append(means(found, "accuracy"))
            if arm == "pdp":
                cells["`pdp`, soft"].append(means(found, "soft_accuracy"))
    hard = means([runs.of("gradual", float(keep), HELD_SEEDS) for keep in keeps], "accuracy")
    lines = [f"| `temperature` | {' | '.join(map(str, TEMPERATURES))} |", "|---" * (len(TEMPERATURES) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in cells.items()]
    return "\n".join([*lines, "", f"{len(held)} held-out digits; `gradual`, which has no τ: {hard}."])


def more_seeds(file: Path, folder: Path) -> str:
    """The table of ten more seeds; p-values are Holm-corrected within a budget."""
    runs = Runs("seeds", file, folder)
    lines = ["| arm | kept | accuracy, % | against `gradual` |", "|---|---|---|---|"]
    for keep in map(float, shipped().keep):
        found = {arm: [each["accuracy"] / 100 for each in runs.of(arm, keep, MORE_SEEDS)] for arm in ARMS}
        pairs = {arm: (values, found["gradual"]) for arm, values in found.items() if arm != "gradual"}
        beside = compare_pairs(pairs, higher_is_better=True)
        for arm, values in found.items():
            told = brief(beside[arm], ACCURACY) if arm in beside else ""
            lines.append(f"| `{arm}` | {keep:g} | {mean_of(summarise(values), ACCURACY)} | {told} |")
    return "\n".join(lines)


TABLES = {"temperature": temperatures, "seeds": more_seeds}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=" or ".join(TABLES))
    parser.add_argument("--runs", type=Path, default=Path("build/pdp.jsonl"), metavar="FILE")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.tables if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}, there are {', '.join(TABLES)}")
    asked.runs.parent.mkdir(parents=True, exist_ok=True)
    for name in asked.tables or TABLES:
        with tempfile.TemporaryDirectory() as folder:
            text = TABLES[name](asked.runs, Path(folder))
        print(text, flush=True)
        if asked.write:
            write(asked.write, f"pdp {name}", text)


if __name__ == "__main__":
    main()
