"""What a task says of a batch besides its losses, from the outputs of a network and the targets; scorers declare which
of these they read, so that a study that asks for one which its task cannot give is rejected when it loads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Literal, get_args

from secateur.scorers.lazy import functional, torch

Signal = Literal[
    "losses",
    "probabilities",
    "target_probabilities",
    "predictions",
    "correct",
    "margin",
    "probability_margin",
    "error",
    "target_output",
]
"""Numbers of a batch of `b` samples:

- `losses` float32 `[b]`: one loss per sample, in the task's own scale, with its gradient;
- `probabilities` float32 `[b, classes]`: of classes that exclude each other;
- `target_probabilities` float32 `[b, k]`: of what each of the k parts of a target is (one class, or each label);
- `predictions` float32 `[b, k]`: what a score follows over training, on a scale that does not change;
- `correct` bool `[b]`: whether a prediction counts as right;
- `margin` float32 `[b]`: by how much the outputs of the target are ahead of those of its closest rival;
- `probability_margin` float32 `[b]`: the same of probabilities, within [-1, 1];
- `error` float32 `[b, width]`: prediction minus target where losses compare them: the gradient, by the outputs, of
  cross-entropies and of half the squared residual, summed over the parts of a target;
- `target_output` float32 `[b]`: the output whose gradient by the inputs tells what a prediction hangs on.
"""


class Batch:
    """Outputs of a network for some samples and their targets; what several scorers read of them is computed once.

    `outputs` float32 `[b, width]` and `targets` `[b, …]`, as the task's losses read them, are on one device, which
    nothing here waits for.
    """

    outputs: torch.Tensor
    targets: torch.Tensor
    losses: torch.Tensor
    task: Signals

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """See `Signal`, as for all of these."""
        return self.task.probabilities(self)

    @cached_property
    def target_probabilities(self) -> torch.Tensor:
        """Of what each part of a target is."""
        return self.task.target_probabilities(self)

    @cached_property
    def predictions(self) -> torch.Tensor:
        """What a score follows over training."""
        return self.task.predictions(self)

    @cached_property
    def correct(self) -> torch.Tensor:
        """Whether predictions count as right; means nothing where an output is NaN."""
        return self.task.correct(self)

    @cached_property
    def margin(self) -> torch.Tensor:
        """Of outputs."""
        return self.task.margin(self)

    @cached_property
    def probability_margin(self) -> torch.Tensor:
        """Of probabilities."""
        return self.task.probability_margin(self)

    @cached_property
    def error(self) -> torch.Tensor:
        """Gradient of the loss by the outputs."""
        return self.task.error(self)


class Signals:
    """Gives the signals of one kind of targets; asking for one that `lacks` names raises NotImplementedError."""

    name: str = "this task"
    lacks: ClassVar[Mapping[Signal, str]] = {}
    """Signals that there are none of, each with the reason."""
    own_network: ClassVar[bool] = False
    """Whether a user's own network takes whole batches, targets in them, and puts out whatever it likes."""

    @property
    def provides(self) -> frozenset[Signal]:
        """Every signal that can be asked for."""
        return frozenset(get_args(Signal)).difference(self.lacks)

    @property
    def smooths(self) -> bool:
        """Whether there are `smoothed_losses`."""
        return type(self).smoothed_losses is not Signals.smoothed_losses

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Signal`; with the gradient of the outputs."""
        raise self.refusal("losses")

    def smoothed_losses(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Losses where a share `smoothing` of each target is given to all classes; ValueError where there are none."""
        raise ValueError(f"label_smoothing gives a share of the target to other classes; {self.name} has none")

    def target_output(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Signal`; with the gradient of the outputs."""
        raise self.refusal("target_output")

    def probabilities(self, batch: Batch) -> torch.Tensor:
        """See `Signal`, as for all that follow."""
        raise self.refusal("probabilities")

    def target_probabilities(self, batch: Batch) -> torch.Tensor:
        """Of what each part of a target is."""
        raise self.refusal("target_probabilities")

    def predictions(self, batch: Batch) -> torch.Tensor:
        """What a score follows over training."""
        raise self.refusal("predictions")

    def correct(self, batch: Batch) -> torch.Tensor:
        """Whether predictions count as right."""
        raise self.refusal("correct")

    def margin(self, batch: Batch) -> torch.Tensor:
        """Of outputs."""
        raise self.refusal("margin")

    def probability_margin(self, batch: Batch) -> torch.Tensor:
        """Of probabilities."""
        raise self.refusal("probability_margin")

    def error(self, batch: Batch) -> torch.Tensor:
        """Gradient of the loss by the outputs."""
        raise self.refusal("error")

    def refusal(self, signal: Signal) -> NotImplementedError:
        """The error that says why there is no such signal."""
        return NotImplementedError(f"{self.name} has no {signal}: {self.lacks.get(signal, 'it does not declare any')}")


class ClassSignals(Signals):
    """Signals of classes that exclude each other: outputs are logits `[b, classes]`, targets int64 `[b]`."""

    name = "classification"

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def smoothed_losses(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Cross-entropy with this share of the target given to all classes alike (Szegedy et al. 2016, section 7)."""
        return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=smoothing)

    def target_output(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logit of the label."""
        return outputs.gather(1, targets.unsqueeze(1)).squeeze(1)

    def probabilities(self, batch: Batch) -> torch.Tensor:
        """Softmax."""
        return batch.outputs.softmax(dim=1)

    def target_probabilities(self, batch: Batch) -> torch.Tensor:
        """Probability of the label, `[b, 1]`."""
        return batch.probabilities.gather(1, batch.targets.unsqueeze(1))

    def predictions(self, batch: Batch) -> torch.Tensor:
        """Probability of the label, `[b, 1]`."""
        return batch.target_probabilities

    def correct(self, batch: Batch) -> torch.Tensor:
        """Whether the label has the highest logit."""
        return batch.outputs.argmax(dim=1) == batch.targets

    def margin(self, batch: Batch) -> torch.Tensor:
        """Logit of the label minus the highest other logit."""
        return margin_of(batch.outputs, batch.targets)

    def probability_margin(self, batch: Batch) -> torch.Tensor:
        """Probability of the label minus the highest other probability."""
        return margin_of(batch.probabilities, batch.targets)

    def error(self, batch: Batch) -> torch.Tensor:
        """Softmax minus one-hot label."""
        column = batch.targets.unsqueeze(1)
        return batch.probabilities.scatter_add(1, column, torch.full_like(column, -1, dtype=batch.probabilities.dtype))


def margin_of(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Value of the label minus the highest other one: `[b, classes]`, int64 `[b]` -> `[b]`."""
    column = targets.unsqueeze(1)
    rivals = values.scatter(1, column, float("-inf"))
    return values.gather(1, column).squeeze(1) - rivals.amax(dim=1)
