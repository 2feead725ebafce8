"""Claims in abstracts of pruning papers, one study each, compared with our results.

    python benchmarks/claims.py lottery_ticket [--write]
    SECATEUR_DATA=folder python benchmarks/claims.py random_pruning_fashion --write

Claims: lottery_ticket, pdp_threshold, darex_learnt_q, random_pruning_fashion, grokking_paper_split; without a name all
of them, which takes hours. Each is one or two studies of benchmarks/studies, run as by `secateur run`, from the
repository's root and below build/claims. Finished trials are not repeated, so you may stop it at any time. It prints a
Markdown table, means over seeds with 95% t-intervals; --write puts it between the markers of the claim's page.
"""

import argparse
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch
from label_noise import write
from PIL import Image

from secateur.pipelines.files.whole_files import new_file
from secateur.pipelines.front_door.study import study
from secateur.pipelines.pages.words import brief, mean_of
from secateur.pipelines.runs.outcomes import outcomes_at
from secateur.pipelines.storage.home import ASSETS, marked_home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import find_study
from secateur.pipelines.studies.units import PruningStudy
from secateur.trainers.judging.comparison import compare_pairs, summarise
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "benchmarks" / "studies"
DATA = Path(os.environ.get("SECATEUR_DATA", ROOT.parent / "shared" / "data")).resolve()
FASHION = Path("build/claims/fashion_mnist.npz")
TRAINED_ON, TESTED_ON, STRANGERS = 20_000, 10_000, 2_000


@dataclass(frozen=True)
class Claim:
    """The page with the table, studies by their labels in the table, the metrics of its columns, and pairs of arms to
    compare by the first metric."""

    page: str
    studies: Mapping[str, str]
    metrics: Sequence[str]
    against: Mapping[str, str] = field(default_factory=dict)


CLAIMS = {
    "lottery_ticket": Claim(
        "docs/prune-rethinking.md",
        {"0.1": "lottery_ticket_high_rate", "0.01": "lottery_ticket_low_rate"},
        ["accuracy", "calibration_error"],
        {"ticket": "ticket_redrawn"},
    ),
    "pdp_threshold": Claim(
        "docs/prune-pdp.md",
        {"": "pdp_threshold"},
        ["accuracy", "soft_accuracy"],
        {"pdp": "gradual", "pdp_through": "pdp"},
    ),
    "darex_learnt_q": Claim(
        "docs/prune-deltas.md",
        {"": "darex_learnt_q"},
        ["accuracy", "q_over_keep"],
        dict.fromkeys(("q_labels", "q_outputs", "q_layers", "q_gradient"), "random"),
    ),
    "random_pruning_fashion": Claim(
        "docs/prune-weights.md",
        {"": "random_pruning_fashion"},
        [
            *("accuracy", "accuracy_width_16", "accuracy_width_8", "calibration_error"),
            *(f"auroc_against_{name}" for name in ("cifar10", "digits", "noise")),
            *(f"accuracy_attacked_by_{step}" for step in (1, 2, 4, 8)),
        ],
        {"erk": "random"},
    ),
    "grokking_paper_split": Claim(
        "docs/prune-grokking.md",
        {"": "grokking_paper_split"},
        ["mean_test_accuracy", "test_accuracy", "steps_to_memorise", "steps_to_generalise"],
    ),
}

Outcomes = Mapping[tuple[str, float], Sequence[Outcome]]
"""Outcomes by arm and kept share, in the order of seeds."""


def outcomes_of(told: PruningStudy) -> Outcomes:
    """Outcomes of every arm of a completed study."""
    found: dict[tuple[str, float], list[Outcome]] = {}
    for trial, outcome in outcomes_at(Store(marked_home() / ASSETS), told, told.trials).items():
        found.setdefault((trial.name, float(trial.keep)), []).append(outcome)
    return found


def values_of(outcomes: Sequence[Outcome], metric: str) -> list[float]:
    """Values of a metric, of outcomes that have it."""
    return [each.metrics[metric] for each in outcomes if metric in each.metrics]


def cell(outcomes: Sequence[Outcome], metric: Metric) -> str:
    """Mean and interval; the number of seeds with the metric if some lack it, empty if all do."""
    values = values_of(outcomes, metric.name)
    if not values:
        return ""
    some = "" if len(values) == len(outcomes) else f" ({len(values)} of {len(outcomes)} seeds)"
    return f"{mean_of(summarise(values), metric)}{some}"


def rows_of(claim: Claim, metrics: Mapping[str, Metric], outcomes: Outcomes, before: Sequence[str]) -> list[str]:
    """A line of the table for each arm at each budget, references last; p-values are corrected within a budget."""
    lines, first = [], claim.metrics[0]
    for keep in dict.fromkeys(keep for _, keep in outcomes):
        here = {arm: found for (arm, share), found in outcomes.items() if share == keep}
        pairs = {
            arm: (values_of(here[arm], first), values_of(here[other], first))
            for arm, other in claim.against.items()
            if arm in here
        }
        beside = compare_pairs(pairs, higher_is_better=metrics[first].higher_is_better)
        for arm, found in here.items():
            told = f"{brief(beside[arm], metrics[first])}, {claim.against[arm]}" if arm in beside else ""
            cells = [*before, f"{keep:g}", arm, *(cell(found, metrics[name]) for name in claim.metrics)]
            lines.append(f"| {' | '.join([*cells, *([told] if claim.against else [])])} |")
    return lines


def table(claim: Claim, studies: Mapping[str, PruningStudy]) -> str:
    """The table of a claim, with a sentence on its setup."""
    first = next(iter(studies.values()))
    metrics = {metric.name: metric for metric in first.metrics}
    heads = [f"{name.replace('_', ' ')}{', %' if metrics[name].percent else ''}" for name in claim.metrics]
    labelled = ["learning rate"] if len(studies) > 1 else []
    columns = [*labelled, "kept", "arm", *heads, *(["against"] if claim.against else [])]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for label, told in studies.items():
        lines += rows_of(claim, metrics, outcomes_of(told), [label] if labelled else [])
    count, threads = first.seeds, torch.get_num_threads()
    tested = "means ± half-widths of 95% t-intervals, paired t-tests, p-values Holm-corrected within a budget"
    seeds = f"{count} seeds; {tested}" if count > 1 else "One seed, so no intervals"
    made = f"{seeds}. torch {torch.__version__.partition('+')[0]} on {threads} CPU thread{'s' * (threads > 1)}."
    return "\n".join([*lines, "", made])


def grey(table: pl.DataFrame, size: int) -> np.ndarray:
    """Pictures of a table, in grey and scaled to one size, uint8 `[n, size, size, 1]`."""
    opened = (Image.open(io.BytesIO(each["bytes"])).convert("L") for each in table["image"])
    return np.stack([np.asarray(each.resize((size, size), Image.Resampling.BILINEAR)) for each in opened])[..., None]


def write_fashion(path: Path) -> None:
    """Write Fashion-MNIST and out-of-distribution pictures: CIFAR-10 in grey, enlarged digits, and noise."""
    from sklearn.datasets import load_digits

    train, test = (pl.read_parquet(DATA / "fashion_mnist" / f"{split}.parquet") for split in ("train", "test"))
    train, test = train[:TRAINED_ON], test[:TESTED_ON]
    others = pl.read_parquet(DATA / "cifar10" / "test.parquet")[:STRANGERS]
    digits = [Image.fromarray((each * 255 / 16).astype(np.uint8)) for each in load_digits().images]
    large = [np.asarray(each.resize((28, 28), Image.Resampling.BILINEAR)) for each in digits]
    noise = np.random.default_rng(0).integers(0, 256, (STRANGERS, 28, 28, 1)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, overwrite=True) as partial, partial.open("wb") as file:
        np.savez(
            file,
            inputs=grey(train, 28),
            labels=train["label"].to_numpy().astype(np.int64),
            test_inputs=grey(test, 28),
            test_labels=test["label"].to_numpy().astype(np.int64),
            cifar10=grey(others, 28),
            digits=np.stack(large)[..., None],
            noise=noise,
        )


def main(arguments: list[str] | None = None) -> None:
    """See the file's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="CLAIM")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.claims if name not in CLAIMS]:
        parser.error(f"no claim is called {unknown[0]!r}; there are {', '.join(CLAIMS)}")
    os.chdir(ROOT)
    os.environ.setdefault("SECATEUR_HOME", str(ROOT / "build" / "claims"))
    for name in asked.claims or CLAIMS:
        if name == "random_pruning_fashion" and not FASHION.is_file():
            if not (DATA / "fashion_mnist").is_dir():
                print(f"{name}: SKIPPED, no data at {DATA / 'fashion_mnist'}: set SECATEUR_DATA")
                continue
            write_fashion(FASHION)
        text = run(CLAIMS[name])
        print(text)
        if asked.write:
            write(ROOT / CLAIMS[name].page, f"claim: {name}", text)


def run(claim: Claim) -> str:
    """Run missing trials of the claim's studies; returns its table."""
    found = {}
    for label, name in claim.studies.items():
        file = STUDIES / f"{name}.yaml"
        study(file)
        told = find_study(str(file)).study
        assert isinstance(told, PruningStudy)
        found[label] = told
    return table(claim, found)


if __name__ == "__main__":
    main()
