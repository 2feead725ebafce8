"""What several tests need: a small data set on disk and a study of it that runs in seconds."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from quick_disk import quicken

from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.pipelines.studies.trust import trust

REAL_DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collectstart() -> None:
    """Look for no garbage while modules load, which leave none; whoever only hands out the tests loads none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what all of the modules hold out of the search for garbage: each, of which libraries ask for some after
    every training, would take a third of a second.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing a test runs may find or leave anything outside its own folders."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SECATEUR_HOME", str(home / "secateur"))
    monkeypatch.setenv("SECATEUR_CACHE", str(home / "cache"))
    monkeypatch.setenv("SECATEUR_STUDIES", str(home / "studies"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))
    trust(tmp_path_factory.getbasetemp())
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _the_disk_is_quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _absl_closes_no_stream_of_pytest() -> None:
    """absl, which TensorBoard loads, keeps the stderr of that moment, and closes it when Dagster sets up logging while
    stderr is another, as in a shell command that a test invokes. The one that Python began with it leaves open.
    """
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets; the test skips where they are absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}: set SECATEUR_DATA to run this test")
    return REAL_DATA


def blobs(count: int, seed: int, *, classes: int = 3) -> datasets.Dataset:
    """Points around one centre per class, in columns `x`, `y` and `label`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    points = rng.normal(np.stack([np.cos(labels * 2.1), np.sin(labels * 2.1)], axis=1) * 2, 1.0)
    names = datasets.ClassLabel(names=[f"class {label}" for label in range(classes)])
    features = datasets.Features({"x": datasets.Value("float32"), "y": datasets.Value("float32"), "label": names})
    return datasets.Dataset.from_dict({"x": points[:, 0], "y": points[:, 1], "label": labels}, features=features)


@pytest.fixture
def study_content(tmp_path: Path) -> dict[str, Any]:
    """A valid study of blobs in Parquet files, as the YAML's mapping; change it at will."""
    data = tmp_path / "data"
    data.mkdir()
    blobs(120, 0).to_parquet(data / "train.parquet")
    blobs(60, 1).to_parquet(data / "test.parquet")
    return {
        "name": "blobs",
        "source": {"kind": "parquet", "train": "data/train.parquet", "test": "data/test.parquet"},
        "columns": {"features": ["x", "y"], "label": "label"},
        "proxy": {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 4, "batch_size": 32},
        "scores": {"aum": None, "el2n": {"epochs": 2}, "forgetting": {}},
        "selections": {"hardest": {"selector": "top", "score": "el2n"}, "coverage_centric": {"score": "aum"}},
        "keep": [0.25, 60],
        "training": {"model": "mlp", "model_settings": {"hidden": [16]}, "steps": 30, "batch_size": 32},
        "seeds": 2,
        "validation": {"fraction": 0.25, "seeds": 1},
    }


WriteStudy = Callable[..., StudyFile]


@pytest.fixture
def write_study(tmp_path: Path, study_content: dict[str, Any]) -> WriteStudy:
    """Write the study of blobs, with changes, to `<tmp_path>/blobs.yaml` and load it."""

    def write(**changes: Any) -> StudyFile:
        path = tmp_path / "blobs.yaml"
        path.write_text(yaml.safe_dump({**study_content, **changes}))
        return StudyFile(path, load_study(path))

    return write


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """Address of a Ray cluster of two nodes with one processor each."""
    pytest.importorskip("ray.data", reason="Ray is not installed: install the extra `ray` to run this test")
    from two_nodes import cluster

    with cluster() as address:
        yield address


@pytest.fixture(scope="session")
def copying_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with weights set by hand, saved with its tokenizer: head 1 of layer 0 looks one token back, head 2 of
    layer 1 at what followed the last token before, and copies it; layer 2 and all other heads do nothing.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from secateur.trainers.models.induction_model import symbol_tokenizer

    size, heads, loud = 66, 4, 2.0  # dimensions of a hidden state: token, position, token before, token to write
    tokens, places, before, write = (slice(part * size, (part + 1) * size) for part in range(4))
    config = GPT2Config(
        vocab_size=size, n_positions=size, n_embd=4 * size, n_layer=3, n_head=heads, n_inner=1, eos_token_id=None,
        bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    for name, weight in model.named_parameters():
        weight.data.fill_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0)
    one = torch.eye(size)
    model.transformer.wte.weight.data[:, tokens] = one
    model.transformer.wpe.weight.data[:, places] = one
    model.lm_head.weight.data[:, write] = one

    def attend(layer: int, head: int, query: torch.Tensor, asks: slice, key: slice, writes: slice) -> None:
        attention, width = model.transformer.h[layer].attn, 4 * size
        own = slice(head * size, (head + 1) * size)
        attention.c_attn.weight.data[:, :width][asks, own] = loud * query
        attention.c_attn.weight.data[:, width : 2 * width][key, own] = loud * one
        attention.c_attn.weight.data[:, 2 * width :][tokens, own] = 0.1 * one
        attention.c_proj.weight.data[own, writes] = one

    attend(0, 1, torch.roll(one, -1, dims=1), places, places, before)
    attend(1, 2, one, tokens, before, write)
    folder = tmp_path_factory.mktemp("copying_model")
    model.save_pretrained(folder)
    symbol_tokenizer().save_pretrained(folder)
    return folder
