"""Detection of flipped labels by a proxy's scores, by number of epochs and by the space of the neighbours.

    SECATEUR_DATA=… python benchmarks/proxy_epochs.py [--sets banking77,digits] [--rows 10000] [--seeds 2] [--folds 5]

A fifth of the labels of both splits are replaced by another class, drawn uniformly by the seed, which also draws the
rows and trains the proxy. Each number of epochs has a proxy of its own, because its learning rate decays to the end of
its run. A line holds the proxy's accuracy on training samples in its last epoch and on test samples after it (with
labels as noisy), and the AUROC for the flipped rows: of `loss`, `aum` and `checkpoint_loss`, of `neighbour_agreement`
by the proxy's own features and by embeddings that did not learn the labels, and with --folds of `checkpoint_loss` by
proxies that did not see the sample.
"""

import argparse
import os
import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from secateur.pipelines.data.sources import load
from secateur.pipelines.studies.files import SHIPPED, load_file
from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.scorers.geometry.neighbour_agreement import neighbour_agreement
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.correctness import Correctness
from secateur.scorers.observers.loss import Loss
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.encoding import encode
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows

CPU, NOISE, NEIGHBOURS = torch.device("cpu"), 0.2, 10
EPOCHS = (2, 4, 8, 12, 20, 30)
TFIDF = {"model": "mlp", "learning_rate": 1e-3}
SETS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "digits": ("digits", {}, {"model": "mlp", "learning_rate": 1e-3}),
    "banking77": ("banking77", {"kind": "tfidf"}, TFIDF),
    "banking77_tokens": (
        "banking77",
        {"max_length": 32, "vocabulary": 4000},
        {"model": "transformer", "model_settings": {"layers": 1}, "learning_rate": 2e-3},
    ),
    "clinc150": ("clinc150", {"kind": "tfidf"}, TFIDF),
    "adult": ("adult", {"missing": ["?"]}, {"model": "tabular_mlp", "learning_rate": 2e-3}),
    "fashion_mnist": ("fashion_mnist", {}, {"model": "cnn", "model_settings": {"width": 16}, "learning_rate": 2e-3}),
}
"""Shipped study with the data, its encoding, and the proxy that `secateur init` would choose."""


def arrays_of(name: str) -> tuple[Data, Data, list[str] | None]:
    """Both splits as arrays, and the texts of the training rows if there are any."""
    study = load_file(SHIPPED / f"{SETS[name][0]}.yaml").study
    assert study
    loaded = load(study.read_source, study.read_columns, SHIPPED)
    columns, settings = study.read_columns, SETS[name][1]
    settled = study.model_copy(update={"encoding": settings, "proxy": TrainingConfig(**SETS[name][2], epochs=1)})
    settled = settled.model_copy(update={"training": settled.proxy})
    encoded = encode(settled.resolved_encoding, loaded.rows["train"], loaded.rows["test"], columns.inputs)
    task = study.task.task(loaded.label_names)
    splits = ((encoded.inputs, loaded.targets), (encoded.test_inputs, loaded.test_targets))
    train_data, test_data = (Data(np.asarray(x), y, task, encoded.model_settings) for x, y in splits)
    return train_data, test_data, loaded.train[columns.text] if columns.text else None


def with_noise(data: Data, rows: int, seed: int) -> tuple[Data, np.ndarray, np.ndarray]:
    """A random sample of rows with a fifth of the labels flipped; the mask of flips, and the rows."""
    random = np.random.default_rng((seed, 20))
    chosen = np.sort(random.permutation(len(data))[:rows])
    part = data.take(chosen)
    flipped = random.permutation(len(part)) < round(NOISE * len(part))
    away, classes = random.integers(1, part.task.width, len(part)), part.task.width
    labels = np.where(flipped, (part.targets + away) % classes, part.targets)
    return Data(part.inputs, labels, classes, part.model_settings), flipped, chosen


def agreement(vectors: np.ndarray, data: Data) -> np.ndarray:
    graph = nearest_neighbours(vectors, NEIGHBOURS, engine="exact")
    return -neighbour_agreement(graph.indices, data.targets)


def cross_fitted(data: Data, config: TrainingConfig, folds: int, seed: int) -> np.ndarray:
    """Loss of each row under a proxy that did not see it."""
    losses = np.empty(len(data), np.float32)
    for kept, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(data.targets, data.targets):
        keep = np.zeros(len(data), bool)
        keep[kept] = True
        model = train(data, config, seed=seed, keep=keep, device=CPU).model
        losses[held] = score_rows([[model]], data, held, {"loss": (checkpoint_loss, {})}, device=CPU)["loss"]
    return losses


def line_of(data: Data, test: Data, config: TrainingConfig, seed: int, folds: int) -> tuple[list[float], list[Any]]:
    """The proxy's accuracies, and scores whose high end means likelier flipped."""
    whole = len(data)
    last = Correctness(whole, CPU)

    class Last:
        """Discards all epochs but the last."""

        def __call__(self, model: Any, done: int, total: int) -> None:
            if done < total:
                last.total.zero_()
                last.presentations.zero_()

    aum, loss = Aum(whole, CPU), Loss(whole, CPU)
    model = train(data, config, seed=seed, observers=[aum, loss, last], device=CPU, checkpoint=Last()).model
    found = score_rows([[model]], data, np.arange(whole), {"loss": (checkpoint_loss, {})}, device=CPU)["loss"]
    own = np.concatenate(list(embed(EmbeddingSettings(), data, model=model)))
    fitted = cross_fitted(data, config, folds, seed) if folds else np.zeros(whole)
    shares = [float(last.scores().mean()), float(evaluate(model, test)["accuracy"])]
    return shares, [loss.scores(), -aum.scores(), found, agreement(own, data), fitted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--epochs", default=",".join(map(str, EPOCHS)))
    asked = parser.parse_args()
    os.environ.setdefault("SECATEUR_DATA", "data")
    heads = ("data", "rows", "epochs", "training %", "test %", "`loss`", "`aum`", "`checkpoint_loss`")
    heads += ("neighbours, proxy", "neighbours, inputs", "folds", "s")
    print(f"| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}")
    for name in asked.sets.split(","):
        whole, test_whole, texts = arrays_of(name)
        for epochs in map(int, asked.epochs.split(",")):
            lines, started = [], time.perf_counter()
            for seed in range(asked.seeds):
                data, flipped, rows = with_noise(whole, asked.rows, seed)
                test, _, _ = with_noise(test_whole, asked.rows, seed + 100)
                batch = 32 if len(data) < 2_000 else 64
                config = TrainingConfig(**SETS[name][2], epochs=epochs, batch_size=batch)
                shares, scores = line_of(data, test, config, seed, asked.folds)
                read = {"texts": [texts[row] for row in rows.tolist()]} if texts is not None else {}
                plain = np.concatenate(list(embed(EmbeddingSettings(kind="sklearn"), data, **read)))
                scores.insert(4, agreement(plain, data))
                lines.append([*(100 * share for share in shares), *(roc_auc_score(flipped, one) for one in scores)])
            means = np.mean(lines, axis=0)
            shown = [f"{one:.1f}" for one in means[:2]] + [f"{one:.3f}" for one in means[2:]]
            took = time.perf_counter() - started
            print(f"| {name} | {len(data):,} | {epochs} | {' | '.join(shown)} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
