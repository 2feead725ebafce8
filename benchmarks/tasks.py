"""Detection of wrong targets by scores, and selections on permuted targets, for regression and for several labels.

    SECATEUR_DATA=… python benchmarks/tasks.py [--studies diabetes,adult_hours] [--seeds 3] [--write docs/tasks.md]

Each shipped study runs with its own proxy and training configs; only its targets change, drawn anew for each seed:

- *Planted*: in a fifth of the training rows the number moves by three standard deviations, up or down, or the set of
  labels gains, swaps or loses one label. A uniform flip of one of 150 labels is nearly always a gain. One proxy
  gives every score that the task supports, with default settings. The table reports the AUROC for the planted rows, in
  the score's declared direction: scores whose high end is "easier" or "denser" are negated.
- *Permuted*: the targets of both splits are permuted, so the inputs carry no information on them. The study runs
  completely, and the table reports its comparison of each selection with random.

SECATEUR_DATA names the folder of `adult/{train,test}.parquet` and `clinc150/{train,test}.parquet`; this script joins
requests of several intents as `benchmarks/label_sets.py` does. --write replaces the tables of the page.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import polars as pl
import torch
import yaml
from label_noise import TURNED, write
from label_sets import joined
from sklearn.metrics import roc_auc_score

from secateur.pipelines.data.sources import load
from secateur.pipelines.materialise import Part, run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import SHIPPED, StudyFile, load_file
from secateur.scorers.registry import scorers
from secateur.trainers.tasks.missing_signals import missing_signals

SPLITS, SHARE, DEVIATIONS, CHECKPOINTS = ("train", "test"), 0.2, 3.0, 5
STUDIES = ("diabetes", "adult_hours", "clinc150_sets")
Tables = dict[str, pl.DataFrame]
Wrong = Callable[[pl.Series, np.random.Generator], list[Any]]


def tables_of(name: str, folder: Path) -> Tables:
    """Both splits of a shipped study."""
    if name == "clinc150_sets":
        read = {split: datasets.Dataset.from_parquet(str(folder / f"clinc150/{split}.parquet")) for split in SPLITS}
        return {split: joined(rows, seed).to_polars() for seed, (split, rows) in enumerate(read.items())}
    study = shipped(name)
    loaded = load(study.read_source, study.read_columns, SHIPPED)
    return {"train": loaded.train.to_polars(), "test": loaded.test.to_polars()}


def shipped(name: str) -> Any:
    return load_file(SHIPPED / f"{name}.yaml").study


def shifted(targets: pl.Series, random: np.random.Generator) -> list[float]:
    """All numbers, each moved by three standard deviations up or down."""
    numbers = targets.to_numpy().astype(np.float64)
    return list(numbers + DEVIATIONS * numbers.std() * random.choice([-1, 1], len(numbers)))


def gained(targets: pl.Series, random: np.random.Generator) -> list[list[str]]:
    """All sets, each with one additional label."""
    names = np.array(sorted(set(targets.explode())))
    return [[*labels, str(random.choice(np.setdiff1d(names, labels)))] for labels in targets.to_list()]


def lost(targets: pl.Series, random: np.random.Generator) -> list[list[str]]:
    """All sets, each without one of its labels."""
    return [list(random.permutation(labels)[1:]) for labels in targets.to_list()]


def swapped(targets: pl.Series, random: np.random.Generator) -> list[list[str]]:
    """All sets, each with one label replaced by another."""
    return [labels[1:] for labels in gained(pl.Series([list(random.permutation(one)) for one in targets]), random)]


def study_of(name: str, folder: Path, tables: Tables, **changes: Any) -> StudyFile:
    """A shipped study with some keys changed, on other tables, which it writes into the folder."""
    for split, table in tables.items():
        table.write_parquet(folder / f"{split}.parquet")
    content = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    content["source"] = {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content | changes))
    return load_file(folder / f"{name}.yaml")


def ran(file: StudyFile, part: Part = "everything") -> Store:
    """The store after a run of the study, or of a part of it."""
    root = file.path.parent / "assets"
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, root, instance, part=part)
    return Store(root)


def areas(name: str, tables: Tables, wrong: Wrong, seed: int) -> dict[str, float]:
    """AUROC for the planted rows, of every score that the study's task supports."""
    study, random = shipped(name), np.random.default_rng((seed, 21))
    targets = tables["train"][study.columns.label]
    planted = np.zeros(len(targets), bool)
    planted[random.choice(len(targets), round(SHARE * len(targets)), replace=False)] = True
    changed = [
        new if bad else old for old, new, bad in zip(targets.to_list(), wrong(targets, random), planted, strict=True)
    ]
    train = tables["train"].with_columns(pl.Series(targets.name, changed, strict=False))
    task = study.task.task(("first", "second"))
    possible = [scorer for scorer, one in scorers().items() if not missing_signals(one, task)]
    asked = {"scores": dict.fromkeys(possible), "checkpoints": CHECKPOINTS}
    with tempfile.TemporaryDirectory() as folder:
        store = ran(study_of(name, Path(folder), tables | {"train": train}, **asked), "scores")
        scores = {scorer: np.array(store.load((name, "scores", scorer))) for scorer in possible}
    return {
        scorer: float(roc_auc_score(planted, -values if scorers()[scorer].card.high_means in TURNED else values))
        for scorer, values in scores.items()
    }


def rows_of(name: str, tables: Tables, seed: int) -> list[dict[str, Any]]:
    """The report's rows of the study on permuted targets in each split."""
    column, random = shipped(name).columns.label, np.random.default_rng((seed, 22))
    permuted = {
        split: table.with_columns(table[column].gather(random.permutation(len(table))))
        for split, table in tables.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        store = ran(study_of(name, Path(folder), permuted))
        rows: list[dict[str, Any]] = json.loads((store.load((name, "report")) / "report.json").read_text())["rows"]
    return rows


def planted_table(found: dict[str, dict[str, list[float]]]) -> str:
    """Mean and lowest AUROC over seeds; scores with the largest mean first."""
    names = sorted({score for column in found.values() for score in column}, key=lambda score: -best(found, score))
    lines = [f"| score | {' | '.join(found)} |", f"| --- |{' ---: |' * len(found)}"]
    for score in names:
        cells = [column.get(score) for column in found.values()]
        text = [f"{np.mean(cell):.3f} ({min(cell):.3f})" if cell else "no" for cell in cells]
        lines.append(f"| `{score}` | {' | '.join(text)} |")
    return "\n".join(lines)


def best(found: dict[str, dict[str, list[float]]], score: str) -> float:
    return max(float(np.mean(column[score])) for column in found.values() if score in column)


def permuted_table(name: str, seeds: list[list[dict[str, Any]]]) -> list[str]:
    """One line per selection and budget: the deciding metric against random's, and counts of verdicts."""
    metric = shipped(name).metrics[0]
    scale, lines = 100 if metric.percent else 1, []
    for rows in zip(*seeds, strict=True):
        verdicts = Counter(row["against"]["random"]["verdict"] for row in rows if "random" in row["against"])
        if verdicts:
            value = scale * np.mean([row["metrics"][metric.name]["mean"] for row in rows])
            random = scale * np.mean([row["random"]["mean"] for row in rows])
            counts = " | ".join(str(verdicts[one]) for one in ("better", "no better", "worse"))
            what = f"{name}, {metric.title} | {rows[0]['title']} | {rows[0]['kept']:,}"
            lines.append(f"| {what} | {value:.1f} | {random:.1f} | {counts} |")
    return lines


def main() -> None:
    """Print both tables, and write them into the page with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", default=",".join(STUDIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if not (folder := Path(os.environ.get("SECATEUR_DATA", ""))).is_dir() or folder == Path():
        raise SystemExit("SECATEUR_DATA names no folder: Adult and CLINC150 are read there")
    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    started, found, lines = time.perf_counter(), {}, []
    for name in options.studies.split(","):
        tables = tables_of(name, folder)
        for wrong in (gained, swapped, lost) if shipped(name).task.kind == "multi_label" else (shifted,):
            column = found[f"{name}, {wrong.__name__}"] = defaultdict(list)
            for seed in range(options.seeds):
                for score, area in areas(name, tables, wrong, seed).items():
                    column[score].append(area)
                print(f"{name}, {wrong.__name__}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
        lines += permuted_table(name, [rows_of(name, tables, seed) for seed in range(options.seeds)])
        print(f"{name}, permuted: {time.perf_counter() - started:.0f} s", flush=True)
    head = [
        "| study, metric | selection | kept | mean | of random | better | no better | worse |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    texts = {"planted targets": planted_table(found), "permuted targets": "\n".join([*head, *lines])}
    how = (
        f"{options.seeds} seeds, torch {torch.__version__.partition('+')[0]} on {torch.get_num_threads()} CPU threads, "
        f"{time.perf_counter() - started:.0f} s in all."
    )
    print(how, *texts.values(), sep="\n\n")
    for marker, text in texts.items() if options.write else ():
        write(options.write, marker, text)


if __name__ == "__main__":
    main()
