"""Tuning of τ on held-out training digits, and ten more seeds of the study `digits_pdp`.

    python benchmarks/pdp.py [temperature] [seeds] [--write docs/prune-pdp.md]

`temperature` holds out a fifth of the training digits, drawn by a seed, and never reads the test split: means over
seeds 10 to 12. `seeds` runs seeds 20 to 29 on the study's own split. Settings are those of the shipped study.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from label_noise import write

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


def prepared(seeds: Sequence[int], folder: Path, **settings: object) -> dict[int, Path]:
    """The dense network of each seed, in a separate folder."""
    found = {}
    for seed in seeds:
        found[seed] = folder / str(seed)
        found[seed].mkdir()
        DifferentiablePruning(**shipped().settings | settings).prepare(seed, found[seed], lambda *_: None)
    return found


def metrics_of(arm: str, keep: float, networks: dict[int, Path], **settings: object) -> list[dict[str, float]]:
    """Metrics of an arm at a budget by seed, accuracies in percent."""
    experiment = DifferentiablePruning(**shipped().settings | settings)
    runs = (experiment.run(arm, keep, seed, folder, lambda *_: None) for seed, folder in networks.items())
    return [{name: 100 * value for name, value in run.outcome.metrics.items()} for run in runs]


def means(outcomes: Sequence[Sequence[dict[str, float]]], metric: str) -> str:
    """Means of a metric at each budget, for one cell."""
    return ", ".join(f"{np.mean([each[metric] for each in some]):.1f}" for some in outcomes)


def temperatures(folder: Path) -> str:
    """The table of τ."""
    train, _ = split_of("digits")
    order = np.random.default_rng(0).permutation(len(train))
    held, rest = np.split(order, [int(HELD_OUT * len(train))])
    data = str(folder / "digits.npz")
    write_splits(Path(data), *(Data(train.inputs[rows], train.targets[rows], 10) for rows in (rest, held)))
    networks, keeps = prepared(HELD_SEEDS, folder, data=data), shipped().keep
    cells: dict[str, list[str]] = {"`pdp`": [], "`pdp`, soft": [], "`pdp_tuned`": []}
    for heat in TEMPERATURES:
        for arm in ("pdp", "pdp_tuned"):
            found = [metrics_of(arm, float(keep), networks, data=data, temperature=heat) for keep in keeps]
            cells[f"`{arm}`"].append(means(found, "accuracy"))
            if arm == "pdp":
                cells["`pdp`, soft"].append(means(found, "soft_accuracy"))
            print(heat, arm, cells[f"`{arm}`"][-1], flush=True)
    hard = means([metrics_of("gradual", float(keep), networks, data=data) for keep in keeps], "accuracy")
    lines = [f"| `temperature` | {' | '.join(map(str, TEMPERATURES))} |", "|---" * (len(TEMPERATURES) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in cells.items()]
    return "\n".join([*lines, "", f"{len(held)} held-out digits; `gradual`, which has no τ: {hard}."])


def more_seeds(folder: Path) -> str:
    """The table of ten more seeds; p-values are Holm-corrected within a budget."""
    networks = prepared(MORE_SEEDS, folder)
    lines = ["| arm | kept | accuracy, % | against `gradual` |", "|---|---|---|---|"]
    for keep in map(float, shipped().keep):
        found = {arm: [each["accuracy"] / 100 for each in metrics_of(arm, keep, networks)] for arm in ARMS}
        pairs = {arm: (values, found["gradual"]) for arm, values in found.items() if arm != "gradual"}
        beside = compare_pairs(pairs, higher_is_better=True)
        for arm, values in found.items():
            told = brief(beside[arm], ACCURACY) if arm in beside else ""
            lines.append(f"| `{arm}` | {keep:g} | {mean_of(summarise(values), ACCURACY)} | {told} |")
    return "\n".join(lines)


TABLES = {"temperature": temperatures, "seeds": more_seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=" or ".join(TABLES))
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    if unknown := [name for name in asked.tables if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}, there are {', '.join(TABLES)}")
    for name in asked.tables or TABLES:
        with tempfile.TemporaryDirectory() as folder:
            text = TABLES[name](Path(folder))
        print(text, flush=True)
        if asked.write:
            write(asked.write, f"pdp {name}", text)


if __name__ == "__main__":
    main()
