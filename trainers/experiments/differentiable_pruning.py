"""Do soft masks computed from the weights prune better during training than hard masks?

Cho, Adya & Naik, "PDP: Parameter-free Differentiable Pruning is All You Need", NeurIPS 2023, arXiv 2305.11203.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from secateur.scorers.contract import Count
from secateur.scorers.lazy import nn
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.groups import counts_in
from secateur.trainers.contract import Data, Progress, TrainingConfig
from secateur.trainers.experiments.contract import ACCURACY, MASKS, TIES, Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.experiments.pruning_data import DataName, split_of, splits_in, write_splits
from secateur.trainers.experiments.random_pruning import NETWORK, BatchSize, NetworkName, fresh, refuse_moved
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.batch_statistics import measured_again
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import check_config, load, networks, save
from secateur.trainers.pruning.held_masks import apply, kept_weights
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.pruning.soft_masks import (
    Form,
    PruningSchedule,
    hard_masks,
    harden,
    settle,
    soft_masks,
    with_soft_masks,
)
from secateur.trainers.tasks.contract import Metric

SECOND = 3
"""Stream of the seed of the second part of training."""
FIXED_TEMPERATURE = 1e-4
"""The paper's τ for ImageNet, in units of w²."""


class DenseNetwork(NamedTuple):
    """The network that all arms start from, and its data."""

    model: networks.Model
    train: Data
    test: Data


class DifferentiablePruning(Experiment):
    """All arms start from one network, trained densely at a constant rate for the first share of the epochs.

    `one_shot` keeps its largest weights and trains them further; `random` keeps as many of each layer at random.
    `gradual` and the arms of PDP prune more in every step until the ramp ends, to the same shares of the layers.
    `gradual` has hard masks and a cubic ramp; `pdp` and `pdp_fixed` have soft masks and a linear ramp, with τ a
    multiple of each layer's t² or the paper's 1e-4. `pdp_tuned` is `pdp` with hard masks in the last epochs, which
    fine-tunes the kept weights. `pdp_through` is `pdp` with gradients through the threshold t, to the two weights on
    either side of it. `accuracy` is that of hard masks, `soft_accuracy` that of the network before hardening.
    """

    unit = "weight"
    paper = "Cho et al. 2023, PDP: Parameter-free Differentiable Pruning is All You Need, arXiv 2305.11203"
    claim = "At high sparsity soft masks from the weights beat gradual magnitude pruning, if τ fits the weights' scale."
    arms: ClassVar[Arms] = {
        "random": Arm(settings={"at_once": True, "blind": True}),
        "one_shot": Arm(settings={"at_once": True, "blind": False}),
        "gradual": Arm(settings={"temperature": 0.0, "power": 3.0}),
        "pdp": Arm(settings={"soft": True}),
        "pdp_fixed": Arm(settings={"soft": True, "temperature": FIXED_TEMPERATURE, "absolute": True}),
        "pdp_tuned": Arm(settings={"soft": True, "fine_tune": True}),
        "pdp_through": Arm(settings={"soft": True, "through": True}),
    }
    references: ClassVar[Arms] = {"dense": Arm(settings={"at_once": True, "whole": True})}
    metrics = (ACCURACY, Metric("soft_accuracy", percent=True))

    def __init__(
        self,
        *,
        data: DataName = "digits",
        model: NetworkName = NETWORK,
        width: Count = 64,
        form: Annotated[Form, Field(description="unit of pruning; keep counts weights, or filters with channel")] = (
            "unstructured"
        ),
        m: Annotated[int, Field(ge=2, description="inputs in a group of n_of_m; keep times m must be whole")] = 4,
        epochs: Annotated[int, Field(ge=2, description="total epochs of every run")] = 40,
        dense: Annotated[float, Field(gt=0, lt=1, description="share of the epochs before pruning starts")] = 0.25,
        ramp: Annotated[
            float, Field(ge=0, le=1, description="share of the later epochs over which the pruned share rises")
        ] = 0.5,
        fine_tune: Annotated[
            float, Field(ge=0, lt=1, description="share of the later epochs in which pdp_tuned's masks are hard")
        ] = 0.25,
        temperature: Annotated[float, Field(gt=0, description="τ of pdp, as a multiple of the layer's t²")] = 0.02,
        batch_size: BatchSize = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 0.1,
        weight_decay: Annotated[float, Field(ge=0)] = 5e-4,
    ) -> None:
        first = min(epochs - 1, max(1, round(dense * epochs)))
        self.data, self.form, self.m, self.ramp, self.temperature = data, form, m, ramp, temperature
        self.fine_tune = fine_tune
        self.first = TrainingConfig(
            model=model,
            model_settings={"width": width},
            epochs=first,
            batch_size=batch_size,
            optimiser="sgd",
            momentum=0.9,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule="constant",
            warmup=0.0,
        )
        self.second = self.first.model_copy(update={"epochs": epochs - first, "schedule": "cosine"})
        check_config(self.first)
        if ramp + fine_tune > 1:
            raise ValueError(f"ramp {ramp} and fine_tune {fine_tune} are more than the epochs there are: lower one")
        if form == "n_of_m" and width % m:
            raise ValueError(f"a width of {width} is no multiple of m {m}: change one of them")

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Write the split, train densely for the first share of the epochs and write the network."""
        train_split, test_split = split_of(self.data)
        write_splits(folder / "data.npz", train_split, test_split)
        start = fresh(self.first, train_split, seed)
        trained = train(train_split, self.first, seed=seed, start=start, progress=progress)
        save(trained.model.cpu(), folder, self.first, train_split.inputs.shape[1:])

    def units(self, trial: ArmTrial, prepared: Path) -> DenseNetwork:
        """The densely trained network and its data."""
        return DenseNetwork(load(prepared), *splits_in(prepared / "data.npz"))

    def outcome(self, trial: ArmTrial, units: DenseNetwork, masks: None, progress: Progress) -> Result:
        """Prune and train for the remaining epochs; all arms see equally many samples in total.

        Training makes the masks. Raises ValueError where groups of m cannot keep the budget.
        """
        soft: nn.Module | None = None
        kept: Kept | None
        if trial.setting("at_once"):
            model, kept, samples = self.at_once(trial, units.model, units.train, progress)
        else:
            model, soft, kept, samples = self.gradually(trial, units.model, units.train, progress)
        metrics = {"accuracy": evaluate(model, units.test)["accuracy"]}
        if soft is not None and trial.setting("soft"):
            metrics["soft_accuracy"] = evaluate(soft, units.test)["accuracy"]
        if kept is not None:
            refuse_moved(model, kept)
        facts = {} if kept is None else {"layers": counts_in(kept.groups)}
        samples += len(units.train) * (self.first.epochs or 0)
        return Result(Outcome(metrics=metrics, samples_seen=samples, facts=facts), kept)

    def at_once(
        self, trial: ArmTrial, dense: networks.Model, data: Data, progress: Progress
    ) -> tuple[nn.Module, Kept | None, int]:
        """Choose masks before the second part of training and hold them through it; no masks for the reference."""
        kept = held = None
        if not trial.setting("whole"):
            masked = with_soft_masks(dense, form=self.form, m=self.m)
            settle(masked, trial.keep, seed=derive_seed(trial.seed, TIES))
            blind = trial.setting("blind")
            masks = hard_masks(masked, seed=derive_seed(trial.seed, MASKS if blind else TIES), draw=blind)
            kept = kept_weights(dense, masks, of_these_weights=not blind)
            held = apply(dense, kept)
        seed = derive_seed(trial.seed, SECOND)
        trained = train(data, self.second, seed=seed, start=dense, after_step=held, progress=progress)
        return measured_again(trained.model.cpu(), data), kept, trained.samples_seen

    def gradually(
        self, trial: ArmTrial, dense: networks.Model, data: Data, progress: Progress
    ) -> tuple[nn.Module, nn.Module, Kept, int]:
        """The hardened network, the trained network with soft masks, the kept weights, and the samples seen."""
        temperature = trial.setting("temperature", self.temperature)
        how: dict[str, Any] = {"temperature": temperature, "absolute": trial.setting("absolute", False)}
        start = with_soft_masks(dense, form=self.form, m=self.m, **how, through=trial.setting("through", False))
        ties, seed = derive_seed(trial.seed, TIES), derive_seed(trial.seed, SECOND)
        schedule = PruningSchedule(
            trial.keep,
            dense=0.0,
            ramp=self.ramp,
            fine_tune=self.fine_tune if trial.setting("fine_tune") else 0.0,
            power=trial.setting("power", 1.0),
            seed=ties,
        )
        settle(start, trial.keep, seed=ties)
        trained = train(data, self.second, seed=seed, start=start, after_step=schedule, progress=progress)
        soft = measured_again(trained.model.cpu(), data)
        if any(int(mask.pruned) != int(mask.final) for mask, _ in soft_masks(soft).values()):
            raise RuntimeError("the ramp did not come to its end")
        model, kept = harden(soft, data, seed=ties)
        return model, soft, kept, trained.samples_seen
