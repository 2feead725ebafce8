"""Files of texts in which leaks, copies and conflicts stand at known rows."""

import random
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import polars as pl

WORDS = [
    "".join(pair)
    for pair in product(("ka", "lo", "mi", "ter", "sun", "bra"), ("na", "vel", "dor", "pi"), ("", "s", "th"))
]
"""Made up, so that two sentences have few of them in common."""
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
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(12, 20)))


def nearly(text: str, rng: random.Random) -> str:
    """A sentence with one word replaced and one put in."""
    words = text.split()
    words[rng.randrange(len(words))] = rng.choice(WORDS)
    words.insert(rng.randrange(len(words)), rng.choice(WORDS))
    return " ".join(words)


def planted(folder: Path) -> Planted:
    """60 training rows, rows 60 and 61 copies of rows 10 and 11, row 62 row 20 with another label, row 63 without text,
    row 64 nearly row 40, one more; 30 test rows, of which the first are training rows and the next is nearly row 30; a
    benchmark whose first two rows are training rows."""
    rng = random.Random(0)
    rows = [(sentence(rng), rng.choice("abc")) for _ in range(90)]
    train, test = rows[:60], rows[60:]
    test[:LEAKED] = train[:LEAKED]
    test[LEAKED] = (nearly(train[30][0], rng), train[30][1])
    train += [train[10], train[11], (train[20][0], "d"), (None, "a"), (nearly(train[40][0], rng), train[40][1])]
    train += [(sentence(rng), "d")]
    files = Planted(*(folder / name for name in ("train.csv", "test.csv", "benchmark.jsonl", "clean.parquet")))
    for path, part in ((files.train, train), (files.test, test)):
        pl.DataFrame(part, schema=["body", "queue"], orient="row").with_row_index("id").write_csv(path)
    pl.DataFrame({"question": [train[50][0], train[51][0], sentence(rng)]}).write_ndjson(files.benchmark)
    pl.DataFrame({"body": [sentence(rng), sentence(rng)], "queue": ["a", "b"]}).write_parquet(files.clean)
    return files


TOPICS = {
    "billing": ("invoice", "charge", "refund", "payment", "card", "price", "fee"),
    "delivery": ("parcel", "courier", "tracking", "late", "address", "shipped", "box"),
    "login": ("password", "account", "email", "locked", "reset", "code", "signin"),
}
"""Words that tell a class."""


def topics(folder: Path, *, copies: int, leaks: int, wrong: int) -> tuple[Path, Path]:
    """Files of 600 training rows and 200 test rows whose words tell their class. The last `copies` training rows are
    nearly earlier ones from row 300 on, the first `leaks` test rows nearly the first training rows, and `wrong`
    training rows, from row 100 on, have the label of another class."""
    rng = random.Random(0)
    names = list(TOPICS)

    def row(name: str) -> tuple[str, str]:
        words = [rng.choice(TOPICS[name]) for _ in range(5)] + [rng.choice(WORDS) for _ in range(9)]
        rng.shuffle(words)
        return " ".join(words), name

    rows = [row(rng.choice(names)) for _ in range(800)]
    train, test = rows[: 600 - copies], rows[600:]
    test[:leaks] = [(nearly(text, rng), name) for text, name in train[:leaks]]
    train += [(nearly(text, rng), name) for text, name in train[300 : 300 + copies]]
    for place in range(100, 100 + wrong):
        text, name = train[place]
        train[place] = (text, rng.choice([other for other in names if other != name]))
    paths = folder / "train.csv", folder / "test.csv"
    for path, part in zip(paths, (train, test), strict=True):
        pl.DataFrame(part, schema=["body", "queue"], orient="row").write_csv(path)
    return paths
