"""`secateur.scores_of`: against formulas in float64, and against our own run with recorded logits."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import save_file

import secateur as sc
from secateur.pipelines.data.model_outputs import epochs_of
from secateur.pipelines.runs import of_outputs as module
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Observer, TrainingBatch
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.train import train
from secateur.trainers.passes.scoring import score_rows

EPOCHS, ROWS, CLASSES = 12, 40, 3
OF_TIME = {"dual", "dynamic_uncertainty", "forgetting", "tdds"}


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (EPOCHS, ROWS, CLASSES)).astype(np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(ROWS) % CLASSES


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    whole: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return whole


def windows(followed: np.ndarray, value: Callable[[np.ndarray], np.ndarray], width: int = 10) -> np.ndarray:
    return np.mean([value(followed[at : at + width]) for at in range(len(followed) - width + 1)], axis=0)


def tdds(log: np.ndarray) -> np.ndarray:
    changes = np.array([np.abs(np.exp(now) * (now - then)).sum(axis=1) for then, now in pairwise(log)])
    score = np.zeros(log.shape[1])
    for at in range(len(changes) - 8):  # a window of ten presentations has nine changes
        part = changes[at : at + 9]
        score = 0.9 * np.sqrt(((part - part.mean(axis=0)) ** 2).sum(axis=0)) + 0.1 * score
    return score


def formulas(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Every score in float64, by the formula in its docstring."""
    p, wide, rows = softmax(logits), logits.astype(np.float64), np.arange(len(labels))
    own, truth = p[:, rows, labels], np.eye(CLASSES)[labels]
    others = np.where(truth.astype(bool), -np.inf, 1.0)

    def margin(values: np.ndarray) -> np.ndarray:
        rivals = np.where(others == 1.0, values, -np.inf).max(axis=-1)
        return np.asarray(values[:, rows, labels] - rivals)

    right = wide.argmax(axis=-1) == labels
    events = (right[:-1] & ~right[1:]).sum(axis=0)
    length = np.linalg.norm(p - truth, axis=-1)
    entropy = -(p * np.log(p)).sum(axis=-1)
    shares = np.bincount(labels, minlength=CLASSES) / len(labels)
    return {
        "loss": -np.log(own).mean(axis=0),
        "el2n": length[:10].mean(axis=0),
        "aum": margin(wide).mean(axis=0),
        "accumulated_margin": margin(p).mean(axis=0),
        "margin": margin(p)[-1],
        "entropy": entropy[-1],
        "correctness": right.mean(axis=0),
        "mean_probability": own.mean(axis=0),
        "forgetting": np.where(right.any(axis=0), events, len(logits)),
        "dual": windows(own, lambda part: (1 - part.mean(axis=0)) * part.std(axis=0, ddof=1)),
        "dynamic_uncertainty": windows(own, lambda part: part.std(axis=0, ddof=1)),
        "tdds": tdds(np.log(p)),
        "self_confidence": own[-1],
        "checkpoint_loss": -np.log(own[-1]),
        "checkpoint_entropy": entropy[-1],
        "checkpoint_margin": margin(p)[-1],
        "checkpoint_el2n": length.mean(axis=0),
        "pvi": np.log2(own[-1]) - np.log2(shares[labels]),
    }


def test_every_score_of_several_epochs_is_its_formula(logits: np.ndarray, labels: np.ndarray) -> None:
    found, expected = sc.scores_of(logits, labels), formulas(logits, labels)
    assert set(found.columns) == set(expected)
    assert set(found.dtypes) == {pl.Float32}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].to_numpy(), values, rtol=2e-5, atol=2e-6, err_msg=name)


def test_probabilities_give_the_same_scores(logits: np.ndarray, labels: np.ndarray) -> None:
    found, expected = sc.scores_of(softmax(logits), labels, kind="probabilities"), sc.scores_of(logits, labels)
    assert found.columns == expected.columns
    for name in expected.columns:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_of_one_pass_what_needs_no_second(logits: np.ndarray, labels: np.ndarray) -> None:
    found, expected = sc.scores_of(logits[-1], labels), formulas(np.repeat(logits[-1:], 12, axis=0), labels)
    assert set(found.columns) == set(expected) - OF_TIME
    for name in found.columns:
        np.testing.assert_allclose(found[name].to_numpy(), expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    assert sc.scores_of(logits[-1:], labels).equals(found)


class Recorder(Observer):
    """Keeps the outputs of every sample in every epoch."""

    def __init__(self, epochs: int, samples: int) -> None:
        super().__init__(samples, torch.device("cpu"))
        self.held = np.zeros((epochs, samples, CLASSES), np.float32)

    def update(self, batch: TrainingBatch) -> None:
        self.held[int(self.epoch), batch.ids.numpy()] = batch.outputs.numpy()

    def reduce(self) -> torch.Tensor:
        return self.presentations


def test_a_run_of_ours_gives_the_same_numbers(labels: np.ndarray) -> None:
    inputs = np.random.default_rng(1).normal(labels[:, None], 1.0, (ROWS, 4)).astype(np.float32)
    data = Data(inputs, labels, CLASSES)
    declared = {name: one for name, one in scorers().items() if isinstance(one, type)}
    watchers = {name: one(ROWS, torch.device("cpu")) for name, one in declared.items()}
    recorder = Recorder(EPOCHS, ROWS)
    config = TrainingConfig(model="mlp", epochs=EPOCHS, batch_size=16)
    trained = train(data, config, seed=0, observers=[*watchers.values(), recorder])
    found = sc.scores_of(recorder.held, labels)
    assert set(found.columns) > set(watchers)
    for name, watcher in watchers.items():
        np.testing.assert_array_equal(found[name], watcher.scores(), err_msg=name)

    with torch.no_grad():
        last = trained.model(torch.from_numpy(inputs))
    found = sc.scores_of(last, labels)
    read = {name: (one, {}) for name in found.columns if isinstance(one := scorers()[name], CheckpointScorer)}
    expected = score_rows([[trained.model]], data, np.arange(ROWS), read, device=torch.device("cpu"))
    assert len(expected) == 5
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_several_labels(logits: np.ndarray) -> None:
    targets = np.random.default_rng(2).random((ROWS, CLASSES)) > 0.5
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = sc.scores_of(p, targets.astype(int), kind="probabilities", task="multi_label")
    np.testing.assert_allclose(found["aum"], np.where(targets, logits, -logits).min(axis=-1).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        found["loss"], -np.log(np.where(targets, p, 1 - p)).mean(axis=(0, 2)), rtol=1e-5, atol=1e-6
    )
    assert "entropy" not in found.columns


def stored(folder: Path, logits: np.ndarray) -> dict[str, Any]:
    """The same outputs in every accepted form."""
    np.save(folder / "all.npy", logits)
    save_file({"logits": logits, "other": logits[0]}, folder / "all.safetensors")
    save_file({"only": logits}, folder / "only.safetensors")
    lists = {f"epoch_{at}": pa.array(list(each)) for at, each in enumerate(logits)}
    names = list(lists)
    pl.from_arrow(pa.table(lists | {"id": np.arange(ROWS)})).write_parquet(folder / "all.parquet", row_group_size=7)
    paths = []
    for number, each in enumerate(logits):
        paths.append(folder / f"{number}.npy")
        np.save(paths[-1], each)
    return {
        "npy": (folder / "all.npy", None),
        "safetensors": (folder / "all.safetensors", "logits"),
        "the only tensor": (str(folder / "only.safetensors"), None),
        "parquet": (folder / "all.parquet", names),
        "a path for each epoch": (paths, None),
        "torch": (torch.from_numpy(logits), None),
        "a list of tensors": (list(torch.from_numpy(logits)), None),
        "big-endian": (logits.astype(">f4"), None),
        "nested lists": (logits.tolist(), None),
    }


def test_every_form_and_every_size_of_block_gives_the_same(
    logits: np.ndarray, labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picked = ["aum", "forgetting", "checkpoint_el2n"]
    expected = sc.scores_of(logits, labels, scores=picked)
    forms = stored(tmp_path, logits)
    np.save(tmp_path / "labels.npy", labels)
    monkeypatch.setattr(module, "BLOCK", 4 * CLASSES * EPOCHS * 9)  # nine rows
    for form, (outputs, column) in forms.items():
        found = sc.scores_of(outputs, tmp_path / "labels.npy", column=column, scores=picked)
        assert found.equals(expected), form


def test_what_lies_in_a_file_stays_there(logits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", logits)
    blocks = [block for epoch in epochs_of(tmp_path / "all.npy", None) for block in epoch.blocks(16)]
    assert all(isinstance(block, np.memmap) for block in blocks)
    assert [len(block) for block in blocks] == [16, 16, 8] * EPOCHS


def test_scores_are_picked_and_have_settings(logits: np.ndarray, labels: np.ndarray) -> None:
    found = sc.scores_of(logits, labels, scores={"late": {"scorer": "el2n", "epochs": 12}, "el2n": {"epochs": 1}})
    length = np.linalg.norm(softmax(logits) - np.eye(CLASSES)[labels], axis=-1)
    assert found.columns == ["late", "el2n"]
    np.testing.assert_allclose(found["late"], length.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["el2n"], length[0], rtol=1e-5)
    assert sc.scores_of(logits, labels, scores=["pvi"]).columns == ["pvi"]


def with_nan(logits: np.ndarray) -> np.ndarray:
    broken = logits.copy()
    broken[3, [5, 7], 1] = np.nan
    return broken


def unequal(logits: np.ndarray) -> np.ndarray:
    p = softmax(logits)
    p[2, 4] *= 0.9
    return p


def ones(logits: np.ndarray) -> np.ndarray:
    p = softmax(logits)
    p[0, 6] = [1.0, 0.0, 0.0]  # of class 0, so both rivals are rounded
    return p


WRONG: list[tuple[Any, Any, dict[str, Any], str]] = [
    (lambda z: z, lambda y: y[:-1], {}, "39 labels and outputs of 40 samples"),
    (lambda z: z[:5].swapaxes(0, 1), lambda y: y, {}, "outputs of 5 samples; epochs come first"),
    (lambda z: z, lambda y: y + 1, {}, "labels must be within 0 … 2, they are not at rows 2, 5"),
    (lambda z: z, lambda y: y - 0.5, {}, "labels are whole numbers from 0 to 2, they are not at rows 0"),
    (lambda z: z, lambda y: y.astype(str), {}, "labels are of type .*np.unique"),
    (lambda z: z, lambda y: y[:, None], {}, r"labels of classification are \[n\], these are \[40, 1\]"),
    (with_nan, lambda y: y, {}, "NaN, or infinite as float32, in epoch 3 of 0 … 11 at rows 5, 7"),
    (lambda z: z.astype(np.float64) * 1e300, lambda y: y, {}, "infinite as float32, in epoch 0"),
    (unequal, lambda y: y, {"kind": "probabilities"}, "add up to 1, they do not in epoch 2 of 0 … 11 at row 4"),
    (lambda z: z, lambda y: y, {"kind": "probabilities"}, "name logits as kind"),
    (softmax, lambda y: y, {}, "name probabilities as kind"),
    (lambda z: z, lambda y: y, {"kind": "odds"}, "there is no 'odds'"),
    (lambda z: z, lambda y: y, {"task": "regression"}, "there is no 'regression'"),
    (lambda z: z[..., :1], lambda y: y * 0, {}, "one column"),
    (lambda z: z[0, 0], lambda y: y, {}, r"float32 \[3\], and an array"),
    (lambda z: [z[0], z[1, :, :2]], lambda y: y, {}, r"epoch 1 has outputs \[40, 2\], epoch 0 has \[40, 3\]"),
    (lambda z: [z], lambda y: y, {}, "item 0 of the list holds 12 epochs"),
    (lambda z: "nowhere.npy", lambda y: y, {}, "no file 'nowhere.npy'"),
    (lambda z: z[0], lambda y: y, {"scores": ["forgetting"]}, "forgetting does not follow: it compares 2 epochs"),
    (lambda z: z[:9], lambda y: y, {"scores": ["tdds"]}, "it compares 10 epochs, and 9 epochs count; lower its window"),
    (lambda z: z, lambda y: y, {"scores": ["grand"]}, "grand does not follow: it reads the inputs of a network"),
    (lambda z: z, lambda y: y, {"scores": ["density"]}, "it reads neighbour_distances, and outputs hold none"),
    (lambda z: z, lambda y: y, {"scores": ["normalised_vog"]}, "it reads vog, and of that it reads the inputs"),
    (ones, lambda y: y, {"kind": "probabilities", "scores": ["aum"]}, "aum does not follow: it reads logits.* row 6"),
    (lambda z: z, lambda y: y, {"scores": ["snip"]}, "'snip' is for weights"),
    (lambda z: z, lambda y: y, {"scores": {"el2n": {"epoch": 1}}}, "did you mean 'epochs'"),
    (lambda z: z, lambda y: y, {"scores": []}, "name one at least"),
]


@pytest.mark.parametrize(("outputs", "given", "how", "said"), WRONG)
def test_what_cannot_be_is_refused_with_the_reason(
    outputs: Any, given: Any, how: dict[str, Any], said: str, logits: np.ndarray, labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=said):
        sc.scores_of(outputs(logits), given(labels), **how)


def test_files_that_do_not_fit_are_refused(logits: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    forms = stored(tmp_path, logits)
    pl.DataFrame({"z": [[1.0, 2.0], [1.0], None]}).write_parquet(tmp_path / "short.parquet")
    (tmp_path / "all.txt").write_text("")
    for path, column, said in [
        (tmp_path / "all.safetensors", None, "say by column= which tensor holds the outputs, there are: logits, other"),
        (forms["parquet"][0], "logits", "there is no column of lists 'logits', there are: epoch_0"),
        (tmp_path / "short.parquet", None, "no list of 2 numbers at rows 1, 2"),
        (tmp_path / "all.txt", None, "outputs are read from .npy, .safetensors, or .parquet"),
    ]:
        with pytest.raises(ValueError, match=re.escape(said)):
            sc.scores_of(path, [0, 1, 0], column=column)


def test_rounded_probabilities_leave_aum_out_and_say_so(logits: np.ndarray, labels: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="aum is left out: .*rounded to 0 or 1 at row 6"):
        found = sc.scores_of(ones(logits), labels, kind="probabilities")
    assert "aum" not in found.columns
    assert np.isfinite(found.to_numpy()).all()
    wrong = np.array([[0.0, 1.0]])
    assert sc.scores_of(wrong, [0], kind="probabilities", scores=["loss"])["loss"][0] == pytest.approx(87.3, abs=0.1)
