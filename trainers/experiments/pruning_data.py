"""Small data sets for pruning networks, and inputs that belong to none of their classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from secateur.scorers.settings import PATHS
from secateur.trainers.contract import Data
from secateur.trainers.judging.evaluation import beside

DataName = Annotated[str, PATHS, Field(description="digits, or a .npz of inputs, labels, test_inputs, test_labels")]
"""The argument of `split_of` as a setting of an experiment."""
TEST_SHARE = 5
"""One sample in so many is a test sample."""
NAMES = ("inputs", "labels", "test_inputs", "test_labels")


def split_of(name: str) -> tuple[Data, Data]:
    """Training and test split of `digits` (scikit-learn's, float32 `[n, 8, 8, 1]`), or of an `.npz` file.

    Such a file holds `inputs`, `labels`, `test_inputs` and `test_labels`. Raises ValueError as `splits_in`.
    """
    if name != "digits":
        return splits_in(Path(name))
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    inputs = found.images.astype(np.float32)[order, ..., None]
    labels = found.target.astype(np.int64)[order]
    held = len(labels) // TEST_SHARE
    return Data(inputs[held:], labels[held:], 10), Data(inputs[:held], labels[:held], 10)


def splits_in(path: Path) -> tuple[Data, Data]:
    """Training and test split in an `.npz` file; raises ValueError that names missing or misshapen arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NAMES if name not in file]
            if missing:
                raise ValueError(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(NAMES)}")
            inputs, labels, test_inputs, test_labels = (file[name] for name in NAMES)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as .npz: {error}; write `digits` or name a file") from error
    for split, values, truth in (("inputs", inputs, labels), ("test_inputs", test_inputs, test_labels)):
        if len(values) != len(truth) or not len(truth) or values.shape[1:] != inputs.shape[1:]:
            raise ValueError(f"{path}: {split} {values.shape} does not fit {truth.shape[0]} labels, or is empty")
    classes = int(labels.max()) + 1
    if labels.min() < 0 or test_labels.min() < 0 or test_labels.max() >= classes:
        raise ValueError(f"{path}: labels must be 0 … {classes - 1} in both splits")
    return (
        Data(inputs, labels.astype(np.int64), classes),
        Data(test_inputs, test_labels.astype(np.int64), classes),
    )


def write_splits(path: Path, train: Data, test: Data, **others: np.ndarray) -> None:
    """Write both splits for `splits_in`, and other arrays by name."""
    arrays = dict(zip(NAMES, (train.inputs, train.targets, test.inputs, test.targets), strict=True))
    np.savez(path, allow_pickle=False, **arrays, **others)  # type: ignore[arg-type]


def outliers(test: Data) -> dict[str, np.ndarray]:
    """Inputs of no class from the test split: `shuffled`, with pixels of each input permuted, and `mixed`, means of two
    inputs of different classes.
    """
    draws = np.random.default_rng(1)
    channels = test.inputs.shape[-1] if test.inputs.ndim > 2 else 1
    flat = test.inputs.reshape(len(test), -1, channels)
    shuffled = np.stack([each[draws.permutation(len(each))] for each in flat]).reshape(test.inputs.shape)
    partners = np.array([draws.choice(np.flatnonzero(test.targets != label)) for label in test.targets])
    mixed = (test.inputs.astype(np.float32) + test.inputs[partners].astype(np.float32)) / 2
    return {"shuffled": shuffled, "mixed": mixed.astype(test.inputs.dtype)}


def strangers_in(name: str, names: Sequence[str], test: Data) -> dict[str, np.ndarray]:
    """Inputs of no class: the arrays of these names in the `.npz` file of the splits.

    Raises ValueError for a missing or empty array, and for another shape or dtype than that of the test inputs.
    """
    if not names:
        return {}
    if name == "digits":
        raise ValueError(f"strangers: digits bring no array {names[0]!r}: name a .npz in data that has it")
    with np.load(name, allow_pickle=False) as file:
        missing = [each for each in names if each not in file]
        if missing:
            raise ValueError(f"{name} lacks {', '.join(missing)}, which strangers names; it has {', '.join(file)}")
        found = {each: file[each] for each in names}
    for each, values in found.items():
        if not len(values) or values.shape[1:] != test.inputs.shape[1:] or values.dtype != test.inputs.dtype:
            raise ValueError(
                f"{name}: {each} {values.dtype}{list(values.shape)} does not fit test_inputs "
                f"{test.inputs.dtype}{list(test.inputs.shape)}"
            )
    return found


def read_arrays(path: Path, strangers: Sequence[str] = ()) -> tuple[Data, Data, dict[str, Data]]:
    """The splits that an experiment wrote, and its `shuffled`, `mixed` and other inputs, whose labels are dummies."""
    train, test = splits_in(path)
    with np.load(path, allow_pickle=False) as file:
        strange = {name: beside(test, file[name]) for name in ("shuffled", "mixed", *strangers)}
    return train, test, strange
