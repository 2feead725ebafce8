"""Networks trained from the start with a random share of their weights: how much of which layer matters, and how wide.

Liu et al., "The Unreasonable Effectiveness of Random Pruning: Return of the Most Naive Baseline for Sparse Training",
ICLR 2022, arXiv 2202.02643.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from secateur.scorers.networks import weight_scores
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.layer_ratios import RULES, Densities, Shapes, counts_of, densities_in
from secateur.selectors.masks.weight_masks import global_masks, random_masks
from secateur.trainers.contract import Data, Progress, TrainingConfig
from secateur.trainers.experiments.contract import ACCURACY, Experiment, Result
from secateur.trainers.experiments.drawing import COLOURS, INK, RANDOM_COLOUR, picture
from secateur.trainers.experiments.pruning_data import DataName, outliers, read_arrays, split_of, write_splits
from secateur.trainers.judging.comparison import summarise
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.batch_statistics import measured_again
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import Model, build
from secateur.trainers.processes import device_of_choice
from secateur.trainers.pruning.held_masks import apply, kept_weights, maskable
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.classification import logits_of, metrics_of
from secateur.trainers.tasks.contract import Metric

NetworkName = Annotated[str, Field(description="a network that takes a width")]
NETWORK = "secateur.trainers.models.normalised_mlp:normalised_mlp"
Count = Annotated[int, Field(ge=1)]
BatchSize = Annotated[int, Field(ge=2)]
BATCH, PER_CLASS = 128, 25
"""Training samples that SNIP scores on, and of each class that GraSP does."""
MASKS, SCORING = 1, 2
"""What seeds are derived for."""


class RandomPruning(Experiment):
    """Random masks at initialisation, held while training; arms differ in how much of each layer stays.

    `random` keeps the same share of every layer. `er`, `erk`, `uniform_plus` and `erk_plus` go by the layers' shapes;
    `snip`, `grasp`, `synflow` and `magnitude` take the shares of those methods' masks, and draw new masks with them.
    """

    unit = "weight"
    version = "2"
    paper = "Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning, arXiv 2202.02643"
    claim = "Random masks come near the dense network when it is wide enough and layers keep the right shares."
    arms = ("random", "er", "erk", "uniform_plus", "erk_plus", "snip", "grasp", "synflow", "magnitude")
    references = ("dense",)
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
        widths: Annotated[tuple[Count, ...], Field(min_length=1, description="compared at the last of them")] = (
            16,
            64,
            256,
        ),
        epochs: Count = 20,
        batch_size: BatchSize = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 0.1,
        weight_decay: Annotated[float, Field(ge=0)] = 5e-4,
    ) -> None:
        self.data, self.widths = data, tuple(widths)
        others = (Metric(f"accuracy_width_{width}", percent=True) for width in self.widths[:-1])
        self.metrics = (*type(self).metrics, *others)
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
        """Write the split, the same for every seed, and test inputs that are of no class."""
        train_split, test_split = split_of(self.data)
        write_splits(folder / "data.npz", train_split, test_split, **outliers(test_split))
        progress(1, 1)

    def run(self, arm: str, keep: float, seed: int, prepared: Path, progress: Progress) -> Result:
        """Train at every width; metrics are those of the last one, with the accuracy at the others."""
        train_split, test_split, strange = read_arrays(prepared / "data.npz")
        found: dict[int, dict[str, float]] = {}
        kept, samples, shares = None, 0, {}
        for number, width in enumerate(self.widths):
            config = self.config.model_copy(update={"model_settings": {"width": width}})
            start = fresh(config, train_split, seed)
            held = None
            if arm not in self.references:
                kept = self.mask(arm, keep, seed, start, train_split)
                shares = densities_in(kept.groups)
                held = apply(start, kept)
            trained = train(train_split, config, seed=seed, start=start, after_step=held)
            if kept is not None:
                refuse_moved(trained.model, kept)
            found[width] = judged(measured_again(trained.model.cpu(), train_split), test_split, strange)
            samples += trained.samples_seen
            progress(number + 1, len(self.widths))
        others = {f"accuracy_width_{width}": found[width]["accuracy"] for width in self.widths[:-1]}
        facts = {"widths": {str(width): told for width, told in found.items()}, "layers": shares}
        return Result(Outcome(metrics=found[self.widths[-1]] | others, samples_seen=samples, facts=facts), kept)

    def mask(self, arm: str, keep: float, seed: int, model: Model, data: Data) -> Kept:
        """Random masks with the arm's share of each layer, exactly the budget in all."""
        shapes = {name: tuple(weight.shape) for name, weight in maskable(model).items()}
        rule = RULES["uniform" if arm == "random" else arm] if arm in (*RULES, "random") else None
        densities = rule(shapes, keep) if rule else borrowed(arm, keep, seed, model, data, shapes)
        masks = random_masks(shapes, counts_of(shapes, densities, keep), seed=derive_seed(seed, MASKS))
        return kept_weights(model, masks)

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


def fresh(config: TrainingConfig, data: Data, seed: int) -> Model:
    """An untrained network with weights drawn from He's normal distribution, its inputs standardised by the data."""
    model = build(config, data.inputs.shape[1:], data.classes, seed=seed, learned=data.model_settings)
    model[0].fit(data)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(seed)
    for weight in maskable(model).values():
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    return model


def borrowed(arm: str, keep: float, seed: int, model: Model, data: Data, shapes: Shapes) -> Densities:
    """Shares of the layers in the mask that a method of pruning at initialisation would choose."""
    names, draws = list(shapes), np.random.default_rng((seed, SCORING))
    if arm == "magnitude":
        return densities_in(global_masks(weight_scores.magnitude(model, names), keep, seed=seed))
    if arm == "snip":
        scored = with_xavier(model, names, seed)
        rows = draws.permutation(len(data))[:BATCH]
        return densities_in(global_masks(weight_scores.snip(scored, names, batch_of(data, rows)), keep, seed=seed))
    if arm == "grasp":
        chosen = [draws.permutation(np.flatnonzero(data.labels == label))[:PER_CLASS] for label in range(data.classes)]
        halves = [np.concatenate([rows[half::2] for rows in chosen]) for half in (0, 1)]
        batches = [batch_of(data, rows) for rows in halves]
        return densities_in(global_masks(weight_scores.grasp(model, names, batches), keep, seed=seed))
    inner = [name.removeprefix("1.") for name in names]  # the network behind what standardises its inputs
    side = data.inputs.shape[1:]
    shape = (side[-1], *side[:-1]) if len(side) == 3 else side
    masks = weight_scores.synflow_masks(
        model[1], inner, shape, lambda scores, share: global_masks(scores, share, seed=seed), keep
    )
    return {f"1.{name}": share for name, share in densities_in(masks).items()}


def with_xavier(model: Model, names: Sequence[str], seed: int) -> nn.Module:
    """A copy whose weights are drawn from Glorot's normal distribution, as SNIP scores them."""
    import copy

    scored = copy.deepcopy(model)
    generator, parameters = torch.Generator().manual_seed(derive_seed(seed, SCORING)), dict(scored.named_parameters())
    for name in names:
        nn.init.xavier_normal_(parameters[name], generator=generator)
    return scored


def batch_of(data: Data, rows: np.ndarray) -> weight_scores.Batch:
    """These samples as tensors."""
    return torch.tensor(data.inputs[rows]), torch.tensor(data.labels[rows])


def judged(model: nn.Module, test: Data, strange: Mapping[str, Data]) -> dict[str, float]:
    """Accuracy and calibration on the test split, and how well the largest softmax tells what is of no class."""
    from sklearn.metrics import roc_auc_score

    logits = logits_of(model, test, device=device_of_choice())
    metrics = metrics_of(logits, test)
    sure = certainty(logits)
    found = {"accuracy": metrics.accuracy, "calibration_error": metrics.calibration_error}
    for name, others in strange.items():
        unsure = certainty(logits_of(model, others))
        told = np.concatenate([np.ones(len(sure)), np.zeros(len(unsure))])
        found[f"auroc_against_{name}"] = float(roc_auc_score(told, np.concatenate([sure, unsure])))
    return found


def certainty(logits: np.ndarray) -> np.ndarray:
    """Largest softmax of each row, float64."""
    wide = logits.astype(np.float64)
    odds = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(1.0 / odds.sum(axis=1))


def refuse_moved(model: nn.Module, kept: Kept) -> None:
    """Raise RuntimeError where a pruned weight is not exactly zero after training: the sparsity is counted."""
    parameters = dict(model.named_parameters())
    for name, mask in kept.groups.items():
        moved = int(parameters[name].detach().cpu()[~torch.from_numpy(mask)].count_nonzero())
        if moved:
            raise RuntimeError(f"{moved} pruned weights of {name} are not zero after training")
