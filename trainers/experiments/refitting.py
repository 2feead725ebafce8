"""Retraining of pruned networks: fine-tuning of inherited weights against training from scratch, with work counted.

The protocol of Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, arXiv 1810.05270, for any unit.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from secateur.scorers.contract import Count
from secateur.scorers.lazy import nn, torch
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.groups import counts_in
from secateur.trainers.contract import AfterStep, Data, Objective, Progress, TrainingConfig
from secateur.trainers.experiments.contract import ACCURACY, Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture
from secateur.trainers.experiments.pruning_data import DataName, split_of, splits_in, write_splits
from secateur.trainers.experiments.random_pruning import NETWORK, BatchSize, NetworkName, fresh
from secateur.trainers.judging.comparison import summarise
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.judging.network_costs import latency, macs_by_layer, parameters_of
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.batch_statistics import measured_again
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import check_config, load, networks, save
from secateur.trainers.processes import private_randomness
from secateur.trainers.pruning.held_masks import maskable
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.contract import Metric

SCRATCH, REFIT = 3, 4
"""Streams of seeds: weights drawn anew, and retraining."""
FINE_TUNE_RATE, FINE_TUNE_SHARE = 1e-3, 4
"""The published fine-tuning: a constant learning rate, and one epoch per so many of the big network's."""
LATENCY_BATCH = 64

Rate = Annotated[float, Field(gt=0, description="learning rate of all runs but the published fine-tuning")]


@dataclass(frozen=True)
class Pruned:
    """A pruned network at the start of retraining, and its costs: `macs` per sample and kept `parameters`."""

    model: nn.Module
    kept: Kept
    macs: int
    parameters: int
    held: AfterStep | None = None


@dataclass(frozen=True)
class BigNetwork:
    """The trained network to prune, its data, and the number of samples that its training saw."""

    model: networks.Model
    train: Data
    test: Data
    samples: int

    @property
    def example(self) -> torch.Tensor:
        """One input as a batch, for tracing shapes through the network."""
        return torch.as_tensor(self.train.inputs[:1])


def arms_of(chosen: Arm, blind: Arm) -> dict[str, Arm]:
    """The protocol's arms: `chosen` selects units by their scores, `blind` at random.

    Their settings are `inherit`, whether the arm keeps the big network's weights, and the `plan` of `config_of`.
    """
    plans = {
        "random": (blind, True, "whole"),
        "fine_tune": (chosen, True, "published"),
        "fine_tune_tuned": (chosen, True, "whole"),
        "scratch_e": (chosen, False, "whole"),
        "scratch_b": (chosen, False, "equal work"),
    }
    return {
        name: replace(how, settings={**how.settings, "inherit": inherit, "plan": plan})
        for name, (how, inherit, plan) in plans.items()
    }


class Refits(Experiment):
    """The arms and their configs; subclasses select and remove their units.

    All runs share the big network's config with two exceptions: `fine_tune`, the published form, has a constant
    `FINE_TUNE_RATE` and a quarter of the epochs; `scratch_b` trains longer by the factor by which a pass is cheaper.
    """

    paper = "Liu et al. 2019, Rethinking the Value of Network Pruning, arXiv 1810.05270"
    references: ClassVar[Arms] = {"dense": Arm()}
    metrics = (
        ACCURACY,
        Metric("calibration_error", higher_is_better=False, percent=True),
        Metric("parameters", higher_is_better=False),
        Metric("macs", higher_is_better=False),
        Metric("latency_microseconds", higher_is_better=False),
        Metric("training_megamacs", higher_is_better=False),
    )

    def __init__(
        self,
        *,
        data: DataName = "digits",
        model: NetworkName = NETWORK,
        width: Count = 64,
        epochs: Count = 24,
        batch_size: BatchSize = 64,
        learning_rate: Rate = 0.1,
    ) -> None:
        self.data = data
        self.config = TrainingConfig(
            model=model,
            model_settings={"width": width},
            epochs=epochs,
            batch_size=batch_size,
            optimiser="sgd",
            momentum=0.9,
            learning_rate=learning_rate,
            weight_decay=1e-4,
            schedule="step",
            warmup=0.0,
        )
        check_config(self.config)

    network: ClassVar[type[BigNetwork]]
    """The class of units, with the attributes that scorers and selectors read."""

    @abstractmethod
    def pruned(self, trial: ArmTrial, units: BigNetwork, masks: Mapping[str, np.ndarray]) -> Pruned:
        """The network that an arm retrains: without its pruned units, with inherited weights or new ones."""

    def objective(self, model: nn.Module) -> Objective | None:
        """The big network's training loss; None, the default, is the task's loss."""
        return None

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Write the split, train the big network and write it."""
        train_split, test_split = split_of(self.data)
        write_splits(folder / "data.npz", train_split, test_split)
        start = fresh(self.config, train_split, seed)
        trained = train(
            train_split, self.config, seed=seed, start=start, objective=self.objective(start), progress=progress
        )
        measured_again(trained.model.cpu(), train_split)
        save(trained.model, folder, self.config, train_split.inputs.shape[1:])
        (folder / "big.json").write_text(json.dumps({"samples": trained.samples_seen}))

    def units(self, trial: ArmTrial, prepared: Path) -> BigNetwork:
        """The big network."""
        samples = json.loads((prepared / "big.json").read_text())["samples"]
        return self.network(load(prepared), *splits_in(prepared / "data.npz"), samples)

    def outcome(
        self, trial: ArmTrial, units: BigNetwork, masks: Mapping[str, np.ndarray] | None, progress: Progress
    ) -> Result:
        """Prune the big network and retrain it by the arm's plan; the reference only evaluates the big network.

        `samples` and `training_megamacs` count the retraining alone; for the reference, the big network's training.
        """
        big_macs = macs_by_layer(units.model, units.example)[""]
        if masks is None:
            progress(1, 1)
            return result_of(units.model, units.test, units.samples, big_macs, parameters_of(units.model))
        start = self.pruned(trial, units, masks)
        config = config_of(trial.setting("plan"), self.config, big_macs, start.macs)
        trained = train(
            units.train,
            config,
            seed=derive_seed(trial.seed, REFIT),
            start=start.model,
            after_step=start.held,
            progress=progress,
        )
        self.check(trained.model, start.kept)
        measured_again(trained.model.cpu(), units.train)
        facts = {"epochs": config.epochs, "layers": counts_in(start.kept.groups)}
        return result_of(
            trained.model, units.test, trained.samples_seen, start.macs, start.parameters, start.kept, facts
        )

    def check(self, model: nn.Module, kept: Kept) -> None:
        """Raise RuntimeError if a trained model has lost its pruning; by default no check."""

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """Test error against the work of retraining, which separates better arms from longer training."""
        return {"error_by_work": by_work(outcomes, (*self.references, *self.arms))} if outcomes else {}


def config_of(plan: str, config: TrainingConfig, big_macs: int, macs: int) -> TrainingConfig:
    """The config of an arm's retraining; milestones of the schedule are shares of the run and stretch with the epochs.

    >>> config_of("equal work", TrainingConfig(epochs=24), 1000, 300).epochs
    80
    >>> config_of("published", TrainingConfig(epochs=24), 1000, 300).epochs
    6
    """
    epochs = config.epochs or 1
    changes: dict[str, dict[str, Any]] = {
        "whole": {},
        "equal work": {"epochs": epochs * big_macs // macs},
        "published": {
            "epochs": max(1, epochs // FINE_TUNE_SHARE),
            "learning_rate": FINE_TUNE_RATE,
            "schedule": "constant",
        },
    }
    return config.model_copy(update=changes[plan])


def redrawn(model: nn.Module, seed: int, masks: Mapping[str, np.ndarray] | None = None) -> nn.Module:
    """Reset a network in place: weights of linear and convolutional layers from N(0, 2/n), the rest by their defaults.

    n is the number of weights per output. In a masked layer it counts kept weights, averaged over outputs: the whole
    fan-in would make the variance too small. (The published code counts kept weights per input of a convolution.) The
    standardisation of inputs stays. Raises ValueError for a module with parameters but no `reset_parameters`.
    """
    with private_randomness(seed, torch.device("cpu")):
        for name, module in model.named_modules():
            if not any(True for _ in module.parameters(recurse=False)):
                continue
            if not callable(getattr(module, "reset_parameters", None)):
                raise ValueError(f"{name} ({type(module).__name__}) cannot be drawn anew: use another model")
            module.reset_parameters()  # type: ignore[operator]
        for name, weight in maskable(model).items():
            stay = weight.numel() if masks is None or name not in masks else int(np.count_nonzero(masks[name]))
            nn.init.normal_(weight, 0.0, (2 * len(weight) / stay) ** 0.5)
    return model


def result_of(
    model: nn.Module,
    test: Data,
    samples: int,
    macs: int,
    parameters: int,
    kept: Kept | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Result:
    """Metrics of a trained network; only this function reads the test split."""
    found = evaluate(model, test)
    batch = torch.as_tensor(test.inputs[np.arange(LATENCY_BATCH) % len(test)])
    metrics = {
        "accuracy": found["accuracy"],
        "calibration_error": found["calibration_error"],
        "parameters": float(parameters),
        "macs": float(macs),
        "latency_microseconds": 1e6 * latency(model, batch),
        "training_megamacs": samples * macs / 1e6,
    }
    return Result(Outcome(metrics=metrics, samples_seen=samples, facts=dict(facts or {})), kept)


def by_work(outcomes: Mapping[tuple[str, float, int], Outcome], arms: tuple[str, ...]) -> bytes:
    """Test error against work, on logarithmic axes: a line per arm through its budgets, with intervals over seeds."""
    found: dict[str, dict[float, list[Outcome]]] = {}
    for (arm, keep, _), outcome in outcomes.items():
        found.setdefault(arm, {}).setdefault(keep, []).append(outcome)
    colours = iter(COLOURS * 2)

    def draw(axes: Any) -> None:
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        for arm in (name for name in arms if name in found):
            budgets = sorted(found[arm])
            heights = [summarise([1 - each.metrics["accuracy"] for each in found[arm][keep]]) for keep in budgets]
            plain = {"random": RANDOM_COLOUR, "dense": INK}
            axes.errorbar(
                [np.mean([each.metrics["training_megamacs"] for each in found[arm][keep]]) for keep in budgets],
                [100 * point.mean for point in heights],
                yerr=[100 * (point.half_width or 0.0) for point in heights],
                label=arm,
                color=plain.get(arm) or next(colours),
                marker="x" if arm == "dense" else "o",
                markersize=7 if arm == "dense" else 4,
                capsize=2,
                linewidth=1.2,
            )
        axes.set(xscale="log", yscale="log", xlabel="multiply-accumulates of retraining, millions")
        axes.set(ylabel="test error, %")
        axes.set_title("points of a line: shares kept", fontsize=9)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return picture(draw, width=7.0, height=3.4)
