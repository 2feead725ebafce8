"""DARE and DAREx on digits: fine-tuning deltas of a small network, dropped at random or chosen, and rescaled.

Yu et al., "Language models are Super Mario" (ICML 2024, arXiv 2311.03099); Deng et al., "DARE the extreme" (ICLR 2025,
arXiv 2410.09344). A network that has learnt upright digits is fine-tuned to digits turned by 90 degrees; arms keep a
share of what that changed. The smaller the learning rate of fine-tuning, the smaller the delta.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from secateur.scorers.networks.delta_scores import delta_magnitude, delta_wanda, output_change
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import keep_largest
from secateur.selectors.masks.delta_masks import draw_count, tensor_budgets, tensor_seed
from secateur.trainers.contract import Data, Progress, TrainingConfig
from secateur.trainers.experiments.contract import ACCURACY, Experiment, Result
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
    q_by_moments,
    q_by_search,
)
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.classification import evaluate
from secateur.trainers.tasks.contract import Metric

State = dict[str, torch.Tensor]
Masks = dict[str, np.ndarray]
Divisors = dict[str, float]

PRETRAINED: Final = "pretrained"
LARGE, SMALL, PULLED = "tuned", "tuned_small", "tuned_adam_r"
TUNED_BY: Final = {"small": SMALL, "small_q_outputs": SMALL, "adam_r": PULLED, "adam_r_q_outputs": PULLED}
"""Arms that prune another delta than the large one."""
SPLIT: Final = 0
"""Seed of the split into training, validation and test samples: the same in every run."""
DRAW, SEARCHED = 1, 2
"""Words that tell the seed of the mask that is judged from those that q is searched with."""
ETAS: Final = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Digits:
    """Upright digits to pre-train on; turned ones to fine-tune on, to choose by and to judge by."""

    upright: Data
    turned: Data
    validation: Data
    test: Data


def read_digits() -> Digits:
    """scikit-learn's 1,797 digits: a fifth to test, a tenth of the rest to validate."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT).permutation(len(labels))
    pixels = images.reshape(-1, 8, 8, 1).astype(np.uint8)[order]
    everything = Data(pixels, labels.astype(np.int64)[order], 10)
    turned = Data(np.rot90(pixels, axes=(1, 2)).copy(), everything.labels, 10)
    rows = np.arange(len(labels))
    test, validation = rows < len(rows) // 5, (rows >= len(rows) // 5) & (rows < len(rows) * 28 // 100)
    training = ~(test | validation)
    return Digits(everything.take(training), turned.take(training), turned.take(validation), turned.take(test))


class DeltaPruning(Experiment):
    """DARE against DAREx's rescaling, fine-tuning by AdamR and chosen entries, for a large and a small delta.

    `random` is DARE: a random share of each tensor's delta, divided by the share; `unscaled` is the same mask without
    the division. `q_labels` and `q_outputs` divide it by one q found on validation labels or by the last hidden layer,
    `q_layers` and `q_moments` by one for each layer. `magnitude` and `wanda` keep the highest scores instead. `small`
    and `adam_r` are DARE after fine-tuning at a smaller rate or with AdamR, `…_q_outputs` the same with a q.
    """

    unit = "delta"
    paper = "Deng et al. 2025, arXiv 2410.09344"
    claim = (
        "Dropping most of a large fine-tuning delta at random breaks the model; dividing what stays by a q above the "
        "kept share, or fine-tuning with AdamR, mends a good part of it, and a small delta needs neither."
    )
    metrics = (ACCURACY, Metric("q_over_keep"), Metric("delta_size"))
    arms = (
        "random",
        "unscaled",
        "q_labels",
        "q_outputs",
        "q_layers",
        "q_moments",
        "magnitude",
        "wanda",
        "small",
        "small_q_outputs",
        "adam_r",
        "adam_r_q_outputs",
    )
    references = (PRETRAINED, LARGE, SMALL, PULLED)

    def __init__(
        self,
        *,
        width: int = 256,
        layers: int = 3,
        epochs: int = 30,
        tuning_epochs: int = 30,
        learning_rate: float = 5e-3,
        small_learning_rate: float = 1e-4,
        pull: float = 0.2,
        draws: int = 4,
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
            save_file(trained.model.state_dict(), folder / f"{name}.safetensors")
            progress(done + 1, len(self.configs))

    def run(self, arm: str, keep: float, seed: int, prepared: Path, progress: Progress) -> Result:
        """Accuracy on turned test digits of what an arm leaves of the delta, or of a whole model."""
        digits = read_digits()
        if arm in self.references:
            model = self.model(load_file(prepared / f"{arm}.safetensors"), digits.turned)
            return Result(
                Outcome(metrics={"accuracy": evaluate(model, digits.test).accuracy}, samples_seen=len(digits.test))
            )
        names = (PRETRAINED, TUNED_BY.get(arm, LARGE))
        base, tuned = (load_file(prepared / f"{name}.safetensors") for name in names)
        pruning = Pruning(self.model(tuned, digits.turned), base, tuned, keep, digits, self.draws)
        made_for = weights_of(pruning.model)
        masks, divisors, found = pruning.pruned(arm, seed)
        settings: dict[str, Any] = {"base": weights_of(self.model(base, digits.turned)), "q": divisors}
        kept = Kept("delta", masks, made_for, settings)
        pruning.apply(masks, divisors)
        metrics = {"accuracy": evaluate(pruning.model, digits.test).accuracy, "q_over_keep": found.q / keep}
        metrics["delta_size"] = pruning.size()
        progress(1, 1)
        facts = {"q": found.q, "at_bound": found.at_bound, "tried": [list(pair) for pair in found.tried]}
        return Result(Outcome(metrics=metrics, samples_seen=pruning.samples + len(digits.test), facts=facts), kept)

    def model(self, state: State, data: Data) -> nn.Module:
        """The network with these weights, in evaluation mode."""
        model = build(self.configs[PRETRAINED], data.inputs.shape[1:], data.classes, seed=0)
        model.load_state_dict(state)
        return model.eval()


class Pruning:
    """One delta under one budget: masks, divisors, and the model that they leave, in place of the model given."""

    def __init__(self, model: nn.Module, base: State, tuned: State, keep: float, digits: Digits, draws: int) -> None:
        self.model, self.base, self.keep, self.digits, self.draws = model, base, keep, digits, draws
        self.deltas = {name: tuned[name] - base[name] for name, _ in model.named_parameters()}
        self.entries = {name: each.numel() for name, each in self.deltas.items()}
        self.budgets = tensor_budgets(self.entries, keep)
        self.samples, self.searched = 0, list[Masks]()
        self.calibration = torch.as_tensor(digits.turned.inputs)
        self.intended = self.hidden()

    def pruned(self, arm: str, seed: int) -> tuple[Masks, Divisors, FoundQ]:
        """Masks, divisors by tensor and the q behind them, of an arm."""
        if arm in ("magnitude", "wanda"):
            masks = self.highest(arm, derive_seed(seed, DRAW))
            return masks, dict.fromkeys(masks, 1.0), FoundQ(1.0, False)
        masks = self.drawn(derive_seed(seed, DRAW))
        if arm == "unscaled":
            return masks, dict.fromkeys(masks, 1.0), FoundQ(1.0, False)
        if arm in ("q_layers", "q_moments"):
            divisors, found = self.by_layer(arm, seed)
            return masks, divisors, found
        found = FoundQ(self.keep, False)
        if arm == "q_labels":
            found = q_by_search(lambda q: self.over_draws(seed, self.uniform(q), self.accuracy), self.keep)
        elif arm.endswith("q_outputs"):
            found = q_by_search(lambda q: self.over_draws(seed, self.uniform(q), self.nearness), self.keep)
        return masks, self.uniform(found.q), found

    def drawn(self, seed: int) -> Masks:
        """A random share of every tensor, of the exact size."""
        return {
            name: draw_count(each.numel(), self.budgets[name], tensor_seed(seed, name)).reshape(tuple(each.shape))
            for name, each in self.deltas.items()
        }

    def highest(self, arm: str, seed: int) -> Masks:
        """The highest |Δ| or |Δ| · ‖x‖ of every tensor; of biases, whose input is 1, |Δ| either way."""
        inputs = self.inputs() if arm == "wanda" else {}
        masks = {}
        for name, each in self.deltas.items():
            delta, budget = each.numpy(), self.budgets[name]
            if not budget:
                masks[name] = np.zeros(delta.shape, dtype=np.bool_)
                continue
            scores = delta_wanda(delta, inputs[name].norms) if name in inputs else delta_magnitude(delta)
            highest = keep_largest(scores.reshape(-1), budget, seed=tensor_seed(seed, name))
            masks[name] = highest.reshape(delta.shape)
        return masks

    def uniform(self, q: float) -> Divisors:
        """One q for every tensor, made up for rounding."""
        return {name: made_up(q, self.keep, self.budgets[name], size) for name, size in self.entries.items()}

    def by_layer(self, arm: str, seed: int) -> tuple[Divisors, FoundQ]:
        """A q for each layer; with `q_layers` under the eta that keeps the last hidden layer nearest. FoundQ has their
        mean."""
        inputs = self.inputs()
        changes = {}
        for name in inputs:
            columns = [self.deltas[name].numpy(), self.deltas[name.replace("weight", "bias")].numpy()[:, None]]
            changes[name] = output_change(np.concatenate(columns, axis=1), np.append(inputs[name].means, 1.0))

        def divisors(rule: Callable[..., FoundQ]) -> tuple[Divisors, FoundQ]:
            layers = {name: rule(*change) for name, change in changes.items()}
            mean = float(np.mean([each.q for each in layers.values()]))
            at_bound = any(each.at_bound for each in layers.values())
            q = {name: self.uniform(layers[name.replace("bias", "weight")].q)[name] for name in self.deltas}
            return q, FoundQ(mean, at_bound)

        if arm == "q_moments":
            return divisors(lambda sums, squares: q_by_moments(sums, squares, self.keep))
        tried = []
        for eta in ETAS:
            found = divisors(lambda sums, squares, eta=eta: q_by_bound(sums, squares, self.keep, eta=eta))
            tried.append((self.over_draws(seed, found[0], self.nearness), found))
        return max(tried, key=lambda each: each[0])[1]

    def inputs(self) -> dict[str, LayerInputs]:
        """Inputs of the base's layers over the samples fine-tuned on."""
        self.apply({}, {})
        self.samples += len(self.calibration)
        return layer_inputs(self.model, lambda model, batch: model(batch), [self.calibration])

    def over_draws(self, seed: int, divisors: Divisors, measure: Callable[[], float]) -> float:
        """A measure of the pruned model, its mean over masks that are not the one judged, less the oddest."""
        self.searched = self.searched or [self.drawn(derive_seed(seed, SEARCHED, draw)) for draw in range(self.draws)]
        values = []
        for masks in self.searched:
            self.apply(masks, divisors)
            values.append(measure())
        return mean_without_farthest(values)

    def accuracy(self) -> float:
        """On validation samples, which fine-tuning has not seen."""
        self.samples += len(self.digits.validation)
        return evaluate(self.model, self.digits.validation).accuracy

    def nearness(self) -> float:
        """Minus the mean absolute change of the last hidden layer against the fine-tuned model; no labels."""
        return -float((self.hidden() - self.intended).abs().mean())

    def hidden(self) -> torch.Tensor:
        """Activations of the last hidden layer for the samples fine-tuned on."""
        self.samples += len(self.calibration)
        network: Any = self.model[1]  # type: ignore[index]
        with torch.no_grad():
            return network[:-1](self.model[0](self.calibration))  # type: ignore[index, no-any-return]

    def apply(self, masks: Mapping[str, np.ndarray], divisors: Mapping[str, float]) -> None:
        """Make the model the base with what masks keep of the delta, divided; without masks, the base."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                value = self.base[name]
                if name in masks:
                    value = value + self.deltas[name] * torch.from_numpy(masks[name]) / divisors[name]
                parameter.copy_(value)

    def size(self) -> float:
        """Root of the mean square of the whole delta."""
        squares = sum(float(each.double().square().sum()) for each in self.deltas.values())
        return float(np.sqrt(squares / sum(each.numel() for each in self.deltas.values())))
