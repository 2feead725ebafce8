"""Wrong targets of other tasks than classification rise to the top, and on noise no selection beats random."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.metrics import roc_auc_score

from secateur.scorers.checkpoints.checkpoint_el2n import checkpoint_el2n
from secateur.scorers.checkpoints.grand import grand
from secateur.scorers.checkpoints.last_layer_grand import last_layer_grand
from secateur.scorers.checkpoints.self_confidence import self_confidence
from secateur.scorers.checkpoints.vog import vog
from secateur.scorers.observers.accumulated_margin import AccumulatedMargin
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.dual import Dual
from secateur.scorers.observers.dynamic_uncertainty import DynamicUncertainty
from secateur.scorers.observers.el2n import El2n
from secateur.scorers.observers.forgetting import Forgetting
from secateur.scorers.observers.loss import Loss
from secateur.scorers.observers.mean_probability import MeanProbability
from secateur.scorers.registry import scorers
from secateur.selectors.static.top import top
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.comparison import Verdict, compare
from secateur.trainers.judging.evaluation import decided
from secateur.trainers.loop.train import train
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.missing_signals import missing_signals
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    model="mlp", model_settings={"hidden": [16]}, epochs=30, batch_size=32, learning_rate=3e-3, weight_decay=0.1
)


def shifted(seed=0):
    """scikit-learn's diabetes, a fifth of the targets moved by three standard deviations, up or down."""
    inputs, targets = load_diabetes(return_X_y=True)
    random = np.random.default_rng(seed)
    wrong = np.zeros(len(targets), bool)
    wrong[random.choice(len(targets), len(targets) // 5, replace=False)] = True
    moved = targets + wrong * random.choice([-3, 3], len(targets)) * targets.std()
    return Data(inputs.astype(np.float32), moved[:, None], Regression(loss="huber")), wrong


def flipped(seed=0, samples=600, labels=10):
    """Ten labels, each of which adds its direction to the inputs; a fifth of the rows have one of them flipped."""
    random = np.random.default_rng(seed)
    targets = random.random((samples, labels)) < 0.3
    inputs = targets @ random.normal(size=(labels, 24)) + random.normal(0, 0.5, (samples, 24))
    wrong = random.random(samples) < 0.2
    targets[np.flatnonzero(wrong), random.integers(0, labels, int(wrong.sum()))] ^= True
    return Data(inputs.astype(np.float32), targets, MultiLabel(labels)), wrong


def observed(data, *kinds):
    watchers = [kind(len(data), CPU) for kind in kinds]
    models = []
    train(
        data, CONFIG, seed=0, observers=watchers, device=CPU,
        checkpoint=lambda model, *_: models.append(__import__("copy").deepcopy(model)),
    )  # fmt: skip
    return [watcher.scores() for watcher in watchers], models


@pytest.fixture(scope="module")
def shifted_run():
    data, wrong = shifted()
    return data, wrong, *observed(data, Loss, El2n, Forgetting, DynamicUncertainty)


@pytest.fixture(scope="module")
def flipped_run():
    data, wrong = flipped()
    return data, wrong, *observed(data, Loss, Aum, AccumulatedMargin, El2n, Forgetting, Dual, MeanProbability)


def test_shifted_targets_are_found(shifted_run):
    data, wrong, (loss, el2n, forgetting, _), models = shifted_run
    assert roc_auc_score(wrong, loss) >= 0.9
    assert roc_auc_score(wrong, el2n) >= 0.9
    assert roc_auc_score(wrong, forgetting) > 0.6
    late = score_rows(
        [models[-2:]], data, np.arange(len(data)),
        {one.card.name: (one, {}) for one in (checkpoint_el2n, last_layer_grand, grand, vog)}, device=CPU,
    )  # fmt: skip
    assert roc_auc_score(wrong, late["checkpoint_el2n"]) >= 0.9
    assert roc_auc_score(wrong, late["last_layer_grand"]) > 0.8
    assert (late["vog"] >= 0).all()


def test_scores_of_regression_by_float64_formulas(shifted_run):
    data, _, _, models = shifted_run
    found = score_rows(
        [models[-1:]], data, np.arange(len(data)),
        {one.card.name: (one, {}) for one in (checkpoint_el2n, last_layer_grand, grand)}, device=CPU,
    )  # fmt: skip
    model = models[-1].double()
    inputs = torch.from_numpy(data.inputs).double()
    hidden = model[1][:-1](model[0](inputs)).detach()
    residual = model(inputs).detach().numpy() - data.task.standardised(data.targets)
    length = np.abs(residual[:, 0])
    np.testing.assert_allclose(found["checkpoint_el2n"], length, rtol=1e-3, atol=1e-5)
    expected = length * np.sqrt(1 + hidden.square().sum(dim=1).numpy())
    np.testing.assert_allclose(found["last_layer_grand"], expected, rtol=1e-3, atol=1e-5)
    each = []
    for row, target in zip(inputs[:20], data.task.standardised(data.targets)[:20], strict=True):
        model.zero_grad()
        data.task.losses(model(row[None]), torch.from_numpy(target[None])).sum().backward()
        each.append(np.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters())))
    np.testing.assert_allclose(found["grand"][:20], each, rtol=1e-3, atol=1e-5)
    models[-1].float()


def test_one_flipped_label_among_ten_is_found_by_the_worst(flipped_run):
    data, wrong, (loss, aum, margin, *_), models = flipped_run
    assert roc_auc_score(wrong, -aum) >= 0.9
    assert roc_auc_score(wrong, -margin) >= 0.9
    late = score_rows([models[-1:]], data, np.arange(len(data)), {"one": (self_confidence, {})}, device=CPU)
    assert roc_auc_score(wrong, -late["one"]) >= 0.9
    assert roc_auc_score(wrong, -aum) > roc_auc_score(wrong, loss), "the mean over labels hides one of them"


def test_self_confidence_is_the_moving_average_of_cleanlab(flipped_run):
    data, _, _, models = flipped_run
    found = score_rows([models[-1:]], data, np.arange(len(data)), {"one": (self_confidence, {})}, device=CPU)["one"]
    with torch.no_grad():
        logits = models[-1](torch.from_numpy(data.inputs)).double().numpy()
    each = np.sort(1 / (1 + np.exp(-np.where(data.targets, logits, -logits))), axis=1)[:, ::-1]
    expected = each[:, 0]
    for column in each.T[1:]:
        expected = 0.8 * column + 0.2 * expected
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_forgetting_of_numbers_goes_by_the_median_of_each_epoch():
    data, _ = shifted()
    task, residuals = data.task, []

    class Watch(Forgetting):
        def end_epoch(self, epoch):
            residuals.append(self.residuals.clone().numpy())
            super().end_epoch(epoch)

    watcher = Watch(len(data), CPU)
    train(data, CONFIG.model_copy(update={"epochs": 6}), seed=0, observers=[watcher], device=CPU)
    assert "correct" in task.lacks
    good = np.array([each <= np.quantile(each, 0.5, method="lower") for each in residuals])
    events = (good[:-1] & ~good[1:]).sum(axis=0)
    np.testing.assert_array_equal(watcher.scores(), np.where(good.any(axis=0), events, 6))


@pytest.mark.parametrize("make", [shifted, flipped])
def test_on_permuted_targets_no_selection_is_better_than_random(make):
    data, _ = make()
    order = np.random.default_rng(1).permutation(len(data))
    noise = Data(data.inputs, data.targets[order], data.task)
    pool, held = noise.task.split(noise.targets, 0.3, 0)
    inside, outside = noise.take(pool), noise.take(held)
    config = CONFIG.model_copy(update={"epochs": 5})
    accuracies = {"hardest": [], "easiest": [], "random": []}
    for seed in range(4):
        watcher = El2n(len(inside), CPU)
        train(inside, config, seed=seed, observers=[watcher], device=CPU)
        budget = len(inside) // 2
        keeps = {
            "hardest": top(watcher.scores(), budget, seed=seed),
            "easiest": top(-watcher.scores(), budget, seed=seed),
            "random": uniform_random(np.arange(len(inside)), budget, seed=seed),
        }
        for name, keep in keeps.items():
            accuracies[name].append(decided(train(inside, config, seed=seed, keep=keep, device=CPU).model, outside))
    metric = noise.task.metrics[0]
    random = accuracies.pop("random")
    for name, one in compare(accuracies, random, higher_is_better=metric.higher_is_better).items():
        assert one.verdict is not Verdict.BETTER, (name, one)


OF_NUMBERS = {
    "loss", "el2n", "forgetting", "dynamic_uncertainty", "checkpoint_loss", "checkpoint_el2n", "grand",
    "last_layer_grand", "vog", "normalised_vog", "density", "nearest_sample", "neighbour_agreement",
    "prototype_distance",
}  # fmt: skip
NOT_MULTI_LABEL = {"entropy", "tdds", "checkpoint_entropy", "pvi"}
OF_COMPLETIONS = {"perplexity", "ifd_loss", "ifd_ppl", "response_tokens"}


def test_which_scores_apply():
    def fitting(task):
        return {name for name, one in scorers().items() if not missing_signals(one, task)}

    assert fitting(Classification(3)) == set(scorers()) - OF_COMPLETIONS
    assert fitting(Regression()) == OF_NUMBERS
    assert fitting(MultiLabel(3)) == set(scorers()) - NOT_MULTI_LABEL - OF_COMPLETIONS


def test_what_is_missing_comes_with_the_reason_and_alternatives():
    (text,) = missing_signals(scorers()["aum"], Regression())
    assert text.startswith(
        "score 'aum' reads margin, which regression has none of: a number has no competing classes; "
    )
    (text,) = missing_signals(scorers()["entropy"], MultiLabel(3))
    assert "its labels do not exclude each other" in text
    assert text.endswith("where high means more uncertain too: dual, dynamic_uncertainty")
    assert missing_signals(scorers()["pvi"], Regression()), "through null_log_probabilities"
