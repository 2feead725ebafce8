"""Lottery tickets of networks that grok: does the structure that generalises also generalise sooner?

Minegishi, Iwasawa, Matsuo, "Bridging Lottery Ticket and Grokking: Understanding Grokking from Inner Structure of
Networks", arXiv 2310.19470. A dense network memorises modular addition, and generalises much later. Its largest weights
then, set back to what they were at the start, are trained again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from secateur.scorers.lazy import nn, safetensors, torch
from secateur.scorers.networks.magnitude import magnitude
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.groups import Masks, counts_in
from secateur.trainers.contract import AfterStep, Data, Progress, TrainingConfig
from secateur.trainers.experiments.contract import TIES, Arm, Arms, ArmTrial, Experiment, Result
from secateur.trainers.experiments.dense_moments import Tickets
from secateur.trainers.experiments.grokking_pictures import Line, by_step, frequencies, overlaps
from secateur.trainers.experiments.modular_addition import (
    NETWORKS,
    data_of,
    first_reached,
    float64_cross_entropy,
    spectrum_of,
    split_pairs,
)
from secateur.trainers.experiments.random_pruning import refuse_moved
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models.registry import build, networks
from secateur.trainers.pruning.held_masks import apply, kept_weights, maskable
from secateur.trainers.tasks.contract import Metric

Outcomes = Mapping[tuple[str, float, int], Outcome]

HALFWAY = 0.5
"""Test accuracy that the transition is at."""
TOP_FREQUENCIES = 5


def ticket_of(moment: str, **settings: Any) -> Arm:
    """The largest weights over all layers together at a moment of the dense network's run."""
    return Arm("magnitude", "global_mask", {"moment": moment, **settings})


class GrokkingTickets(Experiment):
    """Masks from moments of a dense run, held on its initial weights; compared by mean test accuracy over the run.

    The mean over all steps tells early from late and never from much, and needs no number of steps from runs that did
    not get there. `steps_to_generalise` is told of those alone that did.
    """

    unit = "weight"
    paper = "Minegishi et al. 2025, Bridging Lottery Ticket and Grokking, arXiv 2310.19470"
    claim = "The largest weights of a network that has grokked, set back to their start, generalise far sooner."
    metrics = (
        *(Metric(f"{name}_accuracy", percent=True) for name in ("mean_test", "test", "train")),
        *(Metric(f"steps_to_{name}", higher_is_better=False) for name in ("memorise", "generalise")),
        *(Metric(f"{when}_l{order}_norm") for when in ("initial", "final") for order in (1, 2)),
        Metric("top_frequency_share", percent=True),
    )
    arms: ClassVar[Arms] = {
        "random": Arm("magnitude", "shuffled_mask", {"moment": "final", "connected": False}),
        "grokked": ticket_of("final"),
        "memorised": ticket_of("memorised"),
        "transition": ticket_of("transition"),
        "magnitude_at_init": ticket_of("initial"),
        "snip_at_init": Arm("snip", "global_mask", {"moment": "initial"}),
        "grasp_at_init": Arm("grasp", "global_mask", {"moment": "initial"}),
        "synflow_at_init": Arm("synflow", "global_mask", {"moment": "initial"}),
        "grokked_no_decay": ticket_of("final", weight_decay=0.0),
    }
    references: ClassVar[Arms] = {
        "dense": Arm(settings={"recorded": True}),
        "dense_l2": Arm(settings={"norm": 2}),
        "dense_l1": Arm(settings={"norm": 1}),
        "dense_no_decay": Arm(settings={"weight_decay": 0.0}),
    }

    def __init__(
        self,
        *,
        operation: Annotated[str, Field(description="add, subtract or quadratic: a² + ab + b²")] = "add",
        modulus: Annotated[int, Field(ge=3, description="a prime, of the paper's order of size")] = 67,
        fraction: Annotated[float, Field(gt=0, lt=1, description="of the pairs that is trained on")] = 0.6,
        network: Annotated[str, Field(description=f"one of {', '.join(NETWORKS)}")] = "product_mlp",
        steps: Annotated[int, Field(ge=1, description="of every run, whenever it generalises")] = 4000,
        dense_steps: Annotated[
            int, Field(ge=1, description="of the dense run that tickets are read from; it must generalise in them")
        ] = 10_000,
        evaluate_every: Annotated[int, Field(ge=1, description="steps; the resolution of results in steps")] = 25,
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3,
        weight_decay: Annotated[float, Field(gt=0)] = 1.0,
        threshold: Annotated[
            float, Field(gt=0, le=1, description="accuracy at which a run has memorised, or generalises")
        ] = 0.95,
        norm_keep: Annotated[
            float, Field(gt=0, le=1, description="share kept of the ticket whose norms dense_l1 and dense_l2 have")
        ] = 0.4,
    ) -> None:
        # Raises ValueError for an unknown operation and for a split without samples.
        pairs, _ = split_pairs(operation, modulus, fraction, seed=0)
        if steps % evaluate_every or dense_steps % evaluate_every or dense_steps < steps:
            raise ValueError(
                f"steps {steps} and dense_steps {dense_steps} must be multiples of evaluate_every {evaluate_every}, "
                "and dense_steps no less than steps"
            )
        if network not in NETWORKS:
            raise ValueError(f"no network is called {network!r}; there are {', '.join(NETWORKS)}")
        self.operation, self.modulus, self.fraction = operation, modulus, fraction
        self.steps, self.dense_steps, self.evaluate_every = steps, dense_steps, evaluate_every
        self.threshold, self.norm_keep = threshold, norm_keep
        self.config = TrainingConfig(
            model=f"secateur.trainers.experiments.modular_addition:{network}",
            steps=steps,
            batch_size=len(pairs),
            learning_rate=learning_rate,
            betas=(0.9, 0.98),
            weight_decay=weight_decay,
            schedule="constant",
            warmup=0.0,
        )

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Train the dense network; write its weights at the moments that tickets are read from, and its curve.

        With `snapshots` a run that was killed goes on, into another empty folder. Raises RuntimeError where it does not
        memorise or does not generalise: there is no ticket then.
        """
        trained_on, tested_on = split_pairs(self.operation, self.modulus, self.fraction, seed=seed)
        np.savez(folder / "split.npz", allow_pickle=False, train=trained_on, test=tested_on)
        data = self.splits(folder)
        start = self.network(data["train"], seed)
        save_weights(start, folder / "initial.safetensors")
        watch = DenseWatch(self, data, folder, progress)
        config = self.config.model_copy(update={"steps": self.dense_steps})
        trained = self.follow(start, data["train"], config, watch, seed, snapshots=self.snapshots)
        save_weights(trained.model, folder / "final.safetensors")
        for name, moment in watch.moments.items():
            if moment is None:
                raise RuntimeError(
                    f"seed {seed}: the dense network did not come to {name} in {self.dense_steps} steps, its test "
                    f"accuracy is {watch.test[-1]:.2f}: raise dense_steps, fraction or weight_decay"
                )
        told = {**watch.curve, "samples": trained.samples_seen, "moments": watch.moments, "overlap": watch.overlap()}
        (folder / "dense.json").write_text(json.dumps(told))

    def units(self, trial: ArmTrial, prepared: Path) -> Tickets:
        """The initial network, and the dense one at the moment whose magnitudes the arm goes by."""
        moment = trial.setting("moment", "final")
        return Tickets(self.network, self.splits(prepared), trial.seed, prepared, moment, trial.keep)

    def outcome(self, trial: ArmTrial, units: Tickets, masks: Masks | None, progress: Progress) -> Result:
        """Train one network for all steps. The dense one was trained by `prepare`, for longer; what is told of it
        is told of the same step, but for how many it took to memorise and to generalise.

        Test accuracy along the way is what is measured here, and decides about no run. Only the arm `transition` goes
        by it: it reads the dense weights at its first test accuracy of a half.
        """
        if trial.setting("recorded"):
            progress(self.steps, self.steps)
            return self.recorded(units)
        start, kept, held = units.weights("initial"), None, None
        if trial.setting("norm"):
            ticket = largest(units.model, self.norm_keep, derive_seed(trial.seed, TIES))
            with_norms(start, ticket, trial.setting("norm"))
        if masks is not None:
            # Drawn masks are tickets of any weights, the others of these initial ones alone.
            kept = kept_weights(start, masks, of_these_weights=not self.draws_units(trial))
            held = apply(start, kept)
        watch = Watch(self.evaluate_every, units.data, progress)
        decay = trial.setting("weight_decay", self.config.weight_decay)
        config = self.config.model_copy(update={"weight_decay": decay})
        trained = self.follow(start, units.data["train"], config, watch, trial.seed, held)
        facts: dict[str, Any] = {**watch.curve, "spectrum": spectrum_in(trained.model)}
        if kept is not None:
            refuse_moved(trained.model, kept)
            facts["layers"] = counts_in(kept.groups)
        metrics = self.metrics_of(watch.curve, start, trained.model)
        return Result(Outcome(metrics=metrics, samples_seen=trained.samples_seen, facts=facts), kept)

    def recorded(self, units: Tickets) -> Result:
        """The run of the dense network."""
        curve = json.loads((units.prepared / "dense.json").read_text())
        samples = curve.pop("samples")
        models = {name: units.weights(name) for name in ("initial", "memorised", "course", "final")}
        facts = {**curve, "spectra": {name: spectrum_in(model) for name, model in models.items()}}
        metrics = self.metrics_of(curve, models["initial"], models["course"])
        return Result(Outcome(metrics=metrics, samples_seen=samples, facts=facts))

    def splits(self, prepared: Path) -> dict[str, Data]:
        """The questions that `prepare` split, as `train` and `test`."""
        with np.load(prepared / "split.npz", allow_pickle=False) as file:
            return {name: data_of(file[name], self.operation, self.modulus) for name in ("train", "test")}

    def network(self, data: Data, seed: int) -> networks.Model:
        """The untrained network of a seed."""
        return build(self.config, data.inputs.shape[1:], data.task.width, seed=seed, learned=data.model_settings)

    def follow(
        self,
        start: networks.Model,
        data: Data,
        config: TrainingConfig,
        watch: Watch,
        seed: int,
        held: AfterStep | None = None,
        snapshots: Snapshots | None = None,
    ) -> Trained:
        """Train on whole batches, looked at before the first step and along the way."""
        watch.look(copy.deepcopy(start), 0)
        return train(
            data,
            config,
            seed=seed,
            start=start,
            after_step=held,
            objective=float64_cross_entropy,
            checkpoint=watch,
            snapshots=snapshots,
        )

    def metrics_of(self, curve: Mapping[str, Any], start: nn.Module, trained: nn.Module) -> dict[str, float]:
        """Numbers of a run's first `steps`; steps to an accuracy are those of all of it, and only if it got there."""
        steps = np.asarray(curve["steps"])
        course = int(np.count_nonzero(steps <= self.steps))
        found = {"mean_test_accuracy": course_mean(steps[:course], np.asarray(curve["test"][:course]))}
        found |= {f"{split}_accuracy": curve[split][course - 1] for split in ("test", "train")}
        for name, split in (("steps_to_memorise", "train"), ("steps_to_generalise", "test")):
            reached = first_reached(steps, np.asarray(curve[split]), self.threshold)
            if reached is not None:
                found[name] = float(reached)
        for when, model in (("initial", start), ("final", trained)):
            found |= {f"{when}_l{order}_norm": norm_in(model, order) for order in (1, 2)}
        found["top_frequency_share"] = float(np.sort(spectrum_in(trained))[-TOP_FREQUENCIES:].sum())
        return found

    def pictures(self, outcomes: Outcomes) -> dict[str, bytes]:
        """Accuracy by step at each budget, and what the dense network's weights look like along its run."""
        budgets = sorted({keep for arm, keep, _ in outcomes if arm not in self.references})
        drawn = {f"accuracy_by_step_at_{keep:g}": by_step(self.lines(outcomes, keep), keep) for keep in budgets}
        dense = [outcome.facts for (arm, _, _), outcome in outcomes.items() if arm == "dense"]
        if dense:
            drawn |= {"frequencies_of_the_input": frequencies(dense), "overlap_with_the_ticket": overlaps(dense)}
        return drawn

    def lines(self, outcomes: Outcomes, keep: float) -> list[Line]:
        """The curves of the references, then of the arms at a budget, over all seeds."""
        found = []
        for arm in (*self.references, *self.arms):
            at = 1.0 if arm in self.references else keep
            told = [o.facts for (name, share, _), o in outcomes.items() if (name, share) == (arm, at)]
            if told:
                found.append(Line(arm, told, dashed=arm in self.references))
        return found


class Watch:
    """Accuracies along a run, every so many steps; to be passed to `train` as `checkpoint`."""

    def __init__(self, every: int, data: Mapping[str, Data], progress: Progress) -> None:
        self.every, self.data, self.progress = every, data, progress
        self.steps: list[int] = []
        self.train: list[float] = []
        self.test: list[float] = []

    @property
    def curve(self) -> dict[str, list[Any]]:
        """Steps, and the accuracies after them."""
        return {"steps": self.steps, "train": self.train, "test": self.test}

    def __call__(self, model: nn.Module, done: int, steps: int) -> None:
        """After an epoch, which is one step here."""
        if done % self.every == 0:
            self.look(model, done)
            self.progress(done, steps)

    def look(self, model: nn.Module, step: int) -> None:
        """Measure both splits; raises ValueError where the weights have become NaN."""
        self.steps.append(step)
        self.train.append(evaluate(model, self.data["train"])["accuracy"])
        self.test.append(evaluate(model, self.data["test"])["accuracy"])


class DenseWatch(Watch):
    """Besides, the weights when an accuracy comes to a level and when other runs end, and the ticket of each look."""

    def __init__(self, experiment: GrokkingTickets, data: Mapping[str, Data], folder: Path, progress: Progress) -> None:
        super().__init__(experiment.evaluate_every, data, progress)
        self.experiment, self.folder = experiment, folder
        self.moments: dict[str, int | None] = {"memorised": None, "transition": None, "generalised": None}
        self.tickets: list[np.ndarray] = []
        self.saved: dict[str, dict[str, torch.Tensor]] = {}

    def look(self, model: nn.Module, step: int) -> None:
        """As `Watch`; the first look at or above each level is its moment."""
        super().look(model, step)
        threshold = self.experiment.threshold
        levels = {"memorised": (self.train, threshold), "transition": (self.test, min(HALFWAY, threshold))}
        levels["generalised"] = (self.test, threshold)
        for name, (values, level) in levels.items():
            if self.moments[name] is None and values[-1] >= level:
                self.moments[name] = step
                self.save(name, model.state_dict())
        if step == self.experiment.steps:
            self.save("course", model.state_dict())
        masks = largest(model, self.experiment.norm_keep, 0)
        self.tickets.append(np.packbits(np.concatenate([mask.reshape(-1) for mask in masks.values()])))

    def save(self, name: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Write weights, and hold them for snapshots."""
        self.saved[name] = {key: value.detach().cpu().clone() for key, value in weights.items()}
        safetensors.save_file(self.saved[name], self.folder / f"{name}.safetensors")

    def state_dict(self) -> dict[str, Any]:
        """What is known so far, for snapshots."""
        tickets = torch.from_numpy(np.stack(self.tickets))
        return {**self.curve, "moments": self.moments, "tickets": tickets, "saved": self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was known, in a folder that lacks what was written."""
        self.steps, self.train, self.test = (list(state[name]) for name in self.curve)
        self.moments, self.tickets = dict(state["moments"]), list(state["tickets"].numpy())
        for name, weights in state["saved"].items():
            self.save(name, weights)

    def overlap(self) -> list[float]:
        """Share of the last ticket that is in the ticket of each look; `norm_keep` of it by chance."""
        last = self.tickets[-1]
        return [int(np.bitwise_count(each & last).sum()) / int(np.bitwise_count(last).sum()) for each in self.tickets]


def largest(model: nn.Module, keep: float, seed: int) -> Masks:
    """The share `keep` of all weights together with the largest magnitudes."""
    return global_mask(magnitude(model, list(maskable(model))), keep, seed=seed)


def with_norms(model: nn.Module, masks: Masks, order: int) -> None:
    """Scale each layer, in place and as a whole, to the L1 or L2 norm that what the mask keeps of it has.

    The paper scales all layers by one ratio of mean norms; layer by layer nothing but the structure is left to differ.
    """
    with torch.no_grad():
        for name, weight in maskable(model).items():
            wide = weight.double()
            kept = wide.masked_fill(~torch.from_numpy(masks[name]).to(weight.device), 0.0)
            weight.mul_(float(torch.linalg.vector_norm(kept, order) / torch.linalg.vector_norm(wide, order)))


def norm_in(model: nn.Module, order: int) -> float:
    """L1 or L2 norm of all weights that can be pruned, as one vector."""
    joined = torch.cat([weight.detach().double().reshape(-1) for weight in maskable(model).values()])
    return float(torch.linalg.vector_norm(joined, order))


def spectrum_in(model: nn.Module) -> list[float]:
    """`spectrum_of` a network's input table."""
    network: Any = model[1]  # type: ignore[index]
    return [float(share) for share in spectrum_of(network.input_table().detach().cpu().numpy())]


def course_mean(steps: np.ndarray, values: np.ndarray) -> float:
    """Mean of a curve over its steps: the area under straight lines between the looks, over its length."""
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def save_weights(model: nn.Module, path: Path) -> None:
    """All parameters and buffers as safetensors, under the names that masks go by."""
    safetensors.save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, path)
