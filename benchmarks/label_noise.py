"""Detection of flipped labels by each score: AUROC per score, over seeds.

    python benchmarks/label_noise.py [--data digits|FOLDER] [--rows 10000] [--seeds 3] [--write docs/label-noise.md]

A fifth of the labels are replaced by another class, drawn uniformly. One proxy trains on the noisy labels per seed
(which also determines the flips and the rows); all scores come from it, with their default settings. FOLDER holds
`train.parquet` with the columns `image` and `label`, such as Fashion-MNIST; `digits` is scikit-learn's.

The AUROC follows the score's declared direction, so that higher is better: scores whose high end is "easier" or
"denser" are negated, all others unchanged. --write replaces the table of the same data set in the page.
"""

import argparse
import inspect
import io
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from secateur.pipelines.pages.words import with_minus
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.checkpoints.pvi import null_model_of
from secateur.scorers.contract import Observer, Scorer, Scores
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.checkpoints import CheckpointWriter, load_checkpoints
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows

CPU = torch.device("cpu")
NOISE, CHECKPOINTS, NEIGHBOURS = 0.2, 5, 10
TURNED = {"easier", "denser"}
CONFIGS = {
    "digits": TrainingConfig(model="mlp", model_settings={"hidden": (128,)}, epochs=30, batch_size=64),
    "images": TrainingConfig(model="cnn", model_settings={"width": 16}, epochs=12, batch_size=128),
}


def digits() -> Data:
    inputs, labels = load_digits(return_X_y=True)
    return Data(inputs.astype(np.float32), labels.astype(np.int64), 10)


def grey_images(folder: Path) -> Data:
    """Images and labels of `train.parquet`, uint8 `[n, height, width, 1]`."""
    table = pl.read_parquet(folder / "train.parquet")
    pixels = [np.asarray(Image.open(io.BytesIO(trial["bytes"])).convert("L")) for trial in table["image"]]
    labels = table["label"].to_numpy().astype(np.int64)
    return Data(np.stack(pixels)[..., None], labels, int(labels.max()) + 1)


def with_noise(data: Data, rows: int, seed: int) -> tuple[Data, np.ndarray]:
    """A random sample of rows with a fifth of the labels flipped, and the mask of flips."""
    random = np.random.default_rng((seed, 20))
    part = data.take(np.sort(random.permutation(len(data))[:rows]))
    flipped = np.zeros(len(part), bool)
    flipped[random.permutation(len(part))[: round(NOISE * len(part))]] = True
    away = random.integers(1, part.task.width, len(part))
    labels = np.where(flipped, (part.targets + away) % part.task.width, part.targets)
    return Data(part.inputs, labels, part.task.width), flipped


def all_scores(data: Data, config: TrainingConfig, seed: int) -> dict[str, Scores]:
    """All scorers, with their default settings, on one proxy run of the seed."""
    every = scorers()
    watchers = {name: one(len(data), CPU) for name, one in every.items() if inspect.isclass(one)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = CheckpointWriter(folder, CHECKPOINTS)
        trained = train(data, config, seed=seed, observers=list(watchers.values()), device=CPU, checkpoint=writer)
        models.save(trained.model, folder, config, data.inputs.shape[1:])
        run = load_checkpoints(folder)
    found = {name: watcher.scores() for name, watcher in watchers.items() if isinstance(watcher, Observer)}
    reading = {name: (one, {}) for name, one in every.items() if isinstance(one, CheckpointScorer)}
    found |= score_rows([run], data, np.arange(len(data)), reading, device=CPU)
    embeddings = np.concatenate(list(embed(EmbeddingSettings(), data, model=run[-1])))
    graph = nearest_neighbours(embeddings, NEIGHBOURS, engine="exact")
    label_free = np.concatenate(list(embed(EmbeddingSettings(kind="sklearn"), data)))
    signals = found | {
        "labels": data.targets,
        "null_log_probabilities": null_model_of(data.targets, data.task.width),
        "embeddings": embeddings,
        "label_free_neighbours": nearest_neighbours(label_free, NEIGHBOURS, engine="exact").indices,
        "neighbour_distances": graph.distances,
    }
    return found | {
        name: one(*(signals[signal] for signal in one.signals))
        for name, one in every.items()
        if isinstance(one, Scorer)
    }


def area(scores: Scores, flipped: np.ndarray, high_means: str) -> float:
    return float(roc_auc_score(flipped, -scores if high_means in TURNED else scores))


def table(areas: dict[str, list[float]]) -> str:
    lines = ["| score | high means | AUROC, mean | lowest | highest |", "| --- | --- | ---: | ---: | ---: |"]
    every = scorers()
    for name, values in sorted(areas.items(), key=lambda item: -np.mean(item[1])):
        turned = " (turned)" if every[name].card.high_means in TURNED else ""
        lines.append(
            f"| `{name}` | {every[name].card.high_means}{turned} | {np.mean(values):.3f} | {min(values):.3f} "
            f"| {max(values):.3f} |"
        )
    return "\n".join(lines)


def write(page: Path, name: str, text: str) -> None:
    """Replace the text between the page's markers of that name."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before = page.read_text()
    after = re.sub(
        f"{re.escape(start)}.*{re.escape(end)}", lambda _: f"{start}\n{with_minus(text)}\n{end}", before, flags=re.S
    )
    if start not in before:
        raise SystemExit(f"{page} has no markers {start} … {end}")
    page.write_text(after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    read: Callable[[], Data] = digits if asked.data == "digits" else lambda: grey_images(Path(asked.data))
    data, config = read(), CONFIGS["digits" if asked.data == "digits" else "images"]
    areas: dict[str, list[float]] = {name: [] for name in scorers()}
    started = time.perf_counter()
    for seed in range(asked.seeds):
        noisy, flipped = with_noise(data, asked.rows, seed)
        for name, scores in all_scores(noisy, config, seed).items():
            areas[name].append(area(scores, flipped, scorers()[name].card.high_means))
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    count = min(asked.rows, len(data))
    said = (
        f"{count:,} of {len(data):,} samples, {NOISE:.0%} of the labels flipped, {asked.seeds} seeds; proxy "
        f"{config.model} {dict(config.model_settings)}, {config.epochs} epochs, batch {config.batch_size}, "
        f"{CHECKPOINTS} checkpoints, {NEIGHBOURS} neighbours; torch {torch.__version__.partition('+')[0]} on "
        f"{torch.get_num_threads()} CPU threads, {time.perf_counter() - started:.0f} s in all."
    )
    text = f"{said}\n\n{table(areas)}"
    print(text)
    if asked.write:
        write(asked.write, Path(asked.data).name, text)


if __name__ == "__main__":
    main()
