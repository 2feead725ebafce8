"""Lottery tickets of grokking networks: does the structure of a network that generalises make it generalise sooner?

Minegishi, Iwasawa, Matsuo, "Bridging Lottery Ticket and Grokking: Understanding Grokking from Inner Structure of
Networks", arXiv 2310.19470. A dense network memorises modular addition and generalises much later. The experiment
resets its largest weights at that time to their initial values and trains them again.
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
"""Test accuracy that defines the transition."""
TOP_FREQUENCIES = 5


def ticket_of(moment: str, **settings: Any) -> Arm:
    """An arm with the largest weights over all layers together at a moment of the dense run."""
    return Arm("magnitude", "global_mask", {"moment": moment, **settings})


class GrokkingTickets(Experiment):
    """Holds masks from moments of a dense run on its initial weights; compares mean test accuracy over the run.

    The mean over all steps separates runs that generalise early, late or never, and is defined for all of them;
    `steps_to_generalise` exists only for runs that generalise.
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
        fraction: Annotated[float, Field(gt=0, lt=1, description="share of the pairs used for training")] = 0.6,
        network: Annotated[str, Field(description=f"one of {', '.join(NETWORKS)}")] = "product_mlp",
        steps: Annotated[int, Field(ge=1, description="steps of every run; none stops early")] = 4000,
        dense_steps: Annotated[
            int, Field(ge=1, description="steps of the dense run, which makes the tickets and must generalise")
        ] = 10_000,
        evaluate_every: Annotated[int, Field(ge=1, description="steps between evaluations")] = 25,
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3,
        weight_decay: Annotated[float, Field(gt=0)] = 1.0,
        threshold: Annotated[
            float, Field(gt=0, le=1, description="accuracy from which a run counts as memorised, or as generalising")
        ] = 0.95,
        norm_keep: Annotated[
            float, Field(gt=0, le=1, description="kept share of the ticket whose norms dense_l1 and dense_l2 take")
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
        """Train the dense network; write its curve, and its weights at the moments of the tickets.

        With `snapshots` a killed run resumes, also in another empty folder. Raises RuntimeError if the network does not
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
        """The dense network at the arm's moment, with access to its initial weights."""
        moment = trial.setting("moment", "final")
        return Tickets(self.network, self.splits(prepared), trial.seed, prepared, moment, trial.keep)

    def outcome(self, trial: ArmTrial, units: Tickets, masks: Masks | None, progress: Progress) -> Result:
        """Train one network for all steps. `prepare` trained the dense one for longer; its results are those of the
        same step, except for the numbers of steps to memorise and to generalise.

        Test accuracy along the run is the result and steers no run. Only the arm `transition` depends on it: it reads
        the dense weights at the first test accuracy of a half.
        """
        if trial.setting("recorded"):
            progress(self.steps, self.steps)
            return self.recorded(units)
        start, kept, held = units.weights("initial"), None, None
        if trial.setting("norm"):
            ticket = largest(units.model, self.norm_keep, derive_seed(trial.seed, TIES))
            with_norms(start, ticket, trial.setting("norm"))
        if masks is not None:
            # Drawn masks suit any weights, the others these initial ones alone.
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
        """The result of the dense run of `prepare`."""
        curve = json.loads((units.prepared / "dense.json").read_text())
        samples = curve.pop("samples")
        models = {name: units.weights(name) for name in ("initial", "memorised", "course", "final")}
        facts = {**curve, "spectra": {name: spectrum_in(model) for name, model in models.items()}}
        metrics = self.metrics_of(curve, models["initial"], models["course"])
        return Result(Outcome(metrics=metrics, samples_seen=samples, facts=facts))

    def splits(self, prepared: Path) -> dict[str, Data]:
        """The splits `train` and `test` that `prepare` wrote."""
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
        """Train on full batches; `watch` evaluates before the first step and along the run."""
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
        """Metrics of a run's first `steps`; the steps to an accuracy count the whole run, and only if it reached it."""
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
        """Accuracy by step at each budget, and the dense network's frequencies and ticket overlap along its run."""
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
    """Accuracies along a run, every `every` steps; the argument `checkpoint` of `train`."""

    def __init__(self, every: int, data: Mapping[str, Data], progress: Progress) -> None:
        self.every, self.data, self.progress = every, data, progress
        self.steps: list[int] = []
        self.train: list[float] = []
        self.test: list[float] = []

    @property
    def curve(self) -> dict[str, list[Any]]:
        """Steps, and the accuracies after each of them."""
        return {"steps": self.steps, "train": self.train, "test": self.test}

    def __call__(self, model: nn.Module, done: int, steps: int) -> None:
        """Called after each epoch, which is one step here."""
        if done % self.every == 0:
            self.look(model, done)
            self.progress(done, steps)

    def look(self, model: nn.Module, step: int) -> None:
        """Evaluate both splits; raises ValueError if the weights are NaN."""
        self.steps.append(step)
        self.train.append(evaluate(model, self.data["train"])["accuracy"])
        self.test.append(evaluate(model, self.data["test"])["accuracy"])


class DenseWatch(Watch):
    """A `Watch` that also saves weights when an accuracy reaches a level and when other runs end, and all tickets."""

    def __init__(self, experiment: GrokkingTickets, data: Mapping[str, Data], folder: Path, progress: Progress) -> None:
        super().__init__(experiment.evaluate_every, data, progress)
        self.experiment, self.folder = experiment, folder
        self.moments: dict[str, int | None] = {"memorised": None, "transition": None, "generalised": None}
        self.tickets: list[np.ndarray] = []
        self.saved: dict[str, dict[str, torch.Tensor]] = {}

    def look(self, model: nn.Module, step: int) -> None:
        """As `Watch`; the moment of a level is the first look at or above it."""
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
        """Write weights, and keep them in memory for snapshots."""
        self.saved[name] = {key: value.detach().cpu().clone() for key, value in weights.items()}
        safetensors.save_file(self.saved[name], self.folder / f"{name}.safetensors")

    def state_dict(self) -> dict[str, Any]:
        """The state so far, for snapshots."""
        tickets = torch.from_numpy(np.stack(self.tickets))
        return {**self.curve, "moments": self.moments, "tickets": tickets, "saved": self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; writes its saved weights into the folder again."""
        self.steps, self.train, self.test = (list(state[name]) for name in self.curve)
        self.moments, self.tickets = dict(state["moments"]), list(state["tickets"].numpy())
        for name, weights in state["saved"].items():
            self.save(name, weights)

    def overlap(self) -> list[float]:
        """Share of the last ticket in the ticket of each look; chance level is `norm_keep`."""
        last = self.tickets[-1]
        return [int(np.bitwise_count(each & last).sum()) / int(np.bitwise_count(last).sum()) for each in self.tickets]


def largest(model: nn.Module, keep: float, seed: int) -> Masks:
    """Masks of the share `keep` of all weights together, by largest magnitude."""
    return global_mask(magnitude(model, list(maskable(model))), keep, seed=seed)


def with_norms(model: nn.Module, masks: Masks, order: int) -> None:
    """Scale each layer in place to the L1 or L2 norm of its masked weights.

    The paper scales all layers by one ratio of mean norms; scaling layer by layer leaves only the structure to differ.
    """
    with torch.no_grad():
        for name, weight in maskable(model).items():
            wide = weight.double()
            kept = wide.masked_fill(~torch.from_numpy(masks[name]).to(weight.device), 0.0)
            weight.mul_(float(torch.linalg.vector_norm(kept, order) / torch.linalg.vector_norm(wide, order)))


def norm_in(model: nn.Module, order: int) -> float:
    """L1 or L2 norm of all prunable weights, as one vector."""
    joined = torch.cat([weight.detach().double().reshape(-1) for weight in maskable(model).values()])
    return float(torch.linalg.vector_norm(joined, order))


def spectrum_in(model: nn.Module) -> list[float]:
    """`spectrum_of` a network's input table."""
    network: Any = model[1]  # type: ignore[index]
    return [float(share) for share in spectrum_of(network.input_table().detach().cpu().numpy())]


def course_mean(steps: np.ndarray, values: np.ndarray) -> float:
    """Mean of a curve over its steps by the trapezoidal rule."""
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def save_weights(model: nn.Module, path: Path) -> None:
    """Write all parameters and buffers as safetensors, under the names of the masks."""
    safetensors.save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, path)
