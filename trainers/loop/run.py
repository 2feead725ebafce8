"""A training run in progress: passes over a batch, their observers, and the state that the next step depends on."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from secateur.scorers.contract import NotFinite, Observer, TrainingBatch
from secateur.scorers.lazy import nn, torch
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.trainers.contract import AfterStep, Data, GradientBatch, Objective, TrainingConfig
from secateur.trainers.loop.adam_r import pull_towards
from secateur.trainers.loop.batches import StepViews, source_of
from secateur.trainers.loop.learning_curve import LearningCurve
from secateur.trainers.loop.schedule import Epoch, Position, Schedule, once_each, rate_at
from secateur.trainers.loop.trackers import EpochTotals
from secateur.trainers.models.stored_state import load_stored, stored_state
from secateur.trainers.processes import MicroBatch, Processes, private_randomness
from secateur.trainers.tasks.own import OwnBatch, OwnTask


class Diverged(NotFinite):
    """A training run has NaN or infinite losses."""


def optimiser_of(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The config's optimiser; fused, because in small networks the Python between kernels takes most of a step."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    fused = {each.device.type for each in parameters} <= {"cpu", "cuda"}
    rate, decay, momentum = config.learning_rate, config.weight_decay, config.momentum
    if config.optimiser == "sgd":
        return eager(torch.optim.SGD)(
            parameters, rate, momentum=momentum, nesterov=momentum > 0, weight_decay=decay, fused=fused
        )
    optimiser = eager(torch.optim.AdamW)(parameters, rate, betas=config.betas, weight_decay=decay, fused=fused)
    if config.pull:
        pull_towards(optimiser, [each.detach().clone() for each in parameters], config.pull)
    return optimiser


@cache
def eager(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The optimiser class without the wrappers of `torch.compile`, which compiles none of our steps.

    torch wraps five of its methods for the compiler, and the wrappers import it: this takes more than a second, as much
    as two trainings on small data.
    """
    plain = ("state_dict", "load_state_dict", "zero_grad", "add_param_group")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in plain}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(inspect.unwrap(kind.step))})


def plain_objective(label_smoothing: float) -> Objective:
    """The task's own losses, or its losses with smoothed labels."""

    def losses_of(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
        if not label_smoothing:
            return batch.losses
        return batch.task.smoothed_losses(batch.outputs, batch.targets, label_smoothing)

    return losses_of


@dataclass
class Run:
    """A training run in progress: `train_epoch` yields after every optimiser step."""

    data: Data
    model: nn.Module
    schedule: Schedule
    device: torch.device
    processes: Processes
    objective: Objective | None
    observers: Sequence[Observer]
    totals: EpochTotals | None
    after_step: AfterStep | None = None
    curve: LearningCurve | None = None
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        data, config = self.data, self.schedule.config
        self.config, self.task = config, data.task
        self.targets = data.task.tensor(data.targets).to(self.device)
        self.source = source_of(data, self.schedule.rows, self.device, loading=config.loading, workers=config.workers)
        augmentation, shape = config.augmentation, data.inputs.shape[1:]
        self.views = StepViews(augmentation, shape, self.schedule.seed, self.device) if augmentation else None
        if self.objective is None and config.label_smoothing:
            self.objective = plain_objective(config.label_smoothing)
        self.lesson = getattr(self.objective, "lesson", None)
        self.network: Any = self.model
        self.optimiser = optimiser_of(self.model, self.config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.config.precision == "float16")
        self.sampler = self.schedule.sampler
        listens = self.sampler is not None and self.sampler.observed is not None
        self.broken = torch.zeros(2, dtype=torch.bool, device=self.device)
        """Whether a task loss of this process was NaN or infinite, and whether an objective's loss was while the task's
        were finite. Reading it synchronises with the device."""
        self.watched = bool(self.observers) or listens or self.totals is not None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Provide private random generators, and the network that all processes train together."""
        seed, rank = self.schedule.seed, self.processes.rank
        own = private_randomness(derive_seed(seed, rank) if rank else seed, self.device)
        with own, self.processes.sharing(self.model, self.device) as network:
            self.network = torch.compile(network) if self.config.compile else network
            yield

    def cast(self) -> AbstractContextManager[Any]:
        """The autocast context of the config's precision."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.config.precision))

    def train_epoch(self, epoch: Epoch) -> Iterator[None]:
        """Train on the rest of an epoch and advance the position; does not synchronise with the device."""
        ids = epoch.ids.to(self.device, non_blocking=True)
        targets = self.targets[ids]
        weights = None if self.sampler is None else self.sampler.weights(ids)
        repeats = self.sampler is not None and once_each(epoch.ids) is not None
        first = self.position.step
        plan = [(step, self.processes.parts(step, self.config.accumulate)) for step in epoch.steps[first:]]
        stream = self.source.batches(epoch.ids, ids, [part.places for _, parts in plan for part in parts])
        for step, parts in plan:
            progress = self.schedule.progress(self.position, first + len(plan))
            rate = self.config.learning_rate * rate_at(progress, self.config.warmup, self.config.schedule)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.zero_grad(set_to_none=True)
            seen, losses, descended = self.passes(step, parts, stream, ids, targets, weights)
            if self.watched:
                batch = self.gathered(step, ids, targets, seen, losses)
                apart = once_each(epoch.ids[step]) if repeats else None
                self.tell(batch, apart, descended, step)
            if self.scaler.is_enabled():
                self.scaler.step(self.optimiser)
                self.scaler.update()
            else:
                self.optimiser.step()
            self.position.step += 1
            self.position.steps_done += 1
            self.position.samples_seen += step.stop - step.start
            if self.schedule.sizes is not None:
                self.position.tokens_seen += int(self.schedule.sizes[1, epoch.ids[step].numpy()].sum())
            if self.after_step is not None:
                done = self.position.steps_done
                self.after_step(
                    self.model, done, self.schedule.total_steps or max(done, round((done - 0.5) / progress))
                )
            yield

    def passes(
        self,
        step: slice,
        parts: list[MicroBatch],
        stream: Iterator[Any],
        ids: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> tuple[list[dict[str, torch.Tensor]], list[torch.Tensor], list[torch.Tensor]]:
        """Forward and backward passes of a step; by part the results of `seen`, task losses and training losses, `[b]`.

        The gradient is that of the weighted mean over the whole batch, for any number of parts and processes.
        """
        told: tuple[list[dict[str, torch.Tensor]], list[torch.Tensor], list[torch.Tensor]] = ([], [], [])
        size, alone = step.stop - step.start, self.processes.world == 1 and len(parts) == 1
        views = None if self.views is None else self.views.draw(self.position.epoch, self.position.step, size)
        for number, part in enumerate(parts):
            inputs, target = next(stream), targets[part.places]
            if views is not None and self.views is not None:
                own = slice(part.places.start - step.start, part.places.stop - step.start)
                inputs = self.views.apply(inputs, views.take(own))
            with self.processes.quiet(self.network, number == len(parts) - 1):
                with self.cast():
                    lesson = () if self.lesson is None else (self.lesson(ids[part.places], inputs),)
                    outputs = self.network(inputs, *lesson)
                losses = self.losses(outputs, target, inputs)
                self.broken[0] |= ~losses.detach().isfinite().all()
                each = losses
                if self.objective is not None:
                    with self.cast():
                        each = self.objective(
                            GradientBatch(ids[part.places], outputs, target, losses, self.task), inputs
                        )
                    one_each(each, len(losses), "the objective")
                    self.broken[1] |= ~each.detach().isfinite().all() & ~self.broken[0]
                if weights is not None:
                    each = weights[part.places] * each
                # DistributedDataParallel takes the mean over processes, and the parts belong to one sum.
                loss = each.mean() if alone else each.sum() * (self.processes.world / size if part.counts else 0.0)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            counted = slice(None if part.counts else 0)
            seen = self.seen(outputs, inputs, ids[part.places], losses) if self.watched else {}
            told[0].append({name: values[counted] for name, values in seen.items()})
            told[1].append(losses.detach()[counted])
            told[2].append(each.detach()[counted])
        return told

    def losses(self, outputs: Any, target: torch.Tensor, inputs: Any) -> torch.Tensor:
        """The task's losses `[b]`; a user's own task finds its targets in the inputs."""
        if not isinstance(self.task, OwnTask):
            return self.task.losses(outputs.float(), target)
        return one_each(self.task.losses(outputs, inputs), len(target), f"the task {self.task.name}").float()

    def seen(self, outputs: Any, inputs: Any, ids: torch.Tensor, losses: torch.Tensor) -> dict[str, torch.Tensor]:
        """Rows to gather over parts and processes: outputs, or the signals of a user's own task."""
        if not isinstance(self.task, OwnTask):
            own = outputs.detach()
            return {"outputs": own if self.lesson is None else own[:, : self.task.width]}
        with torch.no_grad():
            return OwnBatch.of(ids, outputs, inputs, losses, self.task).signals

    def gathered(
        self,
        step: slice,
        ids: torch.Tensor,
        targets: torch.Tensor,
        seen: list[dict[str, torch.Tensor]],
        losses: list[torch.Tensor],
    ) -> TrainingBatch:
        """The whole batch, the same in every process, with task losses in float32."""
        whole = {name: joined([part[name] for part in seen]) for name in seen[0]}
        if self.processes.world > 1:
            whole = {name: self.processes.gather(values.float(), step) for name, values in whole.items()}
        if isinstance(self.task, OwnTask):
            own = {name: values.bool() if name == "correct" else values for name, values in whole.items()}
            return OwnBatch(ids[step], self.processes.gather(joined(losses), step), own, self.task)
        outputs, target = whole["outputs"], targets[step]
        plain = joined(losses) if self.processes.world == 1 else self.task.losses(outputs, target)
        return TrainingBatch(ids[step], outputs, target, plain, self.task)

    def tell(
        self, batch: TrainingBatch, apart: list[torch.Tensor] | None, descended: list[torch.Tensor], step: slice
    ) -> None:
        """Pass a batch to observers, sampler and totals; observers get repeated ids in parts without repeats."""
        turns = [batch]
        if apart is not None:
            places = [each.to(self.device, non_blocking=True) for each in apart]
            turns = [batch.take(at) for at in places]
        for watcher in self.observers:
            for turn in turns:
                watcher.observe(turn)
        if self.sampler is not None:
            self.sampler.observe(batch.ids, batch.losses)
        if self.totals is not None:
            self.totals.add(batch.losses, self.processes.gather(joined(descended), step))

    def end_epoch(self) -> None:
        """End the observers' epoch; raises Diverged if a loss was NaN or infinite in any process."""
        told = self.processes.collect(self.broken.to(torch.uint8), self.device)
        broken, misled = torch.stack(told).amax(dim=0).tolist()
        if misled:
            raise Diverged(
                f"a loss of the objective is NaN or infinite in epoch {self.position.epoch + 1}, that of the task is "
                "not: look at the objective's other inputs, such as a teacher whose training diverged"
            )
        if broken:
            raise Diverged(
                f"training diverged: a loss is NaN or infinite in epoch {self.position.epoch + 1}; lower learning_rate "
                f"({self.config.learning_rate:g}) or lengthen warmup ({self.config.warmup:g})"
            )
        for watcher in self.observers:
            watcher.end_epoch(self.position.epoch)

    def measure(self, began: float, steps: int) -> float:
        """Add a point to the curve if it is due, in an epoch of `steps` steps; returns the seconds that it took.

        `began` is the start time of the run.
        """
        if self.curve is None or not self.curve.due(self.schedule.done(self.position, steps)):
            return 0.0
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        before = time.perf_counter()
        if self.processes.writes:
            self.curve.measure(self.model, self.position.steps_done, before - began)
            self.model.train()
        return time.perf_counter() - before

    def numbers(self, samples: int) -> dict[str, float]:
        """The trackers' numbers for an epoch of so many samples."""
        assert self.totals is not None
        rate = self.optimiser.param_groups[0]["lr"]
        return {**self.totals.means(samples), "learning_rate": float(rate), "epoch_samples": float(samples)}

    def state_dict(self, also: Any = None) -> dict[str, Any]:
        """Everything that later steps depend on, and the state of `also`; a collective call, after a step."""
        generators = {"cpu": self.processes.collect(torch.default_generator.get_state(), self.device)}
        if self.device.type == "cuda":
            generators["cuda"] = self.processes.collect(torch.cuda.get_rng_state(self.device), self.device)
        return {
            "model": stored_state(self.model),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": self.position.state_dict(),
            "sampler": None if self.sampler is None else self.sampler.state_dict(consumed=0),
            "observers": [watcher.state_dict() for watcher in self.observers],
            "totals": None if self.totals is None else self.totals.sums,
            "generators": generators,
            "curve": None if self.curve is None else self.curve.state_dict(),
            "also": also.state_dict() if hasattr(also, "state_dict") else None,
        }

    def load_state_dict(self, state: dict[str, Any], also: Any = None) -> None:
        """Restore a state; call it inside `under_way`, where generators are private."""
        load_stored(self.model, state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.position.load_state_dict(state["position"])
        if self.sampler is not None:
            self.sampler.load_state_dict(state["sampler"])
        for watcher, own in zip(self.observers, state["observers"], strict=True):
            watcher.load_state_dict(own)
        if self.totals is not None and state["totals"] is not None:
            self.totals.sums.copy_(state["totals"])
        torch.default_generator.set_state(state["generators"]["cpu"][self.processes.rank])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["generators"]["cuda"][self.processes.rank], self.device)
        if self.curve is not None:
            self.curve.load_state_dict(state["curve"])
        if hasattr(also, "load_state_dict") and state["also"] is not None:
            also.load_state_dict(state["also"])


def one_each(losses: torch.Tensor, count: int, giver: str) -> torch.Tensor:
    """The same losses; raises ValueError unless there is one per sample."""
    if losses.shape != (count,):
        raise ValueError(f"{giver} must give one loss per sample, [{count}], it gave {list(losses.shape)}")
    return losses


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows of all parts, concatenated."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
