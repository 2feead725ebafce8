"""Files of texts in which leaks, copies and conflicts stand at known rows."""

import random
from dataclasses import dataclass
from pathlib import Path

import polars as pl

WORDS = [
    *("refund", "order", "parcel", "broken", "screen", "late", "delivery", "invoice", "account", "password", "login"),
    *("crash", "update", "battery", "charger", "blue", "red", "size", "shirt", "return", "policy", "support", "agent"),
    *("angry", "happy", "thanks", "please", "help", "today", "tomorrow"),
]
LEAKED = 5
"""Test rows, the first ones, that are training rows of the same numbers."""


@dataclass(frozen=True)
class Planted:
    """Files: training rows with copies, test rows, a benchmark that leaks, and one that does not."""

    train: Path
    test: Path
    benchmark: Path
    clean: Path


def sentence(rng: random.Random) -> str:
    """Words in no order."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(9, 20)))


def planted(folder: Path) -> Planted:
    """60 training rows, rows 60 and 61 copies of rows 10 and 11, row 62 row 20 with another label, row 63 without text,
    two more; 30 test rows, of which the first are training rows; a benchmark whose first two rows are training rows."""
    rng = random.Random(0)
    rows = [(sentence(rng), rng.choice("abc")) for _ in range(90)]
    train, test = rows[:60], rows[60:]
    test[:LEAKED] = train[:LEAKED]
    train += [train[10], train[11], (train[20][0], "d"), (None, "a"), (sentence(rng), "b"), (sentence(rng), "d")]
    files = Planted(*(folder / name for name in ("train.csv", "test.csv", "benchmark.jsonl", "clean.parquet")))
    for path, part in ((files.train, train), (files.test, test)):
        pl.DataFrame(part, schema=["body", "queue"], orient="row").with_row_index("id").write_csv(path)
    pl.DataFrame({"question": [train[50][0], train[51][0], sentence(rng)]}).write_ndjson(files.benchmark)
    pl.DataFrame({"body": [sentence(rng), sentence(rng)], "queue": ["a", "b"]}).write_parquet(files.clean)
    return files
