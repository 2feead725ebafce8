"""Our scores compared with the same formulas in plain NumPy: Spearman's rank correlation and the largest gap.

    python benchmarks/score_agreement.py FOLDER [--rows 60000] [--epochs 12] [--write docs/label-noise.md]

One proxy, a network with one hidden layer, learns FOLDER/train.parquet (columns `image` and `label`, such as
Fashion-MNIST) with all observers, while a recorder stores the logits of every batch, float32 `[epochs, n, classes]`.
The script then recomputes the observers' scores from the record alone, in float64. For scores of checkpoints the record
holds logits, hidden activations and weights, from which gradients follow by hand; the neighbour graph is scikit-learn's
brute force. The recomputation uses none of the library's scorers.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from label_noise import CHECKPOINTS, CPU, NEIGHBOURS, grey_images, write
from scipy.stats import spearmanr

from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.checkpoints.pvi import null_model_of
from secateur.scorers.contract import Observer, Scorer, TrainingBatch
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.train import train
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows


class Recorder(Observer):
    """Stores every logit, too much for a score, as the basis of the recomputation."""

    def __init__(self, samples: int, epochs: int, classes: int) -> None:
        super().__init__(samples, CPU)
        self.logits = torch.zeros(epochs, samples, classes)

    def update(self, batch: TrainingBatch) -> None:
        self.logits[int(self.epoch), batch.ids] = batch.outputs

    def reduce(self) -> torch.Tensor:
        raise NotImplementedError("a record is no score")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def of_the_run(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of training dynamics from logits `[epochs, n, classes]`, by the papers' formulas, default settings."""
    wide = logits.astype(np.float64)
    epochs, count, classes = wide.shape
    probability, log_probability = softmax(wide), np.log(softmax(wide))
    rows = np.arange(count)
    wanted = np.eye(classes, dtype=bool)[labels]

    def gap(values: np.ndarray) -> np.ndarray:
        return values[:, rows, labels] - np.where(wanted, -np.inf, values).max(axis=2)

    correct = wide.argmax(axis=2) == labels
    lapses = (correct[:-1] & ~correct[1:]).sum(axis=0)
    given = probability[:, rows, labels]
    window = 10

    def windows(values: np.ndarray) -> list[np.ndarray]:
        """Windows in order; a shorter run has a single, shorter one."""
        size = min(window, len(values))
        return [values[start : start + size] for start in range(len(values) - size + 1)]

    early = windows(given[:30])
    moves = (probability[1:] * np.abs(log_probability[1:] - log_probability[:-1])).sum(axis=2)
    drift = np.zeros(count)
    for start in range(epochs - window + 1):
        inside = moves[start : start + window - 1]
        drift = 0.9 * np.sqrt(((inside - inside.mean(axis=0)) ** 2).sum(axis=0)) + 0.1 * drift
    return {
        "accumulated_margin": gap(probability).mean(axis=0),
        "aum": gap(wide).mean(axis=0),
        "correctness": correct.mean(axis=0),
        "dual": np.mean([(1 - each.mean(axis=0)) * each.std(axis=0, ddof=1) for each in early], axis=0),
        "dynamic_uncertainty": np.mean([each.std(axis=0, ddof=1) for each in windows(given)], axis=0),
        "el2n": np.sqrt(((probability - wanted) ** 2).sum(axis=2))[:10].mean(axis=0),
        "entropy": -(probability[-1] * log_probability[-1]).sum(axis=1),
        "forgetting": np.where(correct.any(axis=0), lapses, epochs),
        "loss": -log_probability[:, rows, labels].mean(axis=0),
        "margin": gap(probability)[-1],
        "mean_probability": given[:30].mean(axis=0),
        "tdds": drift,
    }


def of_checkpoints(run: list[torch.nn.Module], data: Data) -> dict[str, np.ndarray]:
    """Scores of checkpoints of a network with one hidden layer of ReLU, every gradient derived by hand."""
    lengths: dict[str, list[np.ndarray]] = {"error": [], "last": [], "all": []}
    slopes = []
    pixels = data.inputs.reshape(len(data), -1).astype(np.float64)
    wanted = np.eye(data.task.width)[data.targets]
    for model in run:
        first, first_bias, second, second_bias = (
            value.detach().numpy().astype(np.float64) for value in model[1].parameters()
        )
        entered = (pixels - float(model[0].mean)) / float(model[0].std)
        hidden = entered @ first.T + first_bias
        active = np.maximum(hidden, 0)
        logits = active @ second.T + second_bias
        probability = softmax(logits)
        error = probability - wanted
        behind = (error @ second) * (hidden > 0)
        squared = (error**2).sum(axis=1)
        last = squared * (1 + (active**2).sum(axis=1))
        lengths["error"].append(np.sqrt(squared))
        lengths["last"].append(np.sqrt(last))
        lengths["all"].append(np.sqrt(last + (behind**2).sum(axis=1) * (1 + (entered**2).sum(axis=1))))
        slopes.append(((second[data.targets] * (hidden > 0)) @ first).astype(np.float32))
    given = probability[np.arange(len(data)), data.targets]
    frequency = np.bincount(data.targets, minlength=data.task.width)[data.targets] / len(data)
    restless = np.std(slopes, axis=0, dtype=np.float64).mean(axis=1)
    classes = [restless[data.targets == label] for label in range(data.task.width)]
    middle, spread = (np.array([take(each) for each in classes])[data.targets] for take in (np.mean, np.std))
    features = active.astype(np.float16).astype(np.float64)
    medians = np.stack([np.median(features[data.targets == label], axis=0) for label in range(data.task.width)])
    return {
        "checkpoint_el2n": np.mean(lengths["error"], axis=0),
        "checkpoint_entropy": -(probability * np.log(probability)).sum(axis=1),
        "checkpoint_loss": -np.log(given),
        "checkpoint_margin": given - np.where(wanted > 0, -np.inf, probability).max(axis=1),
        "grand": np.mean(lengths["all"], axis=0),
        "last_layer_grand": np.mean(lengths["last"], axis=0),
        "normalised_vog": (restless - middle) / spread,
        "prototype_distance": np.sqrt(((features - medians[data.targets]) ** 2).sum(axis=1)),
        "pvi": np.log2(given) - np.log2(frequency),
        "self_confidence": given,
        "vog": restless,
    }


def of_neighbours(embeddings: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the neighbour graph from scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(embeddings.astype(np.float32))
    far, who = found.kneighbors()
    return {
        "density": far[:, -1],
        "nearest_sample": far[:, 0],
        "neighbour_agreement": (labels[who] == labels[:, None]).mean(axis=1),
    }


def ours_of(
    data: Data, config: TrainingConfig
) -> tuple[dict[str, np.ndarray], Recorder, list[torch.nn.Module], np.ndarray]:
    """The library's scores, and the inputs of the recomputation."""
    import copy

    every = scorers()
    watchers = {name: one(len(data), CPU) for name, one in every.items() if isinstance(one, type)}
    recorder, run = Recorder(len(data), int(config.epochs or 0), data.task.width), []

    def keep(model: torch.nn.Module, done: int, total: int) -> None:
        if done * CHECKPOINTS // total > len(run):
            run.append(copy.deepcopy(model).eval())

    train(data, config, seed=0, observers=[*watchers.values(), recorder], device=CPU, checkpoint=keep)
    found = {name: watcher.scores() for name, watcher in watchers.items()}
    reading = {name: (one, {}) for name, one in every.items() if isinstance(one, CheckpointScorer)}
    found |= score_rows([run], data, np.arange(len(data)), reading, device=CPU)
    embeddings = np.concatenate(list(embed(EmbeddingSettings(), data, model=run[-1])))
    graph = nearest_neighbours(embeddings, NEIGHBOURS, engine="exact")
    signals = found | {"labels": data.targets, "embeddings": embeddings, "label_free_neighbours": graph.indices}
    signals |= {"neighbour_distances": graph.distances}
    signals |= {"null_log_probabilities": null_model_of(data.targets, data.task.width)}
    read = {name: one for name, one in every.items() if isinstance(one, Scorer)}
    found |= {name: one(*(signals[signal] for signal in one.signals)) for name, one in read.items()}
    return found, recorder, run, embeddings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    if asked.folder is None:
        print("skipped: name a folder with train.parquet (image, label)")
        return
    started = time.perf_counter()
    data = grey_images(asked.folder)
    data = data.take(np.arange(min(asked.rows, len(data))))
    config = TrainingConfig(model="mlp", model_settings={"hidden": (64,)}, epochs=asked.epochs, batch_size=128)
    ours, recorder, run, embeddings = ours_of(data, config)
    print(f"ours: {time.perf_counter() - started:.0f} s", flush=True)
    theirs = of_the_run(recorder.logits.numpy(), data.targets) | of_checkpoints(run, data)
    theirs |= of_neighbours(embeddings, data.targets)
    lines = ["| score | Spearman | largest gap, of the score's standard deviation |", "| --- | ---: | ---: |"]
    for name in sorted(ours):
        one, other = ours[name].astype(np.float64), theirs[name]
        rank, gap = spearmanr(one, other).statistic, np.abs(one - other).max() / other.std()
        lines.append(f"| `{name}` | {rank:.6f} | {gap:.1e} |")
    said = (
        f"{len(data):,} samples, {config.epochs} epochs of an mlp with {config.model_settings['hidden'][0]} hidden "
        f"units, {len(run)} checkpoints, {NEIGHBOURS} neighbours; torch {torch.__version__.partition('+')[0]} on "
        f"{torch.get_num_threads()} CPU threads, {time.perf_counter() - started:.0f} s in all."
    )
    text = said + "\n\n" + "\n".join(lines)
    print(text)
    if asked.write:
        write(asked.write, "agreement", text)


if __name__ == "__main__":
    main()
