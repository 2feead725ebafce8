"""Wrong labels against cleanlab on the same probabilities, counts against planted flips, and errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits, make_regression
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from wrong_labels import drawn, line

from secateur.trainers.judging.cheap_values import picture_values, text_values
from secateur.trainers.judging.cross_fitting import cross_fitted, equal_rows
from secateur.trainers.judging.fourier_ridge import PENALTIES, features_of, ridge_of_folds
from secateur.trainers.judging.wrong_counts import SLACK, how_many, stable_share
from secateur.trainers.judging.wrong_labels import wrong_label_sets, wrong_labels, wrong_numbers

SEEDS = (0, 1, 2)


def flipped(labels: np.ndarray, share: float, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a share of flips to other classes, drawn uniformly, and the mask of flips."""
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
    """With the true probabilities, the rows that differ are the wrong ones, in any class."""
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
    """Right labels of overlapping classes: the model errs in an eighth of the rows, where it is unsure."""
    random = np.random.default_rng(1)
    chance = random.beta(0.5, 0.5, 20_000)
    labels = (random.random(20_000) < chance).astype(np.int64)
    found = wrong_labels(np.stack([1 - chance, chance], axis=1), labels)
    assert found.accuracy < 0.9
    assert found.count < 0.01 * len(labels)


def slow_share(wrong: list[int], seen: list[int], least: int) -> float:
    """The rule in a loop: part after part, while the share lies within the bounds of each part from `least` on."""
    best, limit = wrong[least] / seen[least], np.inf
    for part in range(least, len(seen)):
        share = wrong[part] / seen[part]
        if share > limit:
            return best
        sure = min(max(share, 0.5 / seen[part]), 1 - 0.5 / seen[part])
        limit = min(limit, share + SLACK * (sure * (1 - sure) / seen[part]) ** 0.5)
        best = share
    return best


def test_parts_are_added_while_the_share_stays() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        sizes = random.integers(20, 400, 12)
        rates = np.sort(random.beta(1, 8, 12)) if random.random() < 0.5 else np.full(12, 0.1)
        seen, wrong = np.cumsum(sizes), np.cumsum(random.binomial(sizes, rates))
        least = int(random.integers(0, 4))
        chosen, shares = stable_share(wrong[None], seen, np.array([SLACK]), least)
        assert shares[0] == pytest.approx(slow_share(wrong.tolist(), seen.tolist(), least))
        assert chosen[0] >= least


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2])
def test_intervals_hold_the_truth_where_the_model_never_errs(share: float) -> None:
    random = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        wrong = random.random(3000) < share
        places = random.permutation(np.arange(3000) + 0.5) / 3000
        (count, low, high), part = how_many(places[wrong], 3000, seed=seed, level=0.95)
        assert low <= count <= high
        assert 0 < part <= 1
        held += low <= wrong.sum() <= high
    assert held >= 90


def test_ridge_regression_of_folds_is_that_of_scikit_learn() -> None:
    """The same features and no standard errors: scikit-learn fits one model for each fold on the others."""
    random = np.random.default_rng(0)
    values, fold = random.normal(size=(400, 7)).astype(np.float32), np.arange(400) % 4
    targets = np.stack([values[:, 0] * values[:, 1], np.sin(values[:, 2])], axis=1).astype(np.float64)
    told = ridge_of_folds(values, targets, fold, task="numbers", width=2, seed=3)
    features = features_of(values, 3)(values).astype(np.float64)
    others = []
    for penalty in PENALTIES:
        other = np.empty((400, 2))
        for number in range(4):
            rest = fold != number
            other[~rest] = Ridge(penalty * rest.sum()).fit(features[rest], targets[rest]).predict(features[~rest])
        others.append(other)
    errors = [((other - targets)[fold == 0] ** 2).sum() for other in others]
    np.testing.assert_allclose(told, others[int(np.argmin(errors))], atol=1e-4)


def test_equal_rows_of_sparse_values() -> None:
    dense = np.random.default_rng(0).integers(0, 3, (500, 4)).astype(np.float32)
    _, expected = np.unique(dense, axis=0, return_inverse=True)
    for found in (equal_rows(csr_matrix(dense)), equal_rows(dense), equal_rows(np.where(dense == 0, -0.0, dense))):
        assert len(np.unique(found)) == expected.max() + 1
        assert len({*zip(found.tolist(), expected.tolist(), strict=True)}) == expected.max() + 1


def test_copies_share_a_fold() -> None:
    """Copies with random labels, in pairs: a model trained on one copy would know the label of the other."""
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
    truth = random.integers(0, 2, 600)
    words = np.array([[f"w{one}{number}" for number in range(12)] for one in "ab"])
    texts = [" ".join([*random.choice(words[one], 6), *random.choice(words.ravel(), 2)]) for one in truth]
    given, wrong = flipped(truth, 0.2, 2, 0)
    values = text_values([*texts, "", "•"])
    assert values.shape[0] == 602
    assert values[600:].nnz == 0
    found = wrong_labels(cross_fitted(values[:600], given, kind="text"), given)
    assert abs(found.count / wrong.sum() - 1) < 0.2
    assert roc_auc_score(wrong, found.score) > 0.95
    columns = np.stack([truth + random.normal(0, 0.2, 600), random.normal(size=600)], axis=1).astype(np.float32)
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


@pytest.mark.nightly
@pytest.mark.parametrize("data", ["clinc150", "fashion_mnist", "adult"])
def test_a_fifth_of_wrong_labels_of_real_data(real_data: Path, data: str) -> None:
    """The page's numbers: counts within a fifth of the truth, and an order no worse than cleanlab's."""
    read = drawn(str(real_data / data), 15_000, 0)
    _, _, _, truth, accuracy, count, low, high, _, own, theirs = line(data, read, 0.2, "uniform", 0)
    assert accuracy > 0.8
    assert abs(count / truth - 1) < 0.2
    assert low < truth < high * 1.05
    assert own > theirs - 0.005


@pytest.mark.nightly
@pytest.mark.parametrize("data", ["clinc150", "fashion_mnist", "adult"])
def test_real_labels_are_hardly_suspected(real_data: Path, data: str) -> None:
    read = drawn(str(real_data / data), 15_000, 0)
    found = line(data, read, 0.0, "uniform", 0)
    assert found[5] < 0.01 * found[1]


def test_a_model_that_knows_nothing_counts_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    for sure in (rng.random(1000), np.full(1000, 0.9)):  # Random predictions, and a constant one.
        found = wrong_labels(np.stack([1 - sure, sure], axis=1), labels)
        assert np.isnan([found.count, found.low, found.high]).all()
        assert "no more than chance would" in found.reason
    # A rare class and a model that knows it: its accuracy is that of a constant guess, but it is informative.
    rare = (rng.random(4000) < 0.05).astype(np.int64)
    given = np.where(rng.random(4000) < 0.05, 1 - rare, rare)
    told = np.where(rare == 1, 0.9, 0.1)
    assert wrong_labels(np.stack([1 - told, told], axis=1), given).count == pytest.approx(
        (given != rare).sum(), rel=0.2
    )
