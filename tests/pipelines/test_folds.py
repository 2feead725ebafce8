"""Scores by proxies that did not see the sample: the same numbers as from networks trained by hand on the others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from secateur.pipelines.assets.training import suspects_in
from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.costs import saved
from secateur.pipelines.runs.forecast import other_trainings
from secateur.pipelines.runs.proxy import ProxyRuns
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data
from secateur.trainers.loop.train import train
from secateur.trainers.passes.folds import folds_of, groups_of

WriteStudy = Callable[..., StudyFile]
CPU, FOLDS, SEEDS = torch.device("cpu"), 3, 2
PROXY = {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 3, "batch_size": 32, "folds": FOLDS}
SCORES = {"checkpoint_loss": None, "self_confidence": None, "aum": None, "loss": None, "margin": None}
COPIES = ((5, 120), (7, 121))
"""Rows of equal inputs; the second pair has two labels."""


@pytest.fixture
def made(write_study: WriteStudy, tmp_path: Path) -> Iterator[tuple[StudyFile, Store, dg.DagsterInstance]]:
    """A scored study whose proxies have folds."""
    path = tmp_path / "data" / "train.parquet"
    file = write_study(
        scores=SCORES, selections={"hardest": {"selector": "top", "score": "loss"}}, proxy=PROXY, proxy_runs=SEEDS
    )
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "hf"))
    twins = [rows[first] for first, _ in COPIES]
    twins[1]["label"] = (twins[1]["label"] + 1) % 3
    more = datasets.Dataset.from_list(twins, features=rows.features)
    datasets.concatenate_datasets([rows, more]).to_parquet(path)
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, tmp_path / "store", instance, part="scores")
        yield file, Store(tmp_path / "store"), instance


def by_hand(data: Data, study: Study, folds: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Scores, and outputs float64 `[n, classes]`, of each row, from networks trained on all other folds."""
    outputs = np.empty((study.proxy.epochs or 0, len(data), 3))
    for fold in range(FOLDS):
        epochs: list[np.ndarray] = []

        def look(model: torch.nn.Module, done: int, total: int, epochs: list[np.ndarray] = epochs) -> None:
            with torch.no_grad():
                epochs.append(model.eval()(torch.tensor(np.array(data.inputs))).double().numpy())

        train(data, study.proxy.training, seed=seed, keep=folds != fold, device=CPU, checkpoint=look)
        outputs[:, folds == fold] = np.stack(epochs)[:, folds == fold]
    rows = np.arange(len(data))
    own = outputs[:, rows, data.targets]
    rivals = outputs.copy()
    rivals[:, rows, data.targets] = -np.inf
    wide = np.exp(outputs - outputs.max(axis=2, keepdims=True))
    shares = wide / wide.sum(axis=2, keepdims=True)
    losses, held = -np.log(shares[:, rows, data.targets]), shares[-1]
    others = held.copy()
    others[rows, data.targets] = -np.inf
    return {
        "outputs": outputs[-1],
        "checkpoint_loss": losses[-1],
        "self_confidence": held[rows, data.targets],
        "aum": (own - rivals.max(axis=2)).mean(axis=0),
        "loss": losses.mean(axis=0),
        "margin": held[rows, data.targets] - others.max(axis=1),
    }


def test_every_sample_is_scored_by_networks_that_did_not_see_it(
    made: tuple[StudyFile, Store, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store, instance = made
    study = file.study
    assert isinstance(study, Study)
    data = data_of(store.load(("blobs", "inputs")), store.load(("blobs", "samples")), store.load(("blobs", "source")))
    folds = np.asarray(store.load(("blobs", "proxy_folds")))
    assert all(folds[first] == folds[second] for first, second in COPIES), "a copy would tell what is asked"
    assert np.bincount(folds).min() >= 40
    expected = [by_hand(data, study, folds, seed) for seed in range(SEEDS)]
    for name in SCORES:
        values = np.mean([each[name] for each in expected], axis=0)
        np.testing.assert_allclose(store.load(("blobs", "scores", name)), values, rtol=2e-5, atol=1e-6, err_msg=name)
    seen = study.proxy.epochs * sum(len(data) - int((folds == fold).sum()) for fold in range(FOLDS)) * SEEDS  # type: ignore[operator]
    spent, shown = saved(study, store, ("proxy_cost",)), len(data) * (study.proxy.epochs or 0) * SEEDS
    assert (spent.backward, spent.forward) == (seen, seen + shown)
    different = len(data) - 1  # one row is a copy, including the label
    assert saved(study, store, ("scoring_pass_cost",)).forward == different * SEEDS, "each by one network of a seed"
    assert len(other_trainings(study, len(data))["proxy"]) == FOLDS * SEEDS
    proxy = store.load(("blobs", "yardstick"))["proxy"]
    together = np.mean([each["outputs"] for each in expected], axis=0).argmax(axis=1)
    assert proxy["held_out"]["accuracy"] == pytest.approx(accuracy_score(data.targets, together))
    assert proxy["training"] == {}, "no proxy learned from all samples"
    loaded = {f"score_{name}": store.load(("blobs", "scores", name)) for name in SCORES}
    suspects = suspects_in(study, store, {"source": store.load(("blobs", "source")), **loaded})
    assert suspects
    assert suspects.held_out
    assert [one.predicted for one in suspects.listed] == [f"class {together[one.row]}" for one in suspects.listed]

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a proxy was trained again")

    monkeypatch.setattr(ProxyRuns, "train_anew", refuse)
    assert run_study(file, store.root, instance, part="scores", again=False).made == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "scores": {"prototype_distance": None},
                "selections": {"far": {"selector": "top", "score": "prototype_distance"}},
            },
            "proxy.folds: the proxies of the folds share no space of features",
        ),
        ({"proxy": PROXY | {"folds": 1}}, "proxy.folds: Input should be greater than or equal to 2"),
    ],
)
def test_what_folds_cannot_give_is_refused_when_the_study_loads(
    changes: dict[str, Any], said: str, write_study: WriteStudy
) -> None:
    with pytest.raises((StudyError, ValueError), match=said.replace(".", r"\.")):
        write_study(**{"proxy": PROXY, **changes})


def test_folds_hold_the_shares_of_strata_and_equal_inputs_together() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(300, 4)).astype(np.float32)
    inputs[200:] = inputs[random.integers(0, 200, 100)]
    strata = random.choice(4, 300, p=[0.6, 0.3, 0.08, 0.02])
    groups = groups_of(Data(inputs, strata, 4))
    assert len(np.unique(groups)) == 200
    assert all(
        np.array_equal(inputs[groups == one], inputs[groups == one][:1].repeat((groups == one).sum(), 0))
        for one in set(groups)
    )
    folds = folds_of(groups, strata, 5)
    assert all(len(np.unique(folds[groups == one])) == 1 for one in set(groups))
    alone = folds_of(np.arange(300), strata, 5)
    shares = np.stack([np.bincount(alone[strata == stratum], minlength=5) for stratum in range(4)])
    assert (np.ptp(shares, axis=1) <= 1).all()
    assert np.ptp(np.bincount(alone)) == 0
    assert not np.array_equal(alone, folds_of(np.arange(300), strata, 5, seed=1))
    with pytest.raises(ValueError, match="5 folds of 3 different samples"):
        folds_of(np.array([0, 1, 2, 2]), np.zeros(4, np.int64), 5)
