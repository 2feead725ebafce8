"""Data of a given kind and size, with a study, for `benchmarks/scale.py`."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from PIL import Image

GROUP = {"tables": 250_000, "texts": 20_000, "pictures": 20_000}
"""Rows per file."""
WORDS, VOCABULARY, SIDE, DRAWN = 100, 30_000, 28, 1_000
CLASSES, WRONG, TEST = 5, 0.1, 0.1
"""Classes, share of randomly redrawn labels, and share of test rows."""
NAMES = [f"x{number}" for number in range(20)]
COLUMNS = {"tables": {"features": NAMES}, "texts": {"text": "text"}, "pictures": {"image": "image"}}
"""Columns in a study of each kind."""
NETWORK = {"hidden": [256, 256]}
RATE = 0.001
STEPS, BATCH, PROXY_BATCH = 2_000, 1_024, 4_096
KEEP = 0.5
SELECTIONS = {
    "top": {"selector": "top", "score": "loss"},
    "coverage_centric": {"selector": "coverage_centric", "score": "aum", "settings": {"cutoff": 0.1}},
    "uniform_random": None,
}


def write_parts(path: Path, rows: int, kind: str) -> None:
    """A folder of Parquet files of `GROUP` rows."""
    path.mkdir()
    random, group = np.random.default_rng(0), GROUP[kind]
    for start in range(0, rows, group):
        pl.DataFrame(KINDS[kind](random, min(group, rows - start))).write_parquet(path / f"{start:010}.parquet")


def with_wrong(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Labels, a share of which is redrawn at random."""
    return np.where(random.random(len(labels)) < WRONG, random.integers(0, CLASSES, len(labels)), labels)


def table(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Normal numbers of growing scale; the class is the largest of five sums of them."""
    numbers = random.normal(size=(count, len(NAMES)))
    labels = np.argmax(numbers @ np.random.default_rng(1).normal(size=(len(NAMES), CLASSES)), axis=1)
    columns = {name: numbers[:, place] * (place + 1) for place, name in enumerate(NAMES)}
    return columns | {"label": with_wrong(random, labels)}


def texts(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Words by Zipf's law; the class is the most common value modulo five among words below a hundred."""
    every = np.array([f"{'abcdefghij'[number % 10]}w{number}" for number in range(VOCABULARY)])
    share = 1 / np.arange(1, VOCABULARY + 1)
    drawn = random.choice(VOCABULARY, (count, WORDS), p=share / share.sum())
    labels = np.argmax([((drawn % CLASSES == place) & (drawn < 100)).sum(axis=1) for place in range(CLASSES)], axis=0)
    return {"text": [" ".join(every[row]) for row in drawn], "label": with_wrong(random, labels)}


def pictures(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Smooth grey pictures, `DRAWN` distinct ones with a random corner each; the class is the brightness."""
    files, ramp = [], np.add.outer(np.arange(SIDE), np.arange(SIDE)) * 4
    levels = random.integers(0, DRAWN, count)
    for level in levels:
        pixels = (ramp + level % 250).astype(np.uint8)
        pixels[:4, :8] = random.integers(0, 256, (4, 8))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    return {"image": files, "label": with_wrong(random, levels % 250 * CLASSES // 250)}


KINDS: dict[str, Callable[[np.random.Generator, int], dict[str, Any]]] = {
    "tables": table,
    "texts": texts,
    "pictures": pictures,
}


def study_of(kind: str, steps: int, *, tiny: bool = False) -> dict[str, Any]:
    """The study: scores of a proxy of one epoch, three selections of half, trainings of `steps` steps, one seed."""
    network = {"model": "mlp", "model_settings": NETWORK, "learning_rate": RATE}
    return {
        "name": "scale",
        "source": {"kind": "parquet", "train": "../train/*.parquet", "test_fraction": TEST},
        "columns": COLUMNS[kind] | {"label": "label"},
        "proxy": network | {"epochs": 1, "batch_size": 64 if tiny else PROXY_BATCH},
        "scores": {"loss": None, "aum": None},
        "selections": SELECTIONS,
        "keep": [KEEP],
        "training": network | {"steps": steps, "batch_size": 64 if tiny else BATCH},
        "seeds": 1,
    }


def write_data(folder: Path, kind: str, rows: int, steps: int = STEPS, *, tiny: bool = False) -> dict[str, Any]:
    """Write data of a kind and its study into a new folder; returns the study."""
    folder.mkdir(parents=True)
    write_parts(folder / "train", rows, kind)
    study = study_of(kind, steps, tiny=tiny)
    (folder / "studies").mkdir()
    (folder / "studies" / "scale.yaml").write_text(yaml.safe_dump(study))
    return study
