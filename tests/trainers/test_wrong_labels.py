"""Wrong labels beside cleanlab on the same probabilities, counts beside planted flips, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from sklearn.datasets import load_digits, make_regression
from sklearn.metrics import roc_auc_score

from secateur.trainers.judging.cheap_values import picture_values, text_values
from secateur.trainers.judging.cross_fitting import cross_fitted, equal_rows
from secateur.trainers.judging.wrong_labels import wrong_label_sets, wrong_labels, wrong_numbers

SEEDS = (0, 1, 2)


def flipped(labels: np.ndarray, share: float, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which so large a share is another class, drawn uniformly, and which these are."""
    random = np.random.default_rng((seed, 7))
    wrong = np.zeros(len(labels), bool)
    wrong[random.permutation(len(labels))[: round(share * len(labels))]] = True
    other = (labels + random.integers(1, classes, len(labels))) % classes
    return np.where(wrong, other, labels).astype(np.int64), wrong


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Values of pictures, and their classes."""
    pixels, labels = load_digits(return_X_y=True)
    return picture_values((pixels.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8)), labels.astype(np.int64)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fifth_of_wrong_digits_is_counted_and_ranked(digits, seed: int) -> None:
    values, labels = digits
    given, wrong = flipped(labels, 0.2, 10, seed)
    probabilities = cross_fitted(values, given, kind="vectors", seed=seed)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    found = wrong_labels(probabilities, given, seed=seed)
    assert abs(found.count / wrong.sum() - 1) < 0.2
    assert found.low < wrong.sum() < found.high
    own = roc_auc_score(wrong, found.score)
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        theirs = roc_auc_score(wrong, -get_label_quality_scores(given, probabilities.astype(np.float64), method=method))
        assert own > theirs - 0.005, method
    assert (found.suggested[wrong] == labels[wrong]).mean() > 0.9
    assert (np.diff(found.score[found.order]) <= 0).all()
    assert wrong[found.order[:300]].mean() > 0.95


def test_clean_digits_have_no_wrong_labels(digits) -> None:
    values, labels = digits
    found = wrong_labels(cross_fitted(values, labels, kind="vectors"), labels)
    assert found.count <= 5
    assert found.low == 0


def test_the_count_is_that_of_a_model_that_never_errs() -> None:
    """Probabilities of the truth: rows that differ are the wrong ones, whatever their class."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 20_000)
    given = np.where((truth == 2) & (random.random(20_000) < 0.3), 3, truth)
    sure = random.uniform(0.5, 1, 20_000)
    probabilities = np.repeat(((1 - sure) / 3)[:, None], 4, axis=1)
    probabilities[np.arange(20_000), truth] = sure
    found = wrong_labels(probabilities, given)
    wrong = (given != truth).sum()
    assert found.count == pytest.approx(wrong, rel=0.1)
    assert found.low <= wrong <= found.high
    other = np.sort(probabilities[np.arange(20_000)[:, None], (given[:, None] + [1, 2, 3]) % 4])[:, -1]
    expected = np.log((other + 0.01) / (probabilities[np.arange(20_000), given] + 0.01))
    np.testing.assert_allclose(found.score, expected, rtol=1e-5)


def test_mistakes_of_the_model_are_no_wrong_labels() -> None:
    """Right labels of classes that overlap: the model errs in an eighth of the rows, where it is unsure."""
    random = np.random.default_rng(1)
    chance = random.beta(0.5, 0.5, 20_000)
    labels = (random.random(20_000) < chance).astype(np.int64)
    found = wrong_labels(np.stack([1 - chance, chance], axis=1), labels)
    assert found.accuracy < 0.9
    assert found.count < 0.01 * len(labels)


def test_copies_share_a_fold() -> None:
    """Copies with random labels, in pairs: a model that had seen the other copy would know their label."""
    random = np.random.default_rng(0)
    half, labels = random.normal(size=(120, 5)).astype(np.float32), random.integers(0, 2, 120)
    values, both = np.concatenate([half, half]), np.concatenate([labels, labels])
    assert (equal_rows(values)[:120] == equal_rows(values)[120:]).all()
    assert len(np.unique(equal_rows(values))) == 120
    told = cross_fitted(values, both, kind="features")
    assert abs((told.argmax(axis=1) == both).mean() - 0.5) < 0.15
    leaking = cross_fitted(values, both, kind="features", groups=np.arange(240))
    assert (leaking.argmax(axis=1) == both).mean() > 0.65


def test_wrong_labels_of_texts_and_of_tables() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 900)
    words = np.array([[f"w{one}{number}" for number in range(12)] for one in "abc"])
    texts = [" ".join([*random.choice(words[one], 6), *random.choice(words.ravel(), 2)]) for one in truth]
    given, wrong = flipped(truth, 0.2, 3, 0)
    values = text_values([*texts, "", "•"])
    assert values.shape[0] == 902
    assert values[900:].nnz == 0
    found = wrong_labels(cross_fitted(values[:900], given, kind="text"), given)
    assert abs(found.count / wrong.sum() - 1) < 0.2
    assert roc_auc_score(wrong, found.score) > 0.97
    columns = np.stack([truth + random.normal(0, 0.2, 900), random.normal(size=900)], axis=1).astype(np.float32)
    columns[::50, 1] = np.nan
    found = wrong_labels(cross_fitted(columns, given, kind="features"), given)
    assert abs(found.count / wrong.sum() - 1) < 0.2


def test_targets_far_from_their_prediction() -> None:
    values, targets = make_regression(3000, 8, noise=5.0, random_state=0)
    random = np.random.default_rng(0)
    wrong = random.permutation(3000)[:300]
    given = targets.copy()
    given[wrong] = targets[random.permutation(3000)[:300]]
    told = cross_fitted(values.astype(np.float32), given[:, None], kind="vectors", task="numbers")
    found = wrong_numbers(told, given[:, None])
    assert roc_auc_score(np.isin(np.arange(3000), wrong), found.score) > 0.9
    assert abs(found.count / 300 - 1) < 0.2
    clean = wrong_numbers(
        cross_fitted(values.astype(np.float32), targets[:, None], kind="vectors", task="numbers"), targets[:, None]
    )
    assert clean.count < 0.005 * 3000


def test_wrong_entries_of_several_labels() -> None:
    random = np.random.default_rng(0)
    hidden = random.normal(size=(3000, 6))
    truth = hidden @ random.normal(size=(6, 4)) > 1
    wrong = random.random(truth.shape) < 0.1
    given = truth ^ wrong
    told = cross_fitted(hidden.astype(np.float32), given, kind="vectors", task="labels")
    found = wrong_label_sets(told, given)
    assert abs(found.count / wrong.sum() - 1) < 0.2
    assert roc_auc_score(wrong.any(axis=1), found.score) > 0.95
    assert (found.suggested == truth).mean() > 0.95


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        (np.full((2, 2), 0.5), [0, 2], "labels 0 … 2 name classes that 2 columns"),
        (np.array([[0.5, 0.5], [0.9, 0.9]]), [0, 1], "row 1: its values are no probabilities"),
        (np.array([[0.5, 0.5], [np.nan, 0.9]]), [0, 1], "row 1"),
        (np.ones((2, 1)), [0, 0], "of one class"),
        (np.ones((0, 2)), [], "of no rows"),
    ],
)
def test_refusals(probabilities: np.ndarray, labels: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong_labels(probabilities, np.array(labels, np.int64))


def test_fewer_rows_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="5 folds of 1 different rows"):
        cross_fitted(np.zeros((9, 2), np.float32), np.arange(9) % 2, kind="features")


def test_torch_is_not_imported() -> None:
    modules = "secateur.trainers.judging.cross_fitting, secateur.trainers.judging.wrong_labels"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
