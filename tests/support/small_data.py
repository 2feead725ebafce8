"""Small data sets as people have them: drawn shapes, support tickets, a table of rare positives."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHAPES = ("circle", "square", "triangle")
QUEUES = {
    "billing": ["invoice", "refund", "charge", "card", "payment", "tax"],
    "access": ["password", "login", "locked", "reset", "account", "token"],
    "shipping": ["parcel", "courier", "delay", "address", "tracking", "box"],
}
FILLERS = [
    "please",
    "help",
    "me",
    "since",
    "yesterday",
    "my",
    "the",
    "with",
    "again",
    "and",
    "order",
    "today",
    "thanks",
    "urgent",
]


def write_shapes(folder: Path, counts: Sequence[int] = (60, 18), *, mislabelled: float = 0.0, seed: int = 0) -> None:
    """Pictures of three shapes in `train/CLASS` and `test/CLASS`; so large a part of the former in a wrong folder."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    for split, count in zip(("train", "test"), counts, strict=True):
        for number in range(count):
            (row, column), radius = rng.integers(6, 10, 2), int(rng.integers(3, 6))
            masks = (
                (y - row) ** 2 + (x - column) ** 2 <= radius**2,
                (abs(y - row) <= radius) & (abs(x - column) <= radius),
                (y - row <= radius) & (abs(x - column) * 2 <= y - row + radius),
            )
            pixels = np.full((16, 16, 3), 235.0)
            pixels[masks[number % 3]] = rng.integers(0, 200, 3)
            pixels = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255)
            wrong = split == "train" and number < mislabelled * count
            path = folder / split / SHAPES[(number + wrong) % 3] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_tickets(path: Path, count: int = 240, seed: int = 0) -> None:
    """Texts of customers, some long, in three queues; a twelfth of them in a wrong one."""
    rng = np.random.default_rng(seed)
    names = list(QUEUES)
    rows: list[list[Any]] = [["body", "queue"]]
    for number in range(count):
        words = [*rng.choice(QUEUES[names[number % 3]], 4), *rng.choice(FILLERS, rng.integers(4, 40)), f"no{number}"]
        rng.shuffle(words)
        rows.append([" ".join(words), names[(number + (number % 12 == 0)) % 3]])
    write_rows(path, rows)


def write_payments(path: Path, count: int = 900, seed: int = 0) -> None:
    """Payments, of which one in 45 is fraud."""
    rng = np.random.default_rng(seed)
    rows: list[list[Any]] = [["amount", "hour", "country", "fraud"]]
    for number in range(count):
        bad = number % 45 == 0
        amount, hour = rng.lognormal(4 + 1.5 * bad, 0.7), rng.integers(0, 6 if bad else 24)
        rows.append([f"{amount:.2f}", hour, rng.choice(["de", "fr", "us"]), "yes" if bad else "no"])
    write_rows(path, rows)


def write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
