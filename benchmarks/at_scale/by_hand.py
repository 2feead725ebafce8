"""The same work as the study of `data.py`, written by hand with polars, scikit-learn, Pillow and torch.

    python benchmarks/at_scale/by_hand.py FOLDER tables|texts|pictures NOTES

Reads the rows, holds out a tenth, encodes them, trains a network for one epoch and keeps the loss of each row; selects
the half with the highest loss and a random half, trains a network on everything and on each half, evaluates all three,
writes the kept rows as Parquet and the accuracies as JSON. It checks no data, hashes no rows, keeps no records and
cannot resume. Its output is in FOLDER/by-hand, its notes have the format of `ours.py`.
"""

import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EVENTS: list[tuple[float, float, str]] = [(time.monotonic(), time.process_time(), "imports")]

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from torch import nn  # noqa: E402

TERMS, AT_ONCE = 2048, 4096
Take = Callable[[np.ndarray], torch.Tensor]


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Note a stage."""
    EVENTS.append((time.monotonic(), time.process_time(), name))
    yield
    EVENTS.append((time.monotonic(), time.process_time(), "the command"))


def inputs_of(frame: pl.DataFrame, kind: str, train: np.ndarray) -> Take:
    """Inputs of all rows of the frame, float32; the encoding is fitted to the training rows."""
    if kind == "tables":
        numbers = frame.drop("label").to_numpy()
        known = numbers[train]
        standard = ((numbers - known.mean(axis=0)) / known.std(axis=0)).astype(np.float32)
        return lambda rows: torch.from_numpy(standard[rows])
    if kind == "texts":
        learned = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=TERMS, dtype=np.float32)
        texts = frame["text"].to_list()
        learned.fit([texts[row] for row in train.tolist()])
        sparse = learned.transform(texts)
        return lambda rows: torch.from_numpy(sparse[rows].toarray())
    files = frame["image"].struct.field("bytes")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    mean, deviation = float(pixels[train].mean()), float(pixels[train].std())
    return lambda rows: (torch.from_numpy(pixels[rows]).float() - mean) / deviation


def trained(take: Take, labels: torch.Tensor, rows: np.ndarray, asked: dict[str, Any]) -> tuple[nn.Module, np.ndarray]:
    """A network trained on `rows` for the configured epochs or steps, and the last loss of each row."""
    torch.manual_seed(0)
    width, classes = int(take(rows[:1])[0].numel()), int(labels.max()) + 1
    widths = [width, *asked["model_settings"]["hidden"]]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    network, size = nn.Sequential(*layers, nn.Linear(widths[-1], classes)), asked["batch_size"]
    an_epoch = -(-len(rows) // size)
    steps = asked.get("steps") or asked["epochs"] * an_epoch
    optimiser = torch.optim.AdamW(network.parameters(), asked["learning_rate"], weight_decay=1e-4, fused=True)
    warm = max(1, int(0.05 * steps))
    rates = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, 1 / warm, total_iters=warm),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps - warm)),
        ],
        [warm],
    )
    losses, random, done = np.zeros(len(labels), np.float32), np.random.default_rng(0), 0
    while done < steps:
        order = rows[random.permutation(len(rows))]
        for start in range(0, min(len(order), (steps - done) * size), size):
            ids = order[start : start + size]
            each = nn.functional.cross_entropy(network(take(ids)), labels[ids], reduction="none")
            optimiser.zero_grad()
            each.mean().backward()
            optimiser.step()
            rates.step()
            losses[ids] = each.detach().numpy()
            done += 1
    return network, losses[rows]


def accuracy(network: nn.Module, take: Take, labels: torch.Tensor, rows: np.ndarray) -> float:
    """Share of rows whose class the network predicts."""
    with torch.no_grad():
        parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
        right = sum(int((network(take(part)).argmax(dim=1) == labels[part]).sum()) for part in parts)
    return right / len(rows)


def main(folder: Path, kind: str, notes: Path) -> None:
    study = yaml.safe_load((folder / "studies" / "scale.yaml").read_text())
    out = folder / "by-hand"
    out.mkdir(exist_ok=True)
    with stage("data"):
        frame = pl.read_parquet(folder / "train" / "*.parquet")
        labels = torch.from_numpy(frame["label"].to_numpy().astype(np.int64))
        order = np.random.default_rng(0).permutation(len(frame))
        held = round(study["source"]["test_fraction"] * len(frame))
        test, train = np.sort(order[:held]), np.sort(order[held:])
        take = inputs_of(frame, kind, train)
        del frame
    with stage("proxy training"):
        losses = trained(take, labels, train, study["proxy"])[1]
    with stage("selection"):
        count = round(study["keep"][0] * len(train))
        hardest = np.sort(np.argpartition(-losses, count)[:count])
        random = np.sort(np.random.default_rng(1).choice(len(train), count, replace=False))
    kept, found = {"everything": train, "top": train[hardest], "uniform_random": train[random]}, {}
    for name, rows in kept.items():
        with stage("training"):
            network = trained(take, labels, rows, study["training"])[0]
        with stage("evaluation"):
            found[name] = accuracy(network, take, labels, test)
    with stage("manifests"):
        for name, places in (("top", hardest), ("uniform_random", random)):
            chosen = pl.DataFrame({"row": train[places], "label": labels[train[places]].numpy()})
            chosen.with_columns(loss=pl.Series(losses[places])).write_parquet(out / f"{name}.parquet")
    with stage("report"):
        (out / "report.json").write_text(json.dumps(found, indent=1))
    EVENTS.append((time.monotonic(), time.process_time(), ""))
    notes.write_text(json.dumps(EVENTS))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
