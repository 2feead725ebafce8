"""Texts and tables through the whole graph, on generated data and on subsets of real data if available."""

import json
import os
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import SHIPPED, StudyFile, load_study
from secateur.pipelines.studies.grid import Trial
from secateur.trainers.models import registry as models

DATA = Path(os.environ.get("SECATEUR_DATA") or Path(__file__).parents[3] / "shared" / "data")
SCORES = {"loss": None, "aum": None, "el2n": {"epochs": 1}}
SELECTIONS = {"hardest": {"selector": "top", "score": "el2n", "end": "high"}}


pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning", "ignore:.*backfill:UserWarning"
)


def run(folder: Path, **parts: object) -> tuple[Store, str]:
    """Materialise a study of two seeds and one budget; the store and the study's name."""
    body = {"name": "tried", "scores": SCORES, "selections": SELECTIONS, "keep": [0.5], "seeds": 2} | parts
    path = folder / "tried.yaml"
    path.write_text(yaml.safe_dump(body))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(StudyFile(path, load_study(path)), folder / "assets", instance)
    return Store(folder / "assets"), "tried"


def check(store: Store, name: str, *, better_than: float) -> dict[str, object]:
    """Check that all parts exist, the full model learned, and a stored model has the reported accuracy."""

    def stored(asset: str, trial: Trial | None = None) -> object:
        return store.load(dg.AssetKey([name, *asset.split("/")]), trial)

    source, inputs = stored("source"), stored("inputs")
    assert inputs.shape[0] == source["samples"]
    for score in SCORES:
        assert np.isfinite(stored(f"scores/{score}")).all()
    accuracies = [stored("evaluation", Trial("full", seed))["metrics"]["accuracy"] for seed in range(2)]
    assert np.mean(accuracies) > better_than
    mask = stored("subset", Trial("hardest@0.5", 0))
    assert mask.sum() == round(len(inputs) * 0.5)
    model = models.load(stored("trained_model", Trial("full", 0)))
    labels = stored("test_samples").select("label").collect()["label"].to_numpy()
    test_inputs = np.array(stored("test_inputs"))
    logits = models.torch.cat([model(models.torch.from_numpy(part)) for part in np.array_split(test_inputs, 4)])
    assert float((logits.argmax(1).numpy() == labels).mean()) == pytest.approx(accuracies[0], abs=2 / len(labels))
    assert json.loads((stored("report") / "report.json").read_text())["verdict"]
    return source


def real(name: str, split: str) -> str:
    path = DATA / name / f"{split}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there: set SECATEUR_DATA to the folder of the real data")
    return str(path)


def write_texts(path: Path, rows: int, seed: int) -> str:
    """Four classes, each marked by one word among uninformative ones."""
    random = np.random.default_rng(seed)
    words = np.array([f"word{number}" for number in range(40)])
    telling = ["refund", "password", "delivery", "weather"]
    labels = random.integers(0, 4, rows)
    texts = []
    for label in labels:
        chosen = [*random.choice(words, random.integers(2, 8)), telling[label]]
        random.shuffle(chosen)
        texts.append(f"{' '.join(chosen)} {random.integers(10**6)}")
    pl.DataFrame({"text": texts, "label": labels.astype(np.int64)}).write_parquet(path)
    return str(path)


def write_table(path: Path, rows: int, seed: int) -> str:
    """Class by colour and size; some colours and sizes are missing, and one colour occurs in the test split only."""
    random = np.random.default_rng(seed)
    colours = np.array(["red", "green", "blue"] + (["mauve"] if seed else []))
    colour, size = random.choice(colours, rows), random.normal(size=rows) * 1000
    labels = ((colour == "red") ^ (size > 0)).astype(np.int64)
    colour = np.where(random.random(rows) < 0.05, "?", colour)
    sizes = pl.Series([None if random.random() < 0.05 else value for value in size], dtype=pl.Float64)
    frame = pl.DataFrame({"colour": colour, "size": sizes, "odd": random.random(rows) < 0.5, "label": labels})
    frame.write_parquet(path)
    return str(path)


TRANSFORMER = {"model": "transformer", "model_settings": {"layers": 1, "width": 32, "heads": 2}, "learning_rate": 0.01}


def test_texts_made_here_as_tokens(tmp_path: Path) -> None:
    store, name = run(
        tmp_path,
        source={
            "kind": "parquet",
            "train": write_texts(tmp_path / "train.parquet", 600, 0),
            "test": write_texts(tmp_path / "test.parquet", 200, 1),
        },
        columns={"text": "text", "label": "label"},
        encoding={"max_length": 12, "vocabulary": 300},
        proxy=TRANSFORMER | {"epochs": 3},
        training=TRANSFORMER | {"steps": 40},
    )
    source = check(store, name, better_than=0.8)
    settings = source["model_settings"]
    assert settings["kind"] == "tokens"
    assert settings["vocabulary"] <= 300
    assert 0 < source["encoding"]["share of texts cut"] < 1
    assert store.load(dg.AssetKey([name, "inputs"])).dtype == np.int32
    assert (store.load(dg.AssetKey([name, "encoder"])) / "tokenizer.json").is_file()


def test_texts_made_here_by_tfidf(tmp_path: Path) -> None:
    store, name = run(
        tmp_path,
        source={
            "kind": "parquet",
            "train": write_texts(tmp_path / "train.parquet", 600, 0),
            "test": write_texts(tmp_path / "test.parquet", 200, 1),
        },
        columns={"text": "text", "label": "label"},
        proxy={"model": "mlp", "epochs": 3},
        training={"model": "mlp", "steps": 60},
    )
    assert check(store, name, better_than=0.8)["model_settings"] == {"kind": "numbers"}


@pytest.mark.parametrize("model", ["tabular_mlp", pytest.param("mlp", marks=pytest.mark.nightly)])
def test_tables_made_here(tmp_path: Path, model: str) -> None:
    store, name = run(
        tmp_path,
        source={
            "kind": "parquet",
            "train": write_table(tmp_path / "train.parquet", 800, 0),
            "test": write_table(tmp_path / "test.parquet", 300, 1),
        },
        columns={"features": ["colour", "size", "odd"], "label": "label"},
        proxy={"model": model, "epochs": 3, "learning_rate": 0.01},
        training={"model": model, "steps": 60, "learning_rate": 0.01},
    )
    source = check(store, name, better_than=0.7)
    assert source["model_settings"]["kind"] == ("codes" if model == "tabular_mlp" else "numbers")
    assert source["encoding"]["test share of unknown categories"] > 0.05


@pytest.mark.parametrize("name", ["banking77", "clinc150"])
def test_real_texts(tmp_path: Path, name: str) -> None:
    small = {
        "model": "transformer",
        "model_settings": {"layers": 1, "width": 64, "dropout": 0.0},
        "learning_rate": 0.004,
    }
    store, study = run(
        tmp_path,
        source={"kind": "parquet", "train": real(name, "train"), "test": real(name, "test"), "limit": 800},
        columns={"text": "text", "label": "label"},
        encoding={"max_length": 24, "vocabulary": 1000},
        proxy=small | {"epochs": 2},
        training=small | {"steps": 50},
    )
    source = check(store, study, better_than=0.05)
    assert len(source["label_names"]) in (77, 150)


def test_real_table(tmp_path: Path) -> None:
    features = load_study(SHIPPED / "adult.yaml").columns.features
    config = {"model": "tabular_mlp", "batch_size": 64, "learning_rate": 0.002}
    store, study = run(
        tmp_path,
        source={"kind": "parquet", "train": real("adult", "train"), "test": real("adult", "test"), "limit": 2000},
        columns={"features": features, "label": "label"},
        proxy=config | {"epochs": 2},
        training=config | {"steps": 100},
    )
    source = check(store, study, better_than=0.8)
    assert source["encoding"]["categorical columns"] == 8
    assert source["encoding"]["numeric columns"] == 6
