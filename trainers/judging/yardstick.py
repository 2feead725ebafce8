"""A yardstick for networks: the metrics of a linear model, or of boosted trees on a table, on the same encoded samples.

The linear models are logistic regression for classes and labels and ridge regression for numbers; for token ids they
read TF-IDF. Rows and columns are capped by draws from the seed alone, so the same samples give the same model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from secateur.trainers.contract import Data
from secateur.trainers.sparse_rows import SparseRows
from secateur.trainers.tasks.own import OwnTask

VERSION = "2"
"""Changes whenever the metrics would."""
MOST_ROWS, LEAST_ROWS, MOST_COLUMNS, MOST_VALUES = 20_000, 1_000, 4_096, 1 << 25
"""Largest and smallest number of rows, largest number of columns, and of values (rows times columns)."""
MOST_JUDGED = 100_000
"""Largest number of test samples: the standard error of a share is then a sixth of a percentage point."""
ROUNDS, BINS, OPERATIONS = 100, 255, 16
"""Passes of the linear model over its rows, and trees per model; bins of a column; operations of a tree per value."""
WEIGHT = 10.0
"""Weight of losses against the penalty of logistic regression (scikit-learn's C), for TF-IDF vectors of length 1."""
LEAST = 1e-12
"""Probability of a class without a training row."""
Kind = Literal["image", "text", "features"]
Values = Any
"""`[n, columns]`, an array or a sparse matrix of scipy."""


@dataclass(frozen=True)
class Yardstick:
    """A simple model, fitted to some of the training samples and evaluated on the test samples."""

    model: str
    """The kind of model, in words."""
    inputs: str
    """Its inputs, in words."""
    rows: int
    samples: int
    columns: int
    of_columns: int
    metrics: Mapping[str, float]
    """Every metric of the task that the test samples define, by name."""
    judged: int
    """Number of test samples behind the metrics."""


def why_not(data: Data) -> str:
    """The reason why these samples have no yardstick; empty if they have one."""
    if isinstance(data.task, OwnTask):
        return f"the task {data.task.name} brings its own samples and losses, which no simple model reads"
    if not data.task.learns_target:
        return f"the task {data.task.name} learns texts, which no simple model writes"
    return ""


def rows_within(work: float, data: Data, kind: Kind) -> int:
    """Number of rows that a yardstick of these samples may read with at most `work` multiplications, within the caps;
    never below LEAST_ROWS, if there are as many."""
    columns = min(MOST_COLUMNS, int(np.prod(data.inputs.shape[1:])))
    some = data.take(np.arange(min(LEAST_ROWS, len(data)))).inputs
    stored = len(some.values) if isinstance(some, SparseRows) else np.count_nonzero(some) if kind == "text" else 0
    read = stored / len(some) if kind == "text" else columns
    each = ROUNDS * data.task.width * (columns * OPERATIONS if kind == "features" else 2 * read)
    most = min(MOST_ROWS, MOST_VALUES // columns, int(work / max(1.0, each)))
    return min(len(data), max(LEAST_ROWS, most))


def yardstick_of(data: Data, test: Data, kind: Kind, *, rows: int, seed: int = 0) -> Yardstick:
    """Fit to `rows` of the training samples, evaluate on at most `MOST_JUDGED` test samples; raises ValueError as
    `Task.evaluate`."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(data))[:rows]).astype(np.int64)
    read, columns, of_columns = reader_of(data, kind, chosen, random)
    part = data.take(chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Models warn that ROUNDS end before convergence, as intended.
        predict = fitted(part, read(part), trees_of(data) if kind == "features" else None)
    judged = np.sort(random.permutation(len(test))[:MOST_JUDGED]) if len(test) > MOST_JUDGED else np.arange(len(test))
    outputs = np.concatenate([predict(read(block)) for block in test.blocks(rows=judged)]).astype(np.float32)
    return Yardstick(
        model="boosted trees"
        if kind == "features"
        else f"{'ridge' if part.task.target == 'numbers' else 'logistic'} regression",
        inputs={"features": "the same columns", "image": "the same pixels"}.get(kind) or text_words(data),
        rows=len(chosen),
        samples=len(data),
        columns=columns,
        of_columns=of_columns,
        metrics=dict(test.task.evaluate(outputs, test.targets[judged])),
        judged=len(judged),
    )


def text_words(data: Data) -> str:
    """The inputs for texts, in words."""
    return "TF-IDF of the same tokens" if data.model_settings.get("kind") == "tokens" else "the same TF-IDF vectors"


def reader_of(
    data: Data, kind: Kind, chosen: Int64[np.ndarray, " m"], random: np.random.Generator
) -> tuple[Callable[[Data], Values], int, int]:
    """A function of samples to values, its number of columns, and the number of columns in the samples."""
    if kind == "text" and data.model_settings.get("kind") == "tokens":
        return token_reader(data, chosen)
    of_columns = int(np.prod(data.inputs.shape[1:]))
    kept = np.sort(random.permutation(of_columns)[:MOST_COLUMNS])

    sparse = isinstance(data.inputs, SparseRows)

    def plain(block: Data) -> Values:
        flat = block.inputs.csr() if sparse else np.asarray(block.inputs).reshape(len(block), -1)
        return flat if len(kept) == of_columns else flat[:, kept]

    if kind == "features":
        return plain, len(kept), of_columns
    if kind == "text":
        from scipy.sparse import csr_matrix

        return (lambda block: csr_matrix(plain(block))), len(kept), of_columns
    sample = plain(data.take(chosen)).astype(np.float32)
    mean, spread = sample.mean(axis=0), (float(sample.std()) or 1.0) * np.sqrt(sample.shape[1])
    return (lambda block: (plain(block) - mean) / spread), len(kept), of_columns


def token_reader(data: Data, chosen: Int64[np.ndarray, " m"]) -> tuple[Callable[[Data], Values], int, int]:
    """TF-IDF of token ids without padding; see `reader_of`."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

    size, padding = int(data.model_settings["vocabulary"]), data.model_settings["padding_id"]

    def counts(block: Data) -> Values:
        ids = np.asarray(block.inputs)
        places, there = np.nonzero(ids != padding)[0], ids[ids != padding]
        return csr_matrix((np.ones(len(there), np.float32), (places, there)), shape=(len(ids), size))

    weights = TfidfTransformer(sublinear_tf=True).fit(counts(data.take(chosen)))
    return (lambda block: weights.transform(counts(block))), size, size


def trees_of(data: Data) -> Callable[..., Any]:
    """A constructor of boosted trees with the data's category columns."""
    sizes = data.model_settings.get("categories") or ()
    codes = [column for column, size in enumerate(sizes[:MOST_COLUMNS]) if size and size < BINS]

    def make(numbers: bool) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if numbers else HistGradientBoostingClassifier
        return kind(max_iter=ROUNDS, categorical_features=codes or None, early_stopping=False, random_state=0)

    return make


def linear(numbers: bool) -> Any:
    """An untrained linear model."""
    from sklearn.linear_model import LogisticRegression, Ridge

    return Ridge(1.0 / WEIGHT) if numbers else LogisticRegression(C=WEIGHT, max_iter=ROUNDS)


def fitted(
    part: Data, values: Values, trees: Callable[..., Any] | None
) -> Callable[[Values], Float64[np.ndarray, "n width"]]:
    """Fit the model of the task, one for each number or label of a target; returns a function of values to outputs in
    the form of the task's losses."""
    task, make = part.task, trees or linear
    if task.target == "class":
        return classes_of(make(False), values, part)
    columns = task.tensor(part.targets).numpy().reshape(len(part), -1).T
    if task.target == "numbers":
        models = [make(True).fit(values, column) for column in columns]
        return lambda rows: np.stack([model.predict(rows) for model in models], axis=1)
    each = [label_of(make(False), values, column.astype(bool)) for column in columns]
    return lambda rows: np.stack([logit(rows) for logit in each], axis=1)


def label_of(
    model: Any, values: Values, there: Bool[np.ndarray, " n"]
) -> Callable[[Values], Float64[np.ndarray, " n"]]:
    """The logit of one label, a constant if all rows have it or none has."""
    if there.all() or not there.any():
        logit = -np.log(LEAST) * (1 if there.all() else -1)
        return lambda rows: np.full(rows.shape[0], logit)
    known = model.fit(values, there)
    return lambda rows: known.decision_function(rows)  # type: ignore[no-any-return]


def classes_of(model: Any, values: Values, part: Data) -> Callable[[Values], Float64[np.ndarray, "n classes"]]:
    """Logarithms of the probabilities of all classes; classes without a training row get `LEAST`."""
    known = np.unique(part.targets)
    if len(known) > 1:
        model.fit(values, part.targets)

    def predict(rows: Values) -> Float64[np.ndarray, "n classes"]:
        outputs = np.full((rows.shape[0], part.task.width), LEAST)
        outputs[:, known] = model.predict_proba(rows) if len(known) > 1 else 1.0
        return np.log(np.maximum(outputs, LEAST))

    return predict
