"""Laws for every scorer there is, whichever kind; a new one is held to them as soon as its file exists."""

import importlib
import inspect
import re
import typing
from dataclasses import dataclass

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from secateur.scorers.checkpoints.contract import CheckpointBatch, CheckpointScorer
from secateur.scorers.contract import HighMeans, Observer, Scorer, Scores, TrainingBatch, discover, finite, scorer
from secateur.scorers.registry import scorers
from secateur.scorers.signals import ClassSignals
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.contract import Data

SAMPLES, CLASSES, FEATURES, NEIGHBOURS = 40, 4, 6, 5
REGISTRY = dict(scorers())
OF_SIGNALS = sorted(name for name, each in REGISTRY.items() if isinstance(each, Scorer))
OF_CHECKPOINTS = sorted(name for name, each in REGISTRY.items() if isinstance(each, CheckpointScorer))
OBSERVERS = sorted(name for name, each in REGISTRY.items() if isinstance(each, type) and issubclass(each, Observer))

REQUIRED: dict[str, dict[str, object]] = {}
"""Values for settings without a default."""


@dataclass
class World:
    """One small data set and every signal of it that a scorer may name."""

    embeddings: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    def permuted(self, order):
        """The same samples in another order."""
        return World(self.embeddings[order], self.labels[order], self.logits[order])

    @property
    def squared_distances(self):
        gaps = self.embeddings[:, None].astype(np.float64) - self.embeddings[None]
        squares = (gaps**2).sum(axis=2)
        np.fill_diagonal(squares, np.inf)
        return squares

    def signal(self, name):
        probabilities = np.exp(self.logits) / np.exp(self.logits).sum(axis=1, keepdims=True)
        losses = -np.log(probabilities[np.arange(len(self.labels)), self.labels])
        made = {
            "embeddings": lambda: self.embeddings,
            "labels": lambda: self.labels,
            "strata": lambda: self.labels,
            "logits": lambda: self.logits,
            "probabilities": lambda: probabilities.astype(np.float32),
            "label_free_neighbours": lambda: np.argsort(self.squared_distances, axis=1)[:, :NEIGHBOURS],
            "neighbour_distances": lambda: np.sqrt(np.sort(self.squared_distances, axis=1))[:, :NEIGHBOURS].astype(
                "f4"
            ),
            "null_log_probabilities": lambda: np.log(np.full(CLASSES, 1 / CLASSES)),
            "completion_tokens": lambda: 5 * self.labels + 3,
        }
        if name in made:
            return made[name]()
        if name in REGISTRY:  # another score
            return (losses + self.logits[:, 0] ** 2).astype(np.float32)
        return pytest.fail(f"no test makes the signal {name!r}: add it to World.signal in {__file__}")


def world():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), SAMPLES // CLASSES)
    embeddings = generator.normal(size=(SAMPLES, FEATURES)) + np.eye(CLASSES, FEATURES)[labels]
    return World(embeddings.astype("f4"), labels, generator.normal(size=(SAMPLES, CLASSES)).astype("f4"))


def scores_of(name, data):
    declared = REGISTRY[name]
    return declared(*(data.signal(each) for each in declared.signals), **REQUIRED.get(name, {}))


def test_every_scorer_is_of_a_known_kind():
    assert sorted(OF_SIGNALS + OF_CHECKPOINTS + OBSERVERS) == sorted(REGISTRY)
    issue = {"loss", "correctness", "forgetting", "aum", "accumulated_margin", "margin", "el2n", "entropy"}
    assert issue <= set(OBSERVERS)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_cards_say_everything(name):
    card = REGISTRY[name].card
    assert card.name == name
    declared = REGISTRY[name]
    own = declared if inspect.isclass(declared) else declared.compute
    assert own.__module__.rpartition(".")[2] == name
    assert card.high_means in typing.get_args(HighMeans)
    assert card.version
    assert len(card.paper) > 10
    assert len(card.view) > 10
    assert card.summary.endswith(".")
    assert "\n" not in card.summary


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_settings_refuse_what_nobody_reads(name):
    model = REGISTRY[name].settings
    assert issubclass(model, BaseModel)
    assert not {"seed", "ids", "samples", "device"} & set(model.model_fields)
    model(**REQUIRED.get(name, {}))
    with pytest.raises(ValidationError, match="no_such_setting"):
        model(no_such_setting=1, **REQUIRED.get(name, {}))


@pytest.mark.parametrize("name", OF_SIGNALS)
def test_scores_of_signals_are_finite_float32_and_the_same_twice(name):
    first, second = scores_of(name, world()), scores_of(name, world())
    assert first.dtype == np.float32
    assert first.shape == (SAMPLES,)
    assert np.isfinite(first).all()
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", OF_SIGNALS)
def test_scores_of_signals_move_with_their_samples(name):
    data, order = world(), np.random.default_rng(1).permutation(SAMPLES)
    np.testing.assert_allclose(
        scores_of(name, data.permuted(order)), scores_of(name, data)[order], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", OF_SIGNALS)
def test_scorers_leave_their_signals_alone(name):
    data, declared = world(), REGISTRY[name]
    signals = [np.array(data.signal(each)) for each in declared.signals]
    before = [each.copy() for each in signals]
    for each in signals:
        each.setflags(write=False)  # as a memory map is
    scores = declared(*signals, **REQUIRED.get(name, {}))
    assert all(np.array_equal(each, old) for each, old in zip(signals, before, strict=True))
    assert not any(np.shares_memory(scores, each) for each in signals)


def checkpoints():
    """Three networks with a linear classifier, as a proxy run leaves them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return [
            nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES)).eval().requires_grad_(False)
            for _ in range(3)
        ]


class OfTexts(ClassSignals):
    """Classes whose samples are so many tokens long, for scores that read what texts have."""

    lacks: typing.ClassVar = dict.fromkeys(("token_logits", "head_gradient"), "classes have one logit each")

    def target_tokens(self, batch):
        return 5.0 * batch.targets + 3

    def target_cut(self, batch):
        return batch.targets == 1

    def bare_losses(self, batch):
        return batch.losses * (1.0 + batch.inputs[:, 0] ** 2)

    headed_losses = bare_losses


def batch_of_checkpoints(rows):
    data = world()
    inputs, labels = torch.from_numpy(data.embeddings[rows]), torch.from_numpy(data.labels[rows])
    return CheckpointBatch(checkpoints(), inputs, labels, OfTexts())


@pytest.mark.parametrize("name", OF_CHECKPOINTS)
def test_scores_of_checkpoints_are_finite_and_of_each_sample_alone(name):
    declared, whole = REGISTRY[name], np.arange(SAMPLES)
    scores = declared(batch_of_checkpoints(whole), **REQUIRED.get(name, {}))
    assert scores.dtype == torch.float32
    assert scores.shape == (SAMPLES,)
    assert not scores.requires_grad
    assert scores.isfinite().all()
    assert torch.equal(scores, declared(batch_of_checkpoints(whole), **REQUIRED.get(name, {})))
    order = np.random.default_rng(1).permutation(SAMPLES)
    parts = [declared(batch_of_checkpoints(rows), **REQUIRED.get(name, {})) for rows in np.split(order, [1, 15])]
    torch.testing.assert_close(torch.cat(parts), scores[torch.from_numpy(order)], rtol=1e-4, atol=1e-6)


def observed(name, order, *, presentations=12, samples=SAMPLES):
    """Scores after every sample was presented so often, row `i` being sample `order[i]`."""
    watcher = REGISTRY[name](samples, torch.device("cpu"), **REQUIRED.get(name, {}))
    generator = torch.Generator().manual_seed(0)
    rows = np.argsort(order)
    for epoch in range(presentations):
        logits = torch.randn(samples, CLASSES, generator=generator)
        labels = torch.arange(samples) % CLASSES
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        watcher.observe(TrainingBatch(torch.from_numpy(rows), logits, labels, losses))
        watcher.end_epoch(epoch)
    return watcher


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_are_finite_the_same_twice_and_move_with_their_samples(name):
    straight, order = np.arange(SAMPLES), np.random.default_rng(1).permutation(SAMPLES)
    scores = observed(name, straight).scores()
    assert scores.dtype == np.float32
    assert scores.shape == (SAMPLES,)
    assert np.isfinite(scores).all()
    assert scores.tobytes() == observed(name, straight).scores().tobytes()
    np.testing.assert_array_equal(observed(name, order).scores(), scores[order])


@pytest.mark.parametrize("name", OBSERVERS)
def test_accumulators_grow_with_samples_and_with_nothing_else(name):
    few, many, longer = (
        {
            key: value.numel()
            for key, value in observed(name, np.arange(n), samples=n, presentations=p).state_dict().items()
        }
        for n, p in ((SAMPLES, 12), (4 * SAMPLES, 12), (SAMPLES, 36))
    )
    assert few == longer
    assert all(many[key] in (count, 4 * count) for key, count in few.items())
    dtypes = {value.dtype for value in observed(name, np.arange(SAMPLES)).state_dict().values()}
    assert dtypes <= {torch.float64, torch.float32, torch.int64, torch.bool}


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_continue_from_their_state(name):
    watcher = observed(name, np.arange(SAMPLES))
    continued = REGISTRY[name](SAMPLES, torch.device("cpu"), **REQUIRED.get(name, {}))
    continued.load_state_dict(watcher.state_dict())
    assert continued.scores().tobytes() == watcher.scores().tobytes()


@pytest.mark.parametrize("name", OBSERVERS)
def test_observing_reads_nothing_back_from_the_device(name):
    meta = torch.device("meta")
    watcher = REGISTRY[name](SAMPLES, meta, **REQUIRED.get(name, {}))
    ids = torch.zeros(5, dtype=torch.int64, device=meta)
    batch = TrainingBatch(ids, torch.zeros(5, CLASSES, device=meta), ids, torch.zeros(5, device=meta))
    for epoch in range(2):
        watcher.observe(batch)
        watcher.end_epoch(epoch)


def test_the_laws_catch_a_scorer_of_row_order(monkeypatch):
    @scorer(high_means="harder", view="nothing at all", paper="no paper whatsoever")
    def row_number(labels: np.ndarray) -> Scores:
        """Row numbers."""
        return np.arange(len(labels), dtype=np.float32)

    monkeypatch.setitem(REGISTRY, "row_number", row_number)
    test_scores_of_signals_are_finite_float32_and_the_same_twice("row_number")
    with pytest.raises(AssertionError, match="Not equal"):
        test_scores_of_signals_move_with_their_samples("row_number")


def test_an_unknown_signal_is_named(monkeypatch):
    @scorer(high_means="harder", view="nothing at all", paper="no paper whatsoever")
    def odd(moon_phase: np.ndarray) -> Scores:
        """Of no use."""
        return moon_phase

    monkeypatch.setitem(REGISTRY, "odd", odd)
    with pytest.raises(pytest.fail.Exception, match="no test makes the signal 'moon_phase'"):
        scores_of("odd", world())


def test_discovery_finds_scorers_by_their_file_alone(tmp_path, monkeypatch):
    package = tmp_path / "more_scorers"
    package.mkdir()
    (package / "row_parity.py").write_text(
        "import numpy as np\n"
        "from secateur.scorers.observers.aum import Aum\n"
        "from secateur.scorers.contract import scorer\n"
        "@scorer(high_means='harder', view='labels', paper='none')\n"
        "def row_parity(labels, *, odd: bool = True):\n"
        "    'Parity.'\n"
        "    return np.float32(labels % 2 == odd)\n"
    )
    (package / "not_a_scorer.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = discover(importlib.import_module("more_scorers"), Scorer, Observer)
    assert list(found) == ["row_parity"]
    assert found["row_parity"].signals == ("labels",)
    assert set(found["row_parity"].settings.model_fields) == {"odd"}


def test_broken_scores_are_named():
    values = np.zeros(30, np.float32)
    assert finite(values, "any") is values
    values[[3, 7]] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"score 'any' is NaN or infinite at rows 3, 7$"):
        finite(values, "any")
    values[:] = np.nan
    with pytest.raises(ValueError, match=r"rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … \(30 in all\)"):
        finite(values, "any")


@pytest.fixture
def as_users_run_it() -> typing.Iterator[None]:
    """Without the checks of types that these tests switch on, which would come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros(2, np.int64), "of type numpy.ndarray, and a torch tensor is needed: give torch.from_numpy(ids)"),
        ([0, 1], "of type list, and a torch tensor is needed: give torch.tensor(ids)"),
        (pd.Series([0, 1]), "of type pandas.Series, and a torch tensor is needed: give torch.tensor(ids.to_numpy())"),
        (pd.DataFrame({"ids": [0, 1]}), "of type pandas.DataFrame, .* such as torch.tensor(table['ids'].to_numpy())"),
        (1, "of type int, and a torch tensor is needed: give one value per sample"),
    ],
    ids=["array", "list", "series", "table", "number"],
)
def test_what_is_no_tensor_is_named_with_the_remedy(given: typing.Any, said: str) -> None:
    """By a batch, and by a sampler that learns of losses, in place of an error of their insides."""
    pattern = re.escape(said).replace(re.escape(".*"), ".*")
    losses = torch.zeros(2)
    with pytest.raises(TypeError, match=f"TrainingBatch: ids is {pattern}"):
        TrainingBatch(given, torch.zeros(2, CLASSES), torch.zeros(2, dtype=torch.int64), losses)
    sampler = InfoBatch(4, 2, seed=0)
    with pytest.raises(TypeError, match=f"observe: ids is {pattern}"):
        sampler.observe(given, losses)
    with pytest.raises(TypeError, match="observe: losses is of type list"):
        sampler.observe(torch.arange(2), [0.5, 0.5])  # type: ignore[arg-type]


@pytest.mark.usefixtures("as_users_run_it")
def test_a_batch_names_each_of_its_parts() -> None:
    good = {
        "ids": torch.arange(2),
        "outputs": torch.zeros(2, CLASSES),
        "targets": torch.arange(2),
        "losses": torch.ones(2),
    }
    TrainingBatch(**good)
    for name, tensor in good.items():
        with pytest.raises(TypeError, match=f"TrainingBatch: {name} is of type numpy.ndarray"):
            TrainingBatch(**good | {name: tensor.numpy()})


@pytest.mark.usefixtures("as_users_run_it")
def test_data_takes_arrays_alone() -> None:
    inputs, targets = np.zeros((2, 3), np.float32), np.array([0, 1])
    assert len(Data(inputs, targets, 2)) == 2
    with pytest.raises(ValueError, match=r"Data: targets is of type list, .* give np.asarray\(targets\)"):
        Data(inputs, [0, 1], 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Data: inputs is of type list"):
        Data(inputs.tolist(), targets, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Data: inputs is of type pandas.DataFrame, .* give inputs.to_numpy\(\)"):
        Data(pd.DataFrame(inputs), targets, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Data: inputs is of type torch.Tensor"):
        Data(torch.from_numpy(inputs), targets, 2)  # type: ignore[arg-type]
