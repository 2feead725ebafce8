"""An audit's count of wrong labels, against the planted number and confident learning's count, and both rankings.

    python benchmarks/wrong_labels.py [--data digits|FOLDER …] [--shares 0 0.05 0.1 0.2 0.3] [--noise uniform next]
                                      [--seeds 3] [--rows 20000] [--write docs/audit-labels.md]

FOLDER holds `train.parquet` of `text` and `label`, of `image` and `label`, or of columns and `label`; `digits` is
scikit-learn's. The seed draws `--rows` of the rows. Uniform noise replaces the label by any other class, next noise by
the following class. Both methods use the probabilities of `cross_fitted`.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from cleanlab.count import num_label_issues
from cleanlab.rank import get_label_quality_scores
from label_noise import write
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from secateur.trainers.judging.cheap_values import picture_values, text_values
from secateur.trainers.judging.cross_fitting import Kind, cross_fitted
from secateur.trainers.judging.wrong_labels import wrong_labels

HEAD = (
    "| data | rows | noise | planted | accuracy % | counted | interval | off by % | confident joint, off by % "
    "| AUROC | cleanlab's |"
)


def drawn(data: str, rows: int, seed: int) -> tuple[Any, np.ndarray, Kind, list[int]]:
    """Inputs of the model, labels, the kind of input, and columns of codes."""
    if data == "digits":
        pixels, labels = load_digits(return_X_y=True)
        pictures = (pixels.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8)
        return picture_values(pictures), labels.astype(np.int64), "vectors", []
    table = pl.read_parquet(Path(data) / "train.parquet")
    table = table[np.sort(np.random.default_rng((seed, 3)).permutation(len(table))[:rows]).tolist()]
    labels = table["label"].to_numpy().astype(np.int64)
    if "image" in table.columns:
        pictures = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in table["image"]])
        return picture_values(pictures.reshape(*pictures.shape[:3], -1)), labels, "vectors", []
    if "text" in table.columns:
        return text_values(table["text"].to_list()), labels, "text", []
    features = table.drop("label")
    texts = [place for place, kind in enumerate(features.dtypes) if kind == pl.String]
    numbers = features.with_columns(pl.col(pl.String).rank("dense"))
    return numbers.to_numpy().astype(np.float32), labels, "features", texts


def planted(labels: np.ndarray, share: float, noise: str, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with this share of wrong ones, and the mask of these."""
    random = np.random.default_rng((seed, 7))
    wrong = np.zeros(len(labels), bool)
    wrong[random.permutation(len(labels))[: round(share * len(labels))]] = True
    away = random.integers(1, classes, len(labels)) if noise == "uniform" else 1
    return np.where(wrong, (labels + away) % classes, labels), wrong


def line(name: str, read: tuple[Any, np.ndarray, Kind, list[int]], share: float, noise: str, seed: int) -> list[Any]:
    """Numbers of one run for the table."""
    values, labels, kind, codes = read
    classes = int(labels.max()) + 1
    given, wrong = planted(labels, share, noise, classes, seed)
    probabilities = cross_fitted(values, given, kind=kind, categories=codes, width=classes, seed=seed)
    found = wrong_labels(probabilities, given, seed=seed)
    double = probabilities.astype(np.float64)
    double /= double.sum(axis=1, keepdims=True)
    areas = [np.nan, np.nan]
    if wrong.any():
        theirs = get_label_quality_scores(given, double)
        areas = [roc_auc_score(wrong, found.score), roc_auc_score(wrong, -theirs)]
    joint = num_label_issues(given, double)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    return [name, len(labels), noise, wrong.sum(), accuracy, found.count, found.low, found.high, joint, *areas]


def off_by(found: float, count: float) -> str:
    """Relative error of a count, in percent."""
    return f"{round(100 * (found / count - 1)):+d}".replace("+0", "0")


def shown(name: str, rows: int, noise: str, runs: list[list[Any]]) -> str:
    """A line of the table, means over seeds."""
    numbers = np.array([run[3:] for run in runs], float).mean(axis=0)
    count, accuracy, found, low, high, joint, own, theirs = numbers
    off = f"{off_by(found, count)} | {off_by(joint, count)}" if count else f"| counts {joint:,.0f}"
    areas = f"{own:.4f} | {theirs:.4f}" if count else " | "
    return (
        f"| {name} | {rows:,} | {noise if count else 'none'} | {count:,.0f} | {100 * accuracy:.1f} | {found:,.0f} "
        f"| {low:,.0f} … {high:,.0f} | {off} | {areas} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0, 0.05, 0.1, 0.2, 0.3])
    parser.add_argument("--noise", nargs="+", default=["uniform", "next"], choices=["uniform", "next"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    lines = [HEAD, "|" + " --- |" * 3 + " ---: |" * 3 + " --- |" + " ---: |" * 4]
    print("\n".join(lines), flush=True)
    for data in asked.data:
        name = Path(data).name
        reads = [drawn(data, asked.rows, seed) for seed in range(asked.seeds)]
        for share in asked.shares:
            for noise in asked.noise if share else asked.noise[:1]:
                runs = [line(name, read, share, noise, seed) for seed, read in enumerate(reads)]
                lines.append(shown(name, len(reads[0][1]), noise, runs))
                print(lines[-1], flush=True)
    if asked.write:
        write(asked.write, "counts", "\n".join(lines))


if __name__ == "__main__":
    main()
