"""DARE and DAREx on digits: random or selected entries of a small network's fine-tuning delta, rescaled.

Yu et al., "Language models are Super Mario" (ICML 2024, arXiv 2311.03099); Deng et al., "DARE the extreme" (ICLR 2025,
arXiv 2410.09344). The experiment trains a network on upright digits and fine-tunes it on digits turned by 90 degrees;
arms keep a share of the delta. The smaller the learning rate of fine-tuning, the smaller the delta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import Field

from secateur.scorers.contract import Count, Positive, finite_outputs
from secateur.scorers.lazy import nn, safetensors, torch
from secateur.scorers.networks.output_change import output_change
from secateur.selectors.contract import MaskSelector
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.delta_masks import tensor_budgets
from secateur.selectors.masks.random_entries import random_entries
from secateur.trainers.contract import Data, Progress, TrainingConfig
from secateur.trainers.experiments.contract import ACCURACY, Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.train import train
from secateur.trainers.models.identity import weights_of
from secateur.trainers.models.registry import build
from secateur.trainers.passes.layer_inputs import LayerInputs, layer_inputs
from secateur.trainers.pruning.delta_rescaling import (
    FoundQ,
    made_up,
    mean_without_farthest,
    q_by_bound,
    q_by_least_bound,
    q_by_moments,
    q_by_search,
)
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.pruning.learnt_rescaling import layer_of, q_by_gradient
from secateur.trainers.tasks.contract import Metric

State = dict[str, "torch.Tensor"]
Masks = dict[str, np.ndarray]
Divisors = dict[str, float]

PRETRAINED: Final = "pretrained"
LARGE, SMALL, PULLED = "tuned", "tuned_small", "tuned_adam_r"
SPLIT: Final = 0
"""Seed of the split into training, validation and test samples: the same in every run."""
DRAW, SEARCHED = 1, 2
"""Streams of mask seeds: the evaluated mask, and the masks of the search for q."""
LEARNT_ON: Final = 256
"""Number of samples from whose outputs `q_gradient` learns q."""
ETAS: Final = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Digits:
    """Upright digits for pre-training; turned ones for fine-tuning, validation and test."""

    upright: Data
    turned: Data
    validation: Data
    test: Data


def read_digits() -> Digits:
    """scikit-learn's 1,797 digits: a fifth for the test, a tenth of the rest for validation."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT).permutation(len(labels))
    pixels = images.reshape(-1, 8, 8, 1).astype(np.uint8)[order]
    everything = Data(pixels, labels.astype(np.int64)[order], 10)
    turned = Data(np.rot90(pixels, axes=(1, 2)).copy(), everything.targets, 10)
    rows = np.arange(len(labels))
    test, validation = rows < len(rows) // 5, (rows >= len(rows) // 5) & (rows < len(rows) * 28 // 100)
    training = ~(test | validation)
    return Digits(everything.take(training), turned.take(training), turned.take(validation), turned.take(test))


def drawn(rescaled: str, tuned: str = LARGE) -> Arm:
    """An arm that keeps a random share of a delta, `rescaled` by one of `RESCALINGS`."""
    return Arm("", "random_entries", {"rescaled": rescaled, "tuned": tuned})


class DeltaPruning(Experiment):
    """Compares DARE with DAREx's rescaling, fine-tuning by AdamR and selected entries, for a large and a small delta.

    `random` is DARE: a random share of each tensor's delta, divided by the share; `unscaled` is the same mask without
    the division. `q_labels` and `q_outputs` divide by one q, found by validation labels or by the last hidden layer.
    `q_layers` (the authors' rule), `q_least_bound` (the minimum of their formula), `q_moments` and `q_gradient` (learnt
    from the change of the outputs) divide by one q per layer. `magnitude` and `wanda` keep the highest scores. `small`
    and `adam_r` are DARE after fine-tuning at a smaller rate or with AdamR; `…_q_outputs` is the same with a q.
    """

    version = "2"

    unit = "delta"
    paper = "Deng et al. 2025, arXiv 2410.09344"
    claim = (
        "Dropping most of a large fine-tuning delta at random breaks the model; dividing the rest by a q above the "
        "kept share, or fine-tuning with AdamR, mends a good part of it, and a small delta needs neither."
    )
    metrics = (ACCURACY, Metric("q_over_keep"), Metric("delta_size"))
    arms: ClassVar[Arms] = {
        "random": drawn("share"),
        "unscaled": drawn("no"),
        "q_labels": drawn("labels"),
        "q_outputs": drawn("outputs"),
        "q_layers": drawn("layers"),
        "q_least_bound": drawn("least_bound"),
        "q_moments": drawn("moments"),
        "q_gradient": drawn("gradient"),
        "magnitude": Arm("delta_magnitude", "highest_entries", {"rescaled": "no"}),
        "wanda": Arm("delta_wanda", "highest_entries", {"rescaled": "no"}),
        "small": drawn("share", SMALL),
        "small_q_outputs": drawn("outputs", SMALL),
        "adam_r": drawn("share", PULLED),
        "adam_r_q_outputs": drawn("outputs", PULLED),
    }
    references: ClassVar[Arms] = {name: Arm(settings={"whole": name}) for name in (LARGE, SMALL, PULLED, PRETRAINED)}

    def __init__(
        self,
        *,
        width: Count = 256,
        layers: Count = 3,
        epochs: Count = 30,
        tuning_epochs: Count = 30,
        learning_rate: Positive = 5e-3,
        small_learning_rate: Positive = 1e-4,
        pull: Annotated[float, Field(ge=0)] = 0.2,
        draws: Count = 4,
    ) -> None:
        if min(width, layers, epochs, tuning_epochs, draws) < 1:
            raise ValueError("width, layers, epochs, tuning_epochs and draws must be at least 1")
        self.draws = draws
        network = TrainingConfig(model="mlp", model_settings={"hidden": [width] * layers}, epochs=epochs)
        tuned = network.model_copy(update={"epochs": tuning_epochs, "weight_decay": 0.0})
        self.configs = {
            PRETRAINED: network,
            LARGE: tuned.model_copy(update={"learning_rate": learning_rate}),
            SMALL: tuned.model_copy(update={"learning_rate": small_learning_rate}),
            PULLED: tuned.model_copy(update={"learning_rate": learning_rate, "pull": pull}),
        }

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Pre-train, then fine-tune three times: `<name>.safetensors` each."""
        digits = read_digits()
        start: nn.Module | None = None
        for done, (name, config) in enumerate(self.configs.items()):
            data = digits.upright if name == PRETRAINED else digits.turned
            trained = train(data, config, seed=derive_seed(seed, done), start=start, device=torch.device("cpu"))
            start = trained.model if name == PRETRAINED else start
            safetensors.save_file(trained.model.state_dict(), folder / f"{name}.safetensors")
            progress(done + 1, len(self.configs))

    def units(self, trial: ArmTrial, prepared: Path) -> Pruning:
        """The delta that the arm prunes."""
        digits, whole = read_digits(), trial.setting("whole")
        names = (whole, whole) if whole else (PRETRAINED, trial.setting("tuned", LARGE))
        base, tuned = (safetensors.load_file(prepared / f"{name}.safetensors") for name in names)
        model = self.model(tuned, digits.turned)
        return Pruning(model, base, tuned, trial.keep, digits, self.draws)

    def scores(self, trial: ArmTrial, units: Pruning) -> Masks:
        """Scores of every tensor; the scorer reads one tensor at a time."""
        scored = {name: super(DeltaPruning, self).scores(trial, Tensor(units, name)) for name in units.deltas}
        return {name: values.reshape(units.shapes[name]) for name, values in scored.items()}

    def seed_of(self, selector: MaskSelector[..., Any], seed: int) -> int:
        """A seed that differs from those of the search for q, for drawn and other masks."""
        return derive_seed(seed, DRAW)

    def outcome(self, trial: ArmTrial, units: Pruning, masks: Masks | None, progress: Progress) -> Result:
        """Accuracy on turned test digits with the pruned delta, or of a whole model."""
        test = units.digits.test
        if masks is None:
            return Result(
                Outcome(metrics={"accuracy": evaluate(units.model, test)["accuracy"]}, samples_seen=len(test))
            )
        divisors, found = RESCALINGS[trial.setting("rescaled")](units, trial.seed)
        settings: dict[str, Any] = {"base": weights_of(self.model(units.base, units.digits.turned)), "q": divisors}
        kept = Kept("delta", masks, units.made_for, settings)
        units.apply(masks, divisors)
        metrics = {"accuracy": evaluate(units.model, test)["accuracy"], "q_over_keep": found.q / trial.keep}
        metrics["delta_size"] = units.size()
        progress(1, 1)
        facts = {"q": found.q, "at_bound": found.at_bound, "tried": [list(pair) for pair in found.tried]}
        return Result(Outcome(metrics=metrics, samples_seen=units.samples + len(test), facts=facts), kept)

    def model(self, state: State, data: Data) -> nn.Module:
        """The network with these weights, in evaluation mode."""
        model = build(self.configs[PRETRAINED], data.inputs.shape[1:], data.task.width, seed=0)
        model.load_state_dict(state)
        return model.eval()


@dataclass(frozen=True)
class Tensor:
    """One tensor as scorers of deltas read it; a bias has one input, which is 1."""

    pruning: Pruning
    name: str

    @property
    def delta(self) -> np.ndarray:
        """The delta, float32 `[outputs, inputs]`."""
        delta = self.pruning.deltas[self.name].numpy()
        return delta.reshape(len(delta), -1)

    @property
    def norms(self) -> np.ndarray:
        """Norm of each input over the fine-tuning samples."""
        inputs = self.pruning.layer_inputs
        return inputs[self.name].norms if self.name in inputs else np.ones(self.delta.shape[1])


class Pruning:
    """One delta under one budget: its tensors, the divisors, and the pruned model, which overwrites the given one.

    For a reference the base is the tuned model itself, and the delta is zero.
    """

    def __init__(self, model: nn.Module, base: State, tuned: State, keep: float, digits: Digits, draws: int) -> None:
        self.model, self.base, self.keep, self.digits, self.draws = model, base, keep, digits, draws
        self.made_for = weights_of(model)
        self.deltas = {name: tuned[name] - base[name] for name, _ in model.named_parameters()}
        self.shapes = {name: tuple(each.shape) for name, each in self.deltas.items()}
        self.entries = {name: each.numel() for name, each in self.deltas.items()}
        self.budgets = tensor_budgets(self.entries, keep)
        self.samples, self.searched = 0, list[Masks]()
        self.calibration = torch.as_tensor(digits.turned.inputs)
        self.intended = self.hidden()

    @cached_property
    def layer_inputs(self) -> dict[str, LayerInputs]:
        """Inputs of the base's layers over the fine-tuning samples."""
        self.apply({}, {})
        self.samples += len(self.calibration)
        return layer_inputs(self.model, lambda model, batch: model(batch), [self.calibration])

    def as_they_are(self, seed: int) -> tuple[Divisors, FoundQ]:
        """No rescaling: every divisor is 1."""
        return dict.fromkeys(self.deltas, 1.0), FoundQ(1.0, False)

    def by_share(self, seed: int) -> tuple[Divisors, FoundQ]:
        """DARE's rescaling: divide by the kept share."""
        return self.uniform(self.keep), FoundQ(self.keep, False)

    def by_labels(self, seed: int) -> tuple[Divisors, FoundQ]:
        """The one q with the highest accuracy on validation samples."""
        found = q_by_search(lambda q: self.over_draws(seed, self.uniform(q), self.accuracy), self.keep)
        return self.uniform(found.q), found

    def by_outputs(self, seed: int) -> tuple[Divisors, FoundQ]:
        """The one q that changes the last hidden layer least."""
        found = q_by_search(lambda q: self.over_draws(seed, self.uniform(q), self.nearness), self.keep)
        return self.uniform(found.q), found

    def by_moments(self, seed: int) -> tuple[Divisors, FoundQ]:
        """A q for each layer from the moments of its outputs' change."""
        return self.by_layer(lambda sums, squares: q_by_moments(sums, squares, self.keep))

    def by_bounds(self, seed: int) -> tuple[Divisors, FoundQ]:
        """A q for each layer by the authors' rule."""
        return self.by_etas(seed, q_by_bound)

    def by_least_bounds(self, seed: int) -> tuple[Divisors, FoundQ]:
        """A q for each layer that minimises the bound."""
        return self.by_etas(seed, q_by_least_bound)

    def by_etas(self, seed: int, rule: Callable[..., FoundQ]) -> tuple[Divisors, FoundQ]:
        """A q for each layer by a rule, with the eta that changes the last hidden layer least."""
        tried = []
        for eta in ETAS:
            found = self.by_layer(lambda sums, squares, eta=eta: rule(sums, squares, self.keep, eta=eta))
            tried.append((self.over_draws(seed, found[0], self.nearness), found))
        return max(tried, key=lambda each: each[0])[1]

    def by_layer(self, rule: Callable[..., FoundQ]) -> tuple[Divisors, FoundQ]:
        """A q for each layer by a rule; FoundQ has their mean."""
        layers = {}
        for name, inputs in self.layer_inputs.items():
            columns = [self.deltas[name].numpy(), self.deltas[name.replace("weight", "bias")].numpy()[:, None]]
            layers[name] = rule(*output_change(np.concatenate(columns, axis=1), np.append(inputs.means, 1.0)))
        mean = float(np.mean([each.q for each in layers.values()]))
        at_bound = any(each.at_bound for each in layers.values())
        q = {name: self.uniform(layers[name.replace("bias", "weight")].q)[name] for name in self.deltas}
        return q, FoundQ(mean, at_bound)

    def by_gradient(self, seed: int) -> tuple[Divisors, FoundQ]:
        """A q for each layer, learnt without labels from the change of the outputs. FoundQ has their mean."""
        inputs, draws = self.calibration[:LEARNT_ON], self.draws_of(seed)

        def outputs(parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
            self.samples += len(inputs)
            return torch.func.functional_call(self.model, dict(parameters), (inputs,))  # type: ignore[no-any-return]

        learnt = q_by_gradient(outputs, self.base, self.deltas, draws, self.keep)
        q = {name: self.uniform(learnt.q[layer_of(name)])[name] for name in self.deltas}
        return q, FoundQ(float(np.mean(list(learnt.q.values()))), learnt.still_falling)

    def uniform(self, q: float) -> Divisors:
        """One q for every tensor, corrected for the rounding of budgets."""
        return {name: made_up(q, self.keep, self.budgets[name], size) for name, size in self.entries.items()}

    def over_draws(self, seed: int, divisors: Divisors, measure: Callable[[], float]) -> float:
        """Mean of a measure of the pruned model over the search masks, without the farthest value."""
        values = []
        for masks in self.draws_of(seed):
            self.apply(masks, divisors)
            values.append(measure())
        return mean_without_farthest(values)

    def draws_of(self, seed: int) -> list[Masks]:
        """The search masks, which choose q; drawn once and cached."""
        seeds = [derive_seed(seed, SEARCHED, draw) for draw in range(self.draws)]
        self.searched = self.searched or [random_entries(self.shapes, self.keep, seed=each) for each in seeds]
        return self.searched

    def accuracy(self) -> float:
        """Accuracy on the validation samples, which fine-tuning does not read."""
        self.samples += len(self.digits.validation)
        return evaluate(self.model, self.digits.validation)["accuracy"]

    def nearness(self) -> float:
        """Minus the mean absolute change of the last hidden layer against the fine-tuned model; reads no labels."""
        return -float((self.hidden() - self.intended).abs().mean())

    def hidden(self) -> torch.Tensor:
        """Activations of the last hidden layer for the fine-tuning samples."""
        self.samples += len(self.calibration)
        network: Any = self.model[1]  # type: ignore[index]
        with torch.no_grad():
            hidden = network[:-1](self.model[0](self.calibration))  # type: ignore[index]
        return finite_outputs(hidden, "the last hidden activations", model=self.model)  # type: ignore[no-any-return]

    def apply(self, masks: Mapping[str, np.ndarray], divisors: Mapping[str, float]) -> None:
        """Set the weights to the base plus the masked delta, divided; without masks, to the base."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                value = self.base[name]
                if name in masks:
                    value = value + self.deltas[name] * torch.from_numpy(masks[name]) / divisors[name]
                parameter.copy_(value)

    def size(self) -> float:
        """Root mean square of the whole delta."""
        squares = sum(float(each.double().square().sum()) for each in self.deltas.values())
        return float(np.sqrt(squares / sum(each.numel() for each in self.deltas.values())))


RESCALINGS: Final[Mapping[str, Callable[[Pruning, int], tuple[Divisors, FoundQ]]]] = {
    "no": Pruning.as_they_are,
    "share": Pruning.by_share,
    "labels": Pruning.by_labels,
    "outputs": Pruning.by_outputs,
    "layers": Pruning.by_bounds,
    "least_bound": Pruning.by_least_bounds,
    "moments": Pruning.by_moments,
    "gradient": Pruning.by_gradient,
}
"""Functions of (pruning, seed) to divisors by tensor and the q behind them, by the setting `rescaled` of arms."""
