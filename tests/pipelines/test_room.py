"""Studies that do not fit into memory are refused before any encoding or training."""

import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.assets.data import prepared
from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.runs import room
from secateur.pipelines.runs.possible import check_possible
from secateur.pipelines.studies.files import load_study
from secateur.selectors.draws.embedded import PRODUCTS

ROWS = 400


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    rows = {f"x{place}": random.normal(size=ROWS) for place in range(3)} | {"label": np.arange(ROWS) % 2}
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def study_in(folder, **changes):
    content = {
        "name": "large",
        "source": {"kind": "parquet", "train": "rows.parquet", "test_fraction": 0.2},
        "columns": {"features": ["x0", "x1", "x2"], "label": "label"},
        "proxy": {"model": "mlp", "model_settings": {"hidden": [96]}, "epochs": 1},
        "selections": {"prototypes": None},
        "keep": [0.5],
        "training": {"model": "mlp", "epochs": 1},
    }
    (folder / "large.yaml").write_text(yaml.safe_dump(content | changes))
    return load_study(folder / "large.yaml")


def prepare(study, folder):
    (folder / "made").mkdir()
    return prepared(study, folder, folder / "cache", folder / "made")


def test_rows_that_do_not_fit_are_refused_with_the_step_and_what_to_do(folder, monkeypatch):
    (fault,) = room.row_faults(10**9, 24 * 10**9)
    step = max(room.HELD, key=room.HELD.get)
    said = f"{step}: about {room.HELD[step]} bytes of each of 1,000,000,000 training rows are in memory at once"
    assert fault.startswith(said)
    assert f"{room.HELD[step]:.2f} GB, and 24.00 GB are free: set source.limit" in fault
    assert not list(room.row_faults(10**7, 24 * 10**9))
    study = study_in(folder)
    check_possible(study, np.arange(ROWS) % 2, ("0", "1"), 2)
    monkeypatch.setattr(room, "available_memory", lambda: room.HELD[step] * ROWS - 1)
    with pytest.raises(SourceError, match=rf"large: {step}: about .* set source\.limit"):
        check_possible(study, np.arange(ROWS) % 2, ("0", "1"), 2)


def test_selections_and_neighbours_are_refused_once_rows_are_encoded_before_a_proxy_is_trained(folder, monkeypatch):
    monkeypatch.setattr(room, "HELD", {"report": 0})
    monkeypatch.setattr(room, "available_memory", lambda: 250_000)
    study = study_in(folder, selections={"prototypes": None, "density": {"selector": "top", "score": "density"}},
                     scores={"density": None})  # fmt: skip
    with pytest.raises(SourceError) as told:
        prepare(study, folder)
    rows = int(str(told.value).partition(" samples")[0].rpartition(" ")[2])
    assert 250 < rows < ROWS
    assert f"large: selections.prototypes: {rows} samples of 96 dimensions take 0.03 GB of memory" in str(told.value)
    count = study.neighbours.count
    search = f"; neighbours: a search over {rows} rows of 96 dimensions for {count} of each takes"
    assert search in str(told.value)


def test_classes_apart_fit_where_all_together_do_not(folder, monkeypatch):
    needed = ROWS * (8 * 96 + 64) + PRODUCTS
    monkeypatch.setattr(room, "HELD", {"report": 0})
    monkeypatch.setattr(room, "available_memory", lambda: needed - ROWS * 96)
    apart = {"prototypes": {"classes": {"policy": "proportional"}}}
    assert prepare(study_in(folder, selections=apart), folder).sizes[0] > 250


def test_dimensions_of_embeddings_are_known_before_they_are_made(folder):
    study = study_in(folder)
    made = prepare(study, folder)
    from secateur.trainers.contract import Data

    data = Data(np.load(made.folder / "inputs.npy"), np.arange(made.sizes[0]) % 2, 2, made.model_settings)
    assert room.dimensions_of(study, data) == 96
    plain = study_in(folder, embeddings={"kind": "sklearn", "dimensions": 2})
    assert room.dimensions_of(plain, data) == 2
