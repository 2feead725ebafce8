"""Training networks with random masks from initialisation: effects of the layers' shares and of width.

Liu et al., "The Unreasonable Effectiveness of Random Pruning: Return of the Most Naive Baseline for Sparse Training",
ICLR 2022, arXiv 2202.02643.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
from pydantic import Field

from secateur.scorers.contract import Count
from secateur.scorers.lazy import nn, torch
from secateur.scorers.settings import CODE
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.groups import Masks, Scores, Shapes
from secateur.selectors.masks.layer_ratios import densities_in
from secateur.trainers.contract import Data, Progress, TrainingConfig
from secateur.trainers.experiments.contract import ACCURACY, Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture
from secateur.trainers.experiments.pruning_data import (
    NAMES,
    DataName,
    outliers,
    read_arrays,
    split_of,
    strangers_in,
    write_splits,
)
from secateur.trainers.judging.attacks import fast_gradient_sign
from secateur.trainers.judging.comparison import summarise
from secateur.trainers.judging.evaluation import evaluate, outputs_of
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.batch_statistics import measured_again
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import build, networks
from secateur.trainers.processes import device_of_choice
from secateur.trainers.pruning.held_masks import apply, kept_weights, maskable
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.contract import Metric

NetworkName = Annotated[str, CODE, Field(description="a network that takes a width")]
NETWORK = "secateur.trainers.models.normalised_mlp:normalised_mlp"
BatchSize = Annotated[int, Field(ge=2)]
BATCH, PER_CLASS = 128, 25
"""Number of training samples for SNIP, and of each class for GraSP."""
SCORING = 2
"""Stream of the seeds for scoring: a copy's weights, and samples."""
Batch: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
"""Inputs `[b, …]` of the network, labels int64 `[b]`."""


class RandomPruning(Experiment):
    """Random masks at initialisation, held during training; arms differ in the kept share of each layer.

    `random` keeps the same share of every layer. `er`, `erk`, `uniform_plus` and `erk_plus` compute shares from the
    layers' shapes; `snip`, `grasp`, `synflow` and `magnitude` take the shares of those methods' masks and draw new
    masks with them. Besides accuracy it measures calibration, detection of inputs of no class by the largest softmax,
    and accuracy under attack.
    """

    unit = "weight"
    version = "2"
    paper = "Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning, arXiv 2202.02643"
    claim = "Random masks come near the dense network when it is wide enough and layers keep the right shares."
    arms: ClassVar[Arms] = {
        "random": Arm(selector="random_mask"),
        **{rule: Arm("", "random_mask", {"rule": rule}) for rule in ("er", "erk", "uniform_plus", "erk_plus")},
        "snip": Arm("snip", "shuffled_mask", {"weights": "xavier"}),
        **{scorer: Arm(scorer, "shuffled_mask") for scorer in ("grasp", "synflow", "magnitude")},
    }
    references: ClassVar[Arms] = {"dense": Arm()}
    metrics = (
        ACCURACY,
        Metric("calibration_error", higher_is_better=False, percent=True),
        *(Metric(f"auroc_against_{name}") for name in ("shuffled", "mixed")),
    )

    def __init__(
        self,
        *,
        data: DataName = "digits",
        model: NetworkName = NETWORK,
        widths: Annotated[Sequence[Count], Field(min_length=1, description="the last one decides")] = (
            16,
            64,
            256,
        ),
        epochs: Count = 20,
        batch_size: BatchSize = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 0.1,
        weight_decay: Annotated[float, Field(ge=0)] = 5e-4,
        strangers: Annotated[
            Sequence[str], Field(description="arrays in the .npz of data with inputs of no class, for AUROC")
        ] = (),
        attacks: Annotated[
            Sequence[Annotated[int, Field(ge=1, le=255)]],
            Field(description="step sizes of FGSM on test inputs, in 255ths of the range of training inputs"),
        ] = (),
    ) -> None:
        self.data, self.widths = data, tuple(widths)
        self.strangers, self.attacks = tuple(strangers), tuple(attacks)
        if taken := {"shuffled", "mixed", *NAMES} & {*self.strangers}:
            raise ValueError(f"strangers: {taken.pop()!r} is the name of another array of the data: rename yours")
        self.metrics = (
            *type(self).metrics,
            *(Metric(f"auroc_against_{name}") for name in self.strangers),
            *(Metric(f"accuracy_attacked_by_{step}", percent=True) for step in self.attacks),
            *(Metric(f"accuracy_width_{width}", percent=True) for width in self.widths[:-1]),
        )
        self.config = TrainingConfig(
            model=model,
            epochs=epochs,
            batch_size=batch_size,
            optimiser="sgd",
            momentum=0.9,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule="step",
            warmup=0.0,
        )

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Write the split, the same for every seed, and test inputs of no class."""
        train_split, test_split = split_of(self.data)
        strange = outliers(test_split) | strangers_in(self.data, self.strangers, test_split)
        write_splits(folder / "data.npz", train_split, test_split, **strange)
        progress(1, 1)

    def units(self, trial: ArmTrial, prepared: Path) -> Networks:
        """An untrained network of each width, and the data."""
        train_split, test_split, strange = read_arrays(prepared / "data.npz", self.strangers)
        xavier = trial.setting("weights") == "xavier"
        networks = {}
        for width in self.widths:
            config = self.config.model_copy(update={"model_settings": {"width": width}})
            start = fresh(config, train_split, trial.seed)
            networks[width] = FreshNetwork(start, config, train_split, trial.keep, trial.seed, xavier)
        return Networks(networks, train_split, test_split, strange)

    def masks(self, trial: ArmTrial, units: Networks) -> dict[int, Masks]:
        """Masks for each width."""
        return {width: super(RandomPruning, self).masks(trial, network) for width, network in units.by_width.items()}

    def outcome(
        self, trial: ArmTrial, units: Networks, masks: Mapping[int, Masks] | None, progress: Progress
    ) -> Result:
        """Train at every width; metrics are those of the last width, plus the accuracy at the others."""
        metrics: dict[int, dict[str, float]] = {}
        kept, samples = None, 0
        for number, (width, network) in enumerate(units.by_width.items()):
            held = None
            if masks is not None:
                kept = kept_weights(network.start, masks[width])
                held = apply(network.start, kept)
            trained = train(units.train, network.config, seed=trial.seed, start=network.start, after_step=held)
            if kept is not None:
                refuse_moved(trained.model, kept)
            model = measured_again(trained.model.cpu(), units.train)
            metrics[width] = judged(model, units.test, units.strange) | self.attacked(model, units)
            samples += trained.samples_seen
            progress(number + 1, len(self.widths))
        others = {f"accuracy_width_{width}": metrics[width]["accuracy"] for width in self.widths[:-1]}
        facts = {
            "widths": {str(width): numbers for width, numbers in metrics.items()},
            "layers": {} if kept is None else densities_in(kept.groups),
        }
        return Result(Outcome(metrics=metrics[self.widths[-1]] | others, samples_seen=samples, facts=facts), kept)

    def attacked(self, model: nn.Module, units: Networks) -> dict[str, float]:
        """Accuracy on test inputs after one step of FGSM against this model, for each step size."""
        span = float(units.train.inputs.min()), float(units.train.inputs.max())
        found = {}
        for step in self.attacks:
            moved = fast_gradient_sign(model, units.test, step / 255 * (span[1] - span[0]), span)
            found[f"accuracy_attacked_by_{step}"] = evaluate(model, moved)["accuracy"]
        return found

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """Accuracy against width, a picture for each budget."""
        budgets = sorted({keep for arm, keep, _ in outcomes if arm not in self.references})
        return {f"accuracy_by_width_at_{keep:g}": self.by_width(outcomes, keep) for keep in budgets}

    def by_width(self, outcomes: Mapping[tuple[str, float, int], Outcome], keep: float) -> bytes:
        """A line per arm over the widths, with intervals over seeds; the dense network dotted."""
        arms = [arm for arm in (*self.references, *self.arms) if any(name == arm for name, _, _ in outcomes)]
        colours = iter(COLOURS * 2)

        def draw(axes: Any) -> None:
            for arm in arms:
                at = 1.0 if arm in self.references else keep
                told = [o.facts["widths"] for (name, share, _), o in outcomes.items() if (name, share) == (arm, at)]
                points = [summarise([one[str(width)]["accuracy"] for one in told]) for width in self.widths]
                plain = {"random": RANDOM_COLOUR, "dense": INK}
                axes.errorbar(
                    self.widths,
                    [100 * point.mean for point in points],
                    yerr=[100 * (point.half_width or 0.0) for point in points],
                    label=arm,
                    color=plain.get(arm) or next(colours),
                    linestyle=":" if arm == "dense" else "-",
                    marker="o",
                    markersize=4,
                    capsize=2,
                    linewidth=1.2,
                )
            axes.set(xlabel="width", ylabel="test accuracy, %", xscale="log", title=f"{keep:g} of the weights kept")
            axes.set_xticks(self.widths, [str(width) for width in self.widths])
            axes.minorticks_off()
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

        return picture(draw, width=7.0, height=3.4)


@dataclass(frozen=True)
class FreshNetwork:
    """An untrained network and training data, with the attributes that scorers and selectors of weights read."""

    start: networks.Model
    config: TrainingConfig
    data: Data
    keep: float
    seed: int
    xavier: bool = False
    """Whether to score a copy with weights from Glorot's normal distribution, as SNIP does."""
    entry: ClassVar[str] = "1"
    """Name of the submodule behind the one that standardises the inputs."""

    @property
    def names(self) -> list[str]:
        """Names of the parameters with prunable weights."""
        return list(maskable(self.start))

    @property
    def shapes(self) -> Shapes:
        """Shapes of the prunable parameters, by name."""
        return {name: tuple(weight.shape) for name, weight in maskable(self.start).items()}

    @cached_property
    def model(self) -> nn.Module:
        """The network to score."""
        return with_xavier(self.start, self.names, self.seed) if self.xavier else self.start

    @property
    def batch(self) -> Batch:
        """Random training samples, for SNIP."""
        return batch_of(self.data, np.random.default_rng((self.seed, SCORING)).permutation(len(self.data))[:BATCH])

    @property
    def batches(self) -> list[Batch]:
        """Equally many random training samples of each class, in two halves, for GraSP."""
        draws, labels = np.random.default_rng((self.seed, SCORING)), self.data.targets
        chosen = [
            draws.permutation(np.flatnonzero(labels == label))[:PER_CLASS] for label in range(self.data.task.width)
        ]
        return [batch_of(self.data, np.concatenate([rows[half::2] for rows in chosen])) for half in (0, 1)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input behind the network's standardisation."""
        side = self.data.inputs.shape[1:]
        return (side[-1], *side[:-1]) if len(side) == 3 else side

    def choose(self, scores: Scores, share: float) -> Masks:
        """Masks of the highest scores over all layers, for SynFlow's rounds."""
        return global_mask(scores, share, seed=self.seed)


@dataclass(frozen=True)
class Networks:
    """An untrained network of each width, and the data for training and evaluation."""

    by_width: Mapping[int, FreshNetwork]
    train: Data
    test: Data
    strange: Mapping[str, Data]


def fresh(config: TrainingConfig, data: Data, seed: int) -> networks.Model:
    """An untrained network with weights from He's normal distribution, which standardises inputs by the data."""
    model = build(config, data.inputs.shape[1:], data.task.width, seed=seed, learned=data.model_settings)
    model[0].fit(data)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(seed)
    for weight in maskable(model).values():
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    return model


def with_xavier(model: networks.Model, names: Sequence[str], seed: int) -> nn.Module:
    """A copy with weights from Glorot's normal distribution."""
    scored = copy.deepcopy(model)
    generator, parameters = torch.Generator().manual_seed(derive_seed(seed, SCORING)), dict(scored.named_parameters())
    for name in names:
        nn.init.xavier_normal_(parameters[name], generator=generator)
    return scored


def batch_of(data: Data, rows: np.ndarray) -> Batch:
    """These samples as tensors."""
    return torch.tensor(data.inputs[rows]), torch.tensor(data.targets[rows])


def judged(model: nn.Module, test: Data, strange: Mapping[str, Data]) -> dict[str, float]:
    """Accuracy and calibration on the test split, and AUROC of the largest softmax against inputs of no class."""
    from sklearn.metrics import roc_auc_score

    logits = outputs_of(model, test, device=device_of_choice())
    metrics = test.task.evaluate(logits, test.targets)
    sure = certainty(logits)
    found = {name: metrics[name] for name in ("accuracy", "calibration_error")}
    for name, others in strange.items():
        unsure = certainty(outputs_of(model, others))
        told = np.concatenate([np.ones(len(sure)), np.zeros(len(unsure))])
        found[f"auroc_against_{name}"] = float(roc_auc_score(told, np.concatenate([sure, unsure])))
    return found


def certainty(logits: np.ndarray) -> np.ndarray:
    """Largest softmax of each row, float64."""
    wide = logits.astype(np.float64)
    odds = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(1.0 / odds.sum(axis=1))


def refuse_moved(model: nn.Module, kept: Kept) -> None:
    """Raise RuntimeError if a pruned weight is not exactly zero after training, by count."""
    parameters = dict(model.named_parameters())
    for name, mask in kept.groups.items():
        moved = int(parameters[name].detach().cpu()[~torch.from_numpy(mask)].count_nonzero())
        if moved:
            raise RuntimeError(f"{moved} pruned weights of {name} are not zero after training")
