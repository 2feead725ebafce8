"""Small studies of each kind of data in several files, prepared in this process or by others, and what they leave."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from secateur.pipelines.assets.data import Prepared, prepared
from secateur.pipelines.data.spread import Spread
from secateur.pipelines.studies.files import load_study
from secateur.pipelines.studies.samples import Study

TRAINING: dict[str, Any] = {
    "training": {"model": "mlp", "epochs": 1},
    "keep": [0.5],
    "selections": {"uniform_random": None},
}
STUDIES: dict[str, dict[str, Any]] = {
    "table": {
        "source": {"kind": "csv", "train": "rows/*.csv", "test_fraction": 0.3},
        "columns": {"features": ["x", "word"], "label": "label"},
        "data": {"duplicates": "drop"},
    },
    "tfidf": {
        "source": {"kind": "jsonl", "train": "rows/*.jsonl", "test_fraction": 0.3},
        "columns": {"text": "text", "label": "label"},
        "encoding": {"kind": "tfidf", "terms": 60},
    },
    "tokens": {
        "source": {"kind": "parquet", "train": "rows/[a-d].parquet", "test": "rows/[e-f].parquet"},
        "columns": {"text": "text", "label": "label"},
        "encoding": {"kind": "tokens", "vocabulary": 200},
        "training": {"model": "transformer", "epochs": 1},
    },
    "sequences": {
        "task": "sft",
        "source": {"kind": "jsonl", "train": "rows/*.jsonl", "test_fraction": 0.3},
        "columns": {"prompt": "word", "completion": "text"},
        "training": {"model": "language_model", "epochs": 1},
        "encoding": {"max_length": 24, "vocabulary": 320},
    },
    "pictures": {
        "source": {"kind": "parquet", "train": "rows/[a-c].parquet", "test": "rows/[d-f].parquet"},
        "columns": {"image": "image", "label": "label"},
    },
    "folder": {
        "source": {"kind": "imagefolder", "train": "pictures", "test_fraction": 0.3},
        "columns": {"image": "image", "label": "label"},
    },
}  # fmt: skip


def write_sources(folder: Path) -> None:
    """Six files of 43 rows in each format, and 60 pictures of which a few have another size or are grey."""
    random = np.random.default_rng(0)
    (folder / "rows").mkdir()
    for name in "abcdef":
        texts = [" ".join(f"w{n}é" for n in random.zipf(1.4, 1 + row % 9) % 200) for row in range(40)]
        words = [f"{row % 7} of {name if row % 3 else 'all'}" for row in range(40)]
        values = np.where(random.random(40) < 0.1, None, np.round(random.normal(size=40), 3))
        frame = pl.DataFrame(
            {"x": values.astype(object).tolist(), "word": words, "text": texts, "label": ["u", "v"] * 20}
        )
        frame = pl.concat([frame, frame.head(3)])  # duplicates
        cells = [{"bytes": picture(random, row), "path": None} for row in range(len(frame))]
        frame.with_columns(image=pl.Series(cells)).write_parquet(folder / "rows" / f"{name}.parquet")
        frame.write_csv(folder / "rows" / f"{name}.csv")
        frame.write_ndjson(folder / "rows" / f"{name}.jsonl")
    for number in range(60):
        label = folder / "pictures" / "ab"[number % 2]
        label.mkdir(parents=True, exist_ok=True)
        (label / f"{number:02}.png").write_bytes(picture(random, number))


def picture(random: np.random.Generator, number: int) -> bytes:
    """A PNG."""
    shown = Image.fromarray(random.integers(0, 256, (*((9, 7) if number % 11 else (12, 12)), 3), np.uint8))
    file = io.BytesIO()
    (shown.convert("L") if number % 13 == 5 else shown).save(file, "PNG")
    return file.getvalue()


def study_of(folder: Path, kind: str) -> Study:
    """The study of a kind, written to `<kind>.yaml`."""
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump({"name": kind, **TRAINING, **STUDIES[kind]}))
    study = load_study(path)
    assert isinstance(study, Study)
    return study


@contextmanager
def small_shards(rows: int = 30) -> Iterator[None]:
    """Shards that end behind a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secateur.pipelines.data.scan.SHARD_ROWS", rows)
        yield


def prepared_in(folder: Path, kind: str, place: str, spread: Spread | None) -> Prepared:
    """A kind's study prepared below `<place>`; tables, arrays and shards lie in `<place>/made/<kind>`."""
    made = folder / place / "made" / kind
    made.mkdir(parents=True, exist_ok=True)
    found = prepared(study_of(folder, kind), folder, folder / place / "cache", made, spread)
    assert found.encoder
    (made / "encoder").mkdir()
    found.encoder.save(made / "encoder")
    return found


def left_in(folder: Path, place: str) -> dict[str, Any]:
    """Every file of all preparations, with its bytes; none that says how far one has come."""
    found = (path for path in (folder / place).rglob("*") if path.is_file())
    return {str(path.relative_to(folder / place)): path.read_bytes() for path in found}


def told(made: Prepared) -> str:
    """What a preparation says of itself."""
    return json.dumps([made.source, made.told(), made.groups.write_json(io.BytesIO()) or made.groups.to_dicts()])
